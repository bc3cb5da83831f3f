"""The aligned tree of two checkpoints as a flat table: names on both sides, and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from PySide6.QtCore import QObject, Qt

from sdviewer.core import aligned, text
from sdviewer.core.aligned import AlignedSheet
from sdviewer.gui.models.flat_tree import PairedModel

NAME_A, SHAPE_A, MARK, NAME_B, SHAPE_B, CHANGE, COSINE = range(7)
HEADERS: Final = (
    "Name in A",
    "Shape",
    "",
    "Name in B",
    "Shape",
    "‖B \N{MINUS SIGN} A‖ / ‖A‖",
    "cos",
)
SORT_KEYS: Final = ("name", "shape_a", "status", "name", "shape_b", "rel_l2", "cosine")
DESCENDING_FIRST: Final = (MARK, CHANGE)
_ABOUT: Final = {
    MARK: "How both differ",
    CHANGE: "Norm of the difference over the norm of A; of a module over all its weights that are compared",
    COSINE: "Cosine of the angle between both",
}
BOUNDS: Final = ("", "at most", "so far")
"""By the codes that the worker has for them (engine.pair_numbers.EXACT and so on)."""
_OVER: Final = {
    "": ", over all weights below it that are compared",
    "at most": " at most: norms of identical tensors below it are still to be measured",
    "so far": ", over what is compared below it so far",
}
_LONGEST_NAME: Final = 300


class Status(NamedTuple):
    """How a status looks and is said: the word of the worker, an icon, a word, and tokens of its sign and ground."""

    name: str
    icon: str
    says: str
    token: str = "text2"
    ground: str = ""


STATUSES: Final = (
    Status("", "", "not compared yet"),
    Status("identical", "eq", "identical"),
    Status("close", "eq", "close"),
    Status("changed", "neq", "changed", "text"),
    Status("shape", "shape", "shapes differ", "S", "tS"),
    Status("dtype", "neq", "types differ", "text"),
    Status("only_a", "onlyA", "only in A", "A", "tA"),
    Status("only_b", "onlyB", "only in B", "B", "tB"),
    Status("ignored", "eyeoff", "ignored"),
    Status("mixed", "", "several differences"),
    Status("unreadable", "warn", "cannot be read", "S"),
    Status("value", "neq", "values differ", "text"),
)
"""By the codes that the worker has for them (engine.pair_numbers.WORDS)."""
BY_NAME: Final = {status.name: status for status in STATUSES}


class CompareModel(PairedModel):
    """The visible rows of one comparison."""

    headers = HEADERS

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sheet: AlignedSheet | None = None
        self.limit = 0.0
        """The largest relative change of a pair."""
        self._status: Any = b""
        self._change: Any = b""
        self._cosine: Any = b""
        self._bounds: Any = b""

    # What the worker answered

    def set_sheet(self, sheet: AlignedSheet, visible: memoryview) -> None:
        """Show another sheet: nodes are numbered anew."""
        self.beginResetModel()
        self.sheet = sheet
        self._set_columns(sheet.columns, visible)
        self._status = self._change = self._cosine = self._bounds = b""
        self.endResetModel()

    def set_numbers(self, buffers: Mapping[str, memoryview], limit: float) -> None:
        """Take what is known of all rows; a view that shows them is to be painted again."""
        self.limit = limit
        self._status = buffers["status"].cast("B")
        self._change = buffers["change"].cast("B").cast("f")
        self._cosine = buffers["cosine"].cast("B").cast("f")
        self._bounds = buffers["bounds"].cast("B")

    # Cells, for the painter and for Qt

    def kind(self, node: int) -> str:
        return "" if self.sheet is None else self.sheet.kind("kind_b" if self.is_gap(node, "a") else "kind_a", node)

    def side_kind(self, node: int, side: str) -> str:
        """One of `core.tree.KINDS`, on side "a" or "b"."""
        assert self.sheet is not None
        return self.sheet.kind(f"kind_{side}", node)

    def name(self, node: int) -> str:
        return self.side_name(node, "a") or self.side_name(node, "b")

    def side_name(self, node: int, side: str) -> str:
        """The name on a side, printable; "" where it has none."""
        assert self.sheet is not None
        return text.visible(self.sheet.words(f"name_{side}", node), _LONGEST_NAME)

    def shape(self, node: int, side: str) -> str:
        """The shape, or a value's text, on a side."""
        assert self.sheet is not None
        return text.visible(self.sheet.words(f"shape_{side}", node), 200)

    def is_gap(self, node: int, side: str) -> bool:
        """Whether there is nothing on a side."""
        return bool(self._flags[node] & (aligned.GAP_A if side == "a" else aligned.GAP_B))

    def is_leaf(self, node: int) -> bool:
        """Whether it is a pair or a value."""
        return not self._flags[node] & aligned.CHILDREN

    def is_value(self, node: int) -> bool:
        """Whether it is a value that is no tensor."""
        return bool(self._flags[node] & aligned.VALUE)

    def by_hand(self, node: int) -> bool:
        """Whether somebody made the pair."""
        return bool(self._flags[node] & aligned.HAND)

    def leaves(self, node: int) -> int:
        """How many pairs are at and below it."""
        return 0 if self.sheet is None else int(self.sheet.columns["leaves"][node])

    def status(self, node: int) -> Status:
        """How both sides differ."""
        return STATUSES[self._status[node]] if node < len(self._status) else STATUSES[0]

    def change(self, node: int) -> float | None:
        """Relative change, None where it is not known or there is none."""
        if node >= len(self._change) or (found := float(self._change[node])) != found:
            return None
        return found

    def bound(self, node: int) -> str:
        """What the change of a module is as long as not all is measured, a word of `BOUNDS`."""
        return BOUNDS[self._bounds[node]] if node < len(self._bounds) and self.change(node) else ""

    def change_words(self, node: int) -> str:
        """What stands in the column of changes: a number, or why there is none."""
        status, found = self.status(node), self.change(node)
        if status.name in ("shape", "only_a", "only_b", "unreadable"):
            return status.says
        if self.is_value(node):
            return self.status_words(node)
        if found is None:
            return ""
        return f"≤ {percent(found)}" if self.bound(node) == "at most" else percent(found)

    def status_words(self, node: int) -> str:
        """How both sides differ; of a value that only one has, which."""
        if self.is_value(node) and self.is_leaf(node):
            gap = next((side for side in "ab" if self.is_gap(node, side)), "")
            if gap:
                return BY_NAME["only_b" if gap == "a" else "only_a"].says
        return self.status(node).says

    def cosine_words(self, node: int) -> str:
        """The cosine with four decimals, and how far it is from 1 where these would not tell."""
        if node >= len(self._cosine) or (found := float(self._cosine[node])) != found:
            return ""
        return text.cosine(found)

    def sentence(self, node: int) -> str:
        """A row in words, for a screen reader."""
        a, b = (self.side_name(node, side) for side in "ab")
        parts = [f"{a} in A, {b} in B" if a and b and a != b else self.name(node)]
        if not self.is_leaf(node):
            parts.append(f"module of {text.plural(self.leaves(node), 'pair')}")
        shapes = [self.shape(node, side).replace("×", " by ") for side in "ab" if self.shape(node, side)]
        if shapes:
            what = "value" if self.is_value(node) else "shape"
            parts.append(f"{what} {shapes[0]}" if len(set(shapes)) == 1 else f"{what}s {' and '.join(shapes)}")
        if status := self.status_words(node):
            parts.append(status)
        found = self.change(node)
        if found is not None and self.status(node).name not in ("identical", "shape", "only_a", "only_b"):
            bound = f"{word} " if (word := self.bound(node)) else ""
            parts.append(f"relative change {bound}{percent(found)}")
        if shown := self.cosine_words(node):
            parts.append(f"cosine {shown}")
        if self.by_hand(node):
            parts.append("paired by hand")
        if self.has_children(node):
            parts.append("expanded" if self.is_expanded(node) else "collapsed")
        return ", ".join(parts) + f", level {self.depth(node) + 1}"

    # Qt's questions

    def _display(self, node: int, column: int) -> str:
        if column in (NAME_A, NAME_B):
            return self.side_name(node, "a" if column == NAME_A else "b")
        if column in (SHAPE_A, SHAPE_B):
            return self.shape(node, "a" if column == SHAPE_A else "b")
        if column == MARK:
            return self.status_words(node)
        return self.change_words(node) if column == CHANGE else self.cosine_words(node)

    def _tooltip(self, node: int, column: int) -> str:
        shown = self._display(node, column)
        if column == CHANGE and (found := self.change(node)) is not None:
            below = "" if self.is_leaf(node) else _OVER[self.bound(node)]
            return f"{_ABOUT[CHANGE].partition(';')[0]}: {found:.6g}{below}"
        if column in (NAME_A, NAME_B) and not shown and self.is_gap(node, "a" if column == NAME_A else "b"):
            return "not there"
        if column == NAME_A and not self.is_leaf(node):
            return f"{shown}\n{text.plural(self.leaves(node), 'pair')}"
        return shown

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADERS[section]
            if role == Qt.ItemDataRole.ToolTipRole and section in _ABOUT:
                return _ABOUT[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                side = Qt.AlignmentFlag.AlignRight if section == COSINE else Qt.AlignmentFlag.AlignLeft
                return side | Qt.AlignmentFlag.AlignVCenter
        return None


def percent(ratio: float) -> str:
    """A relative change: `8.25 %`, `1,240 %`, `∞`."""
    if ratio == float("inf"):
        return "\N{INFINITY}"
    return text.percent(ratio) if ratio < 10 else f"{ratio * 100:,.0f} %" if ratio < 1e6 else f"{text.value(ratio)}×"
