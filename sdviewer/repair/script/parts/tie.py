"""tie: let several keys stand for one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError, quoted
from sdviewer.repair.script.parts.tensors import put_entries


def tie(checkpoint: Checkpoint, *, from_: str, to: Sequence[str], keys: Sequence[str] = ()) -> Done:
    """Let the keys `to` stand for the tensor of `from_`: those that are there in their places, others behind it."""
    places = {checkpoint.keys[place]: place for place in chosen_places(checkpoint.keys, keys)}
    if from_ not in places:
        raise RecipeError(f"there is no key {quoted(from_)}")
    source = checkpoint.entries[places[from_]]
    if not isinstance(source.value, torch.Tensor):
        raise RecipeError(f"{quoted(from_)} is no tensor")
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    for key in to:
        tied = source._replace(key=key)
        if key in places:
            outputs[places[key]] = (tied,)
        else:
            outputs[places[from_]] = (*outputs[places[from_]], tied)
    return Done(len(to), put_entries(checkpoint, outputs))
