"""The module tree as flat arrays and one text blob: what a worker sends and what a window draws from.

A window never holds 100,000 Python objects: a cell is decoded when it is painted. Arrays are little-endian machine
integers over rows in pre-order; texts are (offset, length) pairs in bytes into one UTF-8 blob (`surrogatepass`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sdviewer.core.tree import KINDS, ModuleTree

# Bits of `flags`.
EXPANDED, CHILDREN, EDITED, PROBLEM, MATCHED, FOLD, DROPPED, HAZARD = 1, 2, 4, 8, 16, 32, 64, 128

# Bits of a row's health; `NOTED` ones are worth being told among the problems.
NAN, INF, ZERO, CONSTANT, OUTLIER, NOTED = 1, 2, 4, 8, 16, 32

COLUMNS = {
    "kind": "B",
    "flags": "B",
    "dtype": "H",
    "depth": "H",
    "parent": "i",
    "end": "i",
    "name_at": "I",
    "name_length": "I",
    "note_at": "I",
    "note_length": "I",
    "shape_at": "I",
    "shape_length": "I",
    "share": "f",
    "params": "q",
    "tensor": "i",
}
"""Column -> array type code (`array.array`); `dtype` indexes `dtypes`, `kind` indexes `KINDS`."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as `columns`, typed views over them, and `text`, the blob."""

    columns: Mapping[str, Any]
    text: memoryview

    def __len__(self) -> int:
        return len(self.columns["depth"])

    def words(self, column: str, row: int) -> str:
        """The text in a column that has places and lengths (untrusted text)."""
        at, length = self.columns[f"{column}_at"][row], self.columns[f"{column}_length"][row]
        return bytes(self.text[at : at + length]).decode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Sheet(Rows):
    """All rows of one document; `dtypes` are short type names."""

    dtypes: tuple[str, ...]

    def name(self, row: int) -> str:
        """The row's own name (untrusted text)."""
        return self.words("name", row)

    def note(self, row: int) -> str:
        """What stands in grey behind the name."""
        return self.words("note", row)

    def shape(self, row: int) -> str:
        """The shape as text, "" for what has none."""
        return self.words("shape", row)

    def kind(self, row: int) -> str:
        """One of `tree.KINDS`."""
        return str(KINDS[self.columns["kind"][row]])

    def dtype(self, row: int) -> str:
        """Short type name, "" for what has none."""
        return str(self.dtypes[self.columns["dtype"][row]])

    @staticmethod
    def from_buffers(buffers: Mapping[str, memoryview], dtypes: tuple[str, ...]) -> Sheet:
        """The sheet from raw buffers named like the columns, and `text`."""
        return Sheet(typed_columns(buffers, COLUMNS), buffers["text"], dtypes)


def typed_columns(buffers: Mapping[str, memoryview], codes: Mapping[str, str]) -> dict[str, Any]:
    """Views over raw buffers, by their array type codes."""
    columns: dict[str, Any] = {}
    for name, code in codes.items():
        view: Any = memoryview(buffers[name]).cast("B")
        columns[name] = view.cast(code)
    return columns


class TextBlob:
    """Texts one behind another in one run of bytes; what repeats stands there once."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._known: dict[str, tuple[int, int]] = {}

    def put(self, texts: Iterable[str]) -> tuple[array[int], array[int]]:
        """The place and the length of each text, in bytes."""
        at, length = array("I"), array("I")
        for text in texts:
            place = self._known.get(text)
            if place is None:
                raw = text.encode("utf-8", "surrogatepass")
                place = self._known[text] = (len(self._blob), len(raw))
                self._blob.extend(raw)
            at.append(place[0])
            length.append(place[1])
        return at, length

    def to_bytes(self) -> bytes:
        """All of them."""
        return bytes(self._blob)


def pack(tree: ModuleTree) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The buffers of a tree (column name -> raw bytes, and `text`) and its short dtype names.

    Texts that repeat (`weight`, `3×768`) stand in the blob once. The expanded bit starts as 0 everywhere.
    """
    texts = TextBlob()
    dtypes: dict[str, int] = {"": 0}
    columns: dict[str, array[int] | array[float]] = {}
    for name, words in (("name", tree.name), ("note", tree.note), ("shape", tree.shape)):
        columns[f"{name}_at"], columns[f"{name}_length"] = texts.put(words)
    kinds = {kind: i for i, kind in enumerate(KINDS)}
    columns["kind"] = array("B", [kinds[kind] for kind in tree.kind])
    columns["dtype"] = array("H", [min(dtypes.setdefault(name, len(dtypes)), 65535) for name in tree.dtype])
    columns["depth"] = array("H", [min(depth, 65535) for depth in tree.depth])
    columns["parent"] = array("i", tree.parent)
    columns["end"] = array("i", tree.end)
    columns["tensor"] = array("i", tree.tensor)
    columns["params"] = array("q", [min(params, 2**63 - 1) for params in tree.params])
    columns["share"] = array("f", _shares(tree))
    columns["flags"] = array("B", _flags(tree))
    buffers = {name: column.tobytes() for name, column in columns.items()}
    buffers["text"] = texts.to_bytes()
    return buffers, tuple(dtypes)


def _shares(tree: ModuleTree) -> list[float]:
    """Each row's parameters as a share of its parent's; at the top, of all."""
    params = tree.params
    total = sum(count for count, parent in zip(params, tree.parent, strict=True) if parent < 0)
    return [
        count / whole if (whole := params[parent] if parent >= 0 else total) else 0.0
        for count, parent in zip(params, tree.parent, strict=True)
    ]


def _flags(tree: ModuleTree) -> list[int]:
    return [
        (CHILDREN if end > row + 1 else 0)
        | (EDITED if old_key or changed else 0)
        | (PROBLEM if problem else 0)
        | (DROPPED if dropped else 0)
        | (FOLD if kind == "fold" else 0)
        for row, (end, old_key, changed, problem, dropped, kind) in enumerate(
            zip(tree.end, tree.old_key, tree.changed, tree.problem, tree.dropped, tree.kind, strict=True)
        )
    ]
