"""channels: adapt the input channels of convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.tensors import axis, each_tensor, impossible, needs_floats, own


def channels(checkpoint: Checkpoint, *, to: int, dim: int = 1, where: Chosen | None = None) -> Done:
    """Make the places along `dim` so many: their sum, or each in turn and scaled, computed in float64."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        tensor = needs_floats(entry, "cannot adapt the channels of")
        along = axis("cannot adapt the channels of", entry, dim)
        if not tensor.shape[along]:
            raise impossible("cannot adapt the channels of", entry, "it has none")
        return None if tensor.shape[along] == to else lambda: adapted(tensor, along, to)

    return each_tensor(checkpoint, where, ("channels", to, dim), change)


def adapted(tensor: torch.Tensor, dim: int, to: int) -> torch.Tensor:
    """So many places along `dim`, over which a later sum stays about the same."""
    wide = own(tensor).to(torch.complex128 if tensor.is_complex() else torch.float64)
    count = tensor.shape[dim]
    if to == 1:
        made = wide.narrow(dim, 0, 1)
        for channel in range(1, count):
            made = made + wide.narrow(dim, channel, 1)
    else:
        made = wide.index_select(dim, torch.arange(to) % count) * (count / to)
    return made.to(tensor.dtype).contiguous()
