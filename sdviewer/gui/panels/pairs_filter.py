"""The filter above a table with two sides: what is typed is looked for after a pause, and what is wrong is told."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal

from sdviewer.core import text
from sdviewer.core.key_filter import marked_words
from sdviewer.core.regex_marks import filter_marks
from sdviewer.gui import widgets
from sdviewer.gui.panels.paired_rows import PairedPen, PairedView
from sdviewer.gui.panels.tree_panel import FILTER_PAUSE
from sdviewer.gui.regex_highlight import RegexHighlight
from sdviewer.gui.widgets import Field


class PairsFilter(Field):
    """`wanted` tells what to look for. Esc clears it, and leaves it for the table; so do Down and Return."""

    wanted = Signal(str)

    def __init__(self, words: str, view: PairedView, pen: PairedPen) -> None:
        super().__init__(words, "filter")
        self._view, self._pen = view, pen
        self._highlight = RegexHighlight(self, filter_marks)
        self.wrong = widgets.label("", "error")
        self.wrong.setWordWrap(True)
        self.wrong.hide()
        pause = QTimer(self, interval=FILTER_PAUSE, singleShot=True)
        pause.timeout.connect(lambda: self.wanted.emit(self.text()))
        self.textChanged.connect(lambda: pause.start())
        self.escaped.connect(self._leave)
        self.left_downwards.connect(view.setFocus)
        self.returnPressed.connect(view.setFocus)

    def _leave(self) -> None:
        if self.text():
            self.clear()
        else:
            self._view.setFocus()

    def show_matches(self, matched: int, error: str) -> None:
        """Tell what is wrong with it, or mark what it found in the rows; `matched` is -1 for no filter."""
        widgets.set_property(self, "wrong", bool(error) or None)
        self.wrong.setText(text.visible(error[:1].upper() + error[1:], 300))
        self.wrong.setVisible(bool(error))
        self._pen.words = marked_words(self.text()) if matched >= 0 and not error else ()
        self._view.viewport().update()
