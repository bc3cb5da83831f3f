"""Norm, mean and deviation of each index along an axis: rows that are dead, columns that stick out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats.decode import Elements, Reader, product, refuse_bomb
from sdviewer.stats.moments import real
from sdviewer.stats.slices import known_elements
from sdviewer.stats.tiles import exponent, once, tiles

MOST_INDEXES = 1 << 23
"""Indexes along an axis up to which each is measured: what is kept of one takes some fifty bytes."""

LISTED = 100
"""Dead rows, and rows with NaN or infinity, that are named."""

MEASURES = ("norm", "mean", "std")

TILE = 1 << 18
"""Bytes of a tile: its float64 values and their squares stay in a core's cache while each axis is summed."""

ROWS, LARGEST_TILE = 16, 1 << 22
"""Rows that a tile of long ones should have, as far as they fit in so many bytes."""

CANCELLED = 1e-6
"""Share of the sum of squares about the centre of a tile below which the deviation of an index is taken anew."""


@dataclass(frozen=True, slots=True)
class AxisSums:
    """What the values at each index of `axis` come to, over all other dimensions, `size` of them.

    `counts` are the finite values at each index, `means` and `squares` their mean and the sum of squared deviations
    from it, both divided by 2**`exponent` and its square. `dead` says that all values at an index are exactly zero.
    Complex values are taken by their magnitude.
    """

    axis: int
    size: int
    exponent: int
    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    squares: NDArray[np.float64]
    dead: NDArray[np.bool_]

    def measure(self, name: str) -> NDArray[np.float64]:
        """ "norm" (L2), "mean" or "std" (the population's) of the finite values at each index, NaN without any."""
        some = np.maximum(self.counts, 1)
        if name == "norm":
            found = np.sqrt(self.squares + self.counts * self.means**2)
        elif name == "std":
            found = np.sqrt(self.squares / some)
        else:
            found = self.means
        with np.errstate(over="ignore"):
            return np.where(self.counts > 0, np.ldexp(found, self.exponent), np.nan)


def axis_sums(
    source: ByteSource, layout: TensorLayout, axes: Sequence[int], *, progress: Progress = no_progress
) -> list[AxisSums]:
    """One pass over a tensor for the sums along some of its axes. Progress is in bytes.

    Raises:
        UsageError: an axis has more than `MOST_INDEXES` indexes, or the tensor no such axis.
        CorruptCheckpoint: the bytes are not there.
    """
    elements = known_elements(source, layout)
    shape = elements.shape
    for axis in axes:
        if not 0 <= axis < len(shape):
            raise UsageError(f"a tensor of {len(shape)} dimensions has no dimension {axis}")
        if shape[axis] > MOST_INDEXES:
            raise UsageError(f"dimension {axis} has {shape[axis]:,} indexes, more than {MOST_INDEXES:,}")
    seen = once(elements)
    refuse_bomb(seen)
    power = exponent(source, layout)
    found = [_Marginal(axis, seen.shape[axis]) for axis in axes]
    reader = Reader(source, layout)
    total, done = seen.nbytes(seen.count), 0
    for starts, block in tiles(seen, _tile_bytes(seen)):
        progress(done, total)
        tile = _Tile.of(real(reader.values(block)), power)
        for marginal in found:
            marginal.add(tile, starts[marginal.axis])
        done += seen.nbytes(tile.values.size)
    progress(total, total)
    return [marginal.whole(shape, seen.shape, power) for marginal in found]


def _tile_bytes(elements: Elements) -> int:
    """Bytes of a tile: enough for some rows, as each tile costs a look at all of its columns."""
    _, slowest = max(zip(elements.stride, elements.shape, strict=True), default=(1, 1))
    row = elements.nbytes(elements.count // max(slowest, 1))
    return min(max(TILE, ROWS * row), LARGEST_TILE)


@dataclass(frozen=True, slots=True)
class _Tile:
    """What the sums along all axes need of a tile: its `values`, and from `centre` their distances and the squares.

    `odd` marks NaN and infinity, None where there are none; their distances are 0.
    """

    values: NDArray[np.float64]
    odd: NDArray[np.bool_] | None
    centre: float
    apart: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], power: int) -> _Tile:
        """Look at some values, each divided by 2**`power`."""
        if power:
            np.ldexp(values, -power, out=values)
        with np.errstate(invalid="ignore", over="ignore"):
            total, odd = float(values.sum()), None
        if not np.isfinite(total):
            odd = ~np.isfinite(values)
            total = float(values.sum(where=~odd))
        centre = total / values.size
        with np.errstate(invalid="ignore"):
            apart = values - centre
        if odd is not None:
            apart[odd] = 0
        return cls(values, odd, centre, apart, apart * apart)


