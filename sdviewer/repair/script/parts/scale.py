"""scale: multiply by a number."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.tensors import (
    as_float,
    each_tensor,
    is_floating,
    is_packed,
    needs_floats,
    needs_numbers,
)


def scale(checkpoint: Checkpoint, *, factor: float, where: Chosen | None = None) -> Done:
    """Multiply every float and complex number; 16 bits and less are multiplied in float32 and rounded once."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        needs_numbers(entry, "cannot scale")
        if not is_floating(entry.value) and not is_packed(entry.value):
            return None
        tensor = needs_floats(entry, "cannot scale")
        return lambda: (as_float(tensor).contiguous() * factor).to(tensor.dtype)

    return each_tensor(checkpoint, where, ("scale", factor), change)
