"""clean: replace what is not finite."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.elements import element
from sdviewer.repair.script.parts.tensors import as_bits, as_float, each_tensor, is_floating, needs_numbers, own


def clean(
    checkpoint: Checkpoint,
    *,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
    where: Chosen | None = None,
) -> Done:
    """Replace NaN by `nan`, and infinities by numbers, the largest and smallest of the dtype where none are given."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        needs_numbers(entry, "cannot clean")
        if not is_floating(entry.value):
            return None
        part = {torch.complex128: torch.float64, torch.complex64: torch.float32}.get(
            entry.value.dtype, entry.value.dtype
        )
        limit = torch.finfo(part).max
        numbers = (nan, limit if posinf is None else posinf, -limit if neginf is None else neginf)
        new = [element(number, part) for number in numbers]
        return lambda: cleaned(own(entry.value), *new)

    return each_tensor(checkpoint, where, ("clean", nan, posinf, neginf), change)


def cleaned(tensor: torch.Tensor, nan: torch.Tensor, posinf: torch.Tensor, neginf: torch.Tensor) -> torch.Tensor:
    """The tensor itself, with elements in the place of what is not finite."""
    parts = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    floats = as_float(parts)
    for where, new in (
        (torch.isnan(floats), nan),
        (floats == float("inf"), posinf),
        (floats == -float("inf"), neginf),
    ):
        as_bits(parts)[where] = as_bits(new)
    return tensor
