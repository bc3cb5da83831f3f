"""Where in a tensor its smallest and its largest value stand."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import Blocks, Reader, refuse_bomb
from sdviewer.stats.slices import known_elements
from sdviewer.stats.sweep import flat_values
from sdviewer.stats.tiles import once

Which = Literal["min", "max"]


def extreme(
    source: ByteSource, layout: TensorLayout, which: Which, *, progress: Progress = no_progress
) -> tuple[int, ...] | None:
    """The index of the first smallest or largest finite value in row-major order, None when none is finite.

    Complex values are taken by their magnitude. Progress is in bytes.

    Raises:
        UsageError: its type is known to its container alone.
        CorruptCheckpoint: the bytes are not there.
    """
    # Along an expanded dimension the first of all is at 0.
    seen = once(known_elements(source, layout))
    refuse_bomb(seen)
    reader = Reader(source, layout)
    total, before = seen.nbytes(seen.count), 0
    found: tuple[float | int, int] | None = None
    for block in Blocks(seen):
        progress(seen.nbytes(before), total)
        values = flat_values(reader.values(block))
        size = values.size
        places = np.flatnonzero(np.isfinite(values)) if values.dtype.kind == "f" else None
        if places is not None:
            values = values[places]
        if values.size:
            at = int(values.argmin() if which == "min" else values.argmax())
            value = values[at].item()
            if found is None or (value < found[0] if which == "min" else value > found[0]):
                found = value, before + (at if places is None else int(places[at]))
        before += size
    progress(total, total)
    return None if found is None else tuple(int(i) for i in np.unravel_index(found[1], seen.shape))
