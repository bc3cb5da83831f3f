"""The diverging colours of values: negative, zero, positive; zero is the panel's own colour in both themes."""

from __future__ import annotations

import functools
import itertools

from PySide6.QtGui import QColor

from sdviewer.gui import resources

NO_NUMBER = 255
"""The shade of a cell that has no number; 0 to 254 go from negative over zero to positive."""


@functools.cache
def _stops(name: resources.ThemeName) -> tuple[tuple[float, tuple[int, int, int]], ...]:
    made = []
    for place, code in resources.DIVERGING[name]:
        colour = QColor(code)
        made.append((float(place), (colour.red(), colour.green(), colour.blue())))
    return tuple(made)


def table() -> list[int]:
    """The 256 shades of the theme that is on, as 32-bit ARGB."""
    return _table(resources.theme().name)


@functools.cache
def _table(name: resources.ThemeName) -> list[int]:
    shades = [colour((shade - 127) / 127).rgb() for shade in range(NO_NUMBER)]
    return [*shades, resources.colour("S").rgb()]


def colour(share: float) -> QColor:
    """The colour of one value, as a share of the limit (-1..1)."""
    place = min(max((share + 1) / 2, 0.0), 1.0)
    stops = _stops(resources.theme().name)
    for (left, low), (right, high) in itertools.pairwise(stops):
        if place <= right:
            t = (place - left) / (right - left)
            return QColor(*(round(a + (b - a) * t) for a, b in zip(low, high, strict=True)))
    return QColor(*stops[-1][1])
