"""The rows of a workbench as a flat table: keys on both sides, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from PySide6.QtCore import QObject, Qt

from sdviewer.core import aligned, text
from sdviewer.core.fit_sheet import FitSheet
from sdviewer.gui.models.flat_tree import PairedModel

SOURCE, SHAPE_A, MARK, TARGET, SHAPE_B, RESULT = range(6)
HEADERS: Final = ("Source key", "Shape", "", "Target key", "Shape", "Result")
LONGEST: Final = 300


class Look(NamedTuple):
    """How a status looks and is said: an icon, a word, tokens of its words and of its ground."""

    icon: str
    says: str
    token: str = "text2"
    ground: str = ""


LOOKS: Final = (
    Look("", ""),
    Look("warn", "collides", "S", "tS"),
    Look("rulearrow", "will match", "ok"),
    Look("trash", "will be dropped"),
    Look("onlyB", "may be missing"),
    Look("shape", "needs a decision", "S", "tS"),
    Look("onlyB", "missing", "B", "tB"),
    Look("onlyA", "unexpected", "A", "tA"),
    Look("eq", "matches", "text2"),
    Look("onlyB", "may be missing", "text3"),
    Look("trash", "dropped", "text3"),
)
"""By the codes of `core.fit_sheet.STATUSES`."""

GROUPS: Final[Mapping[str, tuple[str, str, str]]] = {
    "collision": ("warn", "S", "Would have one name"),
    "preview": ("spark", "accent", "Preview"),
    "shape": ("shape", "S", "Shape differs"),
    "missing": ("onlyB", "B", "Missing in source"),
    "unexpected": ("onlyA", "A", "Unexpected in source"),
    "match": ("eq", "ok", "Matched"),
    "left": ("onlyB", "text2", "Left to the model"),
    "dropped": ("trash", "text2", "Dropped"),
}
"""Icon, its token and the title of each group."""


class FitModel(PairedModel):
    """The visible rows of one workbench. `preview_words` stand behind the title of what is previewed."""

    headers = HEADERS

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sheet: FitSheet | None = None
        self.preview_words = ""
        self.is_tree = False
        """Whether modules stand above their keys."""

    def set_sheet(self, sheet: FitSheet, visible: memoryview) -> None:
        """Show another sheet: nodes are numbered anew."""
        self.beginResetModel()
        self.sheet = sheet
        self._set_columns(sheet.columns, visible)
        self.endResetModel()

    # Cells, for the painter and for Qt

    def kind(self, node: int) -> str:
        return "" if self.sheet is None else self.sheet.kind(node)

    def name(self, node: int) -> str:
        return self.words(node, "name_a") or self.words(node, "name_b")

    def words(self, node: int, column: str) -> str:
        """One of the texts of `FitSheet`, printable."""
        assert self.sheet is not None
        return text.visible(self.sheet.words(column, node), LONGEST)

    def look(self, node: int) -> Look:
        """What becomes of a row, and how that looks."""
        return LOOKS[self._columns["status"][node]]

    def is_leaf(self, node: int) -> bool:
        """Whether it is a key and holds no others."""
        return bool(self._columns["status"][node])

    def is_gap(self, node: int, side: str) -> bool:
        """Whether there is nothing on a side."""
        return bool(self._flags[node] & (aligned.GAP_A if side == "a" else aligned.GAP_B))

    def group(self, node: int) -> tuple[str, str, str] | None:
        """Icon, token and title of a group's row; None for any other."""
        if self.is_leaf(node) or self.depth(node):
            return None
        assert self.sheet is not None
        return GROUPS.get(self.sheet.words("name_a", node)) if not self.words(node, "name_b") else None

    def is_more(self, node: int) -> bool:
        """Whether it stands for pairs of a group that are folded."""
        parent = self.parent_of(node)
        return not self.is_leaf(node) and parent >= 0 and self.group(parent) is not None

    def count_words(self, node: int) -> str:
        """What stands behind a group's title."""
        leaves = int(self._columns["leaves"][node])
        group = self.group(node)
        return self.preview_words if group is not None and group[0] == "spark" else f"{leaves:,}"

    def sentence(self, node: int) -> str:
        """A row in words, for a screen reader."""
        state = "expanded" if self.is_expanded(node) else "collapsed"
        if (group := self.group(node)) is not None:
            return f"{group[2]}, {self.count_words(node)}, {state}"
        if not self.is_leaf(node):
            return f"{self.name(node)}, {state}, level {self.depth(node) + 1}"
        old, now, new = (self.words(node, column) for column in ("name_a", "now", "name_b"))
        parts = [self.look(node).says, old or "no source key"]
        if now and now != new:
            parts.append(f"now {now}")
        if new != old:
            parts.append(f"to {new}" if new else "no target key")
        shapes = list(dict.fromkeys(self.words(node, f"shape_{side}") for side in "ab"))
        parts.append(" and ".join(shape.replace("×", " by ") for shape in shapes if shape))
        return ", ".join(part for part in parts if part)

    # Qt's questions

    def _tooltip(self, node: int, column: int) -> str:
        tip = self._display(node, column)
        if column == SOURCE and (now := self.words(node, "now")):
            tip = f"{tip}\nnow {now}"
        return tip

    def _display(self, node: int, column: int) -> str:
        if column == SOURCE:
            group = self.group(node)
            return f"{group[2]} {self.count_words(node)}" if group else self.words(node, "name_a")
        if column == TARGET:
            return self.words(node, "name_b")
        if column in (SHAPE_A, SHAPE_B):
            return self.words(node, "shape_a" if column == SHAPE_A else "shape_b")
        return self.look(node).says if column == RESULT else ""

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADERS[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None
