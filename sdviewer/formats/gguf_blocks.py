"""GGUF's packed types as the float32 tensors that they stand for, unpacked piece by piece.

A block packs 32 to 256 elements that lie one behind the other: small codes, and the scales that make numbers of them.
Codes of `n` bits share bytes so that a run of elements has the lowest `n` bits of a run of bytes, the next run of
elements the next bits of the same bytes, and so on (`_codes`).

The types whose codes are numbers of a codebook (`iq1_s` to `iq3_s`) are not unpacked; their bytes are known.

Facts: the block types of ggml; the values are those of gguf 0.19, bit by bit (docs/formats.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.parts import Part

Array = NDArray[Any]

_AT_ONCE = 1 << 18
"""Elements that are unpacked at once: a few MiB of intermediate arrays."""

_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_FP4_DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
"""Twice the values of e2m1, for scales that are halved: the largest scale would be infinite otherwise."""


def _codes(packed: Array, bits: int, run: int) -> Array:
    """The codes of (blocks, bytes) packed bytes, (blocks, elements) in the order of the elements.

    The bytes are taken `run` at a time; each run gives 8 / `bits` runs of codes.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    found: Array = (packed.reshape(len(packed), -1, 1, run) >> shifts) & np.uint8((1 << bits) - 1)
    return found.reshape(len(packed), -1)


def _scaled(scale: Array, codes: Array, least: Array | None = None) -> Array:
    """scale * code, minus `least` where it is given; (blocks, groups) of scales for (blocks, elements) of codes."""
    grouped = codes.astype(np.float32).reshape(*scale.shape, -1)
    values = scale[..., None] * grouped
    return values if least is None else values - least[..., None]


def _wide(halves: Array) -> Array:
    """(blocks, 1) float32 of the float16 of each block."""
    return halves.astype(np.float32)[:, None]


def _table(values: tuple[float, ...], codes: Array) -> Array:
    found: Array = np.array(values, np.float32)[codes]
    return found


def _q4_0(block: Array) -> Array:
    return _scaled(_wide(block["d"]), _codes(block["qs"], 4, 16).astype(np.int8) - 8)


def _q4_1(block: Array) -> Array:
    return _scaled(_wide(block["d"]), _codes(block["qs"], 4, 16), -_wide(block["m"]))


def _q5_codes(block: Array) -> Array:
    codes: Array = _codes(block["qs"], 4, 16) | _codes(block["qh"], 1, 1) << 4
    return codes


def _q5_0(block: Array) -> Array:
    return _scaled(_wide(block["d"]), _q5_codes(block).astype(np.int8) - 16)


def _q5_1(block: Array) -> Array:
    return _scaled(_wide(block["d"]), _q5_codes(block), -_wide(block["m"]))


def _q8_0(block: Array) -> Array:
    return _scaled(_wide(block["d"]), block["qs"])


def _q2_k(block: Array) -> Array:
    scales = block["scales"]
    return _scaled(_wide(block["d"]) * (scales & 15), _codes(block["qs"], 2, 32), _wide(block["dmin"]) * (scales >> 4))


def _q3_k(block: Array) -> Array:
    packed = block["scales"]
    scales = _codes(packed[:, :8], 4, 8) | _codes(packed[:, 8:], 2, 4) << 4
    # A set bit of the mask means that the code is not lowered by 4.
    codes = _codes(block["qs"], 2, 32).astype(np.int8) - 4 * (1 - _codes(block["hmask"], 1, 32).astype(np.int8))
    return _scaled(_wide(block["d"]) * (scales.astype(np.int8) - 32), codes)


def _k_scales(block: Array) -> tuple[Array, Array]:
    """(blocks, 8) scales and minima of q4_k and q5_k, of 6 bits each: four whole, four in pieces."""
    low, high, mixed = np.split(block["scales"], 3, axis=1)
    scales = np.concatenate([low & 63, mixed & 15 | low >> 2 & 48], axis=1)
    minima = np.concatenate([high & 63, mixed >> 4 | high >> 2 & 48], axis=1)
    return _wide(block["d"]) * scales, _wide(block["dmin"]) * minima


def _q4_k(block: Array) -> Array:
    scales, minima = _k_scales(block)
    return _scaled(scales, _codes(block["qs"], 4, 32), minima)


def _q5_k(block: Array) -> Array:
    scales, minima = _k_scales(block)
    return _scaled(scales, _codes(block["qs"], 4, 32) | _codes(block["qh"], 1, 32) << 4, minima)


def _q6_k(block: Array) -> Array:
    codes = _codes(block["ql"], 4, 64) | _codes(block["qh"], 2, 32) << 4
    return _scaled(_wide(block["d"]) * block["scales"], codes.astype(np.int8) - 32)


def _iq4_nl(block: Array) -> Array:
    return _scaled(_wide(block["d"]), _table(_IQ4, _codes(block["qs"], 4, 16)))


def _iq4_xs(block: Array) -> Array:
    high = (block["scales_h"][:, None] >> np.arange(0, 16, 2, dtype=np.uint16)).astype(np.uint8) & 3
    scales = (_codes(block["scales_l"], 4, 1) | high << 4).astype(np.int8) - 32
    return _scaled(_wide(block["d"]) * scales, _table(_IQ4, _codes(block["qs"], 4, 16)))


def _thirds(packed: Array, run: int, n: int) -> Array:
    """Codes of 0 to 2, `n` of them a byte, which holds them as a fraction of base three."""
    powers = np.array([3**i for i in range(n)], np.uint8)[:, None]
    digits = (packed.reshape(len(packed), -1, 1, run) * powers).astype(np.uint16) * 3 >> 8
    return digits.reshape(len(packed), -1)


