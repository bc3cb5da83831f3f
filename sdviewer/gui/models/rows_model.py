"""A table of plain text rows that comes in pages: the lists of the views that show all that is in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal

from sdviewer.gui import icons, resources
from sdviewer.gui.plain import plain_tip

Row = Any
"""What the worker sent for a row: a list, or an object with names."""
_Index = QModelIndex | QPersistentModelIndex
_NOWHERE = QModelIndex()


class Column(NamedTuple):
    """One column: how a row's cell reads, in which font, colour and icon; `tip` is what the cell has no room for."""

    title: str
    text: Callable[[Row], str]
    width: int = 0
    mono: bool = False
    right: bool = False
    token: Callable[[Row], str] | None = None
    icon: Callable[[Row], tuple[str, str]] | None = None
    tip: Callable[[Row], str] | None = None


class RowsModel(QAbstractTableModel):
    """Rows that are there, and how many there are; `wanted` asks for those from a row on."""

    wanted = Signal(int)

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.rows: list[Row] = []
        self.total = 0
        self._asked = 0

    def show_rows(self, rows: Sequence[Row], total: int) -> None:
        """Show a first page."""
        self.beginResetModel()
        self.rows, self.total, self._asked = list(rows), total, len(rows)
        self.endResetModel()

    def add_rows(self, start: int, rows: Sequence[Row]) -> None:
        """A further page; one that does not follow what is there is thrown away."""
        if start != len(self.rows) or not rows:
            return
        self.beginInsertRows(_NOWHERE, start, start + len(rows) - 1)
        self.rows.extend(rows)
        self.endInsertRows()

    def rowCount(self, parent: _Index = _NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = _NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.columns)

    def canFetchMore(self, parent: _Index) -> bool:
        return not parent.isValid() and self._asked == len(self.rows) < self.total

    def fetchMore(self, parent: _Index) -> None:
        if self.canFetchMore(parent):
            start = len(self.rows)
            self._asked = start + 1
            self.wanted.emit(start)

    def came(self) -> None:
        """The page that was asked for is there, or will not come."""
        self._asked = len(self.rows)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        row, column = self.rows[index.row()], self.columns[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return column.text(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(column.tip(row) if column.tip is not None else column.text(row))
        if role == Qt.ItemDataRole.FontRole:
            return resources.font(resources.NOTE, mono=column.mono) if column.mono else resources.font(resources.NOTE)
        if role == Qt.ItemDataRole.ForegroundRole:
            return resources.colour(column.token(row) if column.token is not None else "text2")
        if role == Qt.ItemDataRole.DecorationRole and column.icon is not None:
            return icons.icon(*column.icon(row))
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if column.right else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return self.columns[section].title
            if role == Qt.ItemDataRole.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignRight if self.columns[section].right else Qt.AlignmentFlag.AlignLeft
                return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def as_text(self, rows: Sequence[int]) -> str:
        """Rows as lines of tab-separated cells, to be copied."""
        return "\n".join("\t".join(column.text(self.rows[row]) for column in self.columns) for row in rows)
