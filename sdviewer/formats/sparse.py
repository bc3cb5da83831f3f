"""A sparse tensor as the dense one it stands for, filled in piece by piece: its zeros are nowhere kept.

Facts: torch 2.13 `torch.sparse`. COO is (indices of (sparse_dim, nnz), values of (nnz, *dense)), an index that occurs
twice counts with the sum. The compressed layouts are (crow_indices of (*batch, rows + 1), col_indices of (*batch, nnz),
values of (*batch, nnz, *dense)), CSC with rows and columns changed over; BSR and BSC the same in blocks, with values of
(*batch, nnz, *block, *dense). Indices are checked here, as torch itself reads outside of its memory for wrong ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.parts import Part, number_type, read_part

MOST_STORED = 256 << 20
"""Bytes of all parts together that are kept in memory; the places of the values come to them."""

MOST_DENSE, MOST_TIMES = 1 << 30, 16
"""A dense tensor of more bytes than the first that is more than so many times what is stored is not gone through."""

Array = NDArray[Any]


_LAYOUTS = (("indices",), ("crow_indices", "col_indices"), ("ccol_indices", "row_indices"))
"""The index parts of COO, of CSR and BSR, and of CSC and BSC."""


class SparseReader:
    """The bytes of the dense tensor in row-major order; its parts are read once, when it is made."""

    def __init__(self, path: str, layout: TensorLayout, parts: Mapping[str, Part]) -> None:
        """`layout` is that of the dense tensor.

        Raises:
            CorruptCheckpoint: an index points outside, or the parts do not fit together (code `bad_indices`).
            OpenError: it would be too large (code `too_large`).
        """
        self.path = path
        wanted = next((names for names in _LAYOUTS if names[0] in parts), _LAYOUTS[0])
        missing = [name for name in (*wanted, "values") if name not in parts]
        if missing:
            raise self._wrong(f"it has no {missing[0]}")
        self._itemsize = DTYPES[layout.dtype].itemsize
        self.nbytes = math.prod(layout.shape) * self._itemsize
        stored = sum(math.prod(part.layout.shape) * DTYPES[part.layout.dtype].itemsize for part in parts.values())
        if stored > MOST_STORED or self.nbytes > max(MOST_DENSE, MOST_TIMES * stored) or self.nbytes >= 1 << 62:
            message = f"as a dense tensor it has {self.nbytes:,} bytes, of which {stored:,} are stored"
            raise OpenError(message, path=path, code="too_large", remedy="Look at its values alone.")
        arrays = {name: read_part(part) for name, part in parts.items()}
        for name in arrays.keys() - {"values"}:
            if DTYPES[parts[name].layout.dtype].kind != "int":
                raise self._wrong("they are no integers")
            arrays[name] = arrays[name].view(number_type(parts[name].layout)).astype(np.int64)
        positions = self._positions(layout.shape, arrays)
        values = arrays["values"].reshape(-1)
        if positions.size != values.size:
            raise self._wrong(f"it has {values.size:,} values for {positions.size:,} places")
        self._places, self._values = _in_order(positions, values, layout)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the dense tensor's bytes from `start` (bytes)."""
        out = np.frombuffer(buffer.cast("B"), np.uint8)
        out[:] = 0
        size = self._itemsize
        first, last = start // size, -(-(start + out.size) // size)
        low, high = np.searchsorted(self._places, (first, last))
        dense = np.zeros(last - first, f"V{size}")
        dense[self._places[low:high] - first] = self._values[low:high]
        out[:] = dense.view(np.uint8)[start - first * size :][: out.size]

    def close(self) -> None:
        """Let the values go."""
        self._places, self._values = np.empty(0, np.int64), np.empty(0, self._values.dtype)

    def __enter__(self) -> SparseReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wrong(self, message: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"its indices are wrong: {message}", path=self.path, code="bad_indices")

    def _positions(self, shape: tuple[int, ...], arrays: Mapping[str, Array]) -> NDArray[np.int64]:
        """Row-major places in the dense tensor, one for each stored value in the order of `values`."""
        if "indices" in arrays:
            return self._coo(shape, arrays["indices"], arrays["values"].shape[1:])
        across = "crow_indices" in arrays
        compressed = arrays["crow_indices" if across else "ccol_indices"]
        plain = arrays["col_indices" if across else "row_indices"]
        return self._compressed(shape, compressed, plain, arrays["values"].shape, across)

    def _coo(self, shape: tuple[int, ...], indices: Array, dense: tuple[int, ...]) -> NDArray[np.int64]:
        if indices.ndim != 2 or shape[len(indices) :] != dense:
            raise self._wrong("their shape does not fit the tensor's")
        places = np.zeros(indices.shape[1], np.int64)
        for row, size in zip(indices, shape, strict=False):
            self._check(row, size)
            places = places * size + row
        inner = math.prod(dense)
        positions: NDArray[np.int64] = places[:, None] * inner + np.arange(inner)
        return positions.reshape(-1)

    def _compressed(
        self, shape: tuple[int, ...], compressed: Array, plain: Array, values: tuple[int, ...], across: bool
    ) -> NDArray[np.int64]:
        batch = compressed.ndim - 1
        if plain.ndim != batch + 1 or values[: batch + 1] != plain.shape or len(shape) < batch + 2:
            raise self._wrong("their shapes do not fit together")
        # A block of one element where the values have no dimensions of a block.
        blocked = len(values) == len(shape) + 1
        block = values[batch + 1 : batch + 3] if blocked else (1, 1)
        dense = values[batch + 3 :] if blocked else values[batch + 1 :]
        rows, columns = shape[batch : batch + 2]
        whole = all(b > 0 and size % b == 0 for b, size in zip(block, (rows, columns), strict=True))
        if not whole or shape[batch + 2 :] != dense or compressed.shape[:-1] != shape[:batch] != plain.shape[:-1]:
            raise self._wrong("their shapes do not fit the tensor's")
        lines, others = (rows // block[0], columns // block[1]) if across else (columns // block[1], rows // block[0])
        if compressed.shape[-1] != lines + 1:
            raise self._wrong(f"there are {compressed.shape[-1] - 1:,} ends of lines for {lines:,} lines")
        self._check(plain, others)
        per_line = np.diff(compressed, axis=-1)
        n = plain.shape[-1]
        if (per_line < 0).any() or (compressed[..., :1] != 0).any() or (compressed[..., -1:] != n).any():
            raise self._wrong("the lines do not follow one another")
        line = np.repeat(np.tile(np.arange(lines), math.prod(shape[:batch])), per_line.reshape(-1))
        other = plain.reshape(-1)
        row, column = (line, other) if across else (other, line)
        of_batch = np.repeat(np.arange(math.prod(shape[:batch])), n)
        within = (np.arange(b) for b in block)
        down, right = next(within)[:, None], next(within)[None, :]
        place = (of_batch * rows)[:, None, None] + (row * block[0])[:, None, None] + down
        place = place * columns + (column * block[1])[:, None, None] + right
        inner = math.prod(dense)
        positions: NDArray[np.int64] = place.reshape(-1)[:, None] * inner + np.arange(inner)
        return positions.reshape(-1)

    def _check(self, indices: Array, size: int) -> None:
        if indices.size and (indices.min() < 0 or indices.max() >= size):
            raise self._wrong(f"they reach from {indices.min()} to {indices.max()} in a dimension of {size:,}")


def _in_order(positions: NDArray[np.int64], values: Array, layout: TensorLayout) -> tuple[NDArray[np.int64], Array]:
    """Places in growing order and the value of each, those of one place added up in the tensor's own type."""
    raw = np.ascontiguousarray(values).view(f"V{DTYPES[layout.dtype].itemsize}")
    if (np.diff(positions) > 0).all():
        return positions, raw
    order = np.argsort(positions, kind="stable")
    positions, raw = positions[order], raw[order]
    first = np.flatnonzero(np.concatenate([[True], np.diff(positions) > 0]))
    if first.size < positions.size:
        numbers = raw.view(number_type(layout))
        raw = np.add.reduceat(numbers, first).view(raw.dtype)
    return positions[first], raw
