"""prune: make the pruning of weights lasting."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.gathering import gathered
from sdviewer.repair.script.parts.tensors import as_float, impossible, made, needs_elements, needs_floats


def prune(checkpoint: Checkpoint, *, where: Chosen | None = None) -> Done:
    """Put the product of `weight_orig` and `weight_mask` under `weight`, and so for other names."""
    places = chosen_places(checkpoint, where)
    found: dict[str, dict[int, int]] = {}
    for key, place in places.items():
        weight = key.removesuffix("_orig")
        if weight != key and f"{weight}_mask" in places:
            found[weight] = {0: place, 1: places[f"{weight}_mask"]}

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        weight, mask = needs_floats(parts[0], "cannot prune"), needs_elements(parts[1], "cannot prune")
        if mask.shape != weight.shape:
            raise impossible("cannot prune", parts[0], "its mask is of another shape")
        return made(
            checkpoint,
            "prune",
            [weight, mask],
            lambda: (as_float(weight).contiguous() * as_float(mask.to(weight.dtype))).to(weight.dtype),
        )

    return gathered(checkpoint, found, ("*_orig with *_mask",), join)
