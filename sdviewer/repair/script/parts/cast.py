"""cast: give tensors another dtype."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.tensors import each_tensor, is_floating


def cast(checkpoint: Checkpoint, *, dtype: torch.dtype, where: Chosen | None = None) -> Done:
    """Bring floats and complex numbers into another dtype."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        return in_dtype(entry, dtype) if is_floating(entry.value) or entry.value.is_quantized else None

    return each_tensor(checkpoint, where, ("cast", dtype), change)


def cast_all(checkpoint: Checkpoint, *, dtype: torch.dtype, where: Chosen | None = None) -> Done:
    """Bring all numbers into another dtype."""
    return each_tensor(checkpoint, where, ("cast", dtype), lambda entry: in_dtype(entry, dtype))


def in_dtype(entry: Entry, dtype: torch.dtype) -> Callable[[], torch.Tensor] | None:
    """How a tensor is made with another dtype; an imaginary part that it cannot hold is left out."""
    tensor: torch.Tensor = entry.value
    if tensor.dtype == dtype:
        return None
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or is_raw(tensor):
        raise RecipeError(f"cannot cast {entry.key!r}: it is no plain tensor of numbers")
    if tensor.is_complex() and not dtype.is_complex:
        tensor = (tensor != 0) if dtype == torch.bool else tensor.real
    return lambda: tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def is_raw(tensor: torch.Tensor) -> bool:
    """Whether it is of a dtype that can be stored and not computed with."""
    return str(tensor.dtype).startswith(("torch.bits", "torch.float4", "torch.complex32"))
