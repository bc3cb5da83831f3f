"""What is counted and summed of some values, and how the parts of a tensor become one.

Sums are in float64, of the distances from a value in the midst of a part: so a small spread around a large mean is not
lost, and one reading gives all moments. Parts are merged exactly rounded at the end, in their order, so that the result
does not depend on which thread was first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sdviewer.stats.decode import Array

WIDE = 2.0**200
"""Magnitudes outside of 1/WIDE .. WIDE are scaled by a power of two before they are raised to the fourth."""

TINY = 1e-6
"""Magnitudes below this are as good as nothing in most models."""

AT_ONCE = 1 << 15
"""Values that are gone through together: what is made of them on the way stays in the core's cache."""

FIRST = 8192
"""The mean of so many values is what the distances of a part are taken from."""


class Part(NamedTuple):
    """Counts and moments of a part of a tensor.

    `finite` values went into `tiny` to `fourths`; `tiny` are those nearer to zero than `TINY`, zeros included. `center`
    is some number among them (an integer for integers); `mean` is the mean distance from it, `squares`, `cubes` and
    `fourths` are the sums of the powers of the distances from the mean, `absolute` is the mean magnitude; all of these
    are of values divided by 2**exponent.
    """

    finite: int
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    zeros: int = 0
    tiny: int = 0
    low: Any = 0
    high: Any = 0
    center: Any = 0.0
    mean: float = 0.0
    absolute: float = 0.0
    squares: float = 0.0
    cubes: float = 0.0
    fourths: float = 0.0
    exponent: int = 0


class Moments(NamedTuple):
    """What all finite values of a tensor amount to; `std` and the others as in `Summary`.

    `mean` to `l2` are exact but for the last digits; `l2` beyond float64 is infinite. `kurtosis` is None when all
    values are equal.
    """

    mean: float
    std: float
    absmean: float
    l2: float
    kurtosis: float | None


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
    if weights is None and values.size > AT_ONCE:
        return merge([measure(values[start : start + AT_ONCE]) for start in range(0, values.size, AT_ONCE)])
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
    absolute = np.abs(v)
    tiny = _count(absolute < TINY, weights) if values.dtype.kind == "f" else zeros
    if exponent:
        v, absolute = np.ldexp(v, -exponent), np.ldexp(absolute, -exponent)
    total_absolute = _sum(absolute, weights)
    center, v = _centered(values, v, weights, exponent, low, high)
    first = _sum(v, weights)
    squared = v * v
    second = _sum(squared, weights)
    v *= squared
    third = _sum(v, weights)
    squared *= squared
    return Part(
        n, nan, posinf, neginf, zeros, tiny, low, high, center, first / n, total_absolute / n,
        *about_mean(n, first, second, third, _sum(squared, weights)), exponent,
    )  # fmt: skip


def _centered(
    values: Array, scaled: Array, weights: Array | None, exponent: int, low: Any, high: Any
) -> tuple[Any, Array]:
    """A number in the midst of the values, and how far each is from it, in units of 2**exponent."""
    some = scaled[:FIRST]
    near = _sum(some, None) / some.size if weights is None else _sum(scaled, weights) / int(weights.sum())
    if values.dtype.kind in "iu" and values.itemsize == 8 and max(abs(low), abs(high)) >= 2**53:
        # float64 would round them; the distance from an integer among them is exact, modulo 2**64.
        wide = high - low >= 2**63
        middle = low + (high - low + 1) // 2 if wide else min(max(round(near), low), high)
        apart = (values.astype(np.uint64) - np.uint64(middle % 2**64)).view(np.int64)
        return middle, apart.astype(np.float64)
    # A denormal has few digits: distances are from the number that is kept.
    center = math.ldexp(near, exponent)
    return center, scaled - math.ldexp(center, -exponent)


