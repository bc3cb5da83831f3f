"""Values over their probability.

Types of at most 16 bits are told by how often each of their codes occurs, and what fits in memory is sorted. Of a
larger tensor the values are put in order by counting: first the upper 16 bits of each, as an integer that sorts as the
values do, then the next bits of those alone that share their upper ones with a rank that is asked for, until all bits
are known. So the values are exact, in a few passes, and the memory is that of the counts. Only of the very largest a
sample has to do, which is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats.decode import (
    Array,
    Block,
    Blocks,
    Elements,
    Reader,
    elements_of,
    in_storage_order,
    product,
    refuse_bomb,
)
from sdviewer.stats.ranks import keys_of, values_of
from sdviewer.stats.sweep import code_counts, flat_values, run

SORTED = 1 << 24
"""Values up to which a tensor is sorted in memory: 64 MiB of float32."""

COUNTED = 1 << 28
"""Values up to which they are counted; of more, about `SORTED` of them are the sample."""

SAMPLE_RUN = 4096
"""Values of a sample that lie side by side."""

POINTS = 199
"""Probabilities that are evenly spread, and likewise those evenly spread on the scale of a normal distribution."""

FIRST_BITS = 16
MOST_COUNTS = 1 << 24
"""Counts of a pass, 4 bytes each in every thread: with more wanted beginnings, fewer bits are taken on."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The `values` at `probabilities` (0 and 1 with them), and where these stand on a scale of normal deviates.

    They are those of linear interpolation between the two nearest ranks, as in NumPy and torch, of `finite` values;
    `left_out` others are NaN or infinite. `sampled` is how many values they come from where that is not all of them,
    else 0; then `finite` and `left_out` are of the sample. The first and the last deviate are those of half a value
    from either end.
    """

    finite: int
    left_out: int
    sampled: int
    probabilities: NDArray[np.float64]
    deviates: NDArray[np.float64]
    values: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__[:3]}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in self.__slots__[3:]}


def quantiles(source: ByteSource, layout: TensorLayout, *, progress: Progress = no_progress) -> Quantiles:
    """The quantiles of a tensor's finite values. Complex ones are taken by their magnitude. Progress is in bytes.

    Raises:
        UsageError: its type is bits.
        CorruptCheckpoint: the bytes are not there.
    """
    whole = elements_of(source, layout)
    if whole.dtype.kind == "bits":
        raise UsageError(f"values of type {layout.dtype} have no order")
    elements, repeats = in_storage_order(whole)
    refuse_bomb(elements)
    sampled = 0
    if elements.dtype.itemsize <= 2 and elements.count > SORTED:
        finite, pick = _of_codes(source, layout, elements, progress)
    elif elements.count <= SORTED:
        finite, pick = _of_all(source, layout, elements, list(Blocks(elements)), progress)
    elif elements.count <= COUNTED:
        finite, pick = _of_bits(source, layout, elements, repeats, progress)
    else:
        sample = _sample(elements)
        sampled = sum(product(block.shape) for block in sample)
        finite, pick = _of_all(source, layout, elements, sample, progress)
        repeats = 1
    left_out = (sampled or whole.count) - finite * repeats
    if not finite:
        return Quantiles(0, left_out, sampled, *(np.zeros(0),) * 3)
    n = finite * repeats
    shares, deviates = probabilities(n)
    low, high, part = _ranks(shares, n)
    below, above = pick(low // repeats), pick(high // repeats)
    # As shares of both, since the distance between them can be more than a float holds.
    values = np.where(below == above, below, below * (1 - part) + above * part) + 0.0  # no -0.0
    return Quantiles(n, left_out, sampled, shares, deviates, values)


def probabilities(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At which probabilities the quantiles of n values are taken, ascending, and their normal deviates."""
    normal = NormalDist()
    # An expanded tensor can have more values than a float tells from 1.
    edge = min(max(0.5 / n, 2.0**-53), 0.5)
    reach = -normal.inv_cdf(edge)
    steps = [reach * (2 * i / (POINTS + 1) - 1) for i in range(1, POINTS + 1)]
    inner = {normal.cdf(step) for step in steps} | {i / (POINTS + 1) for i in range(1, POINTS + 1)}
    shares = [0.0, *sorted(inner), 1.0]
    clipped = [min(max(share, edge), 1 - edge) for share in shares]
    return np.array(shares), np.array([normal.inv_cdf(share) for share in clipped])


