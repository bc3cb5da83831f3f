"""One line in the document that says what is wrong: what, why, what to do; details behind a button. Never a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout

from sdviewer.gui import widgets
from sdviewer.gui.details import Details
from sdviewer.gui.widgets import IconLabel

Tone = Literal["warn", "security", "error", "info"]
_ICONS = {"warn": ("warn", "warn"), "security": ("shieldw", "warn"), "error": ("warn", "S"), "info": ("info", "text2")}

Button = tuple[str, Callable[[], None]]


class Banner(QFrame):
    """Hidden until there is something to say."""

    dismissed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._icon = IconLabel("warn", 20, "warn")
        self._what = widgets.label("", "title")
        self._why = widgets.label("", "second")
        for text in (self._what, self._why):
            text.setWordWrap(True)
        self._buttons: list[QPushButton] = []
        self._details = Details(self)
        self._details.block.setMaximumHeight(150)
        self._close = widgets.icon_button("x", "Dismiss")
        self._close.clicked.connect(self._dismiss)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self._what)
        words.addWidget(self._why)
        self._row = QHBoxLayout()
        self._row.setSpacing(12)
        self._row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignVCenter)
        self._row.addLayout(words, 1)
        self._row.addWidget(self._details.button)
        self._row.addWidget(self._close)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 10, 16, 10)
        column.addLayout(self._row)
        column.addWidget(self._details.block)
        self.hide()

    def tell(
        self,
        tone: Tone,
        what: str,
        why: str = "",
        details: str = "",
        buttons: Sequence[Button] = (),
        *,
        primary: str = "",
        icon: str = "save",
    ) -> None:
        """Say something; `details` open on request, `buttons` are what can be done about it.

        `primary` is one of them, which gets an icon.
        """
        widgets.set_property(self, "tone", tone)
        self._icon.set_icon(*_ICONS[tone])
        self._what.setText(what)
        self._why.setText(why)
        self._why.setVisible(bool(why))
        self._details.tell(details)
        for old in self._buttons:
            old.hide()
            old.deleteLater()
        self._buttons = []
        for name, act in buttons:
            made = widgets.button(name, icon if name == primary else "", primary=name == primary)
            made.clicked.connect(act)
            self._row.insertWidget(self._row.count() - 1, made)
            self._buttons.append(made)
        self.show()

    def text(self) -> str:
        """What it says, in one line."""
        return f"{self._what.text()} {self._why.text()}".strip()

    def _dismiss(self) -> None:
        self.hide()
        self.dismissed.emit()
