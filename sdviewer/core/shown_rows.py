"""Which rows of a module tree are shown: expanding, filtering, sorting; the answer is an array of row numbers.

Nothing is rebuilt for any of them. While a filter is on, what leads to a match is expanded, in a state of its own:
taking the filter away gives the tree back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_filter import KeyFilter, Numbers, matching_rows, parse_filter
from sdviewer.core.row_state import NATURAL, RowState, still_open, with_bits
from sdviewer.core.sheet import EXPANDED, MATCHED
from sdviewer.core.tree import LEAVES, ModuleTree

OF_THE_TREE = ("name", "params", "shape", "dtype")
"""What rows can be sorted by without their numbers."""


class ShownRows(RowState):
    """The state of one tree on the screen. `numbers` are what filters and sorts by numbers look at."""

    def __init__(self, tree: ModuleTree, checkpoint: Checkpoint, numbers: Numbers | None = None) -> None:
        super().__init__(tree.end, tree.parent)
        self.tree = tree
        self.checkpoint = checkpoint
        self.numbers = numbers
        self.filter = ""
        self.matched: list[int] | None = None
        self._parsed = KeyFilter()
        self._keys: Sequence[Any] | None = None
        self._lower: list[str] | None = None
        self._expand_first()

    def _expand_first(self) -> None:
        """At first the models are open, or all there is when it is little."""
        tops = list(self._siblings(0, len(self.tree)))
        for row in tops:
            if self.tree.state_dict[row] >= 0 and self.tree.kind[row] == "module":
                self.expanded[row] = 1
                self._open_lone(row)
        if not any(self.expanded) and len(self.tree) <= 60:
            self.expanded = bytearray(b"\1") * len(self.tree)

    def _open_lone(self, row: int) -> None:
        """Open the only child of an open row, and its only child: a lone `module` hides all behind one more click."""
        while self._is_lone(row + 1, self.tree.end[row]):
            row += 1
            self.expanded[row] = 1

    def _is_lone(self, row: int, end: int) -> bool:
        return row < end and self.tree.end[row] == end

    # What one can do

    def reveal(self, *rows: int) -> None:
        """Expand what is above some rows; a filter that hides one of them is taken away."""
        if self.matched is not None:
            leads = self._leads_to_match()
            if not all(leads[row] for row in rows):
                self.set_filter("")
        self.open_to(*rows)

    def set_filter(self, text: str) -> None:
        """Show only the leaves that match, and what leads to them; "" shows all again.

        Raises:
            UsageError: the filter cannot be read; what is shown stays.
        """
        parsed = parse_filter(text)
        self._parsed = parsed
        if not text.strip():
            self.filter, self.matched = "", None
            return
        if self._lower is None:
            self._lower = [path.lower() for path in self.tree.path_text]
        matched = matching_rows(self.tree, self.checkpoint, parsed, self._lower, self.numbers)
        self.filter, self.matched = text, matched
        self._filtered_expanded = self._leads_to_match()

    def set_sort(self, sort: str, descending: bool) -> None:
        """Order siblings: as they stand, by one of `OF_THE_TREE`, or by their numbers (`Numbers.sort_keys`)."""
        self.sort, self.descending, self._keys = sort, descending, None

    @property
    def by_numbers(self) -> bool:
        """Whether the filter or the order looks at numbers."""
        return bool(self._parsed.number_tests) or self.sort not in (NATURAL, *OF_THE_TREE)

    def refresh(self) -> None:
        """Filter and sort again: more numbers are known."""
        self._keys = None
        if self.matched is None or not self._parsed.number_tests or self._lower is None:
            return
        opened, leads = self._filtered_expanded, self._leads_to_match()
        self.matched = matching_rows(self.tree, self.checkpoint, self._parsed, self._lower, self.numbers)
        self._filtered_expanded = still_open(opened, leads, self._leads_to_match())

    # What is shown

    def flags(self, base: bytes) -> bytes:
        """`base` (the sheet's flags) with the expanded and matched bits of now."""
        return with_bits(base, bytes(self._state()), EXPANDED, self.matched, MATCHED)

    def _is_filtered(self) -> bool:
        return self.matched is not None

    def _marks(self) -> bytearray | None:
        return None if self.matched is None else self._leads_to_match()

    def _leads_to_match(self) -> bytearray:
        """1 for every match and every row above one."""
        return self._leading_to(self.matched or ())

    def _sort_keys(self) -> Sequence[Any]:
        if self._keys is None:
            self._keys = self._find_keys()
        return self._keys

    def _find_keys(self) -> Sequence[Any]:
        tree, tensors = self.tree, self.checkpoint.tensors
        if self.sort == "name":
            return [name.lower() for name in tree.name]
        if self.sort == "params":
            return tree.params
        if self.sort == "dtype":
            return [dtype or None for dtype in tree.dtype]
        if self.sort == "shape":
            return [tensors[at].shape if at >= 0 and tensors[at].dtype else None for at in tree.tensor]
        return [None] * len(tree) if self.numbers is None else self.numbers.sort_keys(self.sort, self.descending)

    # From one tree to the next

    def anchor(self, row: int) -> Anchor:
        """What a row is, in terms that survive an edit: the first leaf below it, and how far above that it stands."""
        tree = self.tree
        if _is_state_dict(tree, row):
            return ("state_dict", tree.state_dict[row]), 0, False  # a step may move its leaves up or down
        leaf = row
        while tree.end[leaf] > leaf + 1:
            leaf += 1
        height = 0
        above = leaf
        while above != row:
            above = tree.parent[above]
            height += tree.kind[above] != "fold"
        return tree.origin[leaf], height, tree.kind[row] == "fold"

    def adopt(self, old: ShownRows, selected: Iterable[int]) -> list[int]:
        """Take over what was expanded, filtered and sorted in `old`; where its `selected` rows are now, -1: gone.

        A selected row that was in sight stays so: an undo can bring a fold back above it, which nobody closed.
        """
        rows = _Anchors(self.tree)
        self.expanded = bytearray(len(self.tree))
        for row in range(len(old.tree)):
            if old.expanded[row] and old.tree.kind[row] not in LEAVES:
                place = rows.find(old.anchor(row))
                if place is not None:
                    self.expanded[place] = 1
                    if _is_state_dict(old.tree, row) and not old._is_lone(row + 1, old.tree.end[row]):
                        self._open_lone(place)  # a wrapper that came back: what was below it was in sight
        if not any(self.expanded):
            self._expand_first()
        places = []
        for row in selected:
            place = rows.find(old.anchor(row)) if 0 <= row < len(old.tree) else None
            places.append(-1 if place is None else place)
            if place is not None and all(old.expanded[above] for above in old.tree.ancestors(row)):
                for above in self.tree.ancestors(place):
                    self.expanded[above] = 1
        self.set_sort(old.sort, old.descending)
        self.set_filter(old.filter)
        return places

    def places_of(self, old: ShownRows, rows: Iterable[int]) -> list[int]:
        """Where rows of `old` are now, -1: gone."""
        anchors = _Anchors(self.tree)
        found = [anchors.find(old.anchor(row)) if 0 <= row < len(old.tree) else None for row in rows]
        return [-1 if place is None else place for place in found]


Anchor = tuple[tuple[str, int], int, bool]


class _Anchors:
    """Finds anchors in a tree."""

    def __init__(self, tree: ModuleTree) -> None:
        self.tree = tree
        self.leaves = {tree.origin[row]: row for row in range(len(tree)) if tree.end[row] == row + 1}
        for row in range(len(tree)):
            if _is_state_dict(tree, row):
                self.leaves["state_dict", tree.state_dict[row]] = row

    def find(self, anchor: Anchor) -> int | None:
        leaf, height, fold = anchor
        row = self.leaves.get(leaf)
        if row is None:
            return None
        while height:
            row = self.tree.parent[row]
            if row < 0:
                return None
            height -= self.tree.kind[row] != "fold"
        above = self.tree.parent[row]
        return above if fold and above >= 0 and self.tree.kind[above] == "fold" else row


def _is_state_dict(tree: ModuleTree, row: int) -> bool:
    return tree.state_dict[row] >= 0 and tree.entry[row] < 0 and tree.tensor[row] < 0