def _ranks(shares: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The two ranks (from 0) between which each quantile of n values lies, and how far it is from the lower one."""
    places = shares * (n - 1)
    low = np.array([min(int(place), n - 1) for place in places.tolist()], np.int64)
    return low, np.minimum(low, n - 2) + 1, np.clip(places - low, 0.0, 1.0)


Pick = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""The values of ranks among the stored finite ones."""


def _of_all(
    source: ByteSource, layout: TensorLayout, elements: Elements, blocks: list[Block], progress: Progress
) -> tuple[int, Pick]:
    reader = Reader(source, layout)
    some: list[Array] = []
    for i, block in enumerate(blocks):
        progress(i, len(blocks))
        values = flat_values(reader.values(block))
        finite = np.isfinite(values)
        some.append(values.copy() if finite.all() else values[finite])
    progress(len(blocks), len(blocks))
    values = np.concatenate(some) if some else np.zeros(0)
    some.clear()
    values.sort()
    return values.size, lambda ranks: values[ranks].astype(np.float64)


def _sample(elements: Elements) -> list[Block]:
    """Runs of neighbours, spread evenly over a tensor."""
    runs = Blocks(elements, SAMPLE_RUN * elements.dtype.itemsize)
    number = min(SORTED // SAMPLE_RUN, len(runs))
    return [runs[i * len(runs) // number] for i in range(number)]


def _of_codes(source: ByteSource, layout: TensorLayout, elements: Elements, progress: Progress) -> tuple[int, Pick]:
    found, counts = code_counts(source, layout, elements, None, progress)
    values = found.astype(np.float64)
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    values, ends = values[order], np.cumsum(counts[order])
    finite = int(ends[-1]) if ends.size else 0
    return finite, lambda ranks: values[np.searchsorted(ends, ranks, side="right")]


# By their bits


def _codes(values: Array) -> Array:
    """Unsigned integers that sort as the values do."""
    keys = keys_of(values)
    return (keys ^ np.iinfo(keys.dtype).min).view(f"u{keys.itemsize}")


def _values(codes: NDArray[np.uint64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """The values that codes of this type stand for."""
    keys = codes.astype(f"u{dtype.itemsize}").view(f"i{dtype.itemsize}")
    return values_of(keys ^ np.iinfo(keys.dtype).min, dtype).astype(np.float64)


def _of_bits(
    source: ByteSource, layout: TensorLayout, elements: Elements, repeats: int, progress: Progress
) -> tuple[int, Pick]:
    reader = Reader(source, layout)
    dtype = flat_values(reader.values(Blocks(elements)[0])).dtype
    width = 8 * dtype.itemsize
    passes = -(-width // FIRST_BITS)

    class Counter:
        """Counts the next bits of the keys that begin as one of those wanted."""

        beginnings: Array = np.zeros(1, dtype=f"u{dtype.itemsize}")
        known, bits = 0, FIRST_BITS

        def __init__(self) -> None:
            self.reader = Reader(source, layout)
            self.counts = np.zeros(len(self.beginnings) << self.bits, np.int32)

        def take(self, blocks: Blocks, index: int) -> None:
            values = flat_values(self.reader.values(blocks[index]))
            finite = np.isfinite(values)
            keys = _codes(values if finite.all() else values[finite])
            kind = keys.dtype.type
            # Shifting by all bits of a type would not shift.
            slots = np.zeros(len(keys), np.int64)
            if self.known:
                starts = keys >> kind(width - self.known)
                slots = np.searchsorted(self.beginnings, starts)
                slots[slots == len(self.beginnings)] = 0
                wanted = self.beginnings[slots] == starts
                keys, slots = keys[wanted], slots[wanted]
            ends = (keys >> kind(width - self.known - self.bits)) & kind((1 << self.bits) - 1)
            places = (slots << self.bits) + ends.astype(np.int64)
            if len(self.counts) <= 1 << FIRST_BITS:
                self.counts += np.bincount(places, minlength=len(self.counts)).astype(np.int32)
            else:
                np.add.at(self.counts, places, 1)

    def count(turn: int) -> NDArray[np.int64]:
        def tell(done: int, total: int) -> None:
            progress(min(turn * total + done, passes * total), passes * total)

        counters = run(Blocks(elements), elements, Counter, tell)
        counts: NDArray[np.int64] = np.sum([counter.counts for counter in counters], axis=0, dtype=np.int64)
        return counts.reshape(len(Counter.beginnings), -1)

    counts = count(0)
    finite = int(counts.sum())
    if not finite:
        return 0, lambda ranks: np.zeros(len(ranks))
    low, high, _ = _ranks(probabilities(finite * repeats)[0], finite * repeats)
    ranks = np.unique(np.concatenate([low, high]) // repeats)
    # For each rank: which beginning it has, and its rank among those that begin so.
    slots, inside = np.zeros(len(ranks), np.int64), ranks.copy()
    turn = 0
    while True:
        ends = np.cumsum(counts, axis=1)
        digits = np.array(
            [np.searchsorted(ends[slot], rank, side="right") for slot, rank in zip(slots, inside, strict=True)]
        )
        inside -= np.where(digits > 0, ends[slots, np.maximum(digits - 1, 0)], 0)
        kind = Counter.beginnings.dtype.type
        longer = (Counter.beginnings[slots].astype(np.uint64) << np.uint64(Counter.bits)) | digits.astype(np.uint64)
        Counter.known += Counter.bits
        if Counter.known == width:
            break
        unique, slots = np.unique(longer, return_inverse=True)
        Counter.beginnings = unique.astype(kind)
        room = (MOST_COUNTS // len(unique)).bit_length() - 1
        Counter.bits = min(room, FIRST_BITS, width - Counter.known)
        turn += 1
        counts = count(turn)
    values = _values(longer, dtype)
    return finite, lambda wanted: values[np.searchsorted(ranks, wanted)]
