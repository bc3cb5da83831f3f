"""Which rows of a tree in pre-order are open, and in which order siblings stand: what all trees on the screen share."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

NATURAL: Final = "natural"
"""The order of the file."""


class RowState:
    """The state of one tree, of which `end` has for each row where its subtree ends and `parent` the row above it.

    What a filter opens is kept apart, so that taking it away gives the tree back as it was.
    """

    def __init__(self, end: Sequence[int], parent: Sequence[int]) -> None:
        self._end, self._parent = end, parent
        self.expanded = bytearray(len(end))
        self.sort = NATURAL
        self.descending = False
        self._filtered_expanded = bytearray()

    def _is_filtered(self) -> bool:
        """Whether rows are open because of a filter."""
        raise NotImplementedError

    def _marks(self) -> bytearray | None:
        """1 for every row that is shown if what is above it is open; None: all are."""
        raise NotImplementedError

    def _sort_keys(self) -> Sequence[Any]:
        """What each row is sorted by, None for what has nothing."""
        raise NotImplementedError

    def _state(self) -> bytearray:
        return self._filtered_expanded if self._is_filtered() else self.expanded

    # What one can do

    def toggle(self, row: int) -> None:
        """Expand a collapsed row, collapse an expanded one."""
        self._state()[row] ^= 1

    def set_expanded(self, rows: Iterable[int], value: bool, subtree: bool = False) -> None:
        """Expand or collapse rows, with everything below them if `subtree`; -1 is a row that is gone."""
        state = self._state()
        for row in rows:
            if row < 0:
                continue
            end = self._end[row] if subtree else row + 1
            state[row:end] = bytes([value]) * (end - row)

    def open_to(self, *rows: int) -> None:
        """Expand what is above some rows; one that is filtered away stays so."""
        state = self._state()
        for row in rows:
            while (row := self._parent[row]) >= 0:
                state[row] = 1

    def expand_all(self, value: bool) -> None:
        """Expand or collapse everything."""
        self.set_expanded(list(self._siblings(0, len(self._end))), value, subtree=True)

    # What is shown

    def visible(self) -> array[int]:
        """The rows on the screen, top to bottom (int32)."""
        return self._in_order(self._state())

    def _in_order(self, state: bytearray) -> array[int]:
        """The rows that are shown if these are open."""
        shown = self._marks()
        if self.sort == NATURAL:
            return self._scan(state, shown)
        keys = self._sort_keys()
        rows = array("i")
        stack = [self._sorted(0, len(self._end), keys)]
        while stack:
            row = next(stack[-1], None)
            if row is None:
                stack.pop()
            elif shown is None or shown[row]:
                rows.append(row)
                if state[row] and self._end[row] > row + 1:
                    stack.append(self._sorted(row + 1, self._end[row], keys))
        return rows

    def _scan(self, state: bytearray, shown: bytearray | None) -> array[int]:
        rows = array("i")
        end = self._end
        row, total = 0, len(end)
        while row < total:
            if shown is None or shown[row]:
                rows.append(row)
                row = row + 1 if state[row] else end[row]
            else:
                row = end[row]
        return rows

    def _leading_to(self, rows: Iterable[int]) -> bytearray:
        """1 for each of these rows and every row above one."""
        marks = bytearray(len(self._end))
        parent = self._parent
        for row in rows:
            while row >= 0 and not marks[row]:
                marks[row] = 1
                row = parent[row]
        return marks

    def _siblings(self, row: int, end: int) -> Iterator[int]:
        while row < end:
            yield row
            row = self._end[row]

    def _sorted(self, row: int, end: int, keys: Sequence[Any]) -> Iterator[int]:
        """Siblings in order; those without what is sorted by come last, either way."""
        rows = list(self._siblings(row, end))
        ordered = sorted((r for r in rows if keys[r] is not None), key=keys.__getitem__, reverse=self.descending)
        if len(ordered) < len(rows):
            ordered += [r for r in rows if keys[r] is None]
        return iter(ordered)


def with_bits(base: bytes, opened: bytes, open_bit: int, matched: Iterable[int] | None, match_bit: int) -> bytes:
    """The flags of all rows with the bits of those that are open, and of those that a filter found."""
    result = int.from_bytes(base, "little")
    result |= int.from_bytes(opened.translate(bytes([0, open_bit]) + bytes(254)), "little")
    if matched is not None:
        bits = bytearray(len(base))
        for row in matched:
            bits[row] = match_bit
        result |= int.from_bytes(bits, "little")
    return result.to_bytes(len(base), "little")


def still_open(opened: bytearray, led: bytearray, now: bytearray) -> bytearray:
    """What is open after more was found: what led to it before as somebody left it, and what leads to it now."""
    return bytearray(was if before else new for was, before, new in zip(opened, led, now, strict=True))
