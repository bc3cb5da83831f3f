"""merge_lora: make adapters part of the weights that they belong to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from sdviewer.repair.adapter_deltas import merge_in_place
from sdviewer.repair.adapter_kinds import (
    Change,
    adapters,
    add_numbered,
    change_by,
    in_turn,
    is_guess,
    kind_of,
    misfit,
)
from sdviewer.repair.lora_names import by_underscores, weights_of
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places, warn
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.gathering import gathered
from sdviewer.repair.script.parts.tensors import impossible, made, needs_elements, needs_floats, own


def merge_lora(
    checkpoint: Checkpoint,
    *,
    scale: float = 1.0,
    alpha: float | None = None,
    rank: int | None = None,
    transposed: bool = False,
    where: Chosen | None = None,
) -> Done:
    """Make of each weight what its adapters make of it, scaled by `scale` and alpha over rank, and leave these out."""
    places = chosen_places(checkpoint, where)
    underscored = by_underscores(places)
    found: dict[str, dict[int, int]] = {}
    for adapter in adapters(list(places)):
        weights = weights_of(adapter.layer, places, underscored)
        if adapter.kind is None or len(weights) != 1:
            raise RecipeError(f"cannot merge the adapter of {adapter.layer!r}")
        parts = found.setdefault(weights[0], {0: places[weights[0]]})
        add_numbered(parts, {part: places[key] for part, key in adapter.keys.items()})

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        weight = needs_floats(parts[0], "cannot merge into")
        changes, tensors = [], []
        for adapter in in_turn(parts):
            those = {
                part: (needs_elements if part == "alpha" else needs_floats)(entry, "cannot merge into")
                for part, entry in adapter.items()
            }
            change = change_of(weight, those, scale, alpha, rank, transposed)
            if change is None:
                raise impossible("cannot merge into", parts[0], f"{next(iter(adapter.values())).key!r} does not fit it")
            if is_guess({part: tensor.shape for part, tensor in those.items()}, alpha, rank):
                warn(f"no alpha for {key!r}: what the factors make is added as it is")
            changes.append(change)
            tensors += [those[part] for part in change.parts]
        what = ("lora", tuple(changes))
        return made(checkpoint, what, [weight, *tensors], lambda: changed(weight, changes, tensors))

    return gathered(checkpoint, found, ("*.lora_A.weight with *.lora_B.weight",), join)


def change_of(
    weight: torch.Tensor,
    parts: Mapping[str, torch.Tensor],
    scale: float,
    alpha: float | None,
    rank: int | None,
    transposed: bool,
) -> Change | None:
    """What an adapter makes of a weight, None where it does not fit."""
    shapes = {part: tuple(tensor.shape) for part, tensor in parts.items()}
    kind = kind_of(shapes)
    if kind is None or misfit(kind, shapes, weight.shape, transposed):
        return None
    return change_by(kind, shapes, weight.shape, transposed, scale, alpha, rank)


def changed(weight: torch.Tensor, changes: list[Change], parts: list[torch.Tensor]) -> torch.Tensor:
    """The weight after all changes, in float64, rounded once."""
    exact = torch.complex128 if weight.is_complex() else torch.float64
    arrays = [own(tensor).to(exact).numpy() for tensor in (weight, *parts)]
    with np.errstate(all="ignore"):
        return torch.from_numpy(merge_in_place(arrays[0], changes, arrays[1:])).to(weight.dtype)
