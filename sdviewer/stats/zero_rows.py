"""How many rows of a tensor are zero throughout: dead units, embeddings that were never trained."""

from __future__ import annotations

import numpy as np

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import Blocks, Elements, Reader, elements_of, overlaps
from sdviewer.stats.summary import Summary

NOT_COUNTED = -1


def zero_rows(source: ByteSource, layout: TensorLayout, found: Summary, *, progress: Progress = no_progress) -> int:
    """The rows along the first axis whose values are all zero, `NOT_COUNTED` for a tensor that has none.

    `found` says how many zeros there are: with fewer than a row has, nothing is read. Progress is in bytes.

    Raises:
        CorruptCheckpoint: the bytes are not there.
    """
    whole = elements_of(source, layout)
    if len(layout.shape) < 2 or found.zeros is None or not found.count:
        return NOT_COUNTED
    rows, width = layout.shape[0], found.count // layout.shape[0]
    if found.zeros < width:
        return 0
    if found.zeros == found.count or layout.stride[0] == 0:
        return rows if found.zeros == found.count else 0
    kept = [axis for axis, step in enumerate(whole.stride) if step != 0]
    elements = Elements(
        whole.dtype,
        whole.offset,
        tuple(whole.shape[axis] for axis in kept),
        tuple(whole.stride[axis] for axis in kept),
    )
    if overlaps(elements):
        return NOT_COUNTED
    return _count(source, layout, elements, elements.count // rows, progress)


def _count(source: ByteSource, layout: TensorLayout, elements: Elements, width: int, progress: Progress) -> int:
    """The blocks come in row-major order: a row may go on in the next."""
    reader = Reader(source, layout)
    total, done = elements.count, 0
    dead, alive = 0, False
    for block in Blocks(elements):
        progress(elements.nbytes(done), elements.nbytes(total))
        other = np.ascontiguousarray(reader.values(block)).reshape(-1) != 0
        ends = np.arange(width - done % width, other.size + 1, width)
        starts = np.concatenate([[0], ends])
        done += other.size
        living = np.logical_or.reduceat(other, starts[starts < other.size])
        living[0] |= alive
        dead += int(np.count_nonzero(~living[: ends.size]))
        alive = bool(living[ends.size]) if living.size > ends.size else False
    progress(elements.nbytes(total), elements.nbytes(total))
    return dead
