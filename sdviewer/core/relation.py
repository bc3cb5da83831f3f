"""How the shapes of two tensors that belong together may relate, in words: what was done to one to get the other.

A guess from shapes alone: it says what would fit, never that it was so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from sdviewer.core import text

Shape = tuple[int, ...]

MOST_PERMUTED: Final = 6
"""Dimensions up to which another order of them is looked for."""
MOST_TIMES: Final = 64
"""How many times one size may be the other to be worth a word."""
_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_TIMES: Final = {2: "twice"}
_GRID: Final = 4
"""The smallest side of a grid that has places beside it: 17 positions may be 4 × 4 and one, 5 are five classes."""
_MOST_BESIDE: Final = 2
"""Places beside a grid: a class token, a distillation token."""


def relation(a: Sequence[int], b: Sequence[int]) -> str:
    """One sentence, without its full stop, about tensors A and B of these shapes; "" where nothing simple relates them.

    Shapes that are equal have nothing to be said about.
    """
    first, second = tuple(a), tuple(b)
    if first == second:
        return ""
    for guess in (_squeezed, _permuted, _grid, _one_size, _all_alike, _reshaped):
        if words := guess(first, second):
            return words
    return ""


def _squeezed(a: Shape, b: Shape) -> str:
    if _long(a) != _long(b) or not _long(a):
        return ""
    if len(a) == len(b):
        return "B is A with its dimensions of size 1 at other places"
    if len(a) > len(b):
        return f"B is A without {_dimensions(len(a) - len(b))} of size 1 (squeezed)"
    return f"B is A with {_dimensions(len(b) - len(a))} of size 1 more (unsqueezed)"


def _permuted(a: Shape, b: Shape) -> str:
    if sorted(a) != sorted(b) or not 2 <= len(a) <= MOST_PERMUTED:
        return ""
    if len(a) == 2:
        return "B may be A transposed"
    if a == b[::-1] and len(set(a)) == len(a):
        order = tuple(reversed(range(len(a))))
    else:
        order = next(o for o in itertools.permutations(range(len(a))) if tuple(a[dim] for dim in o) == b)
    return f"B may be A with its dimensions in the order {', '.join(map(str, order))} (permuted)"


def _grid(a: Shape, b: Shape) -> str:
    """Positions on a square grid, perhaps with a token or two beside it."""
    axis = _differing(a, b)
    if len(axis) != 1:
        return ""
    sizes = a[axis[0]], b[axis[0]]
    for beside in range(_MOST_BESIDE + 1):
        sides = [math.isqrt(max(size - beside, 0)) for size in sizes]
        if any(side * side + beside != size for side, size in zip(sides, sizes, strict=True)):
            continue
        if beside == 0 and a[0] != 1 and all(side & (side - 1) == 0 for side in sides):
            continue  # 64 and 256 are widths of layers far more often than grids of 8 × 8 and 16 × 16
        if min(sides) < (_GRID if beside else 2):
            continue
        more = f" and {_number(beside)} more" if beside else ""
        ways = [f"{side} × {side}{more} in {name}" for side, name in zip(sides, "AB", strict=True)]
        return f"They may be positions on square grids of another size: {ways[0]}, {ways[1]}"
    return ""


def _one_size(a: Shape, b: Shape) -> str:
    """One dimension is a whole number of times longer, or longer."""
    axis = _differing(a, b)
    if len(axis) != 1:
        return ""
    what = _places(axis[0], len(a))
    (less, small), (more, large) = sorted((("A", a[axis[0]]), ("B", b[axis[0]])), key=lambda side: side[1])
    if small == 0:
        return f"{less} is empty"
    if large % small == 0 and large // small <= MOST_TIMES and small > 1:
        of_less = f"the {what} of {less}" if len(a) <= 2 else f"the size of {less} in {what}"
        fused = " (as Q, K and V in one)" if large == 3 * small and axis[0] == 0 else ""
        return f"{more} has {_times(large // small)} {of_less}{fused}"
    n = large - small
    noun = what if n != 1 else what.removesuffix("s")
    return f"{more} has {_number(n)} {noun} more than {less}" if len(a) <= 2 else f"{more} is longer by {n:,} in {what}"


def _all_alike(a: Shape, b: Shape) -> str:
    """Several dimensions are the same number of times longer: a wider model."""
    axes = _differing(a, b)
    if len(axes) < 2 or 0 in a or 0 in b:
        return ""
    for less, more, small, large in (("A", "B", a, b), ("B", "A", b, a)):
        times = {large[axis] / small[axis] for axis in axes}
        if len(times) == 1 and (ratio := times.pop()).is_integer() and 1 < ratio <= MOST_TIMES:
            return f"{more} has {_times(int(ratio))} the size of {less} in {_dimensions(len(axes))}"
    return ""


def _reshaped(a: Shape, b: Shape) -> str:
    n = math.prod(a)
    return f"Both have the same {n:,} elements: B may be A reshaped" if n == math.prod(b) and n > 1 else ""


def _differing(a: Shape, b: Shape) -> list[int]:
    """The dimensions in which two shapes of one rank differ."""
    return [dim for dim, (one, other) in enumerate(zip(a, b, strict=False)) if one != other] if len(a) == len(b) else []


def _long(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]


def _places(axis: int, rank: int) -> str:
    return "elements" if rank == 1 else ("rows", "columns")[axis] if rank == 2 else f"dimension {axis}"


def _dimensions(n: int) -> str:
    return f"{_number(n)} dimension" if n == 1 else f"{_number(n)} dimensions"


def _number(n: int) -> str:
    return _NUMBERS[n] if n < len(_NUMBERS) else text.count(n)


def _times(n: int) -> str:
    return _TIMES.get(n) or f"{_number(n)} times"
