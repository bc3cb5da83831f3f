"""GGUF, the format of llama.cpp: a header of typed key-value pairs and tensor entries, then the tensors.

    "GGUF" | u32 version | u64 tensors | u64 pairs | pairs | tensor entries | padding | data

Only the header is read, by our own bounded reader (docs/decisions/0010). Types that pack many values into a block of
bytes keep their name as dtype; what they stand for is unpacked when it is looked at (`gguf_blocks`).

Facts: the published format text of GGUF 3 and the tables of gguf 0.19, compared with what its writer makes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import TypedStep
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.cursor import Cursor
from sdviewer.formats.file import File
from sdviewer.formats.named_tensors import NamedTensors, elements_of
from sdviewer.formats.sniff import GGUF_MAGIC, Head
from sdviewer.formats.torch_source import StorageSpan

_VERSIONS = (1, 2, 3)
_ALIGNMENT = 32
_MOST_DIMENSIONS = 64
_DEEPEST_ARRAY = 8

_LONG_ARRAY = 256
"""An array of more items is told by its length and its first items: a vocabulary has 100,000."""

_FIRST_ITEMS = 8

_LONG_TEXT = 1 << 20
"""A text of more bytes is told by its length."""


class _Block(NamedTuple):
    """A type of a tensor: its name, and how many elements stand in how many bytes."""

    name: str
    elements: int
    nbytes: int


_TYPES: Mapping[int, _Block] = MappingProxyType(
    {
        number: _Block(*block)
        for number, block in {
            0: ("float32", 1, 4), 1: ("float16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22),
            7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 9: ("q8_1", 32, 40), 10: ("q2_k", 256, 84),
            11: ("q3_k", 256, 110), 12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210),
            15: ("q8_k", 256, 292), 16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74), 18: ("iq3_xxs", 256, 98),
            19: ("iq1_s", 256, 50), 20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110), 22: ("iq2_s", 256, 82),
            23: ("iq4_xs", 256, 136), 24: ("int8", 1, 1), 25: ("int16", 1, 2), 26: ("int32", 1, 4),
            27: ("int64", 1, 8), 28: ("float64", 1, 8), 29: ("iq1_m", 256, 56), 30: ("bfloat16", 1, 2),
            # Rows of q4_0 and iq4_nl repacked for a processor; llama.cpp no longer reads them.
            31: ("q4_0_4_4", 32, 18), 32: ("q4_0_4_8", 32, 18), 33: ("q4_0_8_8", 32, 18),
            34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66),
            36: ("iq4_nl_4_4", 32, 18), 37: ("iq4_nl_4_8", 32, 18), 38: ("iq4_nl_8_8", 32, 18),
            39: ("mxfp4", 32, 17), 40: ("nvfp4", 64, 36), 41: ("q1_0", 128, 18),
        }.items()
    }
)  # fmt: skip

_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, str] = MappingProxyType(
    {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
)
_SCALAR_NAMES: Mapping[int, str] = MappingProxyType(
    {
        0: "uint8", 1: "int8", 2: "uint16", 3: "int16", 4: "uint32", 5: "int32", 6: "float32", 7: "bool",
        _STRING: "string", _ARRAY: "array", 10: "uint64", 11: "int64", 12: "float64",
    }
)  # fmt: skip


class Gguf:
    """The format object."""

    name = "GGUF"
    containers = ("gguf",)
    suffixes = (".gguf",)
    can_write = False

    def matches(self, head: Head) -> bool:
        return head.start.startswith(GGUF_MAGIC) and head.size >= 8

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the key-value pairs and the tensor entries; the data behind them are only counted."""
        return _Reading(file, progress).checkpoint()


