"""A new ONNX model that holds initializers and no nodes: the tensors under their keys, as raw bytes.

The message is written here, field by field, so that bytes are streamed or copied as everywhere else and no library is
needed. A protobuf message ends at 2 GiB.

Facts: onnx.proto of ONNX 1.23; what its checker wants of a model (docs/formats.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sdviewer import __version__
from sdviewer.core.text import size, visible
from sdviewer.errors import SaveError
from sdviewer.formats.pieces import Layout, Piece, nbytes_of
from sdviewer.formats.tensors_out import TensorOut

LARGEST = (1 << 31) - 1
"""Bytes of a protobuf message that programs accept."""

_IR_VERSION, _OPSET = 10, 21
"""The first that know the float8 types (ONNX 1.16)."""

_VARINT, _BYTES = 0, 2
_TYPES: Mapping[str, int] = MappingProxyType(
    {
        "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
        "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15, "bfloat16": 16,
        "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20,
    }
)  # fmt: skip


def lay_out_onnx(tensors: Sequence[TensorOut], *, copies: bool) -> Layout:
    """The pieces of the model; `copies`: what lies in the source as it will lie here is copied.

    Raises:
        SaveError: it would be larger than a message can be, or a key is no text.
    """
    graph: list[Piece] = [_field(2, b"tensors")]
    for one in tensors:
        data: Piece = one.place if copies and one.place is not None else one.made
        head = _head(one)
        graph.append(_tag(5, _BYTES) + _varint(len(head) + nbytes_of(data)) + head)
        if one.nbytes:
            graph.append(data)
    opset = _field(8, _number(2, _OPSET))
    begins = _number(1, _IR_VERSION) + _field(2, b"sdviewer") + _field(3, __version__.encode())
    nbytes = sum(map(nbytes_of, graph))
    if nbytes + 100 > LARGEST:
        raise SaveError(
            f"an ONNX model ends at 2 GiB, and this one would have {size(nbytes)}",
            remedy="Save it in another container, or cast it first.",
        )
    note = "keys are the names of initializers as they are, dots too; the graph has no nodes"
    return Layout([begins + opset + _tag(7, _BYTES) + _varint(nbytes), *graph], (note,))


def _head(one: TensorOut) -> bytes:
    """A TensorProto up to its bytes."""
    try:
        name = one.key.encode()
    except UnicodeEncodeError:
        raise SaveError(
            f"the key {visible(one.key)} holds half a character, which ONNX cannot store", remedy="Rename it first."
        ) from None
    dims = b"".join([_number(1, n) for n in one.shape])
    return dims + _number(2, _TYPES[one.dtype]) + _field(8, name) + _tag(9, _BYTES) + _varint(one.nbytes)


def _field(number: int, data: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _varint(value)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