@dataclass(slots=True)
class _Marginal:
    """The sums of one axis while the tiles stream past."""

    axis: int
    size: int
    counts: NDArray[np.int64] = field(init=False)
    means: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    alive: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.counts, self.alive = np.zeros(self.size, np.int64), np.zeros(self.size, bool)
        self.means, self.squares = np.zeros(self.size), np.zeros(self.size)

    def add(self, tile: _Tile, start: int) -> None:
        """Take in a tile whose first index along the axis is `start`."""
        others = tuple(axis for axis in range(tile.values.ndim) if axis != self.axis)
        n = tile.values.shape[self.axis]
        at = slice(start, start + n)
        new: Any = tile.values.size // n
        if tile.odd is not None:
            new = new - tile.odd.sum(axis=others)
        sums = tile.apart.sum(axis=others)
        means, squares = sums / np.maximum(new, 1), tile.squares.sum(axis=others)
        spread = squares - sums * means
        means += tile.centre
        if n < tile.values.size and (spread < CANCELLED * squares).any():
            # Most digits cancelled: an index is far from the centre, beside what its own values are from each other.
            here = tile.values if tile.odd is None else np.where(tile.odd, 0.0, tile.values)
            means = here.sum(axis=others) / np.maximum(new, 1)
            around = here - np.expand_dims(means, others)
            if tile.odd is not None:
                around[tile.odd] = 0
            spread = (around * around).sum(axis=others)
        self._find_alive(tile.values, others, start)
        # Two sets of squared deviations become one (Chan, Golub, LeVeque).
        both = self.counts[at] + new
        shift = means - self.means[at]
        share = new / np.maximum(both, 1)
        self.squares[at] += spread + shift**2 * self.counts[at] * share
        self.means[at] += shift * share
        self.counts[at] = both

    def _find_alive(self, values: NDArray[np.float64], others: tuple[int, ...], start: int) -> None:
        """Note which indexes have anything but zeros; only few of most tensors have a zero to begin with."""
        first = values[tuple(slice(None) if axis not in others else 0 for axis in range(values.ndim))]
        n = len(first)
        begun = self.alive[start : start + n] | (first != 0)
        self.alive[start : start + n] = begun
        left = np.flatnonzero(~begun)
        if left.size:
            self.alive[start + left] = (values.take(left, axis=self.axis) != 0).any(axis=others)

    def whole(self, shape: tuple[int, ...], seen: tuple[int, ...], power: int) -> AxisSums:
        """The sums of the tensor with its repeated elements, of which one each was seen."""
        n = shape[self.axis]
        repeats, along = product(shape) // max(product(seen), 1), n // max(self.size, 1)
        times = repeats // max(along, 1)
        # Along an expanded axis all indexes are the same one.
        counts, squares = np.resize(self.counts * times, n), np.resize(self.squares * times, n)
        others = product(shape) // max(n, 1)
        return AxisSums(self.axis, others, power, counts, np.resize(self.means, n), squares, np.resize(~self.alive, n))


