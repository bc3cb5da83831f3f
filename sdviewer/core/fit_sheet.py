"""The rows of a fit as flat arrays and one text blob: what a worker sends and a window paints from."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdviewer.core.aligned import AlignedTree
from sdviewer.core.sheet import TextBlob
from sdviewer.core.tree import KINDS

STATUSES: Final = ("", "collision", "will_match", "will_drop", "shape", "missing", "unexpected", "match", "dropped")
"""What becomes of a row; "" for one that holds others."""
CODES: Final = {word: code for code, word in enumerate(STATUSES)}
PROBLEMS: Final = frozenset(CODES[word] for word in STATUSES[1:7])
"""What "next problem" stops at."""

TEXTS: Final = ("name_a", "name_b", "shape_a", "shape_b", "now")
COLUMNS: Final = {
    "kind_a": "B",
    "kind_b": "B",
    "status": "B",
    "flags": "B",
    "depth": "H",
    "parent": "i",
    "leaves": "i",
    **{f"{name}_{part}": "I" for name in TEXTS for part in ("at", "length")},
}
"""Column -> array type code."""


@dataclass(frozen=True, slots=True)
class FitSheet:
    """All rows of one fit. `name_a` is the key in the file, `now` that after the recipe where it is another."""

    columns: Mapping[str, Any]
    text: memoryview

    def __len__(self) -> int:
        return len(self.columns["depth"])

    def words(self, column: str, row: int) -> str:
        """One of the texts (untrusted)."""
        at, length = self.columns[f"{column}_at"][row], self.columns[f"{column}_length"][row]
        return bytes(self.text[at : at + length]).decode("utf-8", "surrogatepass")

    def kind(self, row: int) -> str:
        """One of `core.tree.KINDS`."""
        return str(KINDS[self.columns["kind_a"][row]])

    @staticmethod
    def from_buffers(buffers: Mapping[str, memoryview]) -> FitSheet:
        """The sheet from raw buffers named like the columns, and `text`."""
        views: dict[str, Any] = {}
        for name, code in COLUMNS.items():
            view: Any = memoryview(buffers[name]).cast("B")
            views[name] = view.cast(code)
        return FitSheet(views, buffers["text"])


def pack(tree: AlignedTree, statuses: bytes, now: Sequence[str]) -> dict[str, bytes]:
    """The buffers of a tree; `now` is by row."""
    texts = TextBlob()
    columns: dict[str, array[int]] = {}
    for name in TEXTS:
        columns[f"{name}_at"], columns[f"{name}_length"] = texts.put(now if name == "now" else getattr(tree, name))
    kinds = {kind: number for number, kind in enumerate(KINDS)}
    columns["kind_a"] = array("B", [kinds[kind] for kind in tree.kind_a])
    columns["kind_b"] = array("B", [kinds[kind] for kind in tree.kind_b])
    columns["status"] = array("B", statuses)
    columns["depth"] = array("H", [min(depth, 65535) for depth in tree.depth])
    for name in ("flags", "parent", "leaves"):
        columns[name] = array(COLUMNS[name], getattr(tree, name))
    return {**{name: column.tobytes() for name, column in columns.items()}, "text": texts.to_bytes()}
