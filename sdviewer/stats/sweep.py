"""One pass over a tensor's stored elements, on all cores, in memory that does not grow with the tensor.

What is counted does not depend on the order of the elements, so they are read in the order of the storage, and an
element that an expanded tensor repeats is read once. Three ways, by what is cheapest and exact:

- up to a million elements: all values in memory, NumPy;
- types of at most 16 bits: count each code, then everything follows from 65,536 values and their counts;
- the rest: the range of the histogram from a sample, then block by block, compiled for float32 and float64.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats import kernels
from sdviewer.stats.binning import MOST_BARS, Bins, FloatBins, choose_bins, tally
from sdviewer.stats.decode import Array, Blocks, Elements, Reader, elements_of, in_storage_order, overlaps, refuse_bomb
from sdviewer.stats.moments import Part, magnitude, measure

IN_MEMORY = 1 << 20
"""Elements up to which all values are kept, so that the range is exact and nothing is read twice."""

SAMPLE_RUNS, SAMPLE_RUN = 1024, 1024
"""The sample: so many runs, evenly spread, of so many elements."""

COMPILED_FROM = 8 << 20
"""Bytes of a tensor from which the compiled loops are worth their loading."""

MOST_OVERLAPPED = 1 << 22
"""Stored elements up to which a tensor that passes over itself is counted."""

TASK = 16
"""Blocks that a thread takes at a time."""

THREADS = 8
"""Most threads; a few saturate the memory."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a pass found. All counts are of stored elements; each stands `repeats` times in the tensor.

    `count` is of the tensor's values. `opaque`: they are bits, not numbers. `slots` are the counts of `bins` (below,
    inside, above; exact zeros with the others). `bars` are the counts of each integer when they are few, else None.
    `sampled` is the number of values that the range was decided from, `exact_range` says that these were all.
    """

    count: int
    repeats: int
    parts: list[Part]
    bins: Bins | None = None
    slots: NDArray[np.int64] | None = None
    bars: dict[int, int] | None = None
    sampled: int = 0
    exact_range: bool = True
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """The histogram asked for: the most bins, and the range when it is not to be chosen."""

    bins: int
    span: tuple[float, float] | None = None


def sweep(
    source: ByteSource,
    layout: TensorLayout,
    wanted: Wanted | None = None,
    *,
    progress: Progress = no_progress,
    compiled: bool | None = None,
) -> Sweep:
    """Measure a tensor, and sort its values into bins when `wanted`.

    `compiled` forces or forbids the compiled loops; without it the size decides. Progress is in bytes.

    Raises:
        CorruptCheckpoint: the tensor reaches outside of its storage, or its bytes cannot be read.
    """
    whole = elements_of(source, layout)
    elements, repeats = in_storage_order(whole)
    if whole.dtype.kind == "bits":
        return Sweep(whole.count, 1, [], opaque=True)
    if not whole.count:
        return Sweep(0, 1, [])
    if elements.count <= IN_MEMORY:
        values = _all_values(source, layout, elements, progress)
        return _swept(whole.count, repeats, values, None, wanted)
    if overlaps(elements):
        return _overlapping(source, layout, elements, whole.count, repeats, wanted, progress)
    large = elements.nbytes(elements.count) >= COMPILED_FROM if compiled is None else compiled
    loops = kernels.load() if large else None
    if elements.dtype.itemsize <= 2:
        values, counts = _code_counts(source, layout, elements, loops, progress)
        return _swept(whole.count, repeats, values, counts, wanted)
    return _streamed(source, layout, elements, whole.count, repeats, wanted, loops, progress)


def _all_values(source: ByteSource, layout: TensorLayout, elements: Elements, progress: Progress) -> Array:
    reader = Reader(source, layout)
    total, done = elements.nbytes(elements.count), 0
    found = []
    for block in Blocks(elements):
        progress(done, total)
        stored = reader.stored(block)
        found.append(_real(reader.decode(stored)).copy())
        done += stored.nbytes
    progress(total, total)
    return found[0] if len(found) == 1 else np.concatenate(found)


def _real(values: Array) -> Array:
    """One row of real values: complex ones by their magnitude."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return magnitude(flat) if flat.dtype.kind == "c" else flat


