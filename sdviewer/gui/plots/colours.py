"""Colours of values: diverging, with zero in the panel's own colour, and of amounts: sequential."""

from __future__ import annotations

import functools
import itertools

from PySide6.QtGui import QColor

from sdviewer.gui import resources

ZERO, NO_NUMBER = 127, 255
"""The shades of zero and of a cell that has no number; 0 to 254 go from negative over zero to positive."""


@functools.cache
def _stops(scale: str, name: resources.ThemeName) -> tuple[tuple[float, tuple[int, int, int]], ...]:
    made = []
    for place, code in (resources.SEQUENTIAL if scale == "sequential" else resources.DIVERGING)[name]:
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
    return _between("diverging", (share + 1) / 2)


def amount(share: float) -> QColor:
    """The colour of an amount, as a share of the most (0..1)."""
    return _between("sequential", share)


def readable(fill: QColor) -> QColor:
    """Black or white, whichever stands out more on a colour."""
    luminance = 0.2126 * fill.redF() ** 2.2 + 0.7152 * fill.greenF() ** 2.2 + 0.0722 * fill.blueF() ** 2.2
    return QColor("#10151B") if luminance > 0.18 else QColor("#FFFFFF")


def _between(scale: str, place: float) -> QColor:
    place = min(max(place, 0.0), 1.0)
    stops = _stops(scale, resources.theme().name)
    for (left, low), (right, high) in itertools.pairwise(stops):
        if place <= right:
            t = (place - left) / (right - left)
            return QColor(*(round(a + (b - a) * t) for a, b in zip(low, high, strict=True)))
    return QColor(*stops[-1][1])
