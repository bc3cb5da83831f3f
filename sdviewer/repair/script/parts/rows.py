"""rows: choose, reorder, leave out or add places along one dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry
from sdviewer.repair.script.parts.elements import element
from sdviewer.repair.script.parts.tensors import (
    as_bits,
    axis,
    each_tensor,
    impossible,
    needs_elements,
    needs_floats,
    own,
)


def rows(
    checkpoint: Checkpoint,
    *,
    dim: int = 0,
    slice_: Sequence[int] | None = None,
    take: Sequence[int] | None = None,
    delete: Sequence[int] | None = None,
    reverse: bool = False,
    pad: int | None = None,
    size: int | None = None,
    fill: Any = "zeros",
    at: int | None = None,
    where: Chosen | None = None,
) -> Done:
    """Change the places along `dim` in one way: `slice_`, `take`, `delete`, `reverse`, `pad` or `size` with `fill`."""

    def change(entry: Entry) -> Callable[[], torch.Tensor] | None:
        tensor = needs_elements(entry, "cannot change the rows of")
        along = axis("cannot change the rows of", entry, dim)
        count = tensor.shape[along]
        if size is not None and size < count:
            return lambda: own(tensor.narrow(along, 0, size))
        more = pad if pad is not None else None if size is None else size - count
        if more is not None:
            place = count if at is None else at + count if at < 0 else at
            if not 0 <= place <= count:
                raise impossible("cannot change the rows of", entry, f"there is no place {at}")
            row = new_row(entry, along, fill) if more or fill != "zeros" else None
            return (lambda: padded(tensor, along, place, more, row)) if more and row is not None else None
        if slice_ is not None:
            start, stop = (one + count if one < 0 else one for one in (*slice_, count)[:2])
            if not 0 <= start <= stop <= count:
                raise impossible("cannot change the rows of", entry, f"there are no rows {start} to {stop}")
            return None if stop - start == count else lambda: own(tensor.narrow(along, start, stop - start))
        chosen = list(range(count))[::-1] if reverse else counted(entry, take or (), count)
        if delete is not None:
            gone = counted(entry, delete, count)
            chosen = [one for one in range(count) if one not in gone]
        if chosen == list(range(count)):
            return None
        return lambda: as_bits(tensor).index_select(along, torch.tensor(chosen, dtype=torch.int64)).view(tensor.dtype)

    choice = (dim, repr(slice_), repr(take), repr(delete), reverse, pad, size, repr(fill), at)
    return each_tensor(checkpoint, where, ("rows", *choice), change)


def counted(entry: Entry, places: Sequence[int], count: int) -> list[int]:
    """Places counted from 0."""
    wrong = next((place for place in places if not -count <= place < count), None)
    if wrong is not None:
        raise impossible("cannot change the rows of", entry, f"there is no row {wrong}")
    return [place % count for place in places]


def new_row(entry: Entry, dim: int, fill: Any) -> torch.Tensor:
    """What new places hold: one place along `dim`, or one element."""
    tensor = entry.value
    if isinstance(fill, str) and fill.startswith("copy:"):
        (place,) = counted(entry, [int(fill[len("copy:") :])], tensor.shape[dim])
        return tensor.narrow(dim, place, 1)
    if fill == "mean":
        needs_floats(entry, "cannot average the rows of")
        if not tensor.shape[dim]:
            raise impossible("cannot change the rows of", entry, "there is no row to average")
        # NumPy adds in the same order on every machine, and as sdviewer does.
        wide = own(tensor).to(torch.complex128 if tensor.is_complex() else torch.float64)
        return torch.from_numpy(wide.numpy().mean(axis=dim, keepdims=True)).to(tensor.dtype)
    return element(0 if fill == "zeros" else fill, tensor.dtype)


def padded(tensor: torch.Tensor, dim: int, place: int, count: int, row: torch.Tensor) -> torch.Tensor:
    """The tensor with `count` places more, before a place."""
    bits = as_bits(tensor)
    new = as_bits(row).expand(*tensor.shape[:dim], count, *tensor.shape[dim + 1 :])
    before, after = bits.narrow(dim, 0, place), bits.narrow(dim, place, tensor.shape[dim] - place)
    return torch.cat([before, new, after], dim).view(tensor.dtype)
