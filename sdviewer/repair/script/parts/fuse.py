"""fuse: put tensors one behind the other under one key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.gathering import add_part, gathered, one_kind
from sdviewer.repair.script.parts.keys import renamer
from sdviewer.repair.script.parts.tensors import as_bits, axis, impossible, in_groups, made, out_of_groups


def fuse(
    checkpoint: Checkpoint,
    *,
    rules: Sequence[tuple[str, Any] | None],
    dim: int = 0,
    groups: int = 1,
    where: Chosen | None = None,
) -> Done:
    """Put what the `rules` match one behind the other along `dim`, under the key they give; None is a part of zeros.

    With `groups` the result is so many equal groups, each with a piece of every part.
    """
    places = chosen_places(checkpoint, where)
    names = [(part, renamer(*rule, places)) for part, rule in enumerate(rules) if rule]
    found: dict[str, dict[int, int]] = {}
    for key, place in places.items():
        new = next(((part, name(key)) for part, name in names if name(key) is not None), None)
        if new is not None:
            add_part(found, str(new[1]), new[0], place, "cannot fuse")

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        missing = [rule[0] for part, rule in enumerate(rules) if rule and part not in parts]
        if missing:
            raise RecipeError(f"cannot fuse {key!r}: there is nothing that {missing[0]} matches")
        first = parts[min(parts)]
        at = axis("cannot fuse", first, dim)
        tensors = one_kind("cannot fuse", [parts[part] for part in sorted(parts)], at)
        zeros = iter([torch.zeros_like(as_bits(tensors[0])) for _ in range(len(rules) - len(parts))])
        pieces = [as_bits(parts[part].value) if part in parts else next(zeros) for part in range(len(rules))]
        if any(piece.shape[at] % groups for piece in pieces):
            raise impossible("cannot fuse", first, f"dimension {at} of a part is not {groups} equal groups")
        own_zeros = "" if len(parts) == len(rules) else key
        return made(
            checkpoint,
            ("fuse", at, groups, own_zeros),
            tensors,
            lambda: out_of_groups(torch.cat([in_groups(piece, at, groups) for piece in pieces], at + 1), at).view(
                tensors[0].dtype
            ),
        )

    return gathered(checkpoint, found, [rule[0] for rule in rules if rule], join)
