"""ONNX models: the initializers of the graph, found by walking the protobuf message and stepping over their bytes.

A message is fields, each a number, a wire type, and a value or a length; what is not of interest is skipped by its
length, so a model of 2 GB opens as fast as one of 2 MB (docs/decisions/0010). Nothing is built from the graph itself.

Numbers are raw bytes, or a run of packed numbers, or bytes of another file in the model's folder. A path that leads out
of that folder is refused.

Facts: onnx.proto of ONNX 1.23, compared with what its writer makes (docs/formats.md).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sdviewer.core.checkpoint import Checkpoint, Shard
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, TypedStep
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.file import File, identity_of, open_descriptor
from sdviewer.formats.named_tensors import ROOT, NamedTensors, elements_of, stored_bytes
from sdviewer.formats.packed import VARINTS
from sdviewer.formats.protobuf import BYTES, VARINT, Field, Messages
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_source import Packed, StorageSpan

_LONGEST_NAME = 1 << 20
"""Bytes of a name or a text; a longer one is cut."""

_MOST_DIMENSIONS = 10_000
_MOST_PROPERTIES = 10_000

# Numbers of fields, by message.
_LAST_FIELD = 30
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_PROPERTIES = 7, 8, 14
_GRAPH_INITIALIZER, _GRAPH_SPARSE = 5, 15
_GRAPH_BEGINNINGS = frozenset([b"", *[bytes([number << 3 | 2]) for number in (1, 2, 5, 10, 11, 12, 13, 14, 15)]])
_DIMS, _TYPE, _FLOATS, _INT32S, _TEXTS, _INT64S, _NAME, _RAW, _DOUBLES, _UINT64S = 1, 2, 4, 5, 6, 7, 8, 9, 10, 11
_EXTERNAL, _LOCATION = 13, 14

_TYPED = frozenset((_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S))
_MODEL_TEXTS: Mapping[int, str] = MappingProxyType(
    {2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}
)

_DTYPES: Mapping[int, str] = MappingProxyType(
    {
        1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
        10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
        17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
        23: "float4_e2m1", 24: "float8_e8m0fnu", 25: "uint2", 26: "int2",
    }
)  # fmt: skip
_PER_BYTE: Mapping[str, int] = MappingProxyType({"uint4": 2, "int4": 2, "float4_e2m1": 2, "uint2": 4, "int2": 4})


class Onnx:
    """The format object."""

    name = "ONNX model"
    containers = ("onnx",)
    suffixes = (".onnx",)
    can_write = False

    def matches(self, head: Head) -> bool:
        return is_onnx(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Walk the model; of the bytes of its tensors only the lengths are read."""
        return _Reading(file, progress).checkpoint()


def is_onnx(head: Head) -> bool:
    """Whether a file is a protobuf message that begins with a version and has a graph among its fields.

    ONNX has no magic number, and TensorFlow's and Core ML's models begin alike: theirs have no field 7.
    """
    if len(head.start) < 4 or head.start[0] != 0x08:
        return False
    try:
        for n, found in enumerate(Messages(head).fields(0, head.size)):
            if found.number > _LAST_FIELD or n > _MOST_PROPERTIES:
                return False
            if found.number == _MODEL_GRAPH:
                first = head.read(found.at, min(1, found.value, head.size - found.at))
                return found.wire == BYTES and first in _GRAPH_BEGINNINGS
    except CorruptCheckpoint:
        return False
    return False


