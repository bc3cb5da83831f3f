"""An index that somebody types: `[920, 478]`, `-1 0`, `[7]`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdviewer.core import text


class WrongIndex(ValueError):
    """What was typed is no place in the tensor; says why."""


def parse_index(typed: str, shape: Sequence[int], here: Sequence[int]) -> tuple[int, ...]:
    """The index that was typed, in a tensor of `shape`; dimensions left out at the end stay as they are `here`.

    Negative numbers count from the end, as in NumPy.

    Raises:
        WrongIndex: it is no list of whole numbers, has more of them than the tensor has dimensions, or is outside.
    """
    words = re.sub(r"[\[\]().,;\s]+", " ", typed.replace(text.MINUS, "-")).split()
    if not words or not all(re.fullmatch(r"[+-]?[0-9]{1,18}", word) for word in words):
        raise WrongIndex("An index is whole numbers, like 920, 478")
    if len(words) > len(shape):
        raise WrongIndex(f"The tensor has {text.plural(len(shape), 'dimension')}, not {len(words)}")
    found = list(here)
    for axis, (word, size) in enumerate(zip(words, shape, strict=False)):
        at = int(word)
        if not -size <= at < size:
            raise WrongIndex(f"Dimension {axis} goes from 0 to {size - 1:,}" if size else f"Dimension {axis} is empty")
        found[axis] = at % size
    return tuple(found)
