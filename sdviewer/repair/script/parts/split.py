"""split: cut tensors into parts with keys of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.keys import renamer
from sdviewer.repair.script.parts.tensors import (
    axis,
    impossible,
    in_groups,
    made,
    needs_elements,
    out_of_groups,
    own,
    put_entries,
)


def split(
    checkpoint: Checkpoint,
    *,
    pattern: str,
    into: Sequence[Any],
    dim: int = 0,
    sizes: Sequence[int] = (),
    groups: int = 1,
    where: Chosen | None = None,
) -> Done:
    """Cut what `pattern` matches along `dim` into a part for each result of `into`; None leaves its part out.

    The parts are equal without `sizes`. With `groups` the tensor is so many equal groups, each with a piece of a part.
    """
    places = chosen_places(checkpoint, where)
    names = [None if result is None else renamer(pattern, result, places) for result in into]
    first = next(name for name in names if name is not None)
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    matched = 0
    for place in places.values():
        entry = checkpoint.entries[place]
        if first(entry.key) is None:
            continue
        whole = needs_elements(entry, "cannot split")
        at = axis("cannot split", entry, dim)
        parts, start = [], 0
        for name, size in zip(names, sizes_of_parts(entry, at, len(into), sizes, groups), strict=True):
            if name is not None:
                new = cut(checkpoint, whole, at, start, size // groups, groups)
                parts.append(Entry(name(entry.key) or "", new, entry.made_of))
            start += size // groups
        outputs[place] = parts
        matched += 1
    return Done(matched, put_entries(checkpoint, outputs), () if matched else [pattern])


def sizes_of_parts(entry: Entry, dim: int, count: int, sizes: Sequence[int], groups: int) -> Sequence[int]:
    """How large each part is along a dimension."""
    whole = entry.value.shape[dim]
    if not sizes and whole % (count * groups):
        raise impossible("cannot split", entry, f"dimension {dim} is not {count} equal parts in {groups} groups")
    if sizes and (sum(sizes) != whole or any(size % groups for size in sizes)):
        raise impossible("cannot split", entry, f"`sizes` are not the {whole} of dimension {dim} in {groups} groups")
    return sizes or [whole // count] * count


def cut(checkpoint: Checkpoint, whole: torch.Tensor, dim: int, start: int, length: int, groups: int) -> torch.Tensor:
    """`length` places from `start` of each group."""
    return made(
        checkpoint,
        ("cut", dim, start, length, groups),
        [whole],
        lambda: own(out_of_groups(in_groups(whole, dim, groups).narrow(dim + 1, start, length), dim)),
    )