def _swept(count: int, repeats: int, values: Array, weights: Array | None, wanted: Wanted | None) -> Sweep:
    """The result for values that are all in memory."""
    if weights is None:
        step = 1 << 16
        parts = [measure(values[start : start + step]) for start in range(0, values.size, step)]
    else:
        parts = [measure(values, weights)]
    if wanted is None:
        return Sweep(count, repeats, parts)
    bins = choose_bins(values, weights, wanted.bins, wanted.span)
    bars = None
    if values.dtype.kind != "f":
        bars = _add_bars({}, values, weights)
    slots = None if bins is None else tally(bins, values, weights)
    sampled = values.size if weights is None else int(weights.sum())
    return Sweep(count, repeats, parts, bins, slots, bars, sampled)


def _add_bars(bars: dict[int, int], values: Array, weights: Array | None = None) -> dict[int, int] | None:
    """The counts of each integer with those of `values` added, None when they become too many."""
    if weights is None:
        values, weights = np.unique(values, return_counts=True)
    if values.size > MOST_BARS:
        return None
    for value, n in zip(values.tolist(), weights.tolist(), strict=True):
        bars[int(value)] = bars.get(int(value), 0) + n
    return bars if len(bars) <= MOST_BARS else None


def _overlapping(
    source: ByteSource,
    layout: TensorLayout,
    elements: Elements,
    count: int,
    repeats: int,
    wanted: Wanted | None,
    progress: Progress,
) -> Sweep:
    """A tensor whose strides make it pass over the same few stored elements again and again."""
    if elements.span > MOST_OVERLAPPED:
        refuse_bomb(elements)
    # How often each stored element is passed over: each dimension adds the sums of `size` neighbours `step` apart.
    times = np.zeros(elements.span, np.int64)
    times[0] = 1
    for size, step in zip(elements.shape, elements.stride, strict=True):
        rows = np.pad(times, (0, -times.size % step)).reshape(-1, step).cumsum(axis=0)
        rows[size:] -= rows[:-size].copy()
        times = rows.reshape(-1)[: elements.span]
    run = Elements(elements.dtype, elements.offset, (elements.span,), (1,))
    values = _all_values(source, layout, run, progress)
    return _swept(count, repeats, values[times > 0], times[times > 0], wanted)


# Types of at most 16 bits


def _code_counts(
    source: ByteSource, layout: TensorLayout, elements: Elements, loops: kernels.Kernels | None, progress: Progress
) -> tuple[Array, NDArray[np.int64]]:
    """The values that occur and how often each does."""
    codes = 1 << (8 * elements.dtype.itemsize)
    unsigned = np.dtype(f"u{elements.dtype.itemsize}")

    class Counter:
        def __init__(self) -> None:
            self.reader = Reader(source, layout)
            self.tallies = np.zeros((4, codes), np.int64)

        def take(self, blocks: Blocks, index: int) -> None:
            stored = np.ascontiguousarray(self.reader.stored(blocks[index])).reshape(-1).view(unsigned)
            if loops is None:
                self.tallies[0] += np.bincount(stored, minlength=codes)
            else:
                loops.count(stored, self.tallies)

    counters = run(Blocks(elements), elements, Counter, progress)
    counts = _total([counter.tallies for counter in counters])
    occurring = np.flatnonzero(counts)
    stored = occurring.astype(unsigned).view(Reader(source, layout).unit)
    return Reader(source, layout).decode(stored), counts[occurring]


