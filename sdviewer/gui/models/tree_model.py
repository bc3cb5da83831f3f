"""The module tree as a flat table: the model holds arrays and decodes a cell when somebody looks at it.

Expanding, filtering and sorting happen in the worker, which answers with a new array of visible rows; the model swaps
it whole. Rows of the table are numbers into that array; a row of the sheet is a *node* here and is what stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from PySide6.QtCore import QObject, Qt

from sdviewer.core import sheet as sheets
from sdviewer.core import text
from sdviewer.core.sheet import Sheet
from sdviewer.gui.models.flat_tree import ROOT, FlatTreeModel, Index
from sdviewer.gui.plain import plain_tip

NAME, SHAPE, PARAMS, DTYPE = range(4)
HEADERS: Final = ("Name", "Shape", "Params", "dtype")
SORT_KEYS: Final = ("name", "shape", "params", "dtype")


class NumberColumn(NamedTuple):
    """A column that can be added: its head, its width in pixels, what it says in full, and how a cell reads."""

    title: str
    width: int
    about: str
    shown: Callable[[float], str]


def _whole(number: float) -> str:
    return text.count(int(number))


COLUMNS: Final[Mapping[str, NumberColumn]] = {
    "bytes": NumberColumn("Bytes", 78, "Size of the elements", lambda n: text.size(int(n))),
    "mean": NumberColumn("Mean", 94, "Mean of the finite values", text.value),
    "std": NumberColumn("Std", 84, "Standard deviation of the finite values", text.value),
    "norm": NumberColumn("Norm", 84, "L2 norm; of a module, that of all its values", text.value),
    "zeros": NumberColumn("Zeros", 84, "Values that are exactly zero", _whole),
    "min": NumberColumn("Min", 94, "The smallest finite value", text.value),
    "max": NumberColumn("Max", 94, "The largest finite value", text.value),
    "storage": NumberColumn("Storage", 110, "The run of bytes in the file that it looks into", str),
    "offset": NumberColumn("Offset", 90, "Where it begins in its storage, in elements", _whole),
}
"""The columns that a person can add, by the names that the worker has for them (engine.tree_numbers)."""


def known_columns(wanted: str) -> tuple[str, ...]:
    """The columns of a list with commas, in the order that they have."""
    names = wanted.split(",")
    return tuple(name for name in COLUMNS if name in names)


class Mark(NamedTuple):
    """What is odd about a row's numbers: the word in the row, a sign where that has no room, and a sentence."""

    bit: int
    word: str
    sign: str
    says: str


MARKS: Final = (
    Mark(sheets.NAN, "NaN", "NaN", "has NaN"),
    Mark(sheets.INF, "Inf", "\N{INFINITY}", "has infinite values"),
    Mark(sheets.OUTLIER, "outlier", "\N{UPWARDS ARROW}", "one value is far larger than the others"),
    Mark(sheets.ZERO, "zero", "0", "all values are zero"),
    Mark(sheets.CONSTANT, "constant", "=", "all values are equal"),
)
"""For the bits of a row's health, the worst first."""
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


