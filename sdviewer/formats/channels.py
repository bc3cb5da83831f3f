"""A tensor that is quantized per channel as the float32 one it stands for, dequantized piece by piece.

Facts: torch 2.13 `torch.quantize_per_channel`: value = scale[c] * (stored - zero_point[c]) in float32, where c is the
element's index along `axis`; the scales are float64 and the zero points int64, or both float32 (`float_qparams`).
quint4x2 and quint2x4 pack elements in row-major order, across the ends of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import TensorLayout, is_contiguous
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.parts import Part, number_type, read_part

MOST_SCATTERED = 256 << 20
"""Bytes of a tensor that is not row-major in its storage which are kept in memory to be put in order."""

Array = NDArray[Any]


class ChannelsReader:
    """The bytes of the dequantized tensor in row-major order; the stored elements stay open."""

    def __init__(self, path: str, layout: TensorLayout, parts: Mapping[str, Part], axis: int) -> None:
        """`layout` is that of the float32 tensor.

        Raises:
            CorruptCheckpoint: the axis is none of the tensor's, or it has another number of scales (`bad_indices`).
            OpenError: it would have to be put in order and is too large for it (code `too_large`).
        """
        self.path = path
        self.nbytes = math.prod(layout.shape) * 4
        self._parts = parts
        self._stored = parts["stored"]
        self._per_byte = DTYPES[self._stored.layout.dtype].per_byte
        self._type = np.dtype(np.uint8) if self._per_byte > 1 else number_type(self._stored.layout)
        scales, zero_points = (
            read_part(parts[name]).view(number_type(parts[name].layout)).astype(np.float32)
            for name in ("scales", "zero_points")
        )
        if not 0 <= axis < len(layout.shape) or not scales.shape == zero_points.shape == (layout.shape[axis],):
            message = f"it has {scales.size:,} scales along dimension {axis} of {list(layout.shape)}"
            raise CorruptCheckpoint(message, path=path, code="bad_indices")
        self._scales, self._zero_points = scales, zero_points
        # Elements that follow one another in a channel, and channels after which they begin anew.
        self._run, self._channels = math.prod(layout.shape[axis + 1 :]), max(layout.shape[axis], 1)
        self._ordered: Array | None = None
        if not is_contiguous(self._stored.layout.shape, self._stored.layout.stride):
            if self._per_byte > 1:
                raise CorruptCheckpoint("its packed elements are not in the order of its rows", path=path)
            if math.prod(layout.shape) * self._type.itemsize > MOST_SCATTERED:
                message = "its elements are not in the order of its rows, and too many to be put in order"
                raise OpenError(message, path=path, code="too_large")
            self._ordered = np.ascontiguousarray(read_part(self._stored)).reshape(-1).view(self._type)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the float32 tensor's bytes from `start` (bytes)."""
        out = np.frombuffer(buffer.cast("B"), np.uint8)
        first, last = start // 4, -(-(start + out.size) // 4)
        stored = self._elements(first, last).astype(np.float32)
        channel = np.arange(first, last) // max(self._run, 1) % self._channels
        values = (stored - self._zero_points[channel]) * self._scales[channel]
        out[:] = values.astype("<f4").view(np.uint8)[start - first * 4 :][: out.size]

    def _elements(self, first: int, last: int) -> Array:
        if self._ordered is not None:
            return self._ordered[first:last]
        if self._per_byte > 1:
            return self._unpacked(self._stored.layout.offset + first, last - first)
        size = self._type.itemsize
        raw = bytearray((last - first) * size)
        self._stored.source.read_into((self._stored.layout.offset + first) * size, memoryview(raw))
        return np.frombuffer(raw, self._type)

    def _unpacked(self, first: int, count: int) -> Array:
        """Elements of which a byte holds several, the first in its lowest bits."""
        start, end = first // self._per_byte, -(-(first + count) // self._per_byte)
        raw = bytearray(end - start)
        self._stored.source.read_into(start, memoryview(raw))
        bits = 8 // self._per_byte
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        values: Array = (np.frombuffer(raw, np.uint8)[:, None] >> shifts & ((1 << bits) - 1)).reshape(-1)
        return values[first - start * self._per_byte :][:count]

    def close(self) -> None:
        """Let the file go."""
        for part in self._parts.values():
            part.source.close()

    def __enter__(self) -> ChannelsReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
