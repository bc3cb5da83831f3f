"""safetensors: a length, a JSON header, raw little-endian row-major bytes.

Read leniently and said so: what the safetensors library refuses (holes, overlaps, aliases, trailing bytes, duplicate
names) becomes a problem, and each tensor whose bytes are there stays usable.

Facts: safetensors 0.8.0, its published format text and what its library accepts, measured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sdviewer.core.checkpoint import Checkpoint, Problem, StateDict, StorageInfo, TensorInfo
from sdviewer.core.dtypes import SAFETENSORS_DTYPES, DType
from sdviewer.core.progress import Progress
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.file import File
from sdviewer.formats.sniff import SAFETENSORS_HEADER_LIMIT, Head
from sdviewer.formats.torch_source import SafetensorsSource, SafetensorsTensor

Pairs = tuple[tuple[str, Any], ...]

_F6_BITS = 6
_LARGEST = (1 << 63) - 1
_MOST_DIMENSIONS = 64


class Safetensors:
    """The format object."""

    name = "safetensors"
    containers = ("safetensors",)
    suffixes = (".safetensors",)
    can_write = True

    def matches(self, head: Head) -> bool:
        return head.is_safetensors

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the header; the bytes behind it are only counted."""
        header, pairs = _read_header(file)
        return _Reading(file, header, pairs).checkpoint()


def _read_header(file: File) -> tuple[bytes, Pairs]:
    n = int.from_bytes(file.read(0, 8), "little")
    if n > SAFETENSORS_HEADER_LIMIT:
        raise CorruptCheckpoint(
            f"its header claims {n:,} bytes, and safetensors allows {SAFETENSORS_HEADER_LIMIT:,}", path=file.path
        )
    if n + 8 > file.size:
        raise CorruptCheckpoint(
            f"the file breaks off inside its header: {n + 8:,} bytes are needed, {file.size:,} are there",
            path=file.path,
            code="truncated",
            remedy="Copy or download it again.",
        )
    header = file.read(8, n)
    try:
        text = header.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_Object, parse_constant=_no_constant)
    except RecursionError:
        raise CorruptCheckpoint("its header is nested too deeply", path=file.path, code="too_deep") from None
    except ValueError as error:
        message = f"its header is not JSON: {visible(str(error), 120)}"
        raise CorruptCheckpoint(message, path=file.path) from None
    if not isinstance(value, _Object):
        raise CorruptCheckpoint("its header is not a JSON object", path=file.path)
    return header, value.pairs


_AS_WRITTEN = ("dtype", "shape", "data_offsets")
"""The fields of an entry in the order of every writer that is known."""

_new = tuple.__new__
"""Makes a named tuple in a third of the time of its own constructor, which looks at every argument's name."""


