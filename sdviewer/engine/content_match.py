"""The values of two files for the matching engine: hashes of tensors, of their transposes and of parts of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from math import prod

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import Progress, no_progress, within
from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.engine.comparing import Tensors
from sdviewer.errors import OpenError
from sdviewer.repair.matching.contents import Contents, View
from sdviewer.stats.digest import sha256


def contents_by_view(
    a: Tensors, of_a: Sequence[int], b: Tensors, of_b: Sequence[int], progress: Progress = no_progress
) -> Contents:
    """Who tells matching of values; `of_a` and `of_b` are the tensors of the positions in its tables, -1 for none.

    A view is hashed once, however often it is asked for, in pieces of a few MiB. Progress is in bytes of one question.
    """
    known: dict[tuple[int, View], Hashable] = {}

    def contents(views_a: Sequence[View], views_b: Sequence[View]) -> tuple[list[Hashable], list[Hashable]]:
        asked = [(0, view) for view in views_a] + [(1, view) for view in views_b]
        new = [one for one in dict.fromkeys(asked) if one not in known]
        sides = ((a, of_a), (b, of_b))
        sizes = [_nbytes(*sides[side], view) for side, view in new]
        total, done = sum(sizes), 0
        for one, size in zip(new, sizes, strict=True):
            tensors, positions = sides[one[0]]
            known[one] = _digest(tensors, positions[one[1].at], one[1], within(done, size, total, progress))
            done += size
        if new:
            progress(total, total)
        return [known[0, view] for view in views_a], [known[1, view] for view in views_b]

    return contents


def _nbytes(tensors: Tensors, positions: Sequence[int], view: View) -> int:
    index = positions[view.at]
    if index < 0:
        return 0
    info = tensors[index]
    size = info.nbytes
    for dim, _, length in view.narrow:
        size = size * length // max(info.shape[dim], 1)
    return size


def _digest(tensors: Tensors, index: int, view: View, progress: Progress) -> Hashable:
    """The type and the hash of the view's elements, None where they cannot be read or have no such part."""
    if index < 0:
        return None
    try:
        with tensors.open(index) as opened:
            layout = _view_of(opened.layout, view)
            if layout is None:
                return None
            found = sha256(opened.storage, layout, progress=progress).sha256
            return None if found is None else (layout.dtype, prod(layout.shape), found)
    except OpenError as error:
        if error.code == "file_changed":
            raise
        return None


def _view_of(layout: TensorLayout, view: View) -> TensorLayout | None:
    """The layout of a view: strides tell where its elements are, so nothing is moved."""
    if not view.transposed and not view.narrow:
        return layout
    if layout.opaque is not None or layout.dtype not in DTYPES or DTYPES[layout.dtype].per_byte > 1:
        return None
    shape, stride, offset = list(layout.shape), list(layout.stride), layout.offset
    if view.transposed:
        shape.reverse()
        stride.reverse()
    for dim, start, size in view.narrow:
        if dim >= len(shape) or start + size > shape[dim]:
            return None
        offset += start * stride[dim]
        shape[dim] = size
    return replace(layout, shape=tuple(shape), stride=tuple(stride), offset=offset)
