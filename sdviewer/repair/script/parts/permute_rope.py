"""permute_rope: put the rows of rotary weights into the order of another implementation."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.tensors import as_bits, each_tensor, impossible, needs_elements


def permute_rope(checkpoint: Checkpoint, *, heads: int, to: str = "halves", where: Chosen | None = None) -> Done:
    """Put the rows of each head that are rotated together in two halves, or as pairs."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        tensor = needs_elements(entry, "cannot permute the rotary rows of")
        shape = tensor.shape
        if not shape or shape[0] % (2 * heads):
            raise impossible("cannot permute the rotary rows of", entry, f"there are no pairs in {heads} heads")
        if shape[0] == 2 * heads:
            return None
        half = shape[0] // heads // 2
        inner = (heads, half, 2) if to == "halves" else (heads, 2, half)
        apart = as_bits(tensor).reshape(*inner, *shape[1:])
        return lambda: apart.transpose(1, 2).reshape(shape).view(tensor.dtype)

    return each_tensor(checkpoint, where, ("permute_rope", heads, to), change)
