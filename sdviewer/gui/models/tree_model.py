"""The module tree as a flat table: the model holds arrays and decodes a cell when somebody looks at it.

Expanding, filtering and sorting happen in the worker, which answers with a new array of visible rows; the model swaps
it whole. Rows of the table are numbers into that array; a row of the sheet is a *node* here and is what stays.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from sdviewer.core import sheet as sheets
from sdviewer.core import text
from sdviewer.core.sheet import Sheet
from sdviewer.gui.plain import plain_tip

Index = QModelIndex | QPersistentModelIndex

_ROOT: Final = QModelIndex()

NAME, SHAPE, PARAMS, DTYPE = range(4)
HEADERS: Final = ("Name", "Shape", "Params", "dtype")
SORT_KEYS: Final = ("name", "natural", "params", "natural")
CONTAINERS: Final = frozenset({"module", "dict", "list", "object", "optimizer", "fold"})

_KIND_WORDS = {
    "module": "module",
    "dict": "dictionary",
    "list": "list",
    "object": "object, not built",
    "optimizer": "optimizer state",
    "fold": "alike blocks",
    "tensor": "tensor",
    "vector": "vector",
    "scalar": "scalar tensor",
    "value": "value",
}
# A name is shown on one line of a few hundred pixels: what lies beyond is never laid out.
_LONGEST_NAME = 300


STATES: Final = (
    (sheets.EDITED, "changed"),
    (sheets.DROPPED, "dropped"),
    (sheets.PROBLEM, "has a problem"),
    (sheets.HAZARD, "not run"),
)
"""Bits of a row's flags, as a screen reader says them."""


class TreeModel(QAbstractTableModel):
    """The visible rows of one document."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sheet: Sheet | None = None
        self._rows: array[int] = array("i")
        self._flags: memoryview = memoryview(b"")

    # What a worker answered

    def set_sheet(self, sheet: Sheet, visible: memoryview) -> None:
        """Show another sheet: nodes are numbered anew."""
        self.beginResetModel()
        self.sheet = sheet
        self._flags = sheet.columns["flags"]
        self._rows = _rows(visible)
        self.endResetModel()

    def set_rows(self, visible: memoryview, flags: memoryview) -> None:
        """Show other rows of the same sheet."""
        self.beginResetModel()
        self._rows = _rows(visible)
        self._flags = flags.cast("B")
        self.endResetModel()

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
        try:
            return self._rows.index(node)
        except ValueError:
            return -1

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
        return -1 if self.sheet is None else int(self.sheet.columns["parent"][node])

    def depth(self, node: int) -> int:
        """How many nodes are above."""
        return 0 if self.sheet is None else int(self.sheet.columns["depth"][node])

    def kind(self, node: int) -> str:
        """One of `core.tree.KINDS`."""
        return "" if self.sheet is None else self.sheet.kind(node)

    def flags_of(self, node: int) -> int:
        """The bits of `core.sheet`."""
        return self._flags[node]

    def has_children(self, node: int) -> bool:
        """Whether there is anything below."""
        return bool(self._flags[node] & sheets.CHILDREN)

    def is_expanded(self, node: int) -> bool:
        """Whether what is below is shown."""
        return bool(self._flags[node] & sheets.EXPANDED)

    # Cells, for the painter and for Qt

    def name(self, node: int) -> str:
        """The name, printable."""
        assert self.sheet is not None
        return text.visible(self.sheet.name(node), _LONGEST_NAME)

    def note(self, node: int) -> str:
        """The grey note behind the name, printable."""
        assert self.sheet is not None
        return text.visible(self.sheet.note(node), _LONGEST_NAME)

    def shape(self, node: int) -> str:
        """The shape, "" for what has none."""
        assert self.sheet is not None
        return self.sheet.shape(node)

    def params(self, node: int) -> int:
        """Number of elements of all tensors below and here."""
        return 0 if self.sheet is None else int(self.sheet.columns["params"][node])

    def share(self, node: int) -> float:
        """Parameters as a share of the parent's."""
        return 0.0 if self.sheet is None else float(self.sheet.columns["share"][node])

    def dtype(self, node: int) -> str:
        """Short dtype of a tensor, type of a value."""
        assert self.sheet is not None
        return text.visible(self.sheet.dtype(node), 60)

    def sentence(self, node: int) -> str:
        """A row in words, for a screen reader."""
        parts = [f"{self.name(node)}, {_KIND_WORDS.get(self.kind(node), '')}"]
        flags = self._flags[node]
        if shape := self.shape(node):
            parts.append(f"shape {shape.replace('×', ' by ')}")
        if dtype := self.dtype(node):
            parts.append(dtype)
        if params := self.params(node):
            parts.append(text.plural(params, "parameter"))
        if note := self.note(node):
            parts.append(note)
        if flags & sheets.CHILDREN:
            parts.append("expanded" if flags & sheets.EXPANDED else "collapsed")
        # What is both goes into another tensor, as its note says.
        joins = flags & sheets.EDITED and flags & sheets.DROPPED
        for bit, word in STATES:
            if flags & bit and not (joins and bit in (sheets.EDITED, sheets.DROPPED)):
                parts.append(word)
        return ", ".join(parts) + f", level {self.depth(node) + 1}"

    # Qt's questions

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(HEADERS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid() or self.sheet is None:
            return None
        node = self._rows[index.row()]
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._display(node, column)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return self.sentence(node) if column == NAME else self._display(node, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(tip) if (tip := self._tooltip(node, column)) else None
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        flag = Qt.ItemFlag
        if not index.isValid():
            return flag.NoItemFlags
        return flag.ItemIsEnabled | flag.ItemIsSelectable | flag.ItemIsDragEnabled | flag.ItemIsDropEnabled

    def _display(self, node: int, column: int) -> str:
        if column == NAME:
            return self.name(node)
        if column == SHAPE:
            return self.note(node) if self.kind(node) == "value" else self.shape(node)
        if column == PARAMS:
            params = self.params(node)
            return text.short_count(params) if params else ""
        return self.dtype(node)

    def _tooltip(self, node: int, column: int) -> str | None:
        if column == PARAMS and (params := self.params(node)):
            return f"{text.plural(params, 'parameter')}, {text.percent(self.share(node))} of the module above"
        if column == NAME:
            note = self.note(node)
            return f"{self.name(node)}\n{note}" if note else self.name(node)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADERS[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None


def _rows(visible: memoryview) -> array[int]:
    rows = array("i")
    rows.frombytes(visible.cast("B"))
    return rows
