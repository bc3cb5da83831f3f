"""A tree as a flat table: the model holds an array of the rows that are visible, and swaps it whole.

Expanding, filtering and sorting happen in the worker. Rows of the table are numbers into that array; a row of the sheet
is a *node* here and is what stays.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from sdviewer.core.sheet import CHILDREN, EXPANDED
from sdviewer.gui.plain import plain_tip

Index = QModelIndex | QPersistentModelIndex

ROOT: Final = QModelIndex()


class FlatTreeModel(QAbstractTableModel):
    """The visible rows of a sheet whose columns have at least `parent`, `depth` and `flags`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._columns: Mapping[str, Any] = {}
        self._rows: array[int] = array("i")
        self._raw = b""
        self._flags: memoryview = memoryview(b"")

    # What a worker answered

    def _set_columns(self, columns: Mapping[str, Any], visible: memoryview) -> None:
        """Take another sheet's; between the beginning and the end of a reset."""
        self._columns = columns
        self._flags = columns["flags"]
        self._set_rows(visible)

    def set_rows(self, visible: memoryview, flags: memoryview) -> None:
        """Show other rows of the same sheet."""
        self.beginResetModel()
        self._set_rows(visible)
        self._flags = flags.cast("B")
        self.endResetModel()

    def _set_rows(self, visible: memoryview) -> None:
        self._raw = bytes(visible)
        self._rows = array("i")
        self._rows.frombytes(self._raw)

    # Nodes and rows

    def node(self, row: int) -> int:
        """The node shown in a table row."""
        return self._rows[row]

    def nodes(self, top: int, bottom: int) -> list[int]:
        """The nodes shown in the table rows from `top` to `bottom`."""
        return self._rows[top : bottom + 1].tolist()

    def rows_of(self, nodes: Sequence[int]) -> list[int]:
        """The table rows that show these nodes, from the top; those not visible are left out."""
        if len(nodes) < 4:
            return sorted(row for node in nodes if (row := self.row_of(node)) >= 0)
        wanted = frozenset(nodes)
        return [row for row, node in enumerate(self._rows) if node in wanted]

    def row_of(self, node: int) -> int:
        """The table row that shows a node, -1 where it is not visible."""
        # In the order of the file the nodes ascend; in another, bytes are searched twenty times faster than numbers.
        at = bisect_left(self._rows, node)
        if at < len(self._rows) and self._rows[at] == node:
            return at
        size = self._rows.itemsize
        wanted = node.to_bytes(size, sys.byteorder, signed=True)
        at = self._raw.find(wanted)
        while at >= 0 and at % size:
            at = self._raw.find(wanted, at + 1)
        return at // size if at >= 0 else -1

    def visible_ancestor(self, node: int) -> int:
        """The table row of a node, or of the nearest above it that is visible; -1 where none is."""
        while node >= 0:
            row = self.row_of(node)
            if row >= 0:
                return row
            node = self.parent_of(node)
        return -1

    def parent_of(self, node: int) -> int:
        """The node above, -1 at the top."""
        return int(self._columns["parent"][node]) if self._columns else -1

    def depth(self, node: int) -> int:
        """How many nodes are above."""
        return int(self._columns["depth"][node]) if self._columns else 0

    def kind(self, node: int) -> str:
        """One of `core.tree.KINDS`."""
        raise NotImplementedError

    def name(self, node: int) -> str:
        """The name by which one finds a node while typing, printable."""
        raise NotImplementedError

    def flags_of(self, node: int) -> int:
        """The bits of `core.sheet`."""
        return self._flags[node]

    def has_children(self, node: int) -> bool:
        """Whether there is anything below."""
        return bool(self._flags[node] & CHILDREN)

    def is_expanded(self, node: int) -> bool:
        """Whether what is below is shown."""
        return bool(self._flags[node] & EXPANDED)

    # Qt's questions

    def rowCount(self, parent: Index = ROOT) -> int:
        return 0 if parent.isValid() else len(self._rows)


class PairedModel(FlatTreeModel):
    """Rows of two sides: the first column is a whole row in words for who does not see it."""

    headers: tuple[str, ...] = ()

    def sentence(self, node: int) -> str:
        """A row in words, for a screen reader."""
        raise NotImplementedError

    def _display(self, node: int, column: int) -> str:
        """A cell as text, printable."""
        raise NotImplementedError

    def _tooltip(self, node: int, column: int) -> str:
        """What a cell says to a pointer, "" for nothing."""
        return self._display(node, column)

    def columnCount(self, parent: Index = ROOT) -> int:
        return 0 if parent.isValid() else len(self.headers)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid() or not self._columns:
            return None
        node, column = self._rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._display(node, column)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return self._display(node, column) if column else self.sentence(node)
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(tip) if (tip := self._tooltip(node, column)) else None
        return None