@dataclass(slots=True)
class _Tensor:
    """A TensorProto as far as it is of interest; `data` is where its numbers are and in which field they stand."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    type: int = 0
    data: Field | None = None
    pieces: int = 0
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False
    cut: bool = False


_Axes = tuple[tuple[int, ...], tuple[int, ...] | None]


class _Reading:
    """One model on its way to a checkpoint."""

    def __init__(self, file: File, progress: Progress) -> None:
        self.file = file
        self.progress = progress
        self.out = NamedTensors(file, "onnx")
        self.messages = Messages(file, progress)
        self.broken = ""
        self.refused: dict[str, str] = {}
        self.looks: dict[tuple[tuple[int, ...], int], _Look] = {}

    def checkpoint(self) -> Checkpoint:
        opsets: dict[str, int] = {}
        properties: dict[str, str] = {}
        for found in self._walk(0, self.file.size):
            if found.number == _MODEL_GRAPH and found.wire == BYTES:
                self._graph(found)
            elif found.number == 1 and found.wire == VARINT:
                self.out.writer["ir_version"] = found.value
            elif found.number == 5 and found.wire == VARINT:
                self.out.writer["model_version"] = found.value
            elif found.number in _MODEL_TEXTS and found.wire == BYTES and found.value:
                self.out.writer[_MODEL_TEXTS[found.number]] = self._text(found)
            elif found.number == _MODEL_OPSET and found.wire == BYTES and len(opsets) < _MOST_PROPERTIES:
                domain, version = self._opset(found)
                opsets[domain or "ai.onnx"] = version
            elif found.number == _MODEL_PROPERTIES and found.wire == BYTES and len(properties) < _MOST_PROPERTIES:
                key, value = self._pair(found)
                properties[key] = value
        if opsets:
            self.out.writer["opsets"] = opsets
        if properties:
            self.out.metadata["onnx"] = properties
        for key, value in properties.items():
            self.out.value((TypedStep("field", "metadata_props"), key), value)
        if self.broken:
            self.out.problem("error", "truncated", f"{self.broken}; what came before is shown")
        return self.out.checkpoint()

    def _walk(self, at: int, end: int) -> Iterator[Field]:
        """The fields of a message, up to where they make no sense; that place is kept in `broken`."""
        try:
            yield from self.messages.fields(at, end)
        except CorruptCheckpoint as error:
            self.broken = self.broken or error.message

    # The graph

    def _graph(self, graph: Field) -> None:
        for n, found in enumerate(self._walk(graph.at, graph.end)):
            if n % 1024 == 0:
                self.progress(0, 0)
            if found.wire != BYTES:
                continue
            if found.number == _GRAPH_INITIALIZER:
                tensor = self._tensor(found)
                self._add(tensor, (tensor.name,))
            elif found.number == _GRAPH_SPARSE:
                self._sparse(found)
            elif found.number == 2:
                self.out.writer["graph"] = self._text(found)

    def _tensor(self, message: Field) -> _Tensor:
        tensor = _Tensor()
        for found in self._walk(message.at, message.end):
            number, wire, _, _, end = found
            if number == _DIMS:
                tensor.dims += self._dims(found, _MOST_DIMENSIONS - len(tensor.dims))
            elif number == _TYPE and wire == VARINT:
                tensor.type = found.value
            elif number == _NAME and wire == BYTES:
                tensor.name = self._text(found)
            elif number == _LOCATION and wire == VARINT:
                tensor.is_external = found.value == 1
            elif number == _EXTERNAL and wire == BYTES and len(tensor.external) < 16:
                key, value = self._pair(found)
                tensor.external[key] = value
            elif number == _RAW or number in _TYPED:
                tensor.data = found
                tensor.pieces += 1
            if end > self.file.size:
                tensor.cut = True
        return tensor

    def _dims(self, found: Field, most: int) -> list[int]:
        """The sizes in one field: one, or packed ones; int64, so negative ones are possible."""
        values = self.messages.numbers(found, most) if most > 0 else []
        return [value - (1 << 64) if value >> 63 else value for value in values]

    def _add(self, tensor: _Tensor, path: KeyPath, *, part: bool = False, axes: _Axes | None = None) -> None:
        """One row; `axes` are the shape and stride that it gets instead of the ones in the file."""
        look = (tuple(tensor.dims), tensor.type)
        found = self.looks.get(look)
        if found is None:
            found = self.looks[look] = _as_torch(*look)
        dtype, shape, nbytes, unreadable = found
        span: StorageSpan | None = None
        if not unreadable:
            span, unreadable = self._bytes(tensor, dtype, nbytes)
        shape, stride = axes if axes is not None else (shape, None)
        owner = None if part else ROOT
        shard = span.shard if span is not None and span.shard else None
        self.out.add(
            path, shape, dtype, nbytes, span, unreadable=unreadable, state_dict=owner, stride=stride, shard=shard
        )

    def _bytes(self, tensor: _Tensor, dtype: str, nbytes: int) -> tuple[StorageSpan | None, str]:
        """Where the numbers of a tensor are, and why they cannot be read."""
        data = tensor.data
        if tensor.is_external:
            return self._external(tensor.external, nbytes)
        if dtype == "string":
            return None, "its elements are texts"
        if data is None:
            return StorageSpan(self.file.size, 0), f"it needs {nbytes:,} bytes and has none" if nbytes else ""
        if tensor.pieces > 1 or data.wire != BYTES:
            return None, "its numbers are not stored in one piece"
        there = min(data.end, self.file.size) - data.at
        if data.number in (_INT32S, _INT64S, _UINT64S):
            # Of types that share a byte, each number holds a byte.
            itemsize = DTYPES[dtype].itemsize if dtype in DTYPES else 1
            if itemsize not in VARINTS:
                return None, f"values of type {dtype} stand in a field of another type"
            if there < nbytes // itemsize or tensor.cut:
                return None, f"it needs {nbytes // itemsize:,} numbers, and {there:,} bytes are there"
            return StorageSpan(0, nbytes, packed=Packed(data.at, there, VARINTS[itemsize])), ""
        fits = {_FLOATS: ("float32", "complex64"), _DOUBLES: ("float64", "complex128")}
        if data.number in fits and dtype not in fits[data.number]:
            return None, f"values of type {dtype} stand in a field of another type"
        if there != nbytes:
            return StorageSpan(
                data.at, min(there, nbytes)
            ), f"its shape needs {nbytes:,} bytes, and {there:,} are there"
        return StorageSpan(data.at, nbytes), ""

    def _external(self, entries: Mapping[str, str], nbytes: int) -> tuple[StorageSpan | None, str]:
        """Where the numbers of a tensor are in another file, and why they cannot be read."""
        location = entries.get("location", "")
        why = self._open_external(location)
        if why:
            return None, why
        size = self.out.shards[location].identity.size
        numbers = [entries.get("offset", "0"), entries.get("length", str(nbytes))]
        if not all(re.fullmatch(r"\d{1,18}", text, re.ASCII) for text in numbers):
            return None, f"its place in {visible(location, 80)} is not one"
        start, length = map(int, numbers)
        if length != nbytes:
            return None, f"its shape needs {nbytes:,} bytes, and {length:,} are named in {visible(location, 80)}"
        if start + nbytes > size:
            return None, f"it needs {nbytes:,} bytes at byte {start:,} of {visible(location, 80)}, which has {size:,}"
        return StorageSpan(start, nbytes, shard=location), ""

    def _open_external(self, location: str) -> str:
        """Get to know a file that a tensor names; why it is not opened, else ""."""
        if location in self.refused:
            return self.refused[location]
        if location in self.out.shards:
            return ""
        why = _refused_location(self.file.path, location)
        if not why:
            path = os.path.join(os.path.dirname(os.path.abspath(self.file.path)), location)  # noqa: PTH100, PTH118, PTH120
            try:
                fd, status = open_descriptor(path)
            except OpenError as error:
                why = f"its numbers are in {visible(location, 80)}: {error.message}"
            else:
                os.close(fd)
                self.out.shards[location] = Shard(path, identity_of(status))
        if why:
            self.refused[location] = why
        return why

    def _sparse(self, message: Field) -> None:
        """A SparseTensorProto: the row of the whole, and its values and indices as parts."""
        values, indices, dims = _Tensor(), _Tensor(), list[int]()
        for found in self._walk(message.at, message.end):
            if found.number == 1 and found.wire == BYTES:
                values = self._tensor(found)
            elif found.number == 2 and found.wire == BYTES:
                indices = self._tensor(found)
            elif found.number == 3:
                dims += self._dims(found, _MOST_DIMENSIONS - len(dims))
        dtype, n = _DTYPES.get(values.type, f"type {values.type}"), elements_of([max(size, 0) for size in dims])
        unreadable = ""
        if n is None or min(dims, default=0) < 0:
            unreadable = "its sizes are impossible"
        elif dtype not in DTYPES:
            unreadable = f"values of type {dtype} are not put into place"
        elif len(indices.dims) != 2 and len(dims) > 1:
            unreadable = "its indices count along the flattened tensor"
        nbytes = stored_bytes(dtype, n or 0) if dtype in DTYPES else 0
        path = (values.name,)
        self.out.add(path, tuple(dims), dtype, nbytes, None, kind="sparse", unreadable=unreadable)
        # torch has a row a dimension where ONNX has a row a value: the same numbers, looked at along the other axis.
        count, rank = (*indices.dims, 1)[:2] if indices.dims else (0, 1)
        axes = ((rank, count), (1, rank)) if len(indices.dims) <= 2 else None
        self._add(indices, (*path, TypedStep("part", "indices")), part=True, axes=axes)
        self._add(values, (*path, TypedStep("part", "values")), part=True)

    # Small messages

    def _text(self, found: Field) -> str:
        return self.messages.read(found, _LONGEST_NAME).decode("utf-8", "surrogateescape")

    def _pair(self, message: Field) -> tuple[str, str]:
        """A StringStringEntryProto."""
        texts = {1: "", 2: ""}
        for found in self._walk(message.at, message.end):
            if found.number in texts and found.wire == BYTES:
                texts[found.number] = self._text(found)
        return texts[1], texts[2]

    def _opset(self, message: Field) -> tuple[str, int]:
        domain, version = "", 0
        for found in self._walk(message.at, message.end):
            if found.number == 1 and found.wire == BYTES:
                domain = self._text(found)
            elif found.number == 2 and found.wire == VARINT:
                version = found.value
        return domain, version


_Look = tuple[str, tuple[int, ...], int, str]
"""dtype, shape, bytes, and why they cannot be, else ""."""


def _as_torch(shape: tuple[int, ...], number: int) -> _Look:
    """A shape and a type as torch has them, which counts bytes of two values where ONNX counts values of four bits."""
    dtype = _DTYPES.get(number)
    n = elements_of(shape) if not shape or min(shape) >= 0 else None
    if n is None:
        return dtype or f"type {number}", shape, 0, "its sizes are negative or multiply beyond 2**63 elements"
    if dtype is None:
        return f"type {number}", shape, 0, f"its type {number:,} is unknown"
    if dtype == "float4_e2m1" and shape and shape[-1] % 2 == 0:
        return "float4_e2m1fn_x2", (*shape[:-1], shape[-1] // 2), n // 2, ""
    if dtype in _PER_BYTE:
        return dtype, shape, -(-n // _PER_BYTE[dtype]), ""
    return dtype, shape, stored_bytes(dtype, n) if dtype in DTYPES else 0, ""


def _refused_location(path: str, location: str) -> str:
    """Why a file that a model names is none of its own; "" for one in the model's folder or below it.

    Nothing is opened: names are judged as text, then where they lead by the links that are there.
    """
    if not location or "\0" in location:
        return "its numbers are in another file that it does not name"
    parts = re.split(r"[/\\]", location)
    if location[0] in "/\\" or ".." in parts or ":" in parts[0]:
        return f"its numbers are in a file out of the model's folder, {visible(location, 80)}: it is not opened"
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))  # noqa: PTH100, PTH120
    found = os.path.realpath(os.path.join(folder, location))  # noqa: PTH118
    if os.path.commonpath([folder, found]) != folder:
        where = visible(location, 80)
        return f"its numbers are behind a link that leads out of the model's folder, {where}: it is not opened"
    return ""
