"""Loads the compiled loops before there is anything to measure: the first tensor need not wait for them."""

from __future__ import annotations

import numpy as np

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.stats.histogram import BINS, histogram_of
from sdviewer.stats.sweep import EXACT, Wanted, sweep

TYPES = ("float32", "bfloat16")
"""Of most weights. The first type takes most of what there is, the others take little more when they come."""


class _Counting:
    """A storage of bytes that count from 0 to 250 again and again."""

    def __init__(self, nbytes: int) -> None:
        self._bytes = (np.arange(nbytes) % 251).astype(np.uint8).tobytes()

    @property
    def nbytes(self) -> int:
        return len(self._bytes)

    def read_into(self, start: int, buffer: memoryview) -> None:
        buffer[:] = self._bytes[start : start + len(buffer)]


def warm_up() -> None:
    """Load numba and its loops, or compile them where no run before this one did."""
    n = 2 * EXACT
    storage = _Counting(4 * n)
    for dtype in TYPES:
        histogram_of(sweep(storage, TensorLayout(dtype, (n,), (1,), 0), Wanted(BINS), compiled=True))
