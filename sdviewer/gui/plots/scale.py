"""The numbers along an axis: where they stand and how they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sdviewer.core import text

TickText = Callable[[float], str]
Numbers = Sequence[float]


def plain_number(x: float) -> str:
    """An axis number: `0.05`, `−0.1`, `20,000`."""
    if 1e4 <= abs(x) < 1e7 and x == round(x):
        return text.value(round(x))
    return text.value(float(x)) if abs(x) > 1e-300 else "0"


def short_number(x: float) -> str:
    """A count on an axis: `20 K`, without idle zeros."""
    if x < 1000:
        return plain_number(x)
    number, _, unit = text.short_count(round(x)).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def power_of_ten(x: float) -> str:
    """A count whose log10 is drawn: `1`, `10`, `1 K`."""
    return short_number(10**x) if abs(x - round(x)) < 1e-6 else ""


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round positions between two values, `most` or one more."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return []
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= most), 10)
    first = math.ceil(low / step)
    last = math.floor(high / step + 1e-9)
    return [step * i for i in range(first, min(last, first + 4 * most) + 1)]


def apart(places: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Places from the highest down, moved so that any two are a step apart, within a range where it has the room."""
    moved: list[float] = []
    for place in places:
        moved.append(min(place, moved[-1] - step) if moved else place)
    if moved and moved[-1] < low + step / 2:
        moved[-1] = low + step / 2
        for at in range(len(moved) - 2, -1, -1):
            moved[at] = max(moved[at], moved[at + 1] + step)
    return moved


class View(NamedTuple):
    """What is shown, in the data's own numbers."""

    left: float
    right: float
    bottom: float
    top: float


class Mark(NamedTuple):
    """A place along x that is pointed out, in the colour of a token."""

    x: float
    words: str = ""
    token: str = "text"
