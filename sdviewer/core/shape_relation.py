"""How two shapes that differ may belong together, in words: hints for a person, from sizes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from sdviewer.core import text

_TIMES: Final = {2: "twice", 3: "three times", 4: "four times"}
MOST_EXTRA: Final = 16
"""Rows more that are said by their number."""


def relation(a: Sequence[int], b: Sequence[int]) -> str:
    """What could make shape `b` of shape `a`, "" where nothing is plain."""
    if tuple(a) == tuple(b):
        return ""
    if math.prod(a) == math.prod(b):
        return _same_elements(a, b)
    if len(a) != len(b):
        return _other_rank(a, b)
    axes = [axis for axis, (one, other) in enumerate(zip(a, b, strict=True)) if one != other]
    if len(axes) == 1:
        return _one_axis(a[axes[0]], b[axes[0]], axes[0], len(a))
    root = _square(a, b)
    if root:
        return root
    ratios = {b[axis] / a[axis] for axis in axes if a[axis]}
    if len(ratios) == 1 and all(a[axis] for axis in axes):
        ratio = ratios.pop()
        larger, times = ("B", ratio) if ratio > 1 else ("A", 1 / ratio)
        if times == int(times):
            return f"{larger} is {_times(int(times))} as large along {text.plural(len(axes), 'axis', 'axes')}"
    return ""


def _same_elements(a: Sequence[int], b: Sequence[int]) -> str:
    if len(a) == len(b) == 2:
        return "B has the shape of A transposed"
    if sorted(a) == sorted(b):
        return "B has the axes of A in another order"
    if [size for size in a if size != 1] == [size for size in b if size != 1]:
        return "only axes of size 1 differ"
    return "as many elements in another shape"


def _other_rank(a: Sequence[int], b: Sequence[int]) -> str:
    low, high, name = (a, b, "B") if len(a) < len(b) else (b, a, "A")
    squeezed = [size for size in high if size != 1]
    if squeezed == [size for size in low if size != 1]:
        return "only axes of size 1 differ"
    if list(high[len(high) - len(low) :]) == list(low) and len(high) == len(low) + 1:
        return f"{name} has {text.plural(high[0], 'tensor')} of this shape stacked"
    return ""


def _one_axis(a: int, b: int, axis: int, rank: int) -> str:
    noun = "rows" if axis == 0 else "columns" if axis == 1 and rank == 2 else f"entries along axis {axis}"
    one = noun.replace("rows", "row").replace("columns", "column").replace("entries", "entry")
    low, high, name = (a, b, "B") if a < b else (b, a, "A")
    if low and high % low == 0:
        return f"{name} has {_times(high // low)} as many {noun}"
    if root := _root(low, high, name, noun):
        return root
    more = high - low
    return f"{name} has {more:,} {one if more == 1 else noun} more" if more <= MOST_EXTRA else ""


def _root(low: int, high: int, name: str, noun: str) -> str:
    """A grid of positions of another size, as of a vision transformer's position embedding, with a token or two."""
    for extra in (0, 1, 2):
        small, large = math.isqrt(max(low - extra, 0)), math.isqrt(max(high - extra, 0))
        if small > 1 and small * small == low - extra and large * large == high - extra:
            other = "A" if name == "B" else "B"
            tokens = f" beside {text.plural(extra, 'token')}" if extra else ""
            return f"square grids{tokens}: {noun} for {large}×{large} in {name}, {small}×{small} in {other}"
    return ""


def _square(a: Sequence[int], b: Sequence[int]) -> str:
    if len(a) == 2 and a[0] == a[1] and b[0] == b[1]:
        return "both are square"
    return ""


def _times(n: int) -> str:
    return _TIMES.get(n, f"{n:,} times")
