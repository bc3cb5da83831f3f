"""Which bins a histogram has, and how values are sorted into them.

The range is the middle 99.8 % of the values that are not exactly zero, made symmetric when it holds zero. What lies
outside of it is counted in one slot below and one above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdviewer.stats import kernels
from sdviewer.stats.decode import Array
from sdviewer.stats.moments import AT_ONCE

TAIL = 0.001
"""Share of the values on each side that the range leaves out."""

FEW = 2000
"""Fewer values than this get fewer bins."""

MOST_BARS = 64
"""Integers of at most so many distinct values are shown value by value."""


@dataclass(frozen=True, slots=True)
class FloatBins:
    """Equal bins from `low` to `high`, both included.

    `scale` is a power of two that brings the width near 1, so that neither huge nor denormal ranges lose anything.
    """

    low: float
    high: float
    bins: int

    @property
    def scale(self) -> float:
        # Half of the smallest denormal is nothing.
        exponent = math.frexp(self.high / 2 - self.low / 2 or 5e-324)[1] + 1
        return 2.0 ** -min(max(exponent, -1000), 1000)

    @property
    def constants(self) -> tuple[float, float, float]:
        """(scale, origin, inverse): a value's bin is floor((value * scale - origin) * inverse)."""
        origin = self.low * self.scale
        return self.scale, origin, self.bins / (self.high * self.scale - origin)

    @property
    def slack(self) -> float:
        """How far the first value of a bin may be from where its edge is computed to be."""
        return max(abs(self.low), abs(self.high)) * 2.0**-49 + 4e-323

    def at(self, number: int) -> float:
        """About where bin `number` begins."""
        step = number / self.bins
        return self.low * (1 - step) + self.high * step

    def edges(self) -> NDArray[np.float64]:
        """One more than the bins; exactly the first value of each bin, but for the last, which is `high`."""
        steps = np.arange(self.bins + 1) / self.bins
        edges: NDArray[np.float64] = self.low * (1 - steps) + self.high * steps
        # By its formula a value a rounding error below such an edge may already be in the next bin, and quantized
        # weights lie on edges by the thousand: the formula is monotonic, so halve to where it steps.
        slack = self.slack
        loops = kernels.loaded()
        if loops is not None:
            loops.settle(edges[1:-1], slack, *self.constants)
        else:
            inner = edges[1:-1].tolist()
            kernels.settle(inner, slack, *self.constants)
            edges[1:-1] = inner
        edges[0], edges[-1] = self.low, self.high
        return edges

    def _places(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        scale, origin, inverse = self.constants
        places: NDArray[np.float64] = (values * scale - origin) * inverse
        return places

    def slots(self, values: Array) -> Array:
        """0 for a finite value below, 1 to `bins` inside, the next above."""
        v = values.astype(np.float64)
        slots = np.clip(self._places(v), 0.0, self.bins - 1.0).astype(np.int32) + np.int32(1)
        slots[v < self.low] = 0
        slots[v > self.high] = self.bins + 1
        return slots


@dataclass(frozen=True, slots=True)
class IntBins:
    """Bins of `width` integers each, from `low` on: all alike, which equal shares of a float range would not be."""

    low: int
    width: int
    bins: int

    @property
    def high(self) -> int:
        """The last integer of the last bin."""
        return self.low + self.width * self.bins - 1

    def edges(self) -> NDArray[np.float64]:
        return np.array([self.low + i * self.width - 0.5 for i in range(self.bins + 1)])

    def slots(self, values: Array) -> Array:
        """0 for a value below, 1 to `bins` inside, the next above."""
        if values.dtype == bool:
            values = values.view(np.uint8)
        limits = np.iinfo(values.dtype)
        low, high = max(self.low, limits.min), min(self.high, limits.max)
        # Differences modulo 2**64 are exact for every pair of 64-bit integers.
        apart = values.astype(np.uint64) - np.uint64(self.low % 2**64)
        bins: Array = np.minimum(apart // np.uint64(self.width), np.uint64(self.bins - 1))
        slots: Array = bins.astype(np.int32) + np.int32(1)
        slots[values < low] = 0
        slots[values > high] = self.bins + 1
        return slots


Bins = FloatBins | IntBins


def tally(bins: Bins, values: Array, weights: Array | None = None) -> NDArray[np.int64]:
    """How many finite values fall into each slot; NaN and infinity are left out."""
    if weights is None and values.size > AT_ONCE:
        parts = [tally(bins, values[start : start + AT_ONCE]) for start in range(0, values.size, AT_ONCE)]
        total: NDArray[np.int64] = np.sum(parts, axis=0)
        return total
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            values, weights = values[finite], None if weights is None else weights[finite]
    counts = np.bincount(bins.slots(values), weights, minlength=bins.bins + 2)
    return counts.astype(np.int64)


def number_of_bins(count: int, most: int) -> int:
    """How many bins so many values get, `most` of them from `FEW` values on."""
    return most if count >= FEW else max(min(8, most), round(most * math.sqrt(count / FEW)))


def choose_bins(
    values: Array,
    weights: Array | None,
    most: int,
    span: tuple[float, float] | None,
    loops: kernels.Kernels | None = None,
) -> Bins | None:
    """The bins for values (all of them, or a sample of them); None when none is finite.

    `span` overrides the range, `most` is the number of bins for 2000 values and more. The compiled loops find the same
    bins sooner.
    """
    middle: tuple[int, int] | tuple[float, float] | None = span
    if loops is not None and weights is None and values.dtype.kind == "f":
        count, found = _middle_compiled(values, loops)
        middle = found if span is None else span
    else:
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                values, weights = values[finite], None if weights is None else weights[finite]
        count = values.size if weights is None else int(weights.sum())
    if not count:
        return None
    if middle is None:
        middle = _middle(values, weights)
    bins = number_of_bins(count, most)
    if values.dtype.kind != "f":
        first, last = math.floor(middle[0]), math.ceil(middle[1])
        number = int(last) - int(first) + 1
        width = -(-number // bins)
        return IntBins(int(first), width, -(-number // width))
    low, high = middle
    if span is None and low < 0 < high:
        high = max(-low, high)
        low = -high
    if low == high:
        around = abs(low) / 2 or 1.0
        low, high = max(low - around, -np.finfo(np.float64).max), min(high + around, np.finfo(np.float64).max)
    return FloatBins(float(low), float(high), bins)


def _middle(values: Array, weights: Array | None) -> tuple[int, int] | tuple[float, float]:
    """The values between which the middle 99.8 % of those that are not 0 lie."""
    some = values != 0
    if some.any() and not some.all():
        values, weights = values[some], None if weights is None else weights[some]
    if values.dtype == bool:
        values = values.view(np.uint8)
    n = values.size if weights is None else int(weights.sum())
    first, last = math.floor(TAIL * (n - 1)), math.ceil((1 - TAIL) * (n - 1))
    if weights is None:
        parted = np.partition(values, (first, last))
        return parted[first].item(), parted[last].item()
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    low, high = (order[np.searchsorted(running, rank, side="right")] for rank in (first, last))
    return values[low].item(), values[high].item()


def _middle_compiled(values: Array, loops: kernels.Kernels) -> tuple[int, tuple[float, float]]:
    """How many of some floats are finite, and the `_middle` of those."""
    integer = np.dtype(f"i{values.itemsize}")
    lows, highs = np.empty(values.size, integer), np.empty(values.size, integer)
    middle = loops.middle32 if values.itemsize == 4 else loops.middle64
    finite, n_lows, first, n_highs, last = middle(values.view(integer), TAIL, lows, highs)
    if not n_lows:
        return finite, (0.0, 0.0)
    low = np.partition(lows[:n_lows].view(values.dtype), first)[first]
    high = np.partition(highs[:n_highs].view(values.dtype), last)[last]
    return finite, (low.item(), high.item())
