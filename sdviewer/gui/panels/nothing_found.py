"""What stands in the place of a tree of which a filter leaves nothing: what was looked for, and a way back."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.gui import widgets


class NothingFound(QWidget):
    """`left` tells that all is wanted again; `act` is what the button says."""

    left = Signal()

    def __init__(self, act: str) -> None:
        super().__init__()
        self._words = widgets.Elided("", "second", Qt.TextElideMode.ElideMiddle)
        self._words.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        clear = widgets.button(act)
        clear.clicked.connect(self.left)
        column = QVBoxLayout(self)
        column.addSpacing(36)
        column.addWidget(self._words)
        column.addWidget(clear, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)

    def say(self, words: str) -> None:
        """What was looked for."""
        self._words.setText(words)