@dataclass(frozen=True, slots=True)
class Profile:
    """One axis for a plot: each measure as a band of at most `points` points, in order and sorted.

    Each point stands for `block` indexes (the last may stand for fewer). `dead` and `odd` are how many indexes hold
    nothing but zeros, and how many hold NaN or infinity; `dead_at` and `odd_at` are the first of them. `ends` are, for
    each measure, the index and the value of its smallest and of its largest.
    """

    axis: int
    count: int
    size: int
    block: int
    dead: int
    odd: int
    dead_at: tuple[int, ...]
    odd_at: tuple[int, ...]
    ends: dict[str, list[list[float]] | None]
    bands: dict[str, NDArray[np.float64]]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__[:9]}
        return fields | {"dead_at": list(self.dead_at), "odd_at": list(self.odd_at)}

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays by name: measure, order ("ordered" or "sorted") and side ("low" or "high") with dots between."""
        return {f"{prefix}.{name}": array for name, array in self.bands.items()}


def profile(sums: AxisSums, points: int) -> Profile:
    """What a plot of at most `points` points shows of an axis."""
    n = len(sums.counts)
    ends: dict[str, list[list[float]] | None] = {}
    bands: dict[str, NDArray[np.float64]] = {}
    for name in MEASURES:
        values = sums.measure(name)
        there = np.flatnonzero(np.isfinite(values))
        ends[name] = None
        if there.size:
            first, last = there[values[there].argmin()], there[values[there].argmax()]
            ends[name] = [[int(at), float(values[at])] for at in (first, last)]
        for order, shown in (("ordered", values), ("sorted", np.sort(values))):
            bands[f"{name}.{order}.low"], bands[f"{name}.{order}.high"] = band(shown, points)
    dead, odd = np.flatnonzero(sums.dead), np.flatnonzero(sums.counts < sums.size)
    block = max(1, -(-n // points))
    listed = [tuple(int(at) for at in some[:LISTED]) for some in (dead, odd)]
    return Profile(sums.axis, n, sums.size, block, dead.size, odd.size, listed[0], listed[1], ends, bands)


def band(values: NDArray[np.float64], points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest finite value of each point, NaN where none is."""
    block = max(1, -(-values.size // points))
    starts = np.arange(0, values.size, block)
    finite = np.isfinite(values)
    if not values.size:
        return values, values
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    return np.where(np.isinf(low), np.nan, low), np.where(np.isinf(high), np.nan, high)


def profile_axes(shape: Sequence[int]) -> list[int]:
    """The axes that a plot of rows and columns shows: the first two of more than one index."""
    return [axis for axis, size in enumerate(shape) if size != 1][:2]


def profiles(
    source: ByteSource, layout: TensorLayout, points: int, *, progress: Progress = no_progress
) -> list[Profile]:
    """The output rows and the input columns of a tensor; an axis of more than `MOST_INDEXES` is left out.

    Raises:
        UsageError: `points` is less than 1.
        CorruptCheckpoint: the bytes are not there.
    """
    if points < 1:
        raise UsageError(f"rows cannot be shown in {points} points")
    shape = known_elements(source, layout).shape
    axes = [axis for axis in profile_axes(shape) if shape[axis] <= MOST_INDEXES]
    return [profile(sums, points) for sums in axis_sums(source, layout, axes, progress=progress)]


@dataclass(frozen=True, slots=True)
class Heads:
    """Blocks of an axis, such as attention heads: the mean L2 norm of each one's rows, the deviation of its values.

    NaN where a block has no finite value. `dead` is how many rows of each hold nothing but zeros.
    """

    norms: NDArray[np.float64]
    stds: NDArray[np.float64]
    dead: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {"norms": self.norms, "stds": self.stds, "dead": self.dead}


def heads(
    source: ByteSource,
    layout: TensorLayout,
    axis: int,
    spans: Sequence[tuple[int, int]],
    *,
    progress: Progress = no_progress,
) -> Heads:
    """Measure blocks of rows; `spans` are the first row of each and the one behind its last. Progress is in bytes.

    Raises:
        UsageError: the tensor has no such axis or no such rows.
        CorruptCheckpoint: the bytes are not there.
    """
    (sums,) = axis_sums(source, layout, [axis], progress=progress)
    rows = len(sums.counts)
    if any(not 0 <= start < stop <= rows for start, stop in spans):
        raise UsageError(f"dimension {axis} has {rows:,} rows, not all of those asked for")
    norms, stds = np.full(len(spans), np.nan), np.full(len(spans), np.nan)
    by_row = sums.measure("norm")
    for i, (start, stop) in enumerate(spans):
        counts, means = sums.counts[start:stop], sums.means[start:stop]
        n = int(counts.sum())
        if n:
            norms[i] = np.nanmean(by_row[start:stop])
            mean = float((counts * means).sum()) / n
            squares = float(sums.squares[start:stop].sum() + (counts * (means - mean) ** 2).sum())
            stds[i] = np.ldexp(np.sqrt(squares / n), sums.exponent)
    return Heads(norms, stds, np.array([sums.dead[start:stop].sum() for start, stop in spans], np.int64))
