"""fuse: put tensors one behind the other under one key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError, quoted
from sdviewer.repair.script.parts.gathering import add_part, gathered, one_kind
from sdviewer.repair.script.parts.patterns import Rule
from sdviewer.repair.script.parts.tensors import as_bits, axis, impossible, in_groups, made, out_of_groups


def fuse(
    checkpoint: Checkpoint,
    *,
    from_: Sequence[str],
    into: str,
    dim: int = 0,
    groups: int = 1,
    keys: Sequence[str] = (),
) -> Done:
    """Put what the templates of `from_` match one behind the other along `dim`; an empty one is a part of zeros.

    With `groups` the result is so many equal groups, each with a piece of every part.
    """
    places = chosen_places(checkpoint.keys, keys)
    seen = [checkpoint.keys[place] for place in places]
    names = [(part, Rule(template, into).renamer(seen)) for part, template in enumerate(from_) if template]
    found: dict[str, dict[int, int]] = {}
    for place, key in zip(places, seen, strict=True):
        new = next(((part, name(key)) for part, name in names if name(key) is not None), None)
        if new is not None:
            add_part(found, str(new[1]), new[0], place, "cannot fuse")

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        missing = [template for part, template in enumerate(from_) if template and part not in parts]
        if missing:
            raise RecipeError(f"cannot fuse {quoted(key)}: there is no {quoted(missing[0])}")
        first = parts[min(parts)]
        at = axis("cannot fuse", first, dim)
        tensors = one_kind("cannot fuse", [parts[part] for part in sorted(parts)], at)
        zeros = iter([torch.zeros_like(as_bits(tensors[0])) for _ in range(len(from_) - len(parts))])
        pieces = [as_bits(parts[part].value) if part in parts else next(zeros) for part in range(len(from_))]
        if any(piece.shape[at] % groups for piece in pieces):
            raise impossible("cannot fuse", first, f"dimension {at} of a part is not {groups} equal groups")
        own_zeros = "" if len(parts) == len(from_) else key
        return made(
            checkpoint,
            ("fuse", at, groups, own_zeros),
            tensors,
            lambda: out_of_groups(torch.cat([in_groups(piece, at, groups) for piece in pieces], at + 1), at).view(
                tensors[0].dtype
            ),
        )

    return gathered(checkpoint, found, [quoted(template) for template in from_ if template], join)
