"""What is counted and summed of some values, and how the parts of a tensor become one.

Sums are in float64. Deviations are taken from the mean of each part (two passes over a part that is in the cache) and
merged exactly rounded at the end, so that a small spread around a large mean is not lost, and the result does not
depend on which thread was first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sdviewer.stats.decode import Array

WIDE = 2.0**465
"""Magnitudes outside of 1/WIDE .. WIDE are scaled by a power of two before they are squared."""


class Part(NamedTuple):
    """Counts and moments of a part of a tensor.

    `finite` values went into `low` to `squares`; `squares` is the sum of squared deviations from `mean`, divided by
    2**(2*exponent); `absolute` is the mean magnitude.
    """

    finite: int
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zeros: int = 0
    low: Any = 0
    high: Any = 0
    mean: float = 0.0
    absolute: float = 0.0
    squares: float = 0.0
    exponent: int = 0


def magnitude(values: Array) -> Array:
    """|z| in float64, without overflow on the way."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.abs(values.astype(np.complex128, copy=False)))


def real(values: Array) -> Array:
    """Values as float64, complex ones by their magnitude."""
    if values.dtype.kind == "c":
        return magnitude(values)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return values.astype(np.float64)


def measure(values: Array, weights: Array | None = None) -> Part:
    """Count and sum real values of any NumPy type, each as often as its weight says (int64, at least 1)."""
    nan, posinf, neginf = 0, 0, 0
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            odd, odd_weights = values[~finite], None if weights is None else weights[~finite]
            nan = _count(np.isnan(odd), odd_weights)
            posinf = _count(odd == np.inf, odd_weights)
            neginf = _count(odd == -np.inf, odd_weights)
            values, weights = values[finite], None if weights is None else weights[finite]
    n = values.size if weights is None else int(weights.sum())
    if n == 0:
        return Part(0, nan, posinf, neginf)
    zeros = _count(values == 0, weights)
    # Adding 0 makes 0.0 of -0.0.
    low, high = values.min().item() + 0, values.max().item() + 0
    exponent = exponent_of(max(abs(low), abs(high)))
    v = values.astype(np.float64)
    if exponent:
        v = np.ldexp(v, -exponent)
    mean = _sum(v, weights) / n
    absolute = _sum(np.abs(v), weights) / n
    v -= mean
    v *= v
    return Part(
        n, nan, posinf, neginf, zeros, low, high,
        math.ldexp(mean, exponent), math.ldexp(absolute, exponent), _sum(v, weights), exponent,
    )  # fmt: skip


def exponent_of(widest: float) -> int:
    """The power of two to scale by so that squares neither overflow nor vanish; 0 for the usual magnitudes."""
    if widest == 0 or 1 / WIDE < widest < WIDE:
        return 0
    return math.frexp(widest)[1]


def merge(parts: Sequence[Part]) -> tuple[Part, float]:
    """All parts as one, and the sum of squares of its values, in the same scale as its `squares`."""
    nan, zeros = sum(part.nan for part in parts), sum(part.zeros for part in parts)
    posinf, neginf = sum(part.posinf for part in parts), sum(part.neginf for part in parts)
    some = [part for part in parts if part.finite]
    if not some:
        return Part(0, nan, posinf, neginf), 0.0
    n = sum(part.finite for part in some)
    low, high = min(part.low for part in some), max(part.high for part in some)
    exponent = exponent_of(max(abs(low), abs(high)))
    means = [math.ldexp(part.mean, -exponent) for part in some]
    mean = math.fsum(part.finite * m for part, m in zip(some, means, strict=True)) / n
    absolute = math.fsum(part.finite * math.ldexp(part.absolute, -exponent) for part in some) / n
    squares = math.fsum(
        math.ldexp(part.squares, 2 * (part.exponent - exponent)) + part.finite * (m - mean) ** 2
        for part, m in zip(some, means, strict=True)
    )
    if low == high:
        # The mean of equal values is that value, whatever their sum was rounded to.
        mean, squares = math.ldexp(low, -exponent), 0.0
    whole = Part(
        n, nan, posinf, neginf, zeros, low, high,
        math.ldexp(mean, exponent), math.ldexp(absolute, exponent), squares, exponent,
    )  # fmt: skip
    return whole, squares + n * mean * mean


def _count(mask: Array, weights: Array | None) -> int:
    return int(np.count_nonzero(mask)) if weights is None else int(weights[mask].sum())


def _sum(values: Array, weights: Array | None) -> float:
    return float(values.sum() if weights is None else (values * weights).sum())
