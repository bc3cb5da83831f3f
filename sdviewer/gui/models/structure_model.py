"""The raw structure as a tree whose branches come when they are opened; an index carries a number, never an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QPersistentModelIndex, Qt, Signal

from sdviewer.core import text
from sdviewer.gui import icons, resources
from sdviewer.gui.plain import plain_tip

_Index = QModelIndex | QPersistentModelIndex
_NOWHERE = QModelIndex()
PAGE: Final = 200
LABEL, TYPE, VALUE, PLACE = range(4)
HEADS: Final = ("Name", "Type", "Value", "Bytes")
_MORE: Final = 1 << 40
"""Numbers from here on are rows that stand for more rows."""
_ICONS: Final = {"object": "object", "dict": "dict", "list": "list", "tensor": "tensor", "link": "link"}


class _Branch:
    """A row that was opened: its rows so far, and how many there are."""

    __slots__ = ("asked", "rows", "total")

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.total = -1
        self.asked = False


class StructureModel(QAbstractItemModel):
    """Rows by the numbers that the worker gave them; 0 is the file itself and never shown."""

    wanted = Signal(int, int)  # row, from which of its children on

    def __init__(self) -> None:
        super().__init__()
        self._row: dict[int, Sequence[Any]] = {}
        self._above: dict[int, tuple[int, int]] = {}
        self._branches: dict[int, _Branch] = {0: _Branch()}
        self._next_more = _MORE

    def forget(self) -> None:
        """Begin anew."""
        self.beginResetModel()
        self._row, self._above, self._branches = {}, {}, {0: _Branch()}
        self.endResetModel()

    def ask(self, number: int) -> None:
        """Ask for a row's first or next children, unless they are on their way."""
        branch = self._branches.setdefault(number, _Branch())
        shown = sum(1 for row in branch.rows if row < _MORE)
        if not branch.asked and (branch.total < 0 or shown < branch.total):
            branch.asked = True
            self.wanted.emit(number, shown)

    def add(self, number: int, start: int, rows: Sequence[Sequence[Any]], total: int) -> None:
        """Children of a row, from one on; where there are more, a last row says so."""
        branch = self._branches.get(number)
        if branch is None or start != sum(1 for row in branch.rows if row < _MORE):
            return
        branch.asked, branch.total = False, total
        parent = self.index_of(number)
        if branch.rows and branch.rows[-1] >= _MORE:
            last = len(branch.rows) - 1
            self.beginRemoveRows(parent, last, last)
            branch.rows.pop()
            self.endRemoveRows()
        added = [int(row[0]) for row in rows]
        self._row.update({int(row[0]): row for row in rows})
        if start + len(rows) < total:
            self._row[self._next_more] = [number, f"… {total - start - len(rows):,} more", "", "", "", "", False, ""]
            added.append(self._next_more)
            self._next_more += 1
        if not added:
            return
        first = len(branch.rows)
        self.beginInsertRows(parent, first, first + len(added) - 1)
        for i, row in enumerate(added, first):
            self._above[row] = (number, i)
        branch.rows.extend(added)
        self.endInsertRows()

    def failed(self, number: int) -> None:
        """The children did not come."""
        if branch := self._branches.get(number):
            branch.asked = False

    def index_of(self, number: int) -> QModelIndex:
        """The index of a row."""
        if number == 0 or number not in self._above:
            return QModelIndex()
        return self.createIndex(self._above[number][1], 0, number)

    def number(self, index: _Index) -> int:
        """The row of an index, 0 for none."""
        return int(index.internalId()) if index.isValid() else 0

    def more_of(self, index: _Index) -> int:
        """The row whose further children a "more" row stands for, -1 for any other row."""
        number = self.number(index)
        return int(self._row[number][0]) if number >= _MORE else -1

    def fact(self, index: _Index) -> Sequence[Any]:
        """What the worker said of a row."""
        return self._row[self.number(index)]

    # What Qt asks

    def index(self, row: int, column: int, parent: _Index = _NOWHERE) -> QModelIndex:
        branch = self._branches.get(self.number(parent))
        if branch is None or not 0 <= row < len(branch.rows) or not 0 <= column < len(HEADS):
            return QModelIndex()
        return self.createIndex(row, column, branch.rows[row])

    def parent(self, index: _Index = _NOWHERE) -> QModelIndex:  # type: ignore[override]
        number = self.number(index)
        return self.index_of(self._above[number][0]) if number in self._above else QModelIndex()

    def rowCount(self, parent: _Index = _NOWHERE) -> int:
        branch = self._branches.get(self.number(parent))
        return 0 if branch is None or parent.column() > 0 else len(branch.rows)

    def columnCount(self, parent: _Index = _NOWHERE) -> int:
        return len(HEADS)

    def hasChildren(self, parent: _Index = _NOWHERE) -> bool:
        number = self.number(parent)
        return number == 0 or bool(self._row[number][6])

    def canFetchMore(self, parent: _Index) -> bool:
        number = self.number(parent)
        branch = self._branches.get(number)
        return self.hasChildren(parent) and (branch is None or (branch.total < 0 and not branch.asked))

    def fetchMore(self, parent: _Index) -> None:
        # Only a first page: further ones are asked for by their own row, not by whoever looks at the model.
        if self.canFetchMore(parent):
            self.ask(self.number(parent))

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        row = self._row.get(self.number(index))
        if row is None:
            return None
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _shown(row, column)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return ", ".join(part for part in (str(row[1]), str(row[2]), str(row[5]), str(row[3])) if part)
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip("\n".join(part for part in (str(row[3]), str(row[5])) if part) if column else str(row[1]))
        if role == Qt.ItemDataRole.FontRole:
            return resources.font(resources.NOTE, mono=column != TYPE)
        if role == Qt.ItemDataRole.ForegroundRole:
            mark = column == VALUE and row[5]
            return resources.colour("warn" if mark else "text" if column == LABEL and row[7] else "text2")
        if role == Qt.ItemDataRole.DecorationRole and column == LABEL and row[7]:
            return icons.icon(_ICONS.get(str(row[7]), "value"))
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return HEADS[section]
        return None

    def as_text(self, index: _Index) -> str:
        """One row as a line, to be copied."""
        row = self.fact(index)
        return "\t".join(str(row[at]) for at in (1, 2, 3, 4))


def _shown(row: Sequence[Any], column: int) -> str:
    label, type_, value, place, mark = (str(row[at]) for at in (1, 2, 3, 4, 5))
    if column == VALUE:
        return f"{mark}  ·  {value}" if mark else value
    return (label or "''", type_, "", place)[column] if column != LABEL or label else text.visible(label) or "''"
