"""broadcast: copy one tensor into every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.keys import renamer
from sdviewer.repair.script.parts.tensors import as_before, needs_numbers, own, put_entries


def broadcast(
    checkpoint: Checkpoint,
    *,
    from_: str,
    pattern: str,
    to: Any,
    tied: bool = False,
    where: Chosen | None = None,
) -> Done:
    """Copy a tensor to the key `to` in every block that `pattern` finds; `tied`: all are one tensor."""
    places = chosen_places(checkpoint, where)
    source = checkpoint.entries[places[from_]] if from_ in places else None
    if source is None or not isinstance(source.value, torch.Tensor):
        raise RecipeError(f"cannot broadcast: there is no tensor {from_!r}")
    name = renamer(pattern, to, places)
    last = {new: place for key, place in places.items() if (new := name(key)) is not None}
    last.pop(from_, None)
    if not last:
        raise RecipeError(f"cannot broadcast {from_!r}: there is no block that {pattern} matches")
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