class _Object:
    """A JSON object with its pairs in order, duplicates too."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs: Pairs = tuple(pairs)

    def get(self, name: str) -> Any:
        return next((value for key, value in reversed(self.pairs) if key == name), None)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class _Reading:
    """One header on its way to a checkpoint."""

    def __init__(self, file: File, header: bytes, pairs: Pairs) -> None:
        self.file = file
        self.header = header
        self.pairs = pairs
        self.data_start = 8 + len(header)
        self.data_size = file.size - self.data_start
        self.problems: list[Problem] = []
        self.tensors: list[TensorInfo] = []
        self.spans: list[SafetensorsTensor] = []
        self.storages: dict[str, StorageInfo] = {}
        self.by_storage: dict[str, SafetensorsTensor] = {}
        # What many tensors share is worked out once.
        self.needed: dict[tuple[str, tuple[int, ...]], int | None] = {}
        self.strides: dict[tuple[int, ...], tuple[int, ...] | None] = {}

    def checkpoint(self) -> Checkpoint:
        metadata = self._metadata()
        seen: dict[str, int] = {}
        twice = {name for name, n in Counter([name for name, _ in self.pairs]).items() if n > 1}
        for name, entry in self.pairs:
            if name == "__metadata__":
                continue
            occurrence = 0
            if name in twice:
                occurrence = seen[name] = seen.get(name, 0) + 1
                if occurrence == 2:
                    self._problem("warning", "duplicate_key", "the name stands there twice", name)
            self._tensor(name, entry, occurrence)
        self._check_layout()
        if self.tensors and all(not tensor.dtype for tensor in self.tensors):
            first = self.tensors[0]
            message = f"nothing in it can be read; the first tensor, {visible(first.key or '', 80)}: {first.unreadable}"
            raise CorruptCheckpoint(message, path=self.file.path)
        return Checkpoint(
            path=self.file.path,
            container="safetensors",
            size=self.file.size,
            byte_order="little",
            identity=self.file.identity,
            state_dicts=(self._state_dict(),) if self.tensors else (),
            tensors=tuple(self.tensors),
            storages=self.storages,
            metadata={"safetensors": metadata} if metadata is not None else {},
            problems=tuple(self.problems),
            source=SafetensorsSource(
                header=self.header,
                header_pairs=self.pairs,
                tensors=tuple(self.spans),
                data_start=self.data_start,
                by_storage=self.by_storage,
            ),
        )

    def _problem(self, severity: Any, code: str, message: str, where: str = "") -> None:
        self.problems.append(Problem(severity, code, message, where))

    def _metadata(self) -> Mapping[str, Any] | None:
        found = [value for name, value in self.pairs if name == "__metadata__"]
        if not found or found[-1] is None:
            return None
        value = found[-1]
        if not isinstance(value, _Object) or not all(isinstance(text, str) for _, text in value.pairs):
            message = "__metadata__ holds something else than texts; the safetensors library refuses the file"
            self._problem("warning", "metadata", message, "__metadata__")
        return {key: _plain(text) for key, text in value.pairs} if isinstance(value, _Object) else {}

    def _tensor(self, name: str, entry: Any, occurrence: int) -> None:
        try:
            dtype, dtype_name, shape, begin, end = self._fields(entry)
        except _BadEntryError as error:
            self._problem("error", "bad_header", str(error), name)
            self._add(name, (), "", None, 0, 0, occurrence, str(error))
            return
        unreadable = self._why_unreadable(dtype, dtype_name, shape, begin, end)
        if unreadable:
            self._problem("error", "tensor_unreadable", unreadable, name)
        if len(shape) > _MOST_DIMENSIONS:
            message = f"it has {len(shape):,} dimensions, and NumPy allows {_MOST_DIMENSIONS}"
            self._problem("warning", "dimensions", message, name)
        self._add(name, shape, dtype.name if dtype else dtype_name.lower(), dtype, begin, end, occurrence, unreadable)

    def _fields(self, entry: Any) -> tuple[DType | None, str, tuple[int, ...], int, int]:
        if not isinstance(entry, _Object):
            raise _BadEntryError("its header entry is no object")
        pairs = entry.pairs
        if len(pairs) == 3 and (pairs[0][0], pairs[1][0], pairs[2][0]) == _AS_WRITTEN:
            name, shape, offsets = pairs[0][1], pairs[1][1], pairs[2][1]
        else:
            name, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if not isinstance(name, str):
            raise _BadEntryError("its header entry has no dtype")
        # A list, because a generator for one or two sizes takes twice the time.
        if not isinstance(shape, list) or not all([type(size) is int and size >= 0 for size in shape]):  # noqa: C419
            raise _BadEntryError("its header entry has no shape")
        if not isinstance(offsets, list) or len(offsets) != 2:
            raise _BadEntryError("its header entry has no data_offsets")
        begin, end = offsets
        if type(begin) is not int or type(end) is not int:
            raise _BadEntryError("its header entry has no data_offsets")
        return SAFETENSORS_DTYPES.get(name), name, tuple(shape), begin, end

    def _why_unreadable(self, dtype: DType | None, name: str, shape: tuple[int, ...], begin: int, end: int) -> str:
        if not 0 <= begin <= end:
            return f"its bytes {begin:,} to {end:,} are no range"
        if end > self.data_size:
            return f"its bytes {begin:,} to {end:,} are not in the file, which has {self.data_size:,} behind the header"
        if dtype is None:
            return f"its dtype {visible(name, 40)} is unknown"
        needed = self.needed.get((name, shape), -1)
        if needed == -1:
            needed = self.needed[name, shape] = _stored_bytes(dtype, shape)
        if needed is None:
            return "its sizes multiply beyond 2**63 elements"
        if dtype.per_byte > 1 and (not shape or shape[-1] % dtype.per_byte):
            return f"torch cannot hold {dtype.safetensors} with an odd last dimension"
        if needed != end - begin:
            return f"its shape needs {needed:,} bytes, and its range has {end - begin:,}"
        return ""

    def _add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype_name: str,
        dtype: DType | None,
        begin: int,
        end: int,
        occurrence: int,
        unreadable: str,
    ) -> None:
        if dtype is not None and dtype.per_byte > 1 and shape and shape[-1] % dtype.per_byte == 0:
            # F4 counts values, torch's float4_e2m1fn_x2 counts bytes of two.
            shape = (*shape[:-1], shape[-1] // dtype.per_byte)
        storage = name if occurrence < 2 else f"{name}#{occurrence}"
        nbytes = max(end - begin, 0)
        if shape not in self.strides:
            sensible = _elements([max(size, 1) for size in shape]) is not None
            self.strides[shape] = contiguous_stride(shape) if sensible else None
        row = (
            (name,), 0, name, shape, dtype_name, self.strides[shape], 0, storage, nbytes, None, "tensor",
            "torch.Tensor", None, None, None, (), unreadable, occurrence,
        )  # fmt: skip
        self.tensors.append(_new(TensorInfo, row))
        start = self.data_start + begin
        span = _new(SafetensorsTensor, (name, start, start + nbytes))
        self.spans.append(span)
        self.by_storage[storage] = span
        self.storages[storage] = _new(StorageInfo, (storage, nbytes, 0 if unreadable else nbytes, 1, None, None))

    def _check_layout(self) -> None:
        """What the library refuses: holes, overlaps, two names on one range, bytes behind the last tensor."""
        spans = [
            (span.start - self.data_start, span.end - self.data_start, span.name)
            for span, tensor in zip(self.spans, self.tensors, strict=True)
            if not tensor.unreadable or span.end <= self.file.size
        ]
        spans = sorted([(0, 0, ""), *spans, (self.data_size, self.data_size, "")])
        for (begin, end, name), (other_begin, other_end, other) in pairwise(spans):
            if other_begin > end and not other:
                message = (
                    f"{other_begin - end:,} bytes follow the last tensor; the safetensors library refuses the file"
                )
                self._problem("warning", "trailing_bytes", message)
            elif other_begin > end:
                message = (
                    f"{other_begin - end:,} bytes before it belong to no tensor; the safetensors library refuses that"
                )
                self._problem("warning", "hole", message, other)
            elif other_begin < end:
                same = "is on exactly the bytes" if (begin, end) == (other_begin, other_end) else "overlaps the bytes"
                message = f"it {same} of {visible(name, 80)}; the safetensors library refuses the file"
                self._problem("warning", "overlap", message, other)

    def _state_dict(self) -> StateDict:
        return StateDict(
            path=(),
            role="model",
            keys=tuple([span.name for span in self.spans]),
            tensor_of=range(len(self.tensors)),
            parameters=sum(tensor.elements for tensor in self.tensors),
            nbytes=sum(storage.nbytes for storage in self.storages.values()),
        )


class _BadEntryError(Exception):
    """A header entry that is not one."""


def _stored_bytes(dtype: DType, shape: tuple[int, ...]) -> int | None:
    """Bytes that `shape` takes in a safetensors file, where sub-byte types are packed and shapes count values.

    None where the sizes multiply beyond what an int64 counts.
    """
    n = _elements(shape)
    if n is None:
        return None
    if dtype.safetensors.startswith("F6_"):
        return (n * _F6_BITS + 7) // 8
    return (n * dtype.itemsize + dtype.per_byte - 1) // dtype.per_byte


def _elements(shape: Sequence[int]) -> int | None:
    """Product of the sizes; None beyond what an int64 counts."""
    n = 0 if 0 in shape else 1
    for size in shape:
        n *= size
        if n > _LARGEST:
            return None
    return n


def _plain(value: Any) -> Any:
    """JSON objects as dicts again."""
    if isinstance(value, _Object):
        return {key: _plain(item) for key, item in value.pairs}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
