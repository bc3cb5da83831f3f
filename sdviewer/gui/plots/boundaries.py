"""Where in a tensor one thing ends and another begins, as the guess in words knows it: Q, K and V, heads, gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sdviewer.core import text

Facts = Mapping[str, Any]

MOST_HEADS: Final = 2048
"""Heads along a dimension whose borders are known: more could not be told apart on a screen."""


class Part(NamedTuple):
    """A run of indexes along one dimension that has a name."""

    name: str
    start: int
    stop: int


def parts_along(facts: Facts, axis: int) -> list[Part]:
    """The named parts along a dimension, in order; none where nothing is known."""
    size = (facts.get("shape") or ())[axis] if axis < len(facts.get("shape") or ()) else 0
    found = [
        Part(text.visible(str(part["name"]), 24), int(part["start"]), int(part["stop"]))
        for part in (facts.get("role") or {}).get("parts") or ()
        if part["axis"] == axis
    ]
    return sorted((part for part in found if 0 <= part.start < part.stop <= size), key=lambda part: part.start)


def inner_edges(parts: list[Part], size: int) -> list[int]:
    """Where parts meet: not the ends of the dimension."""
    return sorted({edge for part in parts for edge in (part.start, part.stop)} - {0, size})


def head_edges(facts: Facts, axis: int) -> list[int]:
    """Where attention heads meet along a dimension, inside of each part."""
    heads = (facts.get("role") or {}).get("heads")
    if not heads or heads["axis"] != axis or int(heads["size"]) < 1:
        return []
    size, step = int((facts.get("shape") or ())[axis]), int(heads["size"])
    return list(range(step, size, step)) if size <= step * MOST_HEADS else []
