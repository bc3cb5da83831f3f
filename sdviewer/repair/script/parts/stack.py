"""stack: put numbered tensors of one shape along a new dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError, quoted
from sdviewer.repair.script.parts.gathering import add_part, gathered, one_kind
from sdviewer.repair.script.parts.patterns import Rule
from sdviewer.repair.script.parts.tensors import as_bits, axis, made


def stack(checkpoint: Checkpoint, *, from_: str, over: str, into: str, dim: int = 0, keys: Sequence[str] = ()) -> Done:
    """Put the tensors that differ in the number that `over` takes along a new dimension, number i at place i."""
    places = chosen_places(checkpoint.keys, keys)
    rule = Rule(from_, into)
    rename_key = rule.renamer([checkpoint.keys[place] for place in places])
    found: dict[str, dict[int, int]] = {}
    for place in places:
        key = checkpoint.keys[place]
        new, match = rename_key(key), rule.pattern.match(key)
        if new is None or match is None:
            continue
        number = match[rule.pattern.names[over]]
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise RecipeError(f"cannot stack {quoted(key)}: {quoted(number)} is no number")
        add_part(found, new, int(number), place, "cannot stack")

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        if sorted(parts) != list(range(len(parts))):
            raise RecipeError(f"cannot stack {quoted(key)}: the numbers must begin at 0, without a gap")
        ordered = [parts[number] for number in range(len(parts))]
        at = axis("cannot stack", ordered[0], dim, room=1)
        tensors = one_kind("cannot stack", ordered)
        dtype = tensors[0].dtype
        return made(checkpoint, ("stack", at), tensors, lambda: torch.stack([*map(as_bits, tensors)], at).view(dtype))

    return gathered(checkpoint, found, (quoted(from_),), join)
