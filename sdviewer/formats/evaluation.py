"""Computes the tensors that a plan makes of others, when their bytes are written.

What is computed element by element from a contiguous tensor streams through a few MiB; anything else is computed one
tensor at a time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from sdviewer.core.arrays import array_type
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import TensorLayout, is_contiguous
from sdviewer.formats.pieces import Made
from sdviewer.formats.storage import open_storage, tensor_source
from sdviewer.repair.plan import Computed, Expression, Kept, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 4 << 20
"""Bytes of a tensor that stream at once."""


class Evaluation:
    """The values of one plan on one checkpoint; equal expressions are computed once and are one `Made`."""

    def __init__(self, checkpoint: Checkpoint, plan: Plan) -> None:
        self.checkpoint = checkpoint
        self.tensor_of = () if plan.state_dict is None else checkpoint.state_dicts[plan.state_dict].tensor_of
        self._made: dict[Hashable, Made] = {}

    def made(self, value: Computed) -> Made:
        """The bytes of a computed tensor, row by row, in the byte order of the checkpoint."""
        identity = self._identity(value)
        if identity not in self._made:
            nbytes = math.prod(value.shape) * DTYPES[value.dtype].itemsize
            self._made[identity] = Made(nbytes, lambda: self._chunks(value))
        return self._made[identity]

    def row_major(self, entry: int) -> Made:
        """The bytes of a source tensor, row by row, little-endian, whatever its stride and its container."""
        info = self.checkpoint.tensors[self.tensor_of[entry]]
        return Made(info.elements * DTYPES[info.dtype].itemsize, lambda: self._stored(entry))

    def _identity(self, value: Expression) -> Hashable:
        """Equal for expressions that give the same tensor: entries that look at the same elements are one."""
        if isinstance(value, Computed):
            return (value.transform, tuple(map(self._identity, value.inputs)), value.shape, value.dtype)
        info = self.checkpoint.tensors[self.tensor_of[value.entry]]
        if info.storage is None:
            return value.entry
        return (info.storage, info.storage_offset, info.shape, info.stride, info.dtype, info.flags)

    def _chunks(self, value: Computed) -> Iterator[memoryview]:
        order = self.checkpoint.byte_order
        for array in self._arrays(value):
            yield _bytes_of(array, value.dtype, order)

    def _stored(self, entry: int) -> Iterator[memoryview]:
        dtype = self.checkpoint.tensors[self.tensor_of[entry]].dtype
        for array in self._read(entry):
            yield _bytes_of(array, dtype, "little")

    def _arrays(self, value: Computed) -> Iterator[NDArray[Any]]:
        """The result in pieces that follow each other in row-major order."""
        chain = [value.transform]
        inner = value.inputs[0] if len(value.inputs) == 1 else None
        while isinstance(inner, Computed) and inner.transform.elementwise:
            chain.append(inner.transform)
            inner = inner.inputs[0]
        if not (isinstance(inner, Kept) and all(transform.elementwise for transform in chain)):
            yield self._whole(value)
            return
        for array in self._read(inner.entry):
            for transform in reversed(chain):
                array = transform.compute([array])
            yield array

    def _whole(self, value: Expression) -> NDArray[Any]:
        if isinstance(value, Computed):
            return value.transform.compute([self._whole(one) for one in value.inputs])
        import numpy as np

        info = self.checkpoint.tensors[self.tensor_of[value.entry]]
        pieces = [piece.reshape(-1) for piece in self._read(value.entry)]
        flat = (
            pieces[0] if len(pieces) == 1 else np.concatenate(pieces) if pieces else np.empty(0, array_type(info.dtype))
        )
        return flat.reshape(info.shape)

    def _read(self, entry: int) -> Iterator[NDArray[Any]]:
        """A source tensor's elements in row-major order, in this machine's byte order; conj and neg are resolved."""
        source = tensor_source(self.checkpoint, self.tensor_of[entry])
        layout = source.layout
        if not math.prod(layout.shape):
            return
        with open_storage(source) as storage:
            if is_contiguous(layout.shape, layout.stride):
                yield from _runs(storage, layout)
            else:
                yield _strided(storage, layout)


def _runs(storage: Any, layout: TensorLayout) -> Iterator[NDArray[Any]]:
    itemsize = DTYPES[layout.dtype].itemsize
    count = math.prod(layout.shape)
    step = max(1, CHUNK // itemsize)
    for start in range(0, count, step):
        yield _elements(storage, layout, layout.offset + start, min(step, count - start))


def _strided(storage: Any, layout: TensorLayout) -> NDArray[Any]:
    import numpy as np
    from numpy.lib.stride_tricks import as_strided

    reach = sum(step * (size - 1) for size, step in zip(layout.shape, layout.stride, strict=True))
    run = _elements(storage, layout, layout.offset, reach + 1)
    steps = tuple(step * run.itemsize for step in layout.stride)
    return np.ascontiguousarray(as_strided(run, layout.shape, steps, writeable=False))


def _elements(storage: Any, layout: TensorLayout, start: int, count: int) -> NDArray[Any]:
    """`count` elements of the storage from element `start`."""
    import numpy as np

    dtype = DTYPES[layout.dtype]
    raw = np.empty(count * dtype.itemsize, np.uint8)
    storage.read_into(start * dtype.itemsize, raw.data)
    if layout.swap != (sys.byteorder == "big"):
        raw = _swapped(raw, layout.dtype)
    array: NDArray[Any] = raw.view(array_type(layout.dtype))
    if layout.conj and array.dtype.kind == "c":
        array = np.conjugate(array)
    return np.negative(array) if layout.neg else array


def _bytes_of(array: NDArray[Any], dtype: str, order: str) -> memoryview:
    import numpy as np

    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if order != sys.byteorder:
        raw = _swapped(raw, dtype)
    return raw.data


def _swapped(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The bytes of each number turned round; a complex one is two."""
    import numpy as np

    known = DTYPES[dtype]
    units = known.itemsize // (2 if known.kind == "complex" else 1)
    return raw if units == 1 else raw.view(f"u{units}").byteswap().view(np.uint8)
