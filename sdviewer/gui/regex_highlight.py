"""Colours for the pieces of a regular expression in a line edit, and a wavy line under what is wrong with it.

A line edit has no highlighter. What it does have are the formats that an input method gives to its text: an event of
one without any text sets them, and changes neither the text nor the caret, the selection or what can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QCoreApplication, QEvent, QObject, QTimer
from PySide6.QtGui import QInputMethodEvent, QTextCharFormat, QTextFormat
from PySide6.QtWidgets import QLineEdit

from sdviewer.core.regex_marks import Mark, errors
from sdviewer.gui import resources

TOKENS: Final = {"group": "A", "class": "ok", "escape": "ok", "repeat": "B", "anchor": "B", "error": "S"}

Reading = Callable[[str], Sequence[Mark]]


class RegexHighlight(QObject):
    """Marks what `reading` finds in a line edit's text, as it changes. `wrong` is the first error in words, or ""."""

    def __init__(self, line: QLineEdit, reading: Reading) -> None:
        super().__init__(line)
        self._line = line
        self._reading = reading
        self.marks: tuple[Mark, ...] = ()
        self.wrong = ""
        self._composing = self._sending = False
        line.textChanged.connect(self.refresh)
        line.installEventFilter(self)

    def refresh(self) -> None:
        """Look at the text again; also when what it means has changed."""
        self.marks = tuple(self._reading(self._line.text()))
        found = errors(self.marks)
        self.wrong = f"{found[0].words}, at character {found[0].start + 1}" if found else ""
        self._line.setAccessibleDescription(self.wrong)
        self._show()

    def _show(self) -> None:
        if self._composing:
            return  # an input method has its own formats, and its text would go
        caret = self._line.cursorPosition()
        # What is wrong last: it is drawn over what it is about.
        ordered = sorted(self.marks, key=lambda mark: mark.kind == "error")
        formats = [
            QInputMethodEvent.Attribute(
                QInputMethodEvent.AttributeType.TextFormat, mark.start - caret, mark.length, _format(mark.kind)
            )
            for mark in ordered
        ]
        event = QInputMethodEvent("", formats)
        self._sending = True
        QCoreApplication.sendEvent(self._line, event)
        self._sending = False

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if not self._sending and isinstance(event, QInputMethodEvent):
            before, self._composing = self._composing, bool(event.preeditString())
            if before and not self._composing:
                QTimer.singleShot(0, self, self._show)  # given up, it changes no text
        elif resources.is_theme_change(event):
            self._show()
        return super().eventFilter(watched, event)


def _format(kind: str) -> QTextFormat:
    made = QTextCharFormat()
    made.setForeground(resources.colour(TOKENS[kind]))
    if kind == "error":
        made.setUnderlineStyle(QTextCharFormat.UnderlineStyle.WaveUnderline)
        made.setUnderlineColor(resources.colour(TOKENS[kind]))
    return QTextFormat(made)
