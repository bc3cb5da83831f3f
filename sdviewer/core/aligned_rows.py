"""Which rows of an aligned tree are shown: expanding, filtering, chips, sorting; the answer is an array of row numbers.

Nothing is rebuilt for any of them. While a filter or a chip is on, what leads to a match is expanded, in a state of its
own: taking it away gives the tree back as it was. Hiding what is alike only takes rows away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from sdviewer.core.aligned import CHILDREN, EXPANDED, FOLD, MATCHED, AlignedTree
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_filter import KeyFilter, matching_rows, parse_filter
from sdviewer.core.row_state import NATURAL, RowState, still_open, with_bits
from sdviewer.errors import UsageError

OPEN_AT_FIRST: Final = 60
"""Rows that are in sight at first, as far as whole modules can be opened."""


class AlignedRows(RowState):
    """The state of one aligned tree on the screen.

    `statuses` has a code for each row (0 where it is no leaf, or not known); `keys` says by what rows are sorted, None
    for what comes last.
    """

    def __init__(self, tree: AlignedTree, a: Checkpoint, b: Checkpoint) -> None:
        super().__init__(tree.end, tree.parent)
        self.tree = tree
        self.statuses: bytes = bytes(len(tree))
        self.filter = ""
        self.chips: frozenset[int] = frozenset()
        self.renamed = False
        self.hidden: frozenset[int] = frozenset()
        self.keys: Callable[[str, bool], Sequence[Any]] = lambda column, descending: [None] * len(tree)
        self._sides = ((a, tree.side(False)), (b, tree.side(True)))
        self._lower: list[list[str]] = []
        self._found: list[int] | None = None
        self._shown: bytearray | None = None
        self._expand_first()

    def _expand_first(self) -> None:
        """Open modules from the top, as long as all rows have room; what is folded stays so."""
        tree = self.tree
        level = deque(self._siblings(0, len(tree)))
        room = OPEN_AT_FIRST - len(level)
        while level:
            row = level.popleft()
            below = list(self._siblings(row + 1, tree.end[row]))
            if below and len(below) <= room and not tree.flags[row] & FOLD:
                self.expanded[row] = 1
                room -= len(below)
                level.extend(below)

    # What one can do

    def reveal(self, *rows: int) -> None:
        """Expand what is above some rows; what hides one of them is taken away."""
        if self._shown is not None and not all(self._shown[row] for row in rows):
            self.set_filter("")
            self.set_chips(())
            if self._shown is not None and not all(self._shown[row] for row in rows):
                self.set_hidden(())
        self.open_to(*rows)

    def set_filter(self, text: str) -> None:
        """Show only the leaves that match on either side, and what leads to them; "" shows all again.

        Raises:
            UsageError: the filter cannot be read, or is about numbers of one file; what is shown stays.
        """
        found = self.found_by(text)
        self.filter = text if text.strip() else ""
        self._found = found if self.filter else None
        self._look()

    def found_by(self, text: str) -> list[int]:
        """The leaves that a filter finds on either side, from the top; none for "".

        Raises:
            UsageError: as `set_filter`.
        """
        return self._matching(_parsed(text)) if text.strip() else []

    def set_chips(self, statuses: Collection[int], *, renamed: bool = False) -> None:
        """Show only leaves with one of these statuses, none: with any, and of these only those whose key in B is
        another one where `renamed` says so."""
        self.chips = frozenset(statuses)
        self.renamed = renamed
        self._look()

    def set_hidden(self, statuses: Collection[int]) -> None:
        """Hide leaves with one of these statuses."""
        self.hidden = frozenset(statuses)
        self._look()

    def set_statuses(self, statuses: bytes) -> None:
        """More is known; what somebody closed stays closed."""
        if statuses == self.statuses:
            return
        self.statuses = statuses
        if self.chips or self.hidden:
            opened, led = self._filtered_expanded, self._shown
            self._look()
            if opened and led is not None and self._filtered_expanded and self._shown is not None:
                self._filtered_expanded = still_open(opened, led, self._filtered_expanded)

    def set_sort(self, sort: str, descending: bool) -> None:
        """Order siblings: as they stand, or by what `keys` has for this name."""
        self.sort, self.descending = sort, descending

    @property
    def matched(self) -> int | None:
        """How many leaves are shown, None where all are."""
        if self._shown is None:
            return None
        leaf = self.tree.leaf
        return sum(1 for row, shown in enumerate(self._shown) if shown and leaf[row] >= 0)

    # From one tree of the same leaves to the next

    def adopt(self, old: AlignedRows, selected: Iterable[int]) -> list[int]:
        """Take over what was open, filtered and sorted in `old`; where its `selected` rows are now, -1: gone.

        A selected row that was in sight stays so, also in a fold that is new.
        """
        row_of = {leaf: row for row, leaf in enumerate(self.tree.leaf) if leaf >= 0}
        self.filter, self._found = "", None
        self.expanded = bytearray(len(self.tree))
        for row, is_open in enumerate(old.expanded):
            if is_open and (place := self._place_of(old.tree, row, row_of)) >= 0:
                self.expanded[place] = 1
        self.filter_like(old)
        places = []
        for row in selected:
            place = self._place_of(old.tree, row, row_of) if 0 <= row < len(old.tree) else -1
            places.append(place)
            if place >= 0 and all(old._state()[above] for above in old.tree.ancestors(row)):
                self.open_to(place)
        return places

    def look_like(self, old: AlignedRows) -> None:
        """Take over what was open in the tree of other pairs, by the names of modules, and its filter and order."""
        tree = old.tree
        names = zip(tree.key_a, tree.key_b, tree.flags, old.expanded, strict=True)
        opened = {(a, b) for a, b, flags, is_open in names if is_open and not flags & FOLD}
        for row, (a, b, flags) in enumerate(zip(self.tree.key_a, self.tree.key_b, self.tree.flags, strict=True)):
            if flags & CHILDREN and not flags & FOLD and (a, b) in opened:
                self.expanded[row] = 1
        self.filter_like(old)

    def filter_like(self, old: AlignedRows) -> None:
        """Take over what `old` was filtered and sorted by."""
        self.chips, self.renamed, self.hidden = old.chips, old.renamed, old.hidden
        self.set_sort(old.sort, old.descending)
        self.set_filter(old.filter)

    def _place_of(self, old: AlignedTree, row: int, row_of: dict[int, int]) -> int:
        """The row that holds the same first leaf as far above it, folds not counted; -1 where there is none."""
        leaf, height, is_fold = row, 0, bool(old.flags[row] & FOLD)
        while old.end[leaf] > leaf + 1:
            leaf += 1
        above = leaf
        while above != row:
            above = old.parent[above]
            height += not old.flags[above] & FOLD
        place = row_of.get(old.leaf[leaf], -1)
        flags, parent = self.tree.flags, self.tree.parent
        while place >= 0 and height:
            place = parent[place]
            height -= place >= 0 and not flags[place] & FOLD
        if is_fold and place >= 0:
            return parent[place] if parent[place] >= 0 and flags[parent[place]] & FOLD else -1
        return place

    # What is shown

    def flags(self, base: bytes) -> bytes:
        """`base` (the sheet's flags) with the expanded and matched bits of now."""
        return with_bits(base, bytes(self._state()), EXPANDED, self._found, MATCHED)

    def next_of(self, row: int, statuses: Collection[int], *, forwards: bool) -> int:
        """The next leaf with one of these statuses before or behind a row, wherever it is folded away; -1: none.

        A row of -1 is before the first and behind the last.
        """
        wanted, own = frozenset(statuses), self.statuses
        order: Sequence[int]
        if self.sort == NATURAL:
            order = range(len(self.tree))
            at = row
        else:
            order = self._in_order(bytearray(b"\1") * len(self.tree))
            at = order.index(row) if row in order else -1
        if at < 0 and not forwards:
            at = len(order)
        places = range(at + 1, len(order)) if forwards else range(at - 1, -1, -1)
        shown = self._shown
        for place in places:
            found = order[place]
            if own[found] in wanted and (shown is None or shown[found]):
                return found
        return -1

    def _is_filtered(self) -> bool:
        return self._found is not None or bool(self.chips) or self.renamed

    def _marks(self) -> bytearray | None:
        return self._shown

    def _sort_keys(self) -> Sequence[Any]:
        return self.keys(self.sort, self.descending)

    def _look(self) -> None:
        """Find out which rows are shown."""
        if not self._is_filtered() and not self.hidden:
            self._shown = None
            return
        tree, statuses = self.tree, self.statuses
        leaves: Iterable[int] = self._found if self._found is not None else _leaves(tree)
        if self.chips:
            leaves = [row for row in leaves if statuses[row] in self.chips]
        if self.renamed:
            leaves = [row for row in leaves if tree.key_a[row] and tree.key_b[row] not in ("", tree.key_a[row])]
        if self.hidden:
            leaves = [row for row in leaves if statuses[row] not in self.hidden]
        self._shown = self._leading_to(leaves)
        if self._is_filtered():
            self._filtered_expanded = bytearray(self._shown)

    def _matching(self, parsed: KeyFilter) -> list[int]:
        """The leaves that pass on either side, from the top."""
        if not self._lower:
            self._lower = [[path.lower() for path in side.path_text] for _, side in self._sides]
        found: set[int] = set()
        for (checkpoint, side), lower in zip(self._sides, self._lower, strict=True):
            found.update(matching_rows(side, checkpoint, parsed, lower))
        return sorted(found)


def _parsed(text: str) -> KeyFilter:
    parsed = parse_filter(text)
    if parsed.number_tests:
        what = parsed.number_tests[0].what
        remedy = "Sort by a column, or filter by names, shapes and types."
        raise UsageError(f"a comparison has no numbers of one file: {what}", remedy=remedy, code="bad_filter")
    return parsed


def _leaves(tree: AlignedTree) -> list[int]:
    return [row for row, leaf in enumerate(tree.leaf) if leaf >= 0]
