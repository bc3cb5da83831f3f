"""resize: interpolate what stands on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from sdviewer.repair.resampling import resampled
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.tensors import axis, each_tensor, impossible, needs_floats, own


def resize(
    checkpoint: Checkpoint,
    *,
    to: Sequence[int],
    of: str = "grid",
    dim: int = -2,
    prefix: int = 0,
    grid: Sequence[int] = (),
    mode: str = "bicubic",
    sharp: bool = False,
    where: Chosen | None = None,
) -> Done:
    """Give a grid along `dim` behind the first `prefix` places, or an image in the last dimensions, the sizes `to`."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        tensor = needs_floats(entry, "cannot resize")
        shape, sizes = list(tensor.shape), list(to)
        if of == "image":
            if len(shape) < len(sizes) or 0 in shape[-len(sizes) :]:
                raise impossible("cannot resize", entry, "it is no image")
            if shape[-len(sizes) :] == sizes:
                return None
            return lambda: interpolated(tensor, len(shape) - len(sizes), sizes, mode, not sharp)
        along = axis("cannot resize", entry, dim)
        places = shape[along] - prefix
        side = round(places ** (1 / len(sizes))) if places > 0 else 0
        had = list(grid) or [side] * len(sizes)
        if places < 1 or math.prod(had) != places:
            raise impossible("cannot resize", entry, f"{places} places are no such grid")
        return None if had == sizes else lambda: on_grid(tensor, along, prefix, had, sizes, mode, not sharp)

    choice = (tuple(to), of, dim, prefix, tuple(grid), mode, sharp)
    return each_tensor(checkpoint, where, ("resize", *choice), change)


def on_grid(
    tensor: torch.Tensor, dim: int, prefix: int, grid: list[int], sizes: list[int], mode: str, antialias: bool
) -> torch.Tensor:
    """The places along `dim` behind the first ones as a grid of other sizes."""
    rows = own(tensor).movedim(dim, 0)
    rest = rows.shape[1:]
    inside = interpolated(rows[prefix:].reshape(*grid, *rest), 0, sizes, mode, antialias)
    return own(torch.cat([rows[:prefix], inside.reshape(-1, *rest)]).movedim(0, dim))


def interpolated(tensor: torch.Tensor, first: int, sizes: list[int], mode: str, antialias: bool) -> torch.Tensor:
    """Other sizes from a dimension on, computed in float64 as sdviewer does."""
    made = own(tensor).to(torch.complex128 if tensor.is_complex() else torch.float64).numpy()
    for at, size in enumerate(sizes):
        made = resampled(made, first + at, size, mode, antialias)
    return torch.from_numpy(made).to(tensor.dtype)
