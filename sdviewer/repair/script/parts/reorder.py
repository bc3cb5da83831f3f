"""reorder: put equal parts into another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.tensors import as_bits, axis, each_tensor, impossible, needs_elements


def reorder(
    checkpoint: Checkpoint, *, order: Sequence[int], dim: int = 0, groups: int = 1, where: Chosen | None = None
) -> Done:
    """Let part i along `dim` be what part `order[i]` was, in each of so many groups."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        tensor = needs_elements(entry, "cannot reorder the parts of")
        along = axis("cannot reorder the parts of", entry, dim)
        shape, parts = tensor.shape, len(order)
        if shape[along] % (groups * parts):
            raise impossible("cannot reorder the parts of", entry, f"{shape[along]} places are not {parts} equal parts")
        if list(order) == sorted(order):
            return None
        inner = (groups, parts, shape[along] // groups // parts)
        apart = as_bits(tensor).reshape(*shape[:along], *inner, *shape[along + 1 :])
        chosen = torch.tensor(list(order), dtype=torch.int64)
        return lambda: apart.index_select(along + 1, chosen).reshape(shape).view(tensor.dtype)

    return each_tensor(checkpoint, where, ("reorder", tuple(order), dim, groups), change)