class _Entry(NamedTuple):
    """One tensor entry: `shape` in torch's order, `offset` in bytes from the beginning of the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


class _Reading:
    """One header on its way to a checkpoint."""

    def __init__(self, file: File, progress: Progress) -> None:
        self.file = file
        self.progress = progress
        self.out = NamedTensors(file, "gguf")
        self.cursor = Cursor(file, len(GGUF_MAGIC))
        version = self.cursor.take(4)
        self.order: Literal["little", "big"] = "little"
        # The magic number is the same in both byte orders, so the version tells: no order makes it large.
        if int.from_bytes(version, "little") & 0xFFFF == 0:
            self.order = "big"
        self.version = int.from_bytes(version, self.order)
        if self.version not in _VERSIONS:
            raise CorruptCheckpoint(f"it is GGUF of version {self.version:,}, and 1 to 3 are known", path=file.path)
        self.sign = "<" if self.order == "little" else ">"
        self.number = struct.Struct(self.sign + ("I" if self.version == 1 else "Q"))
        self.uint32 = struct.Struct(self.sign + "I")
        self.alignment = _ALIGNMENT

    def checkpoint(self) -> Checkpoint:
        n_tensors, n_pairs = self._count(), self._count()
        wide = self.number.size
        # No entry is shorter than this: what a file cannot hold is refused before a loop begins.
        self._check_count(n_pairs, wide + 4 + 1, "key-value pairs")
        self._check_count(n_tensors, wide + 4 + 4 + 8, "tensors")
        pairs = self._pairs(n_pairs)
        entries = [self._entry(i) for i in range(n_tensors)]
        start = -(-self.cursor.at // self.alignment) * self.alignment
        for entry in entries:
            self._add(entry, start)
        self._check_end(entries, start)
        self.out.writer = {"version": self.version, "alignment": self.alignment}
        self.out.metadata = {"gguf": pairs}
        self._check_split(pairs)
        return self.out.checkpoint(self.order)

    # Key-value pairs

    def _pairs(self, count: int) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for _ in range(count):
            self.progress(0, 0)
            key = self._text()
            kind = self._uint32()
            type_, value = self._value(kind, key)
            if key in pairs:
                self.out.problem("warning", "duplicate_key", "the key stands there twice", visible(key))
            pairs[key] = value
            self.out.value((TypedStep("field", "metadata"), key), value, type_)
            if key == "general.alignment":
                self._align(value)
        return pairs

    def _align(self, value: Any) -> None:
        if type(value) is not int or value <= 0 or value & (value - 1):
            message = f"general.alignment is {visible(str(value), 40)}, and it must be a power of two; 32 is taken"
            self.out.problem("warning", "metadata", message, "general.alignment")
        else:
            self.alignment = value

    def _value(self, kind: int, key: str) -> tuple[str, Any]:
        """(type, value) as a row shows it."""
        if kind == _STRING:
            return "builtins.str", self._long_text()
        if kind == _ARRAY:
            return "builtins.list", self._array(key, 0)
        value = self._scalar(kind, key)
        return f"builtins.{type(value).__name__ if kind not in (6, 12) else 'float'}", value

    def _scalar(self, kind: int, key: str) -> Any:
        code = _SCALARS.get(kind)
        if code is None:
            raise self._corrupt(f"the value of {visible(key, 80)} has the type {kind:,}, which GGUF does not know")
        layout = struct.Struct(self.sign + code)
        (value,) = layout.unpack(self.cursor.take(layout.size))
        return _plain(value)

    def _array(self, key: str, depth: int) -> Any:
        """The items of a short array, a text about a long one."""
        kind, count = self._uint32(), self._count()
        if depth >= _DEEPEST_ARRAY:
            raise CorruptCheckpoint(f"the value of {visible(key, 80)} is nested too deeply", code="too_deep")
        name = _SCALAR_NAMES.get(kind)
        if name is None:
            raise self._corrupt(f"the array {visible(key, 80)} has items of type {kind:,}, which GGUF does not know")
        shown = count if count <= _LONG_ARRAY else _FIRST_ITEMS
        if kind == _STRING:
            self._check_count(count, self.number.size, f"texts of {visible(key, 80)}")
            items = [self._long_text() for _ in range(shown)]
            self._skip_texts(count - shown)
        elif kind == _ARRAY:
            self._check_count(count, self.number.size + 4, f"arrays of {visible(key, 80)}")
            items = []
            for i in range(count):
                self.progress(0, 0)
                item = self._array(key, depth + 1)
                items += [item] if i < shown else []
        else:
            items = self._numbers(kind, count, shown, key)
        if count <= _LONG_ARRAY:
            return items
        return f"{count:,} items of type {name}: {', '.join([_short(item) for item in items])}, …"

    def _numbers(self, kind: int, count: int, shown: int, key: str) -> list[Any]:
        layout = struct.Struct(self.sign + _SCALARS[kind])
        self._check_count(count, layout.size, f"numbers of {visible(key, 80)}")
        values = layout.iter_unpack(self.cursor.take(shown * layout.size))
        items = [_plain(value) for (value,) in values]
        self.cursor.skip((count - shown) * layout.size)
        return items

    def _skip_texts(self, count: int) -> None:
        cursor, size = self.cursor, self.number.size
        unpack = self.number.unpack
        for i in range(count):
            if i % 4096 == 0:
                self.progress(0, 0)
            cursor.skip(unpack(cursor.take(size))[0])

    # Tensors

    def _entry(self, i: int) -> _Entry:
        if i % 1024 == 0:
            self.progress(0, 0)
        name, n_dims = self._text(), self._uint32()
        if n_dims > _MOST_DIMENSIONS:
            raise self._corrupt(f"tensor {visible(name, 80)} claims {n_dims:,} dimensions")
        dims = struct.Struct(f"{self.sign}{n_dims}{self.number.format[-1]}")
        shape = dims.unpack(self.cursor.take(dims.size))
        kind = self._uint32()
        return _Entry(name, tuple(reversed(shape)), kind, int.from_bytes(self.cursor.take(8), self.order))

    def _add(self, entry: _Entry, start: int) -> None:
        """One tensor whose entry may say what cannot be."""
        block, n = _TYPES.get(entry.type), elements_of(entry.shape)
        at = start + entry.offset
        there = max(self.file.size - at, 0)
        dtype = block.name if block is not None else f"type {entry.type}"
        nbytes, unreadable = 0, ""
        if n is None:
            unreadable = "its sizes multiply beyond 2**63 elements"
        elif block is None:
            unreadable = f"its type {entry.type:,} is unknown"
        elif n and entry.shape[-1:] and entry.shape[-1] % block.elements:
            unreadable = f"its rows of {entry.shape[-1]:,} elements are no whole blocks of {block.elements}"
        elif not entry.shape and block.elements > 1:
            unreadable = f"a single element is no whole block of {block.elements}"
        else:
            nbytes = n // block.elements * block.nbytes
            if nbytes > there:
                unreadable = f"it needs {nbytes:,} bytes at byte {at:,}, and the file has {self.file.size:,}"
        span = StorageSpan(min(at, self.file.size), min(nbytes, there))
        packed = None if block is None or block.elements == 1 else block
        self.out.add(
            (entry.name,),
            entry.shape,
            dtype,
            nbytes,
            span,
            unreadable=unreadable,
            kind="quantized" if packed else "tensor",
            quant={"qscheme": "blocks", "elements": packed.elements, "bytes": packed.nbytes} if packed else None,
        )

    def _check_end(self, entries: list[_Entry], start: int) -> None:
        """Tell of bytes behind the last tensor; a writer fills up to the next multiple of the alignment."""
        ends = [
            start + entry.offset + tensor.nbytes
            for entry, tensor in zip(entries, self.out.tensors, strict=True)
            if not tensor.unreadable
        ]
        if len(ends) < len(entries):
            return
        end = max(ends, default=start)
        behind = self.file.size - -(-end // self.alignment) * self.alignment
        if behind > 0:
            self.out.problem("warning", "trailing_bytes", f"{behind:,} bytes follow the last tensor")

    def _check_split(self, pairs: Mapping[str, Any]) -> None:
        count, number = pairs.get("split.count"), pairs.get("split.no")
        if type(count) is int and type(number) is int and count > 1:
            message = f"this is part {number + 1:,} of {count:,}: the other tensors are in the other files"
            self.out.problem("info", "one_part", message, "split.count")

    # Numbers and texts

    def _uint32(self) -> int:
        value: int = self.uint32.unpack(self.cursor.take(4))[0]
        return value

    def _count(self) -> int:
        value: int = self.number.unpack(self.cursor.take(self.number.size))[0]
        return value

    def _text(self) -> str:
        """A name; text that is not UTF-8 keeps its bytes as surrogates."""
        return self.cursor.take(self._count()).decode("utf-8", "surrogateescape")

    def _long_text(self) -> str:
        """A text that may be a whole book."""
        length = self._count()
        if length <= _LONG_TEXT:
            return self.cursor.take(length).decode("utf-8", "backslashreplace")
        self.cursor.skip(length)
        return f"a text of {length:,} bytes"

    def _check_count(self, count: int, smallest: int, what: str) -> None:
        if count * smallest > self.cursor.left:
            message = f"it claims {count:,} {what}, and {self.cursor.left:,} bytes are left in the file"
            raise CorruptCheckpoint(message, path=self.file.path, code="truncated", remedy="Copy or download it again.")

    def _corrupt(self, message: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(message, path=self.file.path)


def _plain(value: Any) -> Any:
    """A number as JSON takes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _short(item: Any) -> str:
    return repr(item[:40]) if isinstance(item, str) else str(item)[:40]
