"""Numbers on a line or a grid brought to another number of places, as torch's `interpolate` does it.

Facts: torch 2.13, `aten/src/ATen/native/cpu/UpSampleKernel.cpp` (corners not aligned): cubic weights have a = -0.75, or
-0.5 where the picture is smoothed (`antialias`), as those of Pillow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def taps(count: int, wanted: int, mode: str, antialias: bool) -> list[list[tuple[int, float]]]:
    """For each of the places wanted the places there are that it is made of, and their weights."""
    scale = count / wanted
    if mode == "nearest":
        return [[(min(int(place * scale), count - 1), 1.0)] for place in range(wanted)]
    reach = 2 if mode == "bicubic" else 1
    found = []
    for place in range(wanted):
        centre = scale * (place + 0.5)
        if antialias:
            wide = max(scale, 1.0)
            first = max(int(centre - reach * wide + 0.5), 0)
            last = min(int(centre + reach * wide + 0.5), count)
            weights = [falloff((at - centre + 0.5) / wide, mode, -0.5) for at in range(first, last)]
            total = math.fsum(weights)
            found.append([(first + at, weight / total) for at, weight in enumerate(weights)])
            continue
        centre -= 0.5
        if mode == "bilinear":
            centre = max(centre, 0.0)
        below = math.floor(centre)
        near = range(below - reach + 1, below + reach + 1)
        found.append([(min(max(at, 0), count - 1), falloff(at - centre, mode, -0.75)) for at in near])
    return found


def falloff(away: float, mode: str, a: float) -> float:
    """The weight of a place that is so far away, in places."""
    away = abs(away)
    if mode == "bilinear":
        return max(1.0 - away, 0.0)
    if away < 1.0:
        return ((a + 2.0) * away - (a + 3.0)) * away * away + 1.0
    return (((away - 5.0) * away + 8.0) * away - 4.0) * a if away < 2.0 else 0.0


def resampled(values: Any, axis: int, wanted: int, mode: str, antialias: bool) -> Any:
    """A NumPy array of float64 or complex128 with `wanted` places along an axis."""
    if values.shape[axis] == wanted:
        return values
    found = taps(values.shape[axis], wanted, mode, antialias)
    made = np.zeros((*values.shape[:axis], wanted, *values.shape[axis + 1 :]), values.dtype)
    shape = [1] * values.ndim
    shape[axis] = wanted
    for number in range(max(map(len, found))):
        # (a place that is made of fewer takes nothing from its first)
        some = [near[number] if number < len(near) else (near[0][0], 0.0) for near in found]
        weights = np.array([weight for _, weight in some]).reshape(shape)
        made += np.take(values, [at for at, _ in some], axis=axis) * weights
    return made
