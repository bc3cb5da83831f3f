"""stack: put numbered tensors of one shape along a new dimension."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.gathering import add_part, gathered, one_kind
from sdviewer.repair.script.parts.keys import renamer
from sdviewer.repair.script.parts.tensors import as_bits, axis, made


def stack(
    checkpoint: Checkpoint,
    *,
    pattern: str,
    over: int,
    into: Any,
    dim: int = 0,
    where: Chosen | None = None,
) -> Done:
    """Put the tensors that differ in the number that group `over` takes along a new dimension, number i at place i."""
    places = chosen_places(checkpoint, where)
    name, regex = renamer(pattern, into, places), re.compile(pattern)
    found: dict[str, dict[int, int]] = {}
    for key, place in places.items():
        new, match = name(key), regex.search(key)
        if new is None or match is None:
            continue
        number = match[over]
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise RecipeError(f"cannot stack {key!r}: {number!r} is no number")
        add_part(found, new, int(number), place, "cannot stack")

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        if sorted(parts) != list(range(len(parts))):
            raise RecipeError(f"cannot stack {key!r}: the numbers must begin at 0, without a gap")
        ordered = [parts[number] for number in range(len(parts))]
        at = axis("cannot stack", ordered[0], dim, room=1)
        tensors = one_kind("cannot stack", ordered)
        dtype = tensors[0].dtype
        return made(checkpoint, ("stack", at), tensors, lambda: torch.stack([*map(as_bits, tensors)], at).view(dtype))

    return gathered(checkpoint, found, [pattern], join)