def _tq1_0(block: Array) -> Array:
    runs = (_thirds(block["qs"][:, :32], 32, 5), _thirds(block["qs"][:, 32:], 16, 5), _thirds(block["qh"], 4, 4))
    return _scaled(_wide(block["d"]), np.concatenate(runs, axis=1).astype(np.int8) - 1)


def _tq2_0(block: Array) -> Array:
    return _scaled(_wide(block["d"]), _codes(block["qs"], 2, 32).astype(np.int8) - 1)


def _mxfp4(block: Array) -> Array:
    return _scaled(np.ldexp(np.float32(1), block["e"].astype(np.int32) - 128)[:, None], _fp4(block["qs"], 16))


def _nvfp4(block: Array) -> Array:
    codes = block["d"]
    exponent, fraction = codes >> 3 & 15, (codes & 7).astype(np.float32)
    scale = np.where(exponent == 0, fraction / 1024, np.ldexp(1 + fraction / 8, exponent.astype(np.int32) - 8))
    # The code of infinity or none in other floats of this kind means nothing here.
    return _scaled(np.where(codes == 127, 0, scale).astype(np.float32), _fp4(block["qs"], 8))


def _fp4(packed: Array, run: int) -> Array:
    return _table(_FP4_DOUBLED, _codes(packed, 4, run))


class _Type(NamedTuple):
    """How a block lies in the file, how many elements it has, and how it is unpacked."""

    elements: int
    fields: list[tuple[Any, ...]]
    unpack: Callable[[Array], Array]


_D, _DMIN, _M = ("d", "<f2"), ("dmin", "<f2"), ("m", "<f2")
_K_SCALES = ("scales", "u1", 12)

TYPES: Mapping[str, _Type] = MappingProxyType(
    {
        "q4_0": _Type(32, [_D, ("qs", "u1", 16)], _q4_0),
        "q4_1": _Type(32, [_D, _M, ("qs", "u1", 16)], _q4_1),
        "q5_0": _Type(32, [_D, ("qh", "u1", 4), ("qs", "u1", 16)], _q5_0),
        "q5_1": _Type(32, [_D, _M, ("qh", "u1", 4), ("qs", "u1", 16)], _q5_1),
        "q8_0": _Type(32, [_D, ("qs", "i1", 32)], _q8_0),
        "q2_k": _Type(256, [("scales", "u1", 16), ("qs", "u1", 64), _D, _DMIN], _q2_k),
        "q3_k": _Type(256, [("hmask", "u1", 32), ("qs", "u1", 64), _K_SCALES, _D], _q3_k),
        "q4_k": _Type(256, [_D, _DMIN, _K_SCALES, ("qs", "u1", 128)], _q4_k),
        "q5_k": _Type(256, [_D, _DMIN, _K_SCALES, ("qh", "u1", 32), ("qs", "u1", 128)], _q5_k),
        "q6_k": _Type(256, [("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), _D], _q6_k),
        "iq4_nl": _Type(32, [_D, ("qs", "u1", 16)], _iq4_nl),
        "iq4_xs": _Type(256, [_D, ("scales_h", "<u2"), ("scales_l", "u1", 4), ("qs", "u1", 128)], _iq4_xs),
        "tq1_0": _Type(256, [("qs", "u1", 48), ("qh", "u1", 4), _D], _tq1_0),
        "tq2_0": _Type(256, [("qs", "u1", 64), _D], _tq2_0),
        "mxfp4": _Type(32, [("e", "u1"), ("qs", "u1", 16)], _mxfp4),
        "nvfp4": _Type(64, [("d", "u1", 4), ("qs", "u1", 32)], _nvfp4),
    }
)


class BlocksReader:
    """The bytes of the unpacked float32 tensor, this machine's byte order; the packed blocks stay open."""

    def __init__(self, path: str, layout: TensorLayout, packed: Part) -> None:
        """`layout` is that of the float32 tensor, `packed` the blocks, one behind the other.

        Raises:
            CorruptCheckpoint: they are not as many as the shape needs.
        """
        self._type = TYPES[packed.layout.dtype]
        self._block = np.dtype(self._type.fields).newbyteorder(">" if packed.layout.swap else "<")
        self._packed = packed.source
        self._elements = math.prod(layout.shape)
        self.nbytes = self._elements * 4
        if self._elements // self._type.elements * self._block.itemsize > packed.source.nbytes:
            raise CorruptCheckpoint("it has fewer blocks than its shape needs", path=path, code="truncated")

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the float32 tensor's bytes from `start` (bytes)."""
        out = np.frombuffer(buffer.cast("B"), np.uint8)
        if start < 0 or start + out.size > self.nbytes:
            raise CorruptCheckpoint("more was asked for than the tensor has", code="truncated")
        size = self._type.elements * 4
        at = 0
        while at < out.size:
            first = (start + at) // size
            last = min(-(-(start + out.size) // size), first + _AT_ONCE // self._type.elements)
            skip = start + at - first * size
            values = self._unpacked(first, last).view(np.uint8)[skip : skip + out.size - at]
            out[at : at + values.size] = values
            at += values.size

    def _unpacked(self, first: int, last: int) -> Array:
        """The elements of blocks `first` to `last`."""
        raw = bytearray((last - first) * self._block.itemsize)
        self._packed.read_into(first * self._block.itemsize, memoryview(raw))
        # Scales that are no number make elements that are none.
        with np.errstate(all="ignore"):
            values = self._type.unpack(np.frombuffer(raw, self._block))
        return np.ascontiguousarray(values, np.float32).reshape(-1)

    def close(self) -> None:
        """Let the file go."""
        self._packed.close()

    def __enter__(self) -> BlocksReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
