"""Several rows at once: the sums of their tensors, and a table of them with what is known of their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHeaderView, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.models.tree_model import COLUMNS
from sdviewer.gui.panels.file_view import PAGE, RowsTable
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card

AGAIN: Final = 1000
"""Milliseconds between two looks at the numbers while they are measured."""

NARROWEST_KEY: Final = 220
"""Pixels of the keys; where the rest has no room beside them, the table scrolls sideways."""

CELL: Final = 16
"""Pixels that a table has around a cell's text and the tree has not."""

_NUMBERS: Final = ("bytes", "mean", "std", "norm", "zeros", "min", "max")
_FIRST: Final = 5


def _number(at: int, name: str) -> Callable[[Any], str]:
    shown = COLUMNS[name].shown
    return lambda row: "" if row[at] is None else shown(float(row[at]))


_TABLE: Final = (
    Column("Key", lambda row: str(row[1]), 0, token=lambda row: "text"),
    Column("Shape", lambda row: str(row[2]), 110, True),
    Column("dtype", lambda row: text.visible(str(row[3]), 40), 58),
    Column("Params", lambda row: text.short_count(int(row[4])), 74, right=True, tip=lambda row: f"{int(row[4]):,}"),
    *(
        Column(COLUMNS[name].title, _number(_FIRST + at, name), COLUMNS[name].width + CELL, right=True)
        for at, name in enumerate(_NUMBERS)
    ),
)


class SelectionPage(QWidget):
    """What is selected when that is more than one row; `above` is a place for a picture of them."""

    node_chosen = Signal(int)
    settled = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.above = QVBoxLayout()
        self._card = Card("Tensors", "")
        self._card.column.setContentsMargins(12, 10, 4, 6)
        self.table = RowsTable(_TABLE, "Selected tensors")
        self.table.feed_from(session, "selected", "selected", self._which)
        self.table.row_activated.connect(lambda row: self.node_chosen.emit(int(row[0])))
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Fixed)
        self._card.set_body(self.table)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        column.addLayout(self.above)
        column.addWidget(self._card, 1)
        self._again = QTimer(self, interval=AGAIN, singleShot=True)
        self._again.timeout.connect(session.request_totals)
        session.numbers_changed.connect(self._numbers_came)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        others = sum(self.table.columnWidth(at) for at in range(1, len(_TABLE)))
        self.table.setColumnWidth(0, max(self.table.viewport().width() - others, NARROWEST_KEY))

    def _which(self) -> dict[str, Any]:
        return {"rows": self._session.selection}

    def refresh(self) -> None:
        """Ask for the first page, and for what the numbers are by now."""
        if not self.isVisible():
            return

        def answered(body: Body, buffers: Buffers) -> None:
            self.table.rows.show_rows(body["rows"], int(body["total"]))
            self._card.subtitle.setText(text.plural(int(body["total"]), "tensor"))
            self.settled.emit()

        self._session.ask("selected", {"start": 0, "limit": PAGE, **self._which()}, answered, lane="selected")

    def _numbers_came(self) -> None:
        if self.isVisible() and not self._again.isActive():
            self._again.start()
