"""merge_lora: add low-rank adapters to the weights that they belong to."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sdviewer.repair.lora_names import adapters, by_underscores, more_than_factors, weights_of
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places, warn
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.gathering import gathered
from sdviewer.repair.script.parts.tensors import impossible, made, needs_elements, needs_floats, own


def merge_lora(
    checkpoint: Checkpoint,
    *,
    scale: float = 1.0,
    alpha: float | None = None,
    transposed: bool = False,
    where: Chosen | None = None,
) -> Done:
    """Add B A to each weight, scaled by `scale` and by alpha over the rank, and leave the adapters out."""
    places = chosen_places(checkpoint, where)
    underscored = by_underscores(places)
    found: dict[str, dict[int, int]] = {}
    for layer, down, up, key in adapters(places):
        weights = weights_of(layer, places, underscored)
        if more_than_factors(layer, places) or len(weights) != 1:
            raise RecipeError(f"cannot merge the adapter of {layer!r}")
        parts = found.setdefault(weights[0], {0: places[weights[0]]})
        number = 1 + 3 * sum(part % 3 == 1 for part in parts)
        parts.update({number: places[down], number + 1: places[up]})
        if key:
            parts[number + 2] = places[key]
        elif alpha is None:
            warn(f"no alpha for {layer!r}: B A is added as it is")

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        weight = needs_floats(parts[0], "cannot merge into")
        pairs = []
        for number in range(1, max(parts) + 1, 3):
            a, b = (needs_floats(parts[at], "cannot merge into") for at in (number, number + 1))
            if not fits(weight, a, b, transposed):
                raise impossible("cannot merge into", parts[0], f"{parts[number].key!r} does not fit it")
            beside = needs_elements(parts[number + 2], "cannot merge into") if number + 2 in parts else None
            if beside is not None and beside.numel() != 1:
                raise impossible("cannot merge into", parts[number + 2], "it is no alpha")
            known = 1.0 if beside is not None else alpha
            pairs.append((a, b, beside, scale if known is None else scale * known / len(a)))
        inputs = [part.value for _, part in sorted(parts.items())]
        return made(checkpoint, ("lora", scale, alpha), inputs, lambda: merged(weight, pairs, transposed))

    return gathered(checkpoint, found, ("*.lora_A.weight with *.lora_B.weight",), join)


def fits(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, transposed: bool) -> bool:
    """Whether the product of two factors is of the shape of the weight."""
    shape = list(weight.shape)
    if weight.dim() < 2 or (transposed and weight.dim() != 2) or a.dim() < 2 or b.dim() < 2:
        return False
    out, inner = (shape[1], shape[:1]) if transposed else (shape[0], shape[1:])
    return len(a) == b.shape[1] and list(a.shape[1:]) == inner and b.numel() == out * len(a) and len(a) > 0


def merged(
    weight: torch.Tensor,
    pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float]],
    transposed: bool,
) -> torch.Tensor:
    """The weight with the products of all pairs, rank by rank in float64, as sdviewer adds them up."""
    exact = torch.complex128 if weight.is_complex() else torch.float64
    plain = own(weight)
    matrix = own((plain.t() if transposed else plain.reshape(len(plain), -1)).to(exact))
    rows = max(1, (1 << 20) // max(matrix.shape[1], 1))
    for down, up, alpha, factor in pairs:
        a, b = own(down).reshape(len(down), -1).to(exact), own(up).reshape(-1, len(down)).to(exact)
        if alpha is not None:
            factor = factor * float(own(alpha).to(torch.float64).reshape(-1)[0])
        for first in range(0, len(matrix), rows):
            delta = torch.zeros_like(matrix[first : first + rows])
            for rank in range(len(a)):
                delta += b[first : first + rows, rank : rank + 1] * a[rank : rank + 1]
            matrix[first : first + rows] += delta * factor
    return own((matrix.t() if transposed else matrix).to(weight.dtype)).reshape(weight.shape)
