"""How the values of a tensor are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.summary import Summary, summary_of
from sdviewer.stats.sweep import Sweep, Wanted, sweep

BINS = 140


@dataclass(frozen=True, slots=True)
class Histogram:
    """Exact counts in equal bins over the middle of the values.

    `count` is all values: the sum of `counts`, `below`, `above`, `zeros`, `nan`, `posinf` and `neginf`. Exact zeros are
    in no bin. `edges` are one more than `counts`; a value on an inner edge counts to the right of it. `edges` and
    `counts` are empty when no value is finite or the type is bits. `exact_range`: the range comes from all values,
    else from a sample of `sampled` values.

    `values` is for integers and bool of at most 64 distinct values: each with its count in `value_counts` (zero with
    the others, nothing left out); else both are empty.
    """

    count: int
    below: int
    above: int
    zeros: int
    nan: int
    posinf: int
    neginf: int
    exact_range: bool
    sampled: int
    values: tuple[int, ...]
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    value_counts: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__[:9]} | {"values": list(self.values)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {"edges": self.edges, "counts": self.counts, "value_counts": self.value_counts}


def histogram(
    source: ByteSource,
    layout: TensorLayout,
    bins: int = BINS,
    *,
    span: tuple[float, float] | None = None,
    progress: Progress = no_progress,
) -> Histogram:
    """Count a tensor's values in at most `bins` bins. Progress is in bytes.

    The range is from 0.1 % to 99.9 % of the values that are not zero, symmetric when it holds zero; `span` sets it
    instead (to look at the tails). Fewer than 2000 values get fewer bins.

    Raises:
        CorruptCheckpoint: the bytes are not there.
    """
    return histogram_of(sweep(source, layout, Wanted(bins, span), median=False, progress=progress))


def summary_and_histogram(
    source: ByteSource,
    layout: TensorLayout,
    bins: int = BINS,
    *,
    span: tuple[float, float] | None = None,
    median: bool = True,
    progress: Progress = no_progress,
) -> tuple[Summary, Histogram]:
    """`summary` and `histogram` from the same reading."""
    result = sweep(source, layout, Wanted(bins, span), median=median, progress=progress)
    return summary_of(result), histogram_of(result)


def histogram_of(result: Sweep) -> Histogram:
    """The histogram of what a sweep found."""
    whole, times = result.whole, result.repeats
    edges, inside = np.empty(0), np.zeros(0, np.int64)
    below = above = 0
    if result.bins is not None and result.slots is not None:
        edges = result.bins.edges()
        slots = result.slots.copy()
        if whole.zeros:
            slots[result.bins.slots(np.zeros(1, np.int64))[0]] -= whole.zeros
        slots *= times
        below, inside, above = int(slots[0]), slots[1:-1], int(slots[-1])
    bars = sorted((result.bars or {}).items())
    return Histogram(
        result.count,
        below,
        above,
        times * whole.zeros,
        times * whole.nan,
        times * whole.posinf,
        times * whole.neginf,
        result.exact_range,
        result.sampled,
        tuple(value for value, _ in bars),
        edges,
        inside,
        np.array([times * n for _, n in bars], np.int64),
    )
