"""The rows of a fit as flat arrays and one text blob: what a worker sends and a window paints from."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

from sdviewer.core.aligned import TEXTS, AlignedTree, pack_rows
from sdviewer.core.sheet import Rows, typed_columns
from sdviewer.core.tree import KINDS

STATUSES: Final = (
    *("", "collision", "will_match", "will_drop", "will_leave", "shape", "missing", "unexpected"),
    *("match", "left", "dropped"),
)
"""What becomes of a row; "" for one that holds others. What is left is missing and may be."""
CODES: Final = {word: code for code, word in enumerate(STATUSES)}
PROBLEMS: Final = frozenset(CODES[word] for word in STATUSES[1:8])
"""What "next problem" stops at."""

COLUMNS: Final = {
    "kind_a": "B",
    "kind_b": "B",
    "status": "B",
    "flags": "B",
    "depth": "H",
    "parent": "i",
    "leaves": "i",
    **{f"{name}_{part}": "I" for name in (*TEXTS, "now") for part in ("at", "length")},
}
"""Column -> array type code."""


class FitSheet(Rows):
    """All rows of one fit. `name_a` is the key in the file, `now` that after the recipe where it is another."""

    __slots__ = ()

    def kind(self, row: int) -> str:
        """One of `core.tree.KINDS`."""
        return str(KINDS[self.columns["kind_a"][row]])

    @staticmethod
    def from_buffers(buffers: Mapping[str, memoryview]) -> FitSheet:
        """The sheet from raw buffers named like the columns, and `text`."""
        return FitSheet(typed_columns(buffers, COLUMNS), buffers["text"])


def pack(tree: AlignedTree, statuses: bytes, now: Sequence[str]) -> dict[str, bytes]:
    """The buffers of a tree; `now` is by row."""
    return pack_rows(tree, COLUMNS, {"now": now}, {"status": array("B", statuses)})
