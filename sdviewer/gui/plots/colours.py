"""The diverging colours of values: negative, zero, positive; zero is the panel's own colour in both themes."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from PySide6.QtGui import QColor

from sdviewer.gui import resources

STEPS = 513


@functools.cache
def _stops(name: resources.ThemeName) -> tuple[tuple[float, tuple[int, int, int]], ...]:
    made = []
    for place, code in resources.DIVERGING[name]:
        colour = QColor(code)
        made.append((float(place), (colour.red(), colour.green(), colour.blue())))
    return tuple(made)


@functools.cache
def _table(name: resources.ThemeName) -> Any:
    import numpy as np

    places = [place for place, _ in _stops(name)]
    at = np.linspace(0, 1, STEPS)
    channels = [np.interp(at, places, [rgb[i] for _, rgb in _stops(name)]) for i in range(3)]
    red, green, blue = (channel.round().astype(np.uint32) for channel in channels)
    return 0xFF000000 | red << 16 | green << 8 | blue


def pixels(cells: Any, limit: float) -> Any:
    """Numbers as 32-bit ARGB, `limit` at the ends of the scale; what is no number in the colour of problems."""
    import numpy as np

    table = _table(resources.theme().name)
    half = (STEPS - 1) // 2
    scaled = np.nan_to_num(cells / (limit or 1.0) * half, nan=0.0, posinf=half, neginf=-half)
    result = table[np.clip(scaled, -half, half).astype(np.int32) + half]
    result[np.isnan(cells)] = resources.colour("S").rgb() | 0xFF000000
    return np.ascontiguousarray(result, dtype=np.uint32)


def colour(share: float) -> QColor:
    """The colour of one value, as a share of the limit (-1..1)."""
    place = min(max((share + 1) / 2, 0.0), 1.0)
    stops = _stops(resources.theme().name)
    for (left, low), (right, high) in itertools.pairwise(stops):
        if place <= right:
            t = (place - left) / (right - left)
            return QColor(*(round(a + (b - a) * t) for a, b in zip(low, high, strict=True)))
    return QColor(*stops[-1][1])
