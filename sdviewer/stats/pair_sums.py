"""What is counted and summed of two tensors' values side by side, and how the parts of a pair become one.

As in `moments`: sums are in float64, parts are added up exactly rounded and in their order, so that the result does not
depend on which thread was first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdviewer.stats.decode import Array
from sdviewer.stats.moments import AT_ONCE, exponent_of, scaled_up


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a value of B may be from A's: |b - a| <= absolute + relative |a|."""

    absolute: float = 0.0
    relative: float = 0.0


def tolerance_of(absolute: float | None, relative: float | None) -> Tolerance | None:
    """How far two values may be apart; None where nobody said."""
    if absolute is None and relative is None:
        return None
    return Tolerance(absolute or 0.0, relative or 0.0)


class PairSums(NamedTuple):
    """Counts and sums of a part of a pair.

    `values` are all positions; those that are finite on both sides are `finite`; all that follows `inf_b` is over
    these. `odd` are positions where NaN or infinity has no like on the other side. `outside` are those not within the
    tolerance. `most` is the largest |b - a| and `at` the first position that has it, -1 where it is 0. `absolute` is
    the sum of |b - a|, `differences`, `squares_a` and `squares_b` those of the squares of b - a, a and b, `dot` that of
    the products; these five are of values divided by 2**exponent.
    """

    values: int
    finite: int = 0
    odd: int = 0
    nan_a: int = 0
    nan_b: int = 0
    inf_a: int = 0
    inf_b: int = 0
    changed: int = 0
    flips: int = 0
    outside: int = 0
    most: float = 0.0
    at: int = -1
    absolute: float = 0.0
    differences: float = 0.0
    squares_a: float = 0.0
    squares_b: float = 0.0
    dot: float = 0.0
    exponent: int = 0


COUNTS = ("values", "finite", "odd", "nan_a", "nan_b", "inf_a", "inf_b", "changed", "flips", "outside")
SUMS = ("absolute", "differences", "squares_a", "squares_b", "dot")


def measure(a: Array, b: Array, tolerance: Tolerance) -> PairSums:
    """Count and sum two flat arrays of values of any NumPy type, of equal length."""
    with np.errstate(over="ignore", invalid="ignore"):
        if a.size <= AT_ONCE:
            return _measure(a, b, tolerance)
        starts = range(0, a.size, AT_ONCE)
        parts = [_measure(a[start : start + AT_ONCE], b[start : start + AT_ONCE], tolerance) for start in starts]
    most = max(part.most for part in parts)
    places = (start + part.at for start, part in zip(starts, parts, strict=True) if part.most == most)
    return merge(parts)._replace(at=next(places) if most else -1)


def _measure(a: Array, b: Array, tolerance: Tolerance) -> PairSums:
    values = a.size
    x, y = _wide(a, b)
    finite = np.isfinite(x) & np.isfinite(y)
    odd = nan_a = nan_b = inf_a = inf_b = 0
    places = None
    if not finite.all():
        nans_a, nans_b = np.isnan(x), np.isnan(y)
        odd = _count(~finite & (x != y) & ~(nans_a & nans_b))
        nan_a, nan_b = _count(nans_a), _count(nans_b)
        inf_a, inf_b = _count(np.isinf(x) & ~nans_a), _count(np.isinf(y) & ~nans_b)
        places = np.flatnonzero(finite)
        a, b, x, y = a[finite], b[finite], x[finite], y[finite]
    if not x.size:
        return PairSums(values, 0, odd, nan_a, nan_b, inf_a, inf_b)
    changed = _count(a != b)
    flips = 0 if x.dtype.kind == "c" else _count(np.sign(x) * np.sign(y) < 0)
    exponent = exponent_of(float(max(_largest(x), _largest(y))))
    size_a = np.abs(x)
    if exponent:
        x, y = _scaled(x, -exponent), _scaled(y, -exponent)
    apart = _apart(a, b, x, y)
    whole = np.ldexp(apart, exponent) if exponent else apart
    outside = _count(whole > tolerance.absolute + tolerance.relative * size_a)
    place = int(apart.argmax())
    most = float(whole[place])
    at = place if places is None else int(places[place])
    # Of complex values the squares are those of both parts, and the product is its real part.
    p, q = x.view(np.float64), y.view(np.float64)
    return PairSums(
        values, x.size, odd, nan_a, nan_b, inf_a, inf_b, changed, flips, outside, most, at if most else -1,
        _sum(apart), _sum(apart * apart), _sum(p * p), _sum(q * q), _sum(p * q), exponent,
    )  # fmt: skip


def all_apart(a: Array, b: Array, distance: float) -> NDArray[np.int64]:
    """All positions at which |b - a| is this."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.flatnonzero(_apart(a, b, *_wide(a, b)) == distance)


def _wide(a: Array, b: Array) -> tuple[Array, Array]:
    """Both as float64, or as complex128 where one is complex."""
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return np.ascontiguousarray(a, wide), np.ascontiguousarray(b, wide)


def _apart(a: Array, b: Array, x: Array, y: Array) -> Array:
    """|b - a|, where `x` and `y` are the same numbers in float64, which would round large integers."""
    common = np.result_type(a, b) if a.dtype.kind in "iu" and b.dtype.kind in "iu" else None
    if common is None or common.kind == "f" or common.itemsize < 8:
        return np.asarray(np.abs(y - x))
    a, b = a.astype(common, copy=False), b.astype(common, copy=False)
    # Modulo 2**64 the difference is exact, whichever of the two is the larger one.
    low, high = np.minimum(a, b).astype(np.uint64), np.maximum(a, b).astype(np.uint64)
    return np.asarray((high - low).astype(np.float64))


def _largest(values: Array) -> float:
    """The largest magnitude; of complex values, of their parts."""
    parts = values.view(np.float64)
    return max(-float(parts.min()), float(parts.max()))


def _scaled(values: Array, exponent: int) -> Array:
    scaled: Array = np.ldexp(values.view(np.float64), exponent).view(values.dtype)
    return scaled


def _count(mask: Array) -> int:
    return int(np.count_nonzero(mask))


def _sum(values: Array) -> float:
    return float(np.add.reduce(values))


def merge(parts: Sequence[PairSums]) -> PairSums:
    """All parts as one, without the position of the largest difference."""
    some = [part for part in parts if part.squares_a or part.squares_b]
    exponent = max([part.exponent for part in some], default=0)

    def total(name: str) -> int:
        return sum([getattr(part, name) for part in parts])

    def added(name: str, power: int) -> float:
        return math.fsum([math.ldexp(getattr(part, name), power * (part.exponent - exponent)) for part in some])

    most = max([part.most for part in parts], default=0.0)
    counts = PairSums(**{name: total(name) for name in COUNTS}, most=most, exponent=exponent)
    return counts._replace(
        absolute=added("absolute", 1),
        differences=added("differences", 2),
        squares_a=added("squares_a", 2),
        squares_b=added("squares_b", 2),
        dot=added("dot", 2),
    )


def repeated(sums: PairSums, times: int) -> PairSums:
    """The same with every value standing there so many times."""
    grown = {name: times * getattr(sums, name) for name in (*COUNTS, *SUMS)}
    return sums._replace(**grown)


def norm(squares: float, exponent: int) -> float:
    """The norm of values from the sum of their squares; infinite beyond float64."""
    return scaled_up(math.sqrt(squares), exponent)
