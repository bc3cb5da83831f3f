"""The numbers that say how far two tensors are apart, each from the sums of one pass over both.

A new one is a function here and a line in `METRICS`, with a column of its name in `pair_table`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sdviewer.stats.moments import scaled_up
from sdviewer.stats.pair_sums import PairSums, norm


class Metric(NamedTuple):
    """`name` is that of its column; None where there is no such number of a pair."""

    name: str
    words: str
    of: Callable[[PairSums], float | None]


def max_abs(sums: PairSums) -> float | None:
    """The largest |b - a|; None where nothing is finite on both sides."""
    return sums.most if sums.finite else None


def mean_abs(sums: PairSums) -> float | None:
    """The mean |b - a|; None where nothing is finite on both sides."""
    return scaled_up(sums.absolute / sums.finite, sums.exponent) if sums.finite else None


def rel_l2(sums: PairSums) -> float | None:
    """||b - a|| / ||a||; infinite where A is zero and B is not, 0 where both are."""
    if not sums.squares_a:
        return math.inf if sums.differences else 0.0
    return math.sqrt(sums.differences / sums.squares_a)


def cosine(sums: PairSums) -> float | None:
    """The cosine of the angle between both; None where one is zero."""
    if not sums.squares_a or not sums.squares_b:
        return None
    return min(1.0, max(-1.0, sums.dot / (math.sqrt(sums.squares_a) * math.sqrt(sums.squares_b))))


def changed_share(sums: PairSums) -> float | None:
    """How many of the values that are finite on both sides differ; None where there are none."""
    return sums.changed / sums.finite if sums.finite else None


def norm_a(sums: PairSums) -> float | None:
    """||a||."""
    return norm(sums.squares_a, sums.exponent)


def norm_b(sums: PairSums) -> float | None:
    """||b||."""
    return norm(sums.squares_b, sums.exponent)


def norm_d(sums: PairSums) -> float | None:
    """||b - a||."""
    return norm(sums.differences, sums.exponent)


def dot(sums: PairSums) -> float | None:
    """The sum of a times b, infinite beyond float64."""
    return math.copysign(scaled_up(abs(sums.dot), 2 * sums.exponent), sums.dot)


METRICS: tuple[Metric, ...] = (
    Metric("max_abs", "largest difference", max_abs),
    Metric("mean_abs", "mean difference", mean_abs),
    Metric("rel_l2", "relative difference", rel_l2),
    Metric("cosine", "cosine", cosine),
    Metric("changed_share", "share changed", changed_share),
    Metric("norm_a", "norm of A", norm_a),
    Metric("norm_b", "norm of B", norm_b),
    Metric("norm_d", "norm of the difference", norm_d),
    Metric("dot", "product", dot),
)
