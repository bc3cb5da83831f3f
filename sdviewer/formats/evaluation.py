"""Computes the tensors that a plan makes of others, when their bytes are written.

What is computed element by element, cut along the first dimension or put together along it streams through a few MiB;
anything else is computed one tensor at a time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from sdviewer.core import text
from sdviewer.core.arrays import array_type
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import TensorLayout, is_contiguous
from sdviewer.errors import OpenError
from sdviewer.formats.other_files import cannot_take
from sdviewer.formats.pieces import Made
from sdviewer.formats.storage import TensorSource, open_storage, tensor_source
from sdviewer.repair.plan import Computed, Expression, Kept, Plan
from sdviewer.repair.transforms import New, Taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 1 << 20
"""Bytes of a tensor that stream at once."""


class Evaluation:
    """The values of one plan on one checkpoint; equal expressions are computed once and are one `Made`.

    `order` is the byte order of what is computed, that of the checkpoint where none is given.
    """

    def __init__(self, checkpoint: Checkpoint, plan: Plan, order: str = "") -> None:
        self.checkpoint = checkpoint
        self.order = order or checkpoint.byte_order
        self.others = plan.others
        self.tensor_of = () if plan.state_dict is None else checkpoint.state_dicts[plan.state_dict].tensor_of
        self._made: dict[Hashable, Made] = {}
        # (by step and tensor, for each piece by its first element: a piece that is computed again counts once)
        self._replaced: dict[tuple[str, Hashable], dict[int, int]] = {}

    def made(self, value: Computed) -> Made:
        """The bytes of a computed tensor, row by row, in the byte order of this evaluation."""
        identity = self.identity(value)
        if identity not in self._made:
            nbytes = math.prod(value.shape) * DTYPES[value.dtype].itemsize
            origin = value.transform.file if isinstance(value.transform, Taken) else ""
            self._made[identity] = Made(nbytes, lambda: self._chunks(value), origin=origin)
        return self._made[identity]

    def row_major(self, entry: int) -> Made:
        """The bytes of a source tensor, row by row, whatever its stride and its container; of a quantized one float32.

        Entries that look at the same elements are one `Made`.
        """
        identity = ("row major", self.identity(Kept(entry)))
        if identity not in self._made:
            index = self.tensor_of[entry]
            info, dtype = self.checkpoint.tensors[index], dense_dtype(self.checkpoint, index)
            self._made[identity] = Made(info.elements * DTYPES[dtype].itemsize, lambda: self._stored(entry, dtype))
        return self._made[identity]

    @property
    def notes(self) -> tuple[str, ...]:
        """What could only be known once the values were there: how many were replaced."""
        found: dict[str, list[int]] = {}
        for (op, _), pieces in self._replaced.items():
            found.setdefault(op, []).append(sum(pieces.values()))
        return tuple([
            f"{op}: {text.plural(sum(counts), 'value')} replaced in {text.plural(len(counts), 'tensor')}"
            for op, counts in found.items()
        ])  # fmt: skip

    def identity(self, value: Expression) -> Hashable:
        """Equal for expressions that give the same tensor: entries that look at the same elements are one."""
        if isinstance(value, Computed):
            inputs = tuple(map(self.identity, value.inputs)) if value.transform.reads else ()
            return (value.transform, inputs, value.shape, value.dtype)
        info = self.checkpoint.tensors[self.tensor_of[value.entry]]
        if info.storage is None:
            return value.entry
        return (info.storage, info.storage_offset, info.shape, info.stride, info.dtype, info.flags)

    def _chunks(self, value: Computed) -> Iterator[memoryview]:
        for array in self._arrays(value):
            yield _bytes_of(array, value.dtype, self.order)

    def _stored(self, entry: int, dtype: str) -> Iterator[memoryview]:
        for array in self._read(entry):
            yield _bytes_of(array, dtype, self.order)

    def _arrays(self, value: Expression, first: int = 0, count: int | None = None) -> Iterator[NDArray[Any]]:
        """`count` elements of the result from the element `first`, in pieces that follow each other in row-major order.

        What is computed element by element, and what is a run of its inputs' elements, is never there as a whole.
        """
        if isinstance(value, Kept):
            yield from self._read(value.entry, first, count)
            return
        count = math.prod(value.shape) if count is None else count
        if not count:
            return
        transform = value.transform
        if isinstance(transform, New):
            yield from transform.pieces(first, count)
            return
        if isinstance(transform, Taken):
            yield from self._taken(transform, first, count)
            return
        if transform.elementwise:
            for array in self._arrays(value.inputs[0], first, count):
                if replaced := transform.replaced(array):
                    self._replaced.setdefault((transform.op, self.identity(value)), {})[first] = replaced
                first += array.size
                yield transform.compute([array])
            return
        shapes = [self._shape(one) for one in value.inputs]
        run = transform.run(shapes)
        if run is None:
            yield self._computed(value).reshape(-1)[first : first + count]
            return
        first += run[0]
        for one, shape in zip(value.inputs, shapes, strict=True):
            length = math.prod(shape)
            taken = min(count, length - first)
            if taken > 0:
                yield from self._arrays(one, first, taken)
                count -= taken
            first = max(0, first - length)

    def _shape(self, value: Expression) -> tuple[int, ...]:
        if isinstance(value, Computed):
            return value.shape
        return self.checkpoint.tensors[self.tensor_of[value.entry]].shape

    def _computed(self, value: Computed) -> NDArray[Any]:
        return value.transform.compute([self._whole(one) for one in value.inputs])

    def _whole(self, value: Expression) -> NDArray[Any]:
        import numpy as np

        if isinstance(value, Computed):
            dtype, transform = value.dtype, value.transform
            if not math.prod(value.shape):
                return np.empty(value.shape, array_type(dtype))
            streams = transform.elementwise or isinstance(transform, New | Taken)
            if not streams and transform.run([self._shape(one) for one in value.inputs]) is None:
                return self._computed(value)
        else:
            dtype = self.checkpoint.tensors[self.tensor_of[value.entry]].dtype
        shape = self._shape(value)
        flat = np.empty(math.prod(shape), array_type(dtype))
        at = 0
        for piece in self._arrays(value):
            flat[at : at + piece.size] = piece.reshape(-1)
            at += piece.size
        return flat.reshape(shape)

    def _read(self, entry: int, first: int = 0, count: int | None = None) -> Iterator[NDArray[Any]]:
        """`count` elements of a source tensor from the element `first`, row by row, in this machine's byte order.

        conj and neg are resolved.
        """
        yield from _elements_of(tensor_source(self.checkpoint, self.tensor_of[entry]), first, count)

    def _taken(self, tensor: Taken, first: int, count: int) -> Iterator[NDArray[Any]]:
        """The same of a tensor of another file.

        Raises:
            SaveError: it cannot be read, or that file has changed since it was opened.
        """
        try:
            yield from _elements_of(tensor_source(self.others[tensor.file], tensor.tensor), first, count)
        except OpenError as error:
            raise cannot_take(tensor.key, tensor.file, error.message, error.code) from error


def _elements_of(source: TensorSource, first: int, count: int | None) -> Iterator[NDArray[Any]]:
    """`count` elements of a tensor from the element `first`, row by row, conj and neg resolved."""
    layout = source.layout
    count = math.prod(layout.shape) - first if count is None else count
    if not count:
        return
    with open_storage(source) as storage:
        contiguous = is_contiguous(layout.shape, layout.stride)
        runs = _runs(storage, layout, first, first + count) if contiguous else [_strided(storage, layout)]
        for array in runs:
            piece = array if contiguous else array.reshape(-1)[first : first + count]
            yield piece if layout.scale is None else _dequantized(piece, layout)


def dense_dtype(checkpoint: Checkpoint, index: int) -> str:
    """The dtype of what is read for a tensor: of a quantized one that of its values."""
    info = checkpoint.tensors[index]
    if info.quant is None and info.kind != "quantized":
        return info.dtype
    layout = tensor_source(checkpoint, index).layout
    return layout.dtype if layout.scale is None else "float32"


def _dequantized(array: NDArray[Any], layout: TensorLayout) -> NDArray[Any]:
    """What torch's `dequantize()` gives: the difference is exact in float32 for all but 32-bit integers."""
    import numpy as np

    return (array.astype(np.float32) - np.float32(layout.zero_point or 0)) * np.float32(layout.scale)


def _runs(storage: Any, layout: TensorLayout, first: int, end: int) -> Iterator[NDArray[Any]]:
    step = max(1, CHUNK // DTYPES[layout.dtype].itemsize)
    for start in range(first, end, step):
        yield _elements(storage, layout, layout.offset + start, min(step, end - start))


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
