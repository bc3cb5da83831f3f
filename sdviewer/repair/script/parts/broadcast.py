"""broadcast: copy one tensor into every block."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError, quoted
from sdviewer.repair.script.parts.patterns import Rule
from sdviewer.repair.script.parts.tensors import as_before, needs_numbers, own, put_entries


def broadcast(checkpoint: Checkpoint, *, from_: str, to: str, tied: bool = False, keys: Sequence[str] = ()) -> Done:
    """Copy a tensor to a key in every block that the placeholders of `to` find; `tied`: all are one tensor."""
    places = {checkpoint.keys[place]: place for place in chosen_places(checkpoint.keys, keys)}
    source = checkpoint.entries[places[from_]] if from_ in places else None
    if source is None or not isinstance(source.value, torch.Tensor):
        raise RecipeError(f"cannot broadcast: there is no tensor {quoted(from_)}")
    components = to.split(".")
    depth = max(i for i, part in enumerate(components[:-1], 1) if "{" in part)
    rename_key = Rule(".".join([*components[:depth], "**"]), to).renamer(list(places))
    last = {new: place for key, place in places.items() if (new := rename_key(key)) is not None}
    last.pop(from_, None)
    if not last:
        raise RecipeError(f"cannot broadcast {quoted(from_)}: there is no block of {quoted(to)}")
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    for key, place in last.items():
        copy = source._replace(key=key)
        if not tied:
            needs_numbers(source, "cannot copy")
            copy = copy._replace(value=as_before(own(source.value), source.value))
        if key in places:
            outputs[places[key]] = (copy, *outputs[places[key]][1:])
        else:
            outputs[place] = (*outputs[place], copy)
    return Done(len(last), put_entries(checkpoint, outputs))
