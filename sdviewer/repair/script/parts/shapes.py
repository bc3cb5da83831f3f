"""transpose, permute, reshape, flatten, squeeze, unsqueeze: the same elements in another shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.tensors import axis, each_tensor, impossible, needs_elements, own


def reshaped(
    checkpoint: Checkpoint, where: Chosen | None, what: str, view: Callable[[Entry], torch.Tensor | None]
) -> Done:
    """Put the view that `view` gives in the place of each tensor, None where it stays."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        needs_elements(entry, f"cannot {what}")
        seen = view(entry)
        return None if seen is None else (lambda: own(seen))

    return each_tensor(checkpoint, where, what, change)


def transpose(checkpoint: Checkpoint, *, dims: Sequence[int] | None = None, where: Chosen | None = None) -> Done:
    """Exchange two dimensions, without `dims` those of a matrix."""

    def view(entry: Entry) -> torch.Tensor:
        if dims is None and entry.value.dim() != 2:
            raise impossible("cannot transpose", entry, "it is no matrix")
        a, b = (axis("cannot transpose", entry, dim) for dim in dims or (0, 1))
        if a == b:
            raise impossible("cannot transpose", entry, "the two dimensions are one")
        return entry.value.transpose(a, b)

    return reshaped(checkpoint, where, "transpose", view)


def permute(checkpoint: Checkpoint, *, order: Sequence[int], where: Chosen | None = None) -> Done:
    """Let dimension i be what dimension `order[i]` was."""

    def view(entry: Entry) -> torch.Tensor | None:
        if entry.value.dim() != len(order):
            raise impossible("cannot permute", entry, f"`order` is for {len(order)} dimensions")
        return None if list(order) == sorted(order) else entry.value.permute(*order)

    return reshaped(checkpoint, where, "permute", view)


def reshape(checkpoint: Checkpoint, *, shape: Sequence[int], where: Chosen | None = None) -> Done:
    """Give the elements, row by row, another shape, of which one size may be -1."""

    def view(entry: Entry) -> torch.Tensor | None:
        count, others = entry.value.numel(), math.prod(size for size in shape if size != -1)
        if (-1 in shape and (not others or count % others)) or (-1 not in shape and others != count):
            raise impossible("cannot reshape", entry, f"its {count} elements do not go into {list(shape)}")
        new = [count // others if size == -1 else size for size in shape]
        return None if list(entry.value.shape) == new else entry.value.reshape(new)

    return reshaped(checkpoint, where, "reshape", view)


def flatten(checkpoint: Checkpoint, *, start: int = 0, end: int = -1, where: Chosen | None = None) -> Done:
    """Make one dimension of those from `start` to `end`."""

    def view(entry: Entry) -> torch.Tensor | None:
        whole = entry._replace(value=entry.value if entry.value.dim() else entry.value.reshape(1))
        first, last = (axis("cannot flatten", whole, dim) for dim in (start, end))
        if first > last:
            raise impossible("cannot flatten", entry, f"dimension {start} stands behind dimension {end}")
        shape = whole.value.shape
        new = [*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]]
        return None if new == list(entry.value.shape) else entry.value.reshape(new)

    return reshaped(checkpoint, where, "flatten", view)


def squeeze(checkpoint: Checkpoint, *, dims: Sequence[int] | None = None, where: Chosen | None = None) -> Done:
    """Leave out these dimensions of size 1, without `dims` all of them."""

    def view(entry: Entry) -> torch.Tensor | None:
        shape = entry.value.shape
        gone = [dim for dim, size in enumerate(shape) if size == 1]
        if dims is not None:
            gone = [axis("cannot squeeze", entry, dim) for dim in dims]
            if any(shape[dim] != 1 for dim in gone):
                raise impossible("cannot squeeze", entry, "such a dimension is not of size 1")
        return entry.value.reshape([size for dim, size in enumerate(shape) if dim not in gone]) if gone else None

    return reshaped(checkpoint, where, "squeeze", view)


def unsqueeze(checkpoint: Checkpoint, *, dim: int, where: Chosen | None = None) -> Done:
    """Put in a dimension of size 1, which becomes dimension `dim`."""

    def view(entry: Entry) -> torch.Tensor:
        return entry.value.unsqueeze(axis("cannot unsqueeze", entry, dim, room=1))

    return reshaped(checkpoint, where, "unsqueeze", view)
