"""tie: let several keys stand for one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.tensors import put_entries


def tie(checkpoint: Checkpoint, *, from_: str, to: Sequence[str], where: Chosen | None = None) -> Done:
    """Let the keys `to` stand for the tensor of `from_`: those that are there in their places, others behind it."""
    places = chosen_places(checkpoint, where)
    if from_ not in places:
        raise RecipeError(f"there is no key {from_!r}")
    source = checkpoint.entries[places[from_]]
    if not isinstance(source.value, torch.Tensor):
        raise RecipeError(f"{from_!r} is no tensor")
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    for key in to:
        tied = source._replace(key=key)
        if key in places:
            outputs[places[key]] = (tied,)
        else:
            outputs[places[from_]] = (*outputs[places[from_]], tied)
    return Done(len(to), put_entries(checkpoint, outputs))