def about_mean(n: int, first: float, second: float, third: float, fourth: float) -> tuple[float, float, float]:
    """From sums of powers of distances from some number to those from the mean: of squares, cubes and fourths."""
    off = first / n
    squares = second - first * off
    cubes = third - 3 * off * second + 2 * first * off * off
    fourths = fourth - 4 * off * third + 6 * off * off * second - 3 * first * off**3
    return max(squares, 0.0), cubes, max(fourths, 0.0)


def exponent_of(widest: float) -> int:
    """The power of two to scale by so that fourths neither overflow nor vanish; 0 for the usual magnitudes."""
    if widest == 0 or 1 / WIDE < widest < WIDE:
        return 0
    return math.frexp(widest)[1]


def merge(parts: Sequence[Part]) -> Part:
    """All parts as one."""
    if len(parts) == 1 and (not parts[0].finite or parts[0].low != parts[0].high):
        return parts[0]
    nan, zeros = sum(part.nan for part in parts), sum(part.zeros for part in parts)
    posinf, neginf = sum(part.posinf for part in parts), sum(part.neginf for part in parts)
    some = [part for part in parts if part.finite]
    if not some:
        return Part(0, nan, posinf, neginf)
    n, tiny = sum(part.finite for part in some), sum(part.tiny for part in some)
    low, high = min(part.low for part in some), max(part.high for part in some)
    exponent = exponent_of(max(abs(low), abs(high)))
    center = some[0].center
    means = [_apart(part.center, center, exponent) + math.ldexp(part.mean, part.exponent - exponent) for part in some]
    mean = math.fsum(part.finite * m for part, m in zip(some, means, strict=True)) / n
    absolute = math.fsum(part.finite * math.ldexp(part.absolute, part.exponent - exponent) for part in some) / n
    if low == high:
        # The mean of equal values is that value, whatever their sum was rounded to.
        return Part(n, nan, posinf, neginf, zeros, tiny, low, high, low, 0.0, absolute, exponent=exponent)
    squares, cubes, fourths = [], [], []
    for part, m in zip(some, means, strict=True):
        by, k, off = part.exponent - exponent, part.finite, m - mean
        two, three, four = (
            math.ldexp(power, i * by) for i, power in enumerate((part.squares, part.cubes, part.fourths), 2)
        )
        squares += [two, k * off * off]
        cubes += [three, 3 * off * two, k * off**3]
        fourths += [four, 4 * off * three, 6 * off * off * two, k * off**4]
    return Part(
        n, nan, posinf, neginf, zeros, tiny, low, high, center, mean, absolute,
        math.fsum(squares), math.fsum(cubes), math.fsum(fourths), exponent,
    )  # fmt: skip


def moments(whole: Part) -> Moments:
    """The numbers for a person; of at least one finite value."""
    n, exponent = whole.finite, whole.exponent
    mean = math.ldexp(whole.center, -exponent) + whole.mean
    variance = whole.squares / n
    kurtosis = None if not whole.squares else n * (whole.fourths / whole.squares / whole.squares) - 3
    return Moments(
        scaled_up(mean, exponent),
        scaled_up(math.sqrt(variance), exponent),
        scaled_up(whole.absolute, exponent),
        scaled_up(math.sqrt(whole.squares + n * mean * mean), exponent),
        kurtosis,
    )


def _apart(one: Any, other: Any, exponent: int) -> float:
    """Their difference in units of 2**exponent: exact for integers, and of floats where they are near each other."""
    if isinstance(one, int) and isinstance(other, int):
        return math.ldexp(one - other, -exponent)
    return math.ldexp(one, -exponent) - math.ldexp(other, -exponent)


def scaled_up(value: float, exponent: int) -> float:
    """The value times 2**exponent, infinite beyond float64."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _count(mask: Array, weights: Array | None) -> int:
    return int(np.count_nonzero(mask)) if weights is None else int(weights[mask].sum())


def _sum(values: Array, weights: Array | None) -> float:
    return float(np.add.reduce(values if weights is None else values * weights))
