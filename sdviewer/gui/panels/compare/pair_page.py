"""One pair of tensors in detail: how they differ, in words, in numbers and in plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.gui.plots.plot import Asker
from sdviewer.gui.widgets import Elided


class PairPage(QWidget):
    """`cursor_moved` is for the status bar, "" when nobody points at anything; `finished` fires when all is drawn.

    `node_chosen` tells the row of a part of the path that was clicked.
    """

    cursor_moved = Signal(str)
    finished = Signal()
    node_chosen = Signal(int)

    def __init__(self, session: Asker, names: tuple[str, str] = ("A", "B")) -> None:
        """`session` asks the numbers pool; `names` are those of the two files, as they are shown."""
        super().__init__()
        self._session, self.names = session, names
        self._about = Elided("", "second")
        column = QVBoxLayout(self)
        column.addWidget(self._about)
        column.addStretch(1)

    def show_pair(self, facts: Mapping[str, Any] | None) -> None:
        """Show a pair: {"a": facts | None, "b": facts | None, "status", "numbers": {column: value}, "relation": text}.

        Numbers that come later for the pair that is shown are put in their places; None shows nothing.
        """
        self._about.setText("" if facts is None else str(facts["status"]))