class TreeModel(FlatTreeModel):
    """The visible rows of one document."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sheet: Sheet | None = None
        self.columns: tuple[str, ...] = ()
        """The names of the columns behind the first four."""
        self._numbers: dict[str, Any] = {}
        self._health: memoryview = memoryview(b"")
        self._storage_text: memoryview = memoryview(b"")

    # What a worker answered

    def set_sheet(self, sheet: Sheet, visible: memoryview) -> None:
        """Show another sheet: nodes are numbered anew."""
        self.beginResetModel()
        self.sheet = sheet
        self._set_columns(sheet.columns, visible)
        self.endResetModel()

    def set_columns(self, columns: tuple[str, ...]) -> None:
        """Have other columns behind the first four."""
        first = len(HEADERS)
        if self.columns:
            self.beginRemoveColumns(ROOT, first, first + len(self.columns) - 1)
            self.columns = ()
            self.endRemoveColumns()
        if columns:
            self.beginInsertColumns(ROOT, first, first + len(columns) - 1)
            self.columns = columns
            self.endInsertColumns()

    def set_numbers(self, buffers: Mapping[str, memoryview]) -> None:
        """Take what is known of the numbers of all rows; a view that shows them is to be painted again."""
        self._health = buffers.get("health", memoryview(b""))
        self._storage_text = buffers.get("storage text", memoryview(b""))
        kinds = {name: "I" if name == "storage" else "d" for name in COLUMNS}
        self._numbers = {
            name: buffers[f"column {name}"].cast("B").cast(kind)  # type: ignore[call-overload]
            for name, kind in kinds.items()
            if f"column {name}" in buffers
        }

    # Cells, for the painter and for Qt

    def kind(self, node: int) -> str:
        """One of `core.tree.KINDS`."""
        return "" if self.sheet is None else self.sheet.kind(node)

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

    def number(self, node: int, name: str) -> float | None:
        """What stands in a column of numbers, None where nothing does."""
        column = self._numbers.get(name)
        if column is None or node >= len(column) or (found := float(column[node])) != found:
            return None
        return found

    def cell(self, node: int, name: str) -> str:
        """What an added column says of a row, "" for nothing."""
        if name == "storage":
            return text.visible(self._storage(node), 60)
        found = self.number(node, name)
        return "" if found is None else COLUMNS[name].shown(found)

    def _storage(self, node: int) -> str:
        column = self._numbers.get("storage")
        if column is None or 2 * node >= len(column):
            return ""
        at, length = column[2 * node], column[2 * node + 1]
        return bytes(self._storage_text[at : at + length]).decode("utf-8", "surrogatepass")

    def marks(self, node: int) -> tuple[list[Mark], bool]:
        """What is odd about the numbers, the worst first, and whether it is worth a colour.

        A module has the marks of what is below it while that is not shown.
        """
        bits = self._health[node] if node < len(self._health) else 0
        if not bits or self._flags[node] & (sheets.CHILDREN | sheets.EXPANDED) == sheets.CHILDREN | sheets.EXPANDED:
            return [], False
        if bits & sheets.ZERO:
            bits &= ~sheets.CONSTANT  # that follows
        return [mark for mark in MARKS if bits & mark.bit], bool(bits & sheets.NOTED)

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
        below = "below it: " if flags & sheets.CHILDREN else ""
        parts += [f"{below}{mark.says}" for mark in self.marks(node)[0]]
        parts += [f"{name} {shown}" for name in self.columns if (shown := self.cell(node, name))]
        if flags & sheets.CHILDREN:
            parts.append("expanded" if flags & sheets.EXPANDED else "collapsed")
        # What is both goes into another tensor, as its note says.
        joins = flags & sheets.EDITED and flags & sheets.DROPPED
        for bit, word in STATES:
            if flags & bit and not (joins and bit in (sheets.EDITED, sheets.DROPPED)):
                parts.append(word)
        return ", ".join(parts) + f", level {self.depth(node) + 1}"

    # Qt's questions

    def columnCount(self, parent: Index = ROOT) -> int:
        return 0 if parent.isValid() else len(HEADERS) + len(self.columns)

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
        if column >= len(HEADERS):
            return self.cell(node, self.columns[column - len(HEADERS)])
        return self.dtype(node)

    def _tooltip(self, node: int, column: int) -> str | None:
        if column == PARAMS and (params := self.params(node)):
            return f"{text.plural(params, 'parameter')}, {text.percent(self.share(node))} of the module above"
        if column == NAME:
            below = "Below it: " if self.has_children(node) else ""
            found = [mark.says for mark in self.marks(node)[0]]
            marks = [f"{below}{says}" if below else says[:1].upper() + says[1:] for says in found]
            return "\n".join(filter(None, [self.name(node), self.note(node), *marks]))
        if column >= len(HEADERS):
            return self._number_tip(node, self.columns[column - len(HEADERS)])
        return None

    def _number_tip(self, node: int, name: str) -> str | None:
        if name == "storage":
            return text.visible(self._storage(node), _LONGEST_NAME) or None
        found = self.number(node, name)
        if found is None:
            return None
        words = f"{found:,.0f}" if name in ("bytes", "zeros", "offset") else repr(found)
        if name == "zeros" and (params := self.params(node)):
            words = f"{words}, {text.percent(found / params)} of the values"
        return f"{COLUMNS[name].about}: {words}"

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            added = COLUMNS[self.columns[section - len(HEADERS)]] if section >= len(HEADERS) else None
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADERS[section] if added is None else added.title
            if role == Qt.ItemDataRole.ToolTipRole and added is not None:
                return plain_tip(added.about)
            if role == Qt.ItemDataRole.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignLeft if added is None else Qt.AlignmentFlag.AlignRight
                return side | Qt.AlignmentFlag.AlignVCenter
        return None