def _total(tallies: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.concatenate(tallies).sum(axis=0)
    return total


# All others


def _streamed(
    source: ByteSource,
    layout: TensorLayout,
    elements: Elements,
    count: int,
    repeats: int,
    wanted: Wanted | None,
    loops: kernels.Kernels | None,
    progress: Progress,
) -> Sweep:
    bins, sampled, few = None, 0, False
    if wanted is not None:
        sample = _sample(source, layout, elements)
        bins, sampled = choose_bins(sample, None, wanted.bins, wanted.span), sample.size
        few = sample.dtype.kind != "f" and np.unique(sample).size <= MOST_BARS
    plan = _Plan(source, layout, bins, loops, few)
    blocks = Blocks(elements)
    workers = run(blocks, elements, lambda: _Measurer(plan), progress)
    parts = [part for _, part in sorted(pair for worker in workers for pair in worker.parts.items())]
    slots = None if bins is None else _total([worker.tallies for worker in workers])
    bars: dict[int, int] | None = {} if few else None
    for worker in workers:
        if bars is None or worker.bars is None:
            bars = None
            break
        found = list(worker.bars.items())
        bars = _add_bars(bars, np.array([v for v, _ in found], object), np.array([n for _, n in found], object))
    return Sweep(count, repeats, parts, bins, slots, bars, sampled, exact_range=False)


def _sample(source: ByteSource, layout: TensorLayout, elements: Elements) -> Array:
    """About a million values, always the same ones: short runs, evenly spread."""
    reader = Reader(source, layout)
    runs = Blocks(elements, SAMPLE_RUN * elements.dtype.itemsize)
    number = min(SAMPLE_RUNS, len(runs))
    return np.concatenate([_real(reader.values(runs[i * len(runs) // number])).copy() for i in range(number)])


@dataclass(frozen=True, slots=True)
class _Plan:
    source: ByteSource
    layout: TensorLayout
    bins: Bins | None
    loops: kernels.Kernels | None
    few: bool


@dataclass(slots=True)
class _Measurer:
    """One thread's share of a pass."""

    plan: _Plan
    parts: dict[int, Part] = field(default_factory=dict)
    bars: dict[int, int] | None = None
    tallies: NDArray[np.int64] = field(init=False)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.plan.source, self.plan.layout)
        bins = self.plan.bins
        self.tallies = np.zeros((4, 0 if bins is None else bins.bins + 2), np.int64)
        self.bars = {} if self.plan.few else None

    def take(self, blocks: Blocks, index: int) -> None:
        values = _real(self.reader.values(blocks[index]))
        bins = self.plan.bins
        part = self._compiled(values)
        if part is not None:
            self.parts[index] = part
            return
        self.parts[index] = measure(values)
        if bins is not None:
            self.tallies[0] += tally(bins, values)
        if self.bars is not None:
            self.bars = _add_bars(self.bars, values)

    def _compiled(self, values: Array) -> Part | None:
        loops, bins = self.plan.loops, self.plan.bins
        if loops is None or values.dtype.kind != "f":
            return None
        integer = np.dtype(f"i{values.itemsize}")
        extremes, sums = np.empty(2, integer), np.empty(3)
        kernel = loops.measure32 if values.itemsize == 4 else loops.measure64
        zeros = kernel(values, values.view(integer), extremes, sums)
        if zeros < 0:
            return None
        if isinstance(bins, FloatBins):
            slots = np.empty(kernels.SUB_BLOCK, np.int32)
            loops.bin(values, bins.low, bins.high, *bins.constants, bins.bins, self.tallies, slots)
        low, high = extremes.view(values.dtype).tolist()
        mean, squares, absolute = sums.tolist()
        n = values.size
        return Part(n, zeros=zeros, low=low, high=high, mean=mean, absolute=absolute / n, squares=squares)


class Worker(Protocol):
    """One thread's share: takes blocks one at a time, in any order."""

    def take(self, blocks: Blocks, index: int) -> None: ...


def run(blocks: Blocks, elements: Elements, make: Callable[[], Any], progress: Progress, threads: int = 0) -> list[Any]:
    """Let a worker a thread take all blocks; the workers, in no order. Progress is in bytes.

    Raises:
        Cancelled: `progress` raised it; the threads are done by then.
    """
    total = elements.nbytes(elements.count)
    number = threads or min(os.cpu_count() or 1, THREADS)
    workers: list[Any] = []
    own = threading.local()

    def task(start: int) -> None:
        worker = getattr(own, "worker", None)
        if worker is None:
            worker = own.worker = make()
            workers.append(worker)
        for index in range(start, min(start + TASK, len(blocks))):
            worker.take(blocks, index)

    starts = deque(range(0, len(blocks), TASK))
    if number == 1 or len(starts) < 2:
        while starts:
            progress(total * starts[0] // len(blocks), total)
            task(starts.popleft())
        progress(total, total)
        return workers
    with ThreadPoolExecutor(number, "stats") as pool:
        pending: set[Future[None]] = set()
        try:
            while starts or pending:
                while starts and len(pending) < 2 * number:
                    pending.add(pool.submit(task, starts.popleft()))
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                left = (len(starts) + len(pending)) * TASK
                progress(total * max(0, len(blocks) - left) // len(blocks), total)
        finally:
            for future in pending:
                future.cancel()
    return workers
