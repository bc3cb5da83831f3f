"""untie: give tensors that are one under several keys a storage each."""

from __future__ import annotations

from collections import Counter

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, chosen_places
from sdviewer.repair.script.parts.clone import clone_places
from sdviewer.repair.script.parts.tensors import looks_at


def untie(checkpoint: Checkpoint, *, where: Chosen | None = None) -> Done:
    """Give each tensor that stands under another key too a storage of its own."""
    seen = [looks_at(entry.value) if isinstance(entry.value, torch.Tensor) else None for entry in checkpoint.entries]
    count = Counter(seen)
    chosen = chosen_places(checkpoint, where).values()
    return clone_places(checkpoint, [place for place in chosen if seen[place] is not None and count[seen[place]] > 1])
