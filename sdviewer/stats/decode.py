"""From stored bytes to numbers, a block at a time, whatever the stride.

A tensor is cut into blocks of about a mebibyte. A block is read with as few requests as its layout allows (one, when it
lies in one piece), and only the pages that hold its elements are read. Nothing here needs memory that grows with the
tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from sdviewer.core.checkpoint import MOST_ELEMENTS
from sdviewer.core.dtypes import DTYPES, DType
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import CorruptCheckpoint, OpenError

Array = NDArray[Any]

BLOCK = 1 << 20
"""Bytes of a block: large enough that a request costs nothing beside it, small enough for a core's cache."""

GATHER_BLOCK = 32 << 20
"""Bytes of a block whose order is not the order of the storage: each of its requests is the longer for it."""

SPAN = 4 << 20
"""The most bytes read by one request of a strided block."""

GAP = 4096
"""Bytes between two wanted elements that are read along: the kernel reads whole pages anyway."""

LARGE = 1 << 30
"""Logical bytes from which a tensor that repeats its elements is not gone through one by one ..."""

EXPANDED = 16
"""... if they are also more than so many times its stored bytes."""


@dataclass(frozen=True, slots=True)
class Elements:
    """Where the values of a tensor lie, counted in values, also where a byte holds several.

    `stride` and `offset` are in values. A tensor of `float4_e2m1fn_x2` gets a last dimension twice as long as torch's
    (or, where its last dimension is strided, one more dimension of size 2), as two values stand in each byte.
    """

    dtype: DType
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of values."""
        return product(self.shape)

    @property
    def span(self) -> int:
        """Number of values from the first to the last in the storage, both included; 0 when empty."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    def nbytes(self, values: int) -> int:
        """Bytes that so many values take."""
        return -(-values * self.dtype.itemsize // self.dtype.per_byte)


def overlaps(elements: Elements) -> bool:
    """Whether a tensor steps on its own elements so often that it must not be gone through one by one."""
    logical = elements.nbytes(elements.count)
    return logical > LARGE and logical > EXPANDED * elements.nbytes(elements.span)


def refuse_bomb(elements: Elements) -> None:
    """Stop before a small file becomes days of work.

    Raises:
        OpenError: `too_large`.
    """
    if overlaps(elements):
        raise OpenError(
            f"a tensor of {elements.count:,} elements goes over the same {elements.nbytes(elements.span):,} bytes"
            " again and again",
            code="too_large",
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a tensor, in the order in which its values are wanted; all in values."""

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def dtype_of(layout: TensorLayout) -> DType:
    """The element type; for an opaque one, bits of which all elements together are one group."""
    if layout.opaque is None:
        return DTYPES[layout.dtype]
    return DType(layout.dtype, layout.opaque, "bits", "", layout.dtype, per_byte=max(product(layout.shape), 1))


def elements_of(source: ByteSource, layout: TensorLayout) -> Elements:
    """The values of a tensor, checked against its storage.

    Raises:
        CorruptCheckpoint: the tensor reaches outside of its storage, or has more elements than torch can count.
    """
    dtype = dtype_of(layout)
    shape, stride, offset = layout.shape, layout.stride, layout.offset
    if len(shape) != len(stride) or any(n < 0 for n in (*shape, *stride, offset)):
        raise CorruptCheckpoint(f"a tensor has the impossible shape {shape}, stride {stride} and offset {offset}")
    if dtype.kind == "float4":
        shape, stride = _two_a_byte(shape, stride)
        offset *= 2
    # A step that is never taken may be of any size, also of one that NumPy does not take.
    stride = tuple(step if size > 1 else min(step, source.nbytes) for size, step in zip(shape, stride, strict=True))
    elements = Elements(dtype, offset, shape, stride)
    if elements.count > MOST_ELEMENTS:
        raise CorruptCheckpoint("a tensor claims more elements than torch can count")
    if elements.span and elements.nbytes(offset + elements.span) > source.nbytes:
        reach = elements.nbytes(offset + elements.span)
        raise CorruptCheckpoint(f"a tensor reaches to byte {reach:,} of a storage of {source.nbytes:,} bytes")
    return elements


def _two_a_byte(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    doubled = tuple(2 * step for step in stride)
    if shape and (stride[-1] == 1 or shape[-1] == 1):
        return (*shape[:-1], 2 * shape[-1]), (*doubled[:-1], 1)
    return (*shape, 2), (*doubled, 1)


def product(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    n = 1
    for size in shape:
        n *= size
    return n


def merged(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same elements in the same order with the fewest dimensions; a scalar keeps none."""
    sizes, steps = merged_together(shape, stride)
    return sizes, steps


def merged_together(shape: tuple[int, ...], *strides: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """One shape and several strides with the fewest dimensions that are the same elements in the same order in each."""
    sizes: list[int] = []
    steps: list[tuple[int, ...]] = []
    for size, *at in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if sizes and all(before == step * size for before, step in zip(steps[-1], at, strict=True)):
            sizes[-1] *= size
            steps[-1] = tuple(at)
        else:
            sizes.append(size)
            steps.append(tuple(at))
    return tuple(sizes), *(tuple(step[i] for step in steps) for i in range(len(strides)))


def in_order(stride: tuple[int, ...]) -> bool:
    """Whether the order of the elements is that of the storage."""
    return list(stride) == sorted(stride, reverse=True)


def in_storage_order(elements: Elements) -> tuple[Elements, int]:
    """The elements in the order of the storage, each expanded one once, and how often each stands in the tensor."""
    repeats = 1
    kept: list[tuple[int, int]] = []
    for size, step in zip(elements.shape, elements.stride, strict=True):
        if step == 0 and size > 0:
            repeats *= size
        else:
            kept.append((size, step))
    kept.sort(key=lambda dim: -dim[1])
    shape, stride = merged(tuple(size for size, _ in kept), tuple(step for _, step in kept))
    return Elements(elements.dtype, elements.offset, shape, stride), repeats


class Blocks(Sequence[Block]):
    """A whole tensor cut into blocks, in row-major order, each of at most `nbytes` bytes of values.

    Without `nbytes` the size follows from the layout: `BLOCK` where the order is that of the storage, else
    `GATHER_BLOCK`.
    """

    def __init__(self, elements: Elements, nbytes: int = 0) -> None:
        shape, stride = merged(elements.shape, elements.stride)
        if not nbytes:
            nbytes = BLOCK if in_order(stride) else GATHER_BLOCK
        limit = max(1, nbytes * elements.dtype.per_byte // elements.dtype.itemsize)
        self._cut_up(elements, shape, stride, limit)

    @classmethod
    def alike(cls, one: Elements, other: Elements) -> tuple[Blocks, Blocks]:
        """Two tensors of one shape, cut at the same places."""
        shape, *strides = merged_together(one.shape, one.stride, other.stride)
        nbytes = BLOCK if all(map(in_order, strides)) else GATHER_BLOCK
        limit = min(max(1, nbytes * each.dtype.per_byte // each.dtype.itemsize) for each in (one, other))
        found = []
        for elements, stride in zip((one, other), strides, strict=True):
            blocks = cls.__new__(cls)
            blocks._cut_up(elements, shape, stride, limit)
            found.append(blocks)
        return found[0], found[1]

    def _cut_up(self, elements: Elements, shape: tuple[int, ...], stride: tuple[int, ...], limit: int) -> None:
        self._offset = elements.offset
        axis = len(shape)
        inner = 1
        while axis and inner * shape[axis - 1] <= limit:
            axis -= 1
            inner *= shape[axis]
        # Dimensions before `cut` are stepped through one by one, `cut` by some rows at a time, the others are whole.
        self._shape, self._stride = (shape, stride) if axis else ((1, *shape), (0, *stride))
        self._cut = max(axis, 1) - 1
        self._rows = max(1, limit // inner) if axis else 1
        self._pieces = -(-self._shape[self._cut] // self._rows)
        self._len = product(self._shape[: self._cut]) * self._pieces if elements.count else 0

    def __len__(self) -> int:
        return self._len

    def start(self, index: int) -> int:
        """How many values the blocks before this one have."""
        outer, piece = divmod(index, self._pieces)
        return (outer * self._shape[self._cut] + piece * self._rows) * product(self._shape[self._cut + 1 :])

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._len))]
        if not 0 <= index < self._len:
            raise IndexError(index)
        cut = self._cut
        index, piece = divmod(index, self._pieces)
        start = piece * self._rows
        offset = self._offset + start * self._stride[cut]
        for size, step in zip(reversed(self._shape[:cut]), reversed(self._stride[:cut]), strict=True):
            index, place = divmod(index, size)
            offset += place * step
        rows = min(self._rows, self._shape[cut] - start)
        shape, stride = merged((rows, *self._shape[cut + 1 :]), self._stride[cut:])
        return Block(offset, shape, stride)


class Reader:
    """Reads blocks of one tensor. It keeps a buffer, so each thread has its own.

    It reads into `buffer` where that is given and large enough, else into memory of its own.
    """

    def __init__(self, source: ByteSource, layout: TensorLayout, buffer: NDArray[np.uint8] | None = None) -> None:
        self._source = source
        self._swap = layout.swap
        self.dtype = dtype_of(layout)
        self.unit = stored_type(self.dtype)
        self.decode = decoder(layout)
        self.plain_half = self.dtype.name == "float16" and not layout.neg
        self._buffer: NDArray[np.uint8] = np.empty(0, np.uint8) if buffer is None else buffer

    def values(self, block: Block) -> Array:
        """The values of a block, in its shape; valid until the next call.

        Floats of 16 bits and less become float32, complex of half precision complex64, quantized ones are dequantized
        to float32 as torch does, bool is what is not 0, conj and neg are resolved. Bits types stay as they are stored.
        """
        return self.decode(self.stored(block))

    def stored(self, block: Block) -> Array:
        """The stored elements of a block, in its shape, in this machine's byte order; valid until the next call.

        Types that NumPy lacks are unsigned integers of their size; of those that share a byte each value has its own.

        Raises:
            CorruptCheckpoint: as the source does.
        """
        shape, stride = block.shape, block.stride
        order = sorted(range(len(shape)), key=lambda dim: stride[dim])
        # From the fastest dimension out: as much as may be read in one request.
        per_byte, itemsize = self.dtype.per_byte, self.dtype.itemsize
        most, gap = SPAN * per_byte // itemsize, max(1, GAP * per_byte // itemsize)
        span, together = 1, 0
        for dim in order:
            wider = span + stride[dim] * (shape[dim] - 1)
            if shape[dim] > 1 and (stride[dim] - span > gap or wider > most):
                break
            span = wider
            together += 1
        if together == len(order):
            return self._view(block.offset, span, shape, stride)
        return self._gather(block, order[together:], span, most, gap)

    def _gather(self, block: Block, outer: list[int], span: int, most: int, gap: int) -> Array:
        """A block of several requests; `outer` are its dimensions, fastest first, that one request cannot take in."""
        shape, stride = block.shape, block.stride
        result = np.empty(shape, self.unit)
        first = outer[0]
        at_once = 1 if stride[first] - span > gap else 1 + max(0, most - span) // max(1, stride[first])
        for place in np.ndindex(*(shape[dim] for dim in outer[1:])):
            base = block.offset + sum(i * stride[dim] for i, dim in zip(place, outer[1:], strict=True))
            target: list[slice | int] = [slice(None)] * len(shape)
            for i, dim in zip(place, outer[1:], strict=True):
                target[dim] = slice(i, i + 1)
            for start in range(0, shape[first], at_once):
                size = min(at_once, shape[first] - start)
                target[first] = slice(start, start + size)
                inner = [1 if dim in outer else shape[dim] for dim in range(len(shape))]
                inner[first] = size
                reach = span + (size - 1) * stride[first]
                result[tuple(target)] = self._view(base + start * stride[first], reach, tuple(inner), stride)
        return result

    def _view(self, offset: int, span: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Array:
        run = self._run(offset, span)
        if not shape:
            return run.reshape(())
        if len(shape) == 1 and (stride[0] == 1 or shape[0] == 1):
            return run
        return as_strided(run, shape, tuple(step * run.itemsize for step in stride), writeable=False)

    def _run(self, start: int, count: int) -> Array:
        """`count` stored values that lie in a row, from value `start` of the storage."""
        per_byte, itemsize = self.dtype.per_byte, self.dtype.itemsize
        first, last = start // per_byte, (start + count - 1) // per_byte
        nbytes = (last - first + 1) * itemsize
        if self._buffer.size < nbytes:
            self._buffer = np.empty(nbytes, np.uint8)
        raw = self._buffer[:nbytes]
        self._source.read_into(first * itemsize, raw.data)
        if per_byte > 1:
            bits = 8 // per_byte
            shifts = np.arange(0, 8, bits, dtype=np.uint8)
            # Low bits first, as torch packs them.
            values = (raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)
            return values.reshape(-1)[start - first * per_byte :][:count]
        if self._swap != (sys.byteorder == "big") and itemsize > 1:
            if self.dtype.name == "complex32":
                return raw.view(np.uint16).byteswap().view(self.unit)
            return raw.view(self.unit).byteswap()
        return raw.view(self.unit)


def stored_type(dtype: DType) -> np.dtype[Any]:
    """The NumPy type of a stored element in this machine's byte order; unsigned bits for what NumPy lacks."""
    if dtype.per_byte == 1 and dtype.numpy[:1] in ("<", "|"):
        return np.dtype(dtype.numpy).newbyteorder("=")
    return np.dtype(f"u{dtype.itemsize}")


def decoder(layout: TensorLayout) -> Callable[[Array], Array]:
    """The function from stored elements to values for a tensor; see `Reader.values`."""
    dtype = dtype_of(layout)
    if dtype.kind == "quantized":
        return _dequantize(layout)
    if dtype.kind == "complex":
        return _complex(dtype, layout)
    plain = _plain(dtype)
    if layout.neg and dtype.kind in ("float", "float4"):
        return lambda stored: np.negative(plain(stored))
    return plain


def _plain(dtype: DType) -> Callable[[Array], Array]:
    if dtype.name == "bool":
        return lambda stored: stored != 0
    if dtype.name == "float16":
        return _widen
    if dtype.name == "bfloat16":
        return lambda stored: (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype.kind in ("float", "float4") and dtype.itemsize == 1:
        table = _small_floats(dtype)
        return lambda stored: table[stored]
    return lambda stored: stored


def _widen(stored: Array) -> Array:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return stored.astype(np.float32)


def _small_floats(dtype: DType) -> NDArray[np.float32]:
    """The value of each code of a float of 8 or 4 bits."""
    import ml_dtypes

    codes = np.arange(256 if dtype.per_byte == 1 else 16, dtype=np.uint8)
    values: NDArray[np.float32] = codes.view(getattr(ml_dtypes, dtype.numpy)).astype(np.float32)
    return values


def _complex(dtype: DType, layout: TensorLayout) -> Callable[[Array], Array]:
    def decode(stored: Array) -> Array:
        if dtype.name == "complex32":
            halves = _widen(np.ascontiguousarray(stored).reshape(-1).view(np.float16))
            stored = halves.view(np.complex64).reshape(stored.shape)
        if layout.conj:
            stored = np.conj(stored)
        return np.negative(stored) if layout.neg else stored

    return decode


def _dequantize(layout: TensorLayout) -> Callable[[Array], Array]:
    if layout.scale is None:
        return lambda stored: stored
    # torch dequantizes in float32; the difference of two 32-bit integers is exact in 64.
    with np.errstate(over="ignore"):
        scale = np.float32(layout.scale)
    zero_point = np.int64(layout.zero_point or 0)

    def decode(stored: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray((stored.astype(np.int64) - zero_point).astype(np.float32) * scale)

    return decode
