"""Whether two tensors of different element types are a plain cast of each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from sdviewer.core.arrays import array_type, has_values
from sdviewer.core.dtypes import DTYPES
from sdviewer.stats.decode import Array
from sdviewer.stats.pair_sums import PairSums
from sdviewer.stats.pair_table import CASTS

Roundings = dict[str, Callable[[Array, Array], bool]]


def roundings(a: str, b: str) -> Roundings:
    """By the word of `CASTS`: whether the values of one side are those of the other, rounded to its type."""
    found: Roundings = {}
    to_a, to_b = _rounding(b, a), _rounding(a, b)
    if to_b is not None:
        found["rounded_b"] = lambda x, y: _same(to_b(x), y)
    if to_a is not None:
        found["rounded_a"] = lambda x, y: _same(to_a(y), x)
    return found


def cast_of(sums: PairSums, rounded: Sequence[Collection[str]]) -> str:
    """The word of `CASTS` for a pair of two types; `rounded` are the words that hold for each part of it."""
    if not sums.changed and not sums.odd:
        return "equal"
    return next((word for word in CASTS[2:] if all(word in words for words in rounded)), "")


def _rounding(of: str, to: str) -> Callable[[Array], Array] | None:
    """What torch's `to` does with values of a type; None where it does not round to the nearest."""
    if of == to or not (has_values(of) and has_values(to)):
        return None
    if DTYPES[to].kind != "float" or DTYPES[of].kind not in ("float", "int", "uint"):
        return None
    target = array_type(to)
    wide = np.float64 if target == np.float64 else np.float32

    def rounded(values: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            # As torch does: what is smaller than float32 is made of float32.
            return np.asarray(values.astype(wide).astype(target).astype(wide))

    return rounded


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same values, NaN included."""
    return bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())
