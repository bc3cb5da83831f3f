"""edit: write numbers into a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.elements import element
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.tensors import as_bits, impossible, made, needs_elements, own, put_entries


def edit(
    checkpoint: Checkpoint,
    *,
    key: str,
    at: Sequence[int] = (),
    value: Any = None,
    values: Sequence[Any] | None = None,
    round_: bool = False,
    where: Chosen | None = None,
) -> Done:
    """Write `value` into the cells below the indexes `at`, or `values`, row by row."""
    places = chosen_places(checkpoint, where)
    if key not in places:
        raise RecipeError(f"cannot edit {key!r}: there is no such key")
    entry = checkpoint.entries[places[key]]
    tensor = needs_elements(entry, "cannot edit")
    inside = [-size <= index < size for index, size in zip(at, tensor.shape, strict=False)]
    if len(at) > tensor.dim() or not all(inside):
        raise impossible("cannot edit", entry, f"it has no cell {list(at)}")
    result = own(tensor)
    cells = as_bits(result)[(*at, ...)]
    if values is not None and len(values) != cells.numel():
        raise impossible("cannot edit", entry, f"there are {len(values)} `values` for {cells.numel()} cells")
    if values is None and not at and tensor.dim():
        raise impossible("cannot edit", entry, "which cell is meant? Give its indexes in `at`.")
    numbers = [as_bits(element(one, tensor.dtype, rounded=round_)) for one in ([value] if values is None else values)]
    if numbers:
        cells.copy_(torch.stack(numbers).reshape(cells.shape if values is not None else [1] * cells.dim()))
    outputs: list[Sequence[Entry]] = [(one,) for one in checkpoint.entries]
    what = ("edit", tuple(at), repr(value), repr(values), round_)
    outputs[places[key]] = (entry._replace(value=made(checkpoint, what, [tensor], lambda: result)),)
    return Done(1, put_entries(checkpoint, outputs))
