"""Underlined letters of menus and buttons appear while Alt is held, as on every desktop, and not before."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication, QProxyStyle, QStyle, QStyleHintReturn, QStyleOption, QWidget


class MnemonicStyle(QProxyStyle):
    """Fusion, but for the letters."""

    shown = False

    def styleHint(
        self,
        hint: QStyle.StyleHint,
        option: QStyleOption | None = None,
        widget: QWidget | None = None,
        returnData: QStyleHintReturn | None = None,  # noqa: N803
    ) -> int:
        if hint == QStyle.StyleHint.SH_UnderlineShortcut:
            return int(MnemonicStyle.shown)
        return super().styleHint(hint, option, widget, returnData)


def follow_alt(window: QWidget, event: QKeyEvent) -> None:
    """Show or hide the letters of a window after one of its key events."""
    if event.key() == Qt.Key.Key_Alt:
        show_letters(window, event.type() == QEvent.Type.KeyPress)


def show_letters(window: QWidget, shown: bool) -> None:
    """Underline, or not; a menu that was opened with the keyboard keeps its letters until it closes."""
    if shown == MnemonicStyle.shown or QApplication.activePopupWidget() is not None:
        return
    MnemonicStyle.shown = shown
    for widget in window.findChildren(QWidget):
        if widget.isVisible():
            widget.update()
