"""cast: give tensors another dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry
from sdviewer.repair.script.parts.tensors import each_tensor, impossible, is_floating, needs_elements


def cast(checkpoint: Checkpoint, *, dtype: str, of: str = "floating", keys: Sequence[str] = ()) -> Done:
    """Bring floats and complex numbers, or with of = "all" all numbers, into another dtype."""
    target = getattr(torch, dtype)

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        if entry.value.dtype == target:
            return None
        if of == "floating" and not entry.value.is_quantized and not is_floating(entry.value):
            return None
        needs_elements(entry, "cannot cast")
        if entry.value.dtype == torch.complex32:
            raise impossible("cannot cast", entry, "its dtype is torch.complex32")
        return lambda: cast_tensor(entry.value, target)

    return each_tensor(checkpoint, keys, ("cast", target), change)


def cast_tensor(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same numbers in another dtype, row by row; an imaginary part that it cannot hold is left out."""
    if tensor.is_complex() and not dtype.is_complex:
        tensor = (tensor != 0) if dtype == torch.bool else tensor.real
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
