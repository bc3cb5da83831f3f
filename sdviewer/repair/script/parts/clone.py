"""clone: give tensors a storage of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.tensors import as_before, needs_numbers, own, put_entries


def clone(checkpoint: Checkpoint, *, where: Chosen | None = None) -> Done:
    """Give each tensor a storage that it shares with no other."""
    return clone_places(checkpoint, chosen_places(checkpoint, where).values())


def clone_places(checkpoint: Checkpoint, places: Iterable[int]) -> Done:
    """Give the tensors among these entries a storage each."""
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    matched = 0
    for place in places:
        entry = checkpoint.entries[place]
        if isinstance(entry.value, torch.Tensor):
            needs_numbers(entry, "cannot clone")
            outputs[place] = (entry._replace(value=as_before(own(entry.value), entry.value)),)
            matched += 1
    return Done(matched, put_entries(checkpoint, outputs))
