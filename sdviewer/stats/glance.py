"""A first look at a tensor that takes a while: its numbers from a sample, scaled up to all of it.

The sample is about a quarter of a million values in short runs that are spread evenly, so what is read does not grow
with the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import Reader, elements_of, in_storage_order
from sdviewer.stats.histogram import BINS, Histogram, histogram_of
from sdviewer.stats.summary import Summary, summary_of
from sdviewer.stats.sweep import Sweep, Wanted, sample_of, swept

_COUNTS = ("nan", "posinf", "neginf", "zeros")


@dataclass(frozen=True, slots=True)
class Glance:
    """Summary and histogram as `sampled` values make them likely; all of it is approximate but `count`."""

    summary: Summary
    histogram: Histogram
    sampled: int

    def summary_json(self) -> dict[str, Any]:
        """The summary as JSON values, with what of it is approximate and from how many values."""
        fields = self.summary.to_json()
        approximate = [name for name, value in fields.items() if name != "count" and value is not None]
        return {**fields, "approximate": approximate, "sampled": self.sampled}


def glance(source: ByteSource, layout: TensorLayout, bins: int = BINS) -> Glance:
    """Measure a sample of a tensor and scale what is counted up to all of its values.

    Raises:
        CorruptCheckpoint: the tensor reaches outside of its storage, or its bytes cannot be read.
    """
    whole = elements_of(source, layout)
    elements, _ = in_storage_order(whole)
    if whole.dtype.kind == "bits" or not whole.count:
        result = Sweep(whole.count, opaque=whole.dtype.kind == "bits")
        return Glance(summary_of(result), histogram_of(result), 0)
    values = sample_of(Reader(source, layout), elements)
    result = replace(swept(values, None, Wanted(bins), median=True), count=whole.count, bars=None, exact_range=False)
    times = whole.count / values.size
    return Glance(_scaled_summary(summary_of(result), times), _scaled(histogram_of(result), times), values.size)


def _scaled_summary(summary: Summary, times: float) -> Summary:
    known = {name: getattr(summary, name) for name in (*_COUNTS, "tiny", "outliers")}
    counts = {name: round(n * times) for name, n in known.items() if n is not None}
    l2 = None if summary.l2 is None else summary.l2 * times**0.5
    return replace(summary, l2=l2, **counts)


def _scaled(histogram: Histogram, times: float) -> Histogram:
    counts = {name: round(getattr(histogram, name) * times) for name in (*_COUNTS, "below", "above")}
    return replace(histogram, counts=np.rint(histogram.counts * times).astype(np.int64), **counts)
