"""The way through two tensors of one shape: both cut at the same places, in an order that suits their storages."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sdviewer.stats.decode import Blocks, Elements, overlaps, refuse_bomb


@dataclass(frozen=True, slots=True)
class PairCourse:
    """How both are gone through.

    `a` and `b` are the elements in that order; each stands `repeats` times in the tensors. `shape` has the sizes above
    1. `dims` are its dimensions in that order, without those that are repeated; None where the order is row-major and
    nothing is repeated.
    """

    a: Elements
    b: Elements
    repeats: int
    blocks_a: Blocks
    blocks_b: Blocks
    shape: tuple[int, ...]
    dims: tuple[int, ...] | None

    @property
    def in_order(self) -> bool:
        """Whether what comes first stands first."""
        return self.dims is None or list(self.dims) == sorted(self.dims)

    def places(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the elements at these positions of the way first stand in the tensors, counted in row-major order."""
        if self.dims is None or not self.shape:
            return positions
        index = [np.zeros_like(positions) for _ in self.shape]
        for dim, at in zip(self.dims, np.unravel_index(positions, [self.shape[dim] for dim in self.dims]), strict=True):
            index[dim] = at
        return np.asarray(np.ravel_multi_index(index, self.shape), np.int64)


def course_through(a: Elements, b: Elements) -> PairCourse:
    """The way through two tensors of one shape that are not empty.

    What both expand is gone through once; where the strides are alike, the order is that of the storage.

    Raises:
        OpenError: both repeat so few elements so often that it would take days (code `too_large`).
    """
    # A tensor may have more dimensions of size 1 than NumPy can count places in.
    long = [dim for dim, size in enumerate(a.shape) if size > 1]
    shape = tuple(a.shape[dim] for dim in long)
    strides = [tuple(side.stride[dim] for dim in long) for side in (a, b)]
    dims = [dim for dim in range(len(shape)) if strides[0][dim] or strides[1][dim]]
    repeats = math.prod([size for dim, size in enumerate(shape) if dim not in dims])
    if all(strides[0][dim] == strides[1][dim] for dim in dims):
        dims.sort(key=lambda dim: -strides[0][dim])
    plain = dims == list(range(len(shape)))
    if not plain:
        sizes = tuple(shape[dim] for dim in dims)
        a, b = (
            replace(side, shape=sizes, stride=tuple(stride[dim] for dim in dims))
            for side, stride in zip((a, b), strides, strict=True)
        )
    if overlaps(a) and overlaps(b):
        refuse_bomb(a)
    return PairCourse(a, b, repeats, *Blocks.alike(a, b), shape, None if plain else tuple(dims))
