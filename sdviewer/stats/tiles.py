"""A tensor in pieces that still know which index of each dimension they hold.

`decode.Blocks` puts dimensions together where it can, which is right for what does not depend on the place of a value.
Sums along an axis, Gram matrices and products need the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import BLOCK, Block, Elements, product
from sdviewer.stats.moments import exponent_of
from sdviewer.stats.slices import known_elements
from sdviewer.stats.sweep import sweep


class Tile(NamedTuple):
    """A part of a tensor: in each dimension the indexes from `starts` on, as many as `block.shape` says."""

    starts: tuple[int, ...]
    block: Block


def tiles(elements: Elements, nbytes: int = BLOCK) -> Iterator[Tile]:
    """All of a tensor in tiles of at most `nbytes` bytes of values, in the order of the storage.

    A tile has all dimensions of the tensor, in their order.
    """
    shape, stride = elements.shape, elements.stride
    if 0 in shape:
        return
    limit = max(1, nbytes * elements.dtype.per_byte // elements.dtype.itemsize)
    # From the slowest dimension to the fastest: those that are stepped through, the one that is cut, those kept whole.
    order = sorted(range(len(shape)), key=lambda dim: -stride[dim])
    inner = 1
    while order and inner * shape[order[-1]] <= limit:
        inner *= shape[order.pop()]
    sizes = list(shape)
    for place, dim in enumerate(order):
        sizes[dim] = max(1, limit // inner) if place == len(order) - 1 else 1
    yield from cut(elements, sizes)


def cut(elements: Elements, sizes: Sequence[int]) -> Iterator[Tile]:
    """All of a tensor in tiles of at most `sizes` in each dimension, in row-major order of the tiles."""
    shape, stride = elements.shape, elements.stride
    if 0 in shape:
        return
    numbers = [-(-size // step) for size, step in zip(shape, sizes, strict=True)]
    for index in range(product(tuple(numbers))):
        starts = []
        for number, step in zip(reversed(numbers), reversed(sizes), strict=True):
            index, place = divmod(index, number)
            starts.append(place * step)
        starts.reverse()
        there = tuple(min(step, size - at) for step, size, at in zip(sizes, shape, starts, strict=True))
        offset = elements.offset + sum(at * step for at, step in zip(starts, stride, strict=True))
        yield Tile(tuple(starts), Block(offset, there, stride))


def once(elements: Elements) -> Elements:
    """The elements with every dimension that repeats the same ones (stride 0) cut to one."""
    steps = zip(elements.shape, elements.stride, strict=True)
    return replace(elements, shape=tuple(min(size, 1) if step == 0 else size for size, step in steps))


def flat(elements: Elements) -> Elements:
    """A tensor as a matrix: the first dimension of more than one index along the rows, all others along the columns.

    The result has the rows as first dimension and those of the columns behind; a dimension of size 1 is left out. A
    tensor with fewer than two such dimensions gets one column.
    """
    pairs = zip(elements.shape, elements.stride, strict=True)
    kept = [(size, step) for size, step in pairs if size != 1] or [(1, 1)]
    kept += [(1, 1)] if len(kept) == 1 else []
    return replace(elements, shape=tuple(size for size, _ in kept), stride=tuple(step for _, step in kept))


def exponent(source: ByteSource, layout: TensorLayout) -> int:
    """The power of two to divide values by so that their squares neither overflow nor vanish; most often 0.

    Only types of 64 bits can need it; for those this is a pass over the tensor.
    """
    elements = known_elements(source, layout)
    wide = elements.dtype.kind in ("float", "complex") and elements.dtype.name in ("float64", "complex128")
    if not wide:
        return 0
    whole = sweep(source, layout, median=False).whole
    return exponent_of(max(abs(whole.low), abs(whole.high))) if whole.finite else 0
