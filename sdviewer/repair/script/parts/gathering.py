"""What steps share that make one tensor of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.tensors import impossible, needs_elements, put_entries


def add_part(found: dict[str, dict[int, int]], key: str, part: int, place: int, what: str) -> None:
    """Take an entry for a part of the tensor `key`."""
    if part in found.setdefault(key, {}):
        raise RecipeError(f"{what}: two keys would be part {part} of {key!r}")
    found[key][part] = place


def gathered(
    checkpoint: Checkpoint,
    found: Mapping[str, Mapping[int, int]],
    sought: Sequence[str],
    join: Callable[[str, Mapping[int, Entry]], torch.Tensor],
) -> Done:
    """Put what `join` makes of the parts in `found` in the place of the first part."""
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    matched = 0
    for key, places in found.items():
        parts = {part: checkpoint.entries[place] for part, place in places.items()}
        new = join(key, parts)
        for place in places.values():
            outputs[place] = ()
        sources = tuple([source for part in sorted(parts) for source in parts[part].made_of])
        outputs[places[min(places)]] = (Entry(key, new, sources),)
        matched += len(places)
    return Done(matched, put_entries(checkpoint, outputs), () if found else sought)


def one_kind(what: str, entries: Sequence[Entry], dim: int | None = None) -> list[torch.Tensor]:
    """Tensors of one dtype and of one shape, but along `dim`."""
    tensors = [needs_elements(entry, what) for entry in entries]
    first = tensors[0]
    for entry, tensor in zip(entries, tensors, strict=True):
        shapes = [list(one.shape) for one in (first, tensor)]
        if dim is not None and tensor.dim() == first.dim():
            shapes[0][dim] = shapes[1][dim]
        if shapes[0] != shapes[1] or tensor.dtype != first.dtype:
            raise impossible(what, entry, f"it does not go with {entries[0].key!r}")
    return tensors
