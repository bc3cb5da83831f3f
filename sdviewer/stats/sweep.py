"""One pass over a tensor's stored elements, in memory that does not grow with the tensor.

What is counted does not depend on the order of the elements, so they are read in the order of the storage, and an
element that an expanded tensor repeats is read once. Three ways, by what is cheapest, told by type and size alone:

- types of at most 16 bits, from 65,536 elements: count each code, then everything follows from the codes' values;
- up to 16 MiB: read the values, keep them, choose the range, sort them into bins;
- the rest: the range of the histogram from a sample that is read first, then block by block; and once more for the
  median where it is wanted, or else the blocks that have values far from the mean (`ranks`).

Up to 16 MiB the calling thread does it all, beyond that a thread a core; the result is the same for any number of them.

The range is from all values up to 65,536 elements and for types of at most 16 bits, else from a sample. For float32 and
float64, and for counting codes, there are compiled loops (`kernels`); until a process has measured enough for their
loading to pay, NumPy does the same.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats import kernels
from sdviewer.stats.binning import MOST_BARS, Bins, FloatBins, choose_bins, tally
from sdviewer.stats.decode import (
    BLOCK,
    Array,
    Blocks,
    Elements,
    Reader,
    elements_of,
    in_storage_order,
    overlaps,
    refuse_bomb,
    stored_type,
)
from sdviewer.stats.moments import Moments, Part, about_mean, magnitude, measure, merge, moments
from sdviewer.stats.ranks import Ranks, median_of, outliers_of, ranks

EXACT = 1 << 16
"""Elements up to which the range comes from all values."""

KEPT = 16 << 20
"""Stored bytes of a tensor up to which its values are kept between measuring them and sorting them into bins, all of it
on the calling thread. A few threads would be no quicker up to here, as they fight over the interpreter lock, and many
such tensors are measured by several processes side by side."""

KEPT_BLOCK = 2 * BLOCK
"""Bytes of a block of such a tensor: half the calls, and NumPy still reuses its memory for one."""

SAMPLE, RUN = 1 << 16, 16
"""Of values that are kept: so many are the sample, in runs of so many, which are a cache line of float32."""

READ_RUNS, READ_RUN = 256, 1024
"""Of a larger tensor: so many runs of so many elements are the sample, as each run is a request."""

GOLDEN = 40503
"""2**16 over the golden ratio. Its multiples, modulo 2**16, spread evenly: a sample placed by them keeps step with no
row length, so that it sees all columns."""

COMPILED_FROM = 8 << 20
"""Bytes of a tensor from which the compiled loops are worth their loading ..."""

COMPILED_AFTER = 32 << 20
"""... and bytes of all tensors that a process has measured; then the loops are there for all that are not tiny."""

GUIDE, FINE = 140, 16
"""Bins for finding the median where no histogram is wanted; and into how many each is cut for it, a power of two, so
that few values are left to sort."""

FIRST_LOOK = 0.7
"""Share of the time that the first of two passes takes."""

TINY = 1 << 16
"""Bytes of a tensor below which NumPy is as quick."""

MOST_OVERLAPPED = 1 << 22
"""Stored elements up to which a tensor that passes over itself is counted."""

NOTHING = Part(0)

THREADS = min(os.cpu_count() or 1, 8)
"""A few saturate the memory."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a pass found. All counts are of stored elements; each stands `repeats` times in the tensor.

    `count` is of the tensor's values. `opaque`: they are bits, not numbers. `whole` counts and adds up all values;
    `moments` and `ranks` are there when any is finite. `slots` are the counts of `bins` (below, inside, above; exact
    zeros with the others). `bars` are the counts of each integer when they are few, else None. `sampled` is the number
    of values that the range was decided from, `exact_range` says that these were all.
    """

    count: int
    repeats: int = 1
    whole: Part = NOTHING
    moments: Moments | None = None
    ranks: Ranks | None = None
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
    median: bool = True,
    progress: Progress = no_progress,
    compiled: bool | None = None,
) -> Sweep:
    """Measure a tensor, and sort its values into bins when `wanted`.

    Without the `median` most large tensors are read once, not twice. `compiled` forces or forbids the compiled loops;
    without it the bytes measured decide. Progress is in bytes.

    Raises:
        CorruptCheckpoint: the tensor reaches outside of its storage, or its bytes cannot be read.
    """
    whole = elements_of(source, layout)
    elements, repeats = in_storage_order(whole)
    if whole.dtype.kind == "bits":
        return Sweep(whole.count, opaque=True)
    if not whole.count:
        return Sweep(0)
    if overlaps(elements):
        found = _overlapping(source, layout, elements, wanted, median, progress)
        return replace(found, count=whole.count, repeats=repeats)
    stored = elements.nbytes(elements.count)
    loops = _loops(stored) if compiled is None else kernels.load() if compiled else None
    if elements.dtype.itemsize <= 2 and elements.count > EXACT:
        found = swept(*code_counts(source, layout, elements, loops, progress), wanted, median)
    else:
        tensor = _Tensor(source, layout, elements, loops)
        found = (_kept if stored <= KEPT else _streamed)(tensor, wanted, median, progress)
    return replace(found, count=whole.count, repeats=repeats)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where the stored elements are, and what to go through them with."""

    source: ByteSource
    layout: TensorLayout
    elements: Elements
    loops: kernels.Kernels | None

    def reader(self) -> Reader:
        """One for a thread."""
        return Reader(self.source, self.layout)


_measured = 0


def _loops(nbytes: int) -> kernels.Kernels | None:
    """The compiled loops for a tensor of so many bytes when it is worth it.

    They are loaded between two tensors, not by a thread on the side: which loops measure a tensor decides about the
    last digits of its sums, and two runs over a file must not differ.
    """
    global _measured
    if nbytes >= COMPILED_FROM:
        _measured = COMPILED_AFTER
    _measured += nbytes
    return kernels.load() if nbytes >= TINY and _measured > COMPILED_AFTER else None


def _all_values(source: ByteSource, layout: TensorLayout, elements: Elements, progress: Progress) -> Array:
    reader = Reader(source, layout)
    total, done = elements.nbytes(elements.count), 0
    found = []
    for block in Blocks(elements):
        progress(done, total)
        stored = reader.stored(block)
        found.append(flat_values(reader.decode(stored)).copy())
        done += stored.nbytes
    progress(total, total)
    return found[0] if len(found) == 1 else np.concatenate(found)


def flat_values(values: Array) -> Array:
    """One row of real values: complex ones by their magnitude."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return magnitude(flat) if flat.dtype.kind == "c" else flat


def swept(values: Array, weights: NDArray[np.int64] | None, wanted: Wanted | None, median: bool) -> Sweep:
    """The result for values that are all at hand, and how often each occurs."""
    number = values.size if weights is None else int(weights.sum())
    whole = merge([measure(values, weights)])
    found = Sweep(0, 1, whole, moments(whole) if whole.finite else None, _order(values, weights, whole, median))
    if wanted is None:
        return found
    bins = choose_bins(values, weights, wanted.bins, wanted.span)
    bars = _add_bars({}, values, weights) if values.dtype.kind != "f" else None
    slots = None if bins is None else tally(bins, values, weights)
    return replace(found, bins=bins, slots=slots, bars=bars, sampled=number)


def _order(values: Array, weights: NDArray[np.int64] | None, whole: Part, median: bool) -> Ranks | None:
    """What the order of values tells that are all at hand, when any is finite."""
    if not whole.finite:
        return None
    if whole.nan + whole.posinf + whole.neginf:
        finite = np.isfinite(values)
        values, weights = values[finite], None if weights is None else weights[finite]
    outliers = outliers_of(values, weights, whole, moments(whole))
    return Ranks(outliers, median_of(values, weights) if median else None)


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
    wanted: Wanted | None,
    median: bool,
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
    return swept(values[times > 0], times[times > 0], wanted, median)


# Types of at most 16 bits


def code_counts(
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
    values = Reader(source, layout).decode(stored)
    if values.dtype == bool:
        # Every byte but 0 is true.
        both = np.array([counts[0], counts[1:].sum()])
        return np.flatnonzero(both).astype(bool), both[both > 0]
    return values, counts[occurring]


def _total(tallies: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.concatenate(tallies).sum(axis=0)
    return total


# All others


def _kept(tensor: _Tensor, wanted: Wanted | None, median: bool, progress: Progress) -> Sweep:
    """Read and measure each block, choose the range, sort each block into bins."""
    elements, loops = tensor.elements, tensor.loops
    total = elements.nbytes(elements.count)
    blocks = Blocks(elements, KEPT_BLOCK)
    # A block of values that share bytes may begin and end inside of one; and all begin on a cache line.
    pitch = -(-(min(total, KEPT_BLOCK) + 8) // 64) * 64
    room = _room(len(blocks) * pitch)
    values: list[Array] = []
    parts: list[Part] = []
    for index, block in enumerate(blocks):
        progress(total * index // len(blocks), total)
        buffer = room[index * pitch : (index + 1) * pitch]
        values.append(flat_values(Reader(tensor.source, tensor.layout, buffer).values(block)))
        parts.append(_part(values[-1], loops))
    progress(total, total)
    whole = merge(parts)
    found = Sweep(0, 1, whole, moments(whole) if whole.finite else None)
    tallied = None
    by_loops = loops is not None and values[0].dtype.kind == "f" and whole.finite > 0
    if wanted is not None or (median and by_loops):
        fine = FINE if median and by_loops else 1
        found, tallied = _binned(found, values, parts, elements.count, wanted or Wanted(GUIDE), fine, loops)
    if not by_loops:
        return replace(
            found, ranks=_order(values[0] if len(values) == 1 else np.concatenate(values), None, whole, median)
        )
    guide = tallied if median else None
    return replace(found, ranks=_look_again(_Kept(values), parts, found, values[0].dtype, guide, loops))


def _binned(
    found: Sweep,
    values: list[Array],
    parts: list[Part],
    count: int,
    wanted: Wanted,
    fine: int,
    loops: kernels.Kernels | None,
) -> tuple[Sweep, tuple[Bins, NDArray[np.int64]] | None]:
    """With the bins for values that are kept, and their counts; and those of `fine` parts of each bin."""
    stride = math.ceil(count / SAMPLE)
    sample = np.concatenate([_every(some, stride, index) for index, some in enumerate(values)])
    bins = choose_bins(sample, None, wanted.bins, wanted.span, loops)
    if bins is None:
        # All of the sample is NaN or infinite; the rest need not be.
        sample = np.concatenate(values)
        bins = choose_bins(sample, None, wanted.bins, wanted.span, loops)
    # Counting the distinct values of every block is slow: not where the sample already has too many.
    few = sample.dtype.kind != "f" and np.unique(sample).size <= MOST_BARS
    bars = _all_bars([_add_bars({}, some) for some in values]) if few else None
    found = replace(found, bars=bars, sampled=sample.size, exact_range=sample.size == count)
    if bins is None:
        return found, None
    tallier = _Tallier(finer(bins, fine), loops)
    for some in values:
        tallier.take(some)
    slots = _finite_only([tallier.tallies], parts, loops)
    return replace(found, bins=bins, slots=_together(slots, bins)), (tallier.bins, slots)


def finer(bins: Bins, parts: int) -> Bins:
    """Bins cut into parts; those of integers stay as they are."""
    return replace(bins, bins=bins.bins * parts) if isinstance(bins, FloatBins) else bins


def _together(slots: NDArray[np.int64], bins: Bins) -> NDArray[np.int64]:
    """The counts of slots from those of finer ones."""
    return np.concatenate([slots[:1], slots[1:-1].reshape(bins.bins, -1).sum(axis=1), slots[-1:]])


def _look_again(
    values: _Kept | _Again,
    parts: list[Part],
    found: Sweep,
    dtype: np.dtype[Any],
    guide: tuple[Bins, NDArray[np.int64]] | None,
    loops: kernels.Kernels | None,
) -> Ranks | None:
    """What the order of the values tells, when any is finite."""
    return found.moments and ranks(values, dtype, parts, found.whole, found.moments, guide, loops)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Values that are in memory."""

    values: list[Array]

    def each(self, make: Callable[[], Any], wanted: Sequence[bool] | None) -> list[Any]:
        taker = make()
        for index, values in enumerate(self.values):
            if wanted is None or wanted[index]:
                taker.take(index, values)
        return [taker]


_own = threading.local()


def _room(nbytes: int) -> NDArray[np.uint8]:
    """Memory that this thread keeps for its next tensor: fresh pages cost as much as reading into them."""
    room: NDArray[np.uint8] | None = getattr(_own, "room", None)
    if room is None or room.size < nbytes:
        room = _own.room = np.empty(nbytes, np.uint8)
    return room


def _every(values: Array, stride: int, index: int) -> Array:
    """One run of `RUN` values in `stride` of them, somewhere in each stretch of `stride` runs; all when that is 1."""
    if stride == 1:
        return values
    runs = values[: values.size // RUN * RUN].reshape(-1, RUN)
    at = np.arange(len(runs) // stride)
    at = at * stride + ((at + index * at.size) * GOLDEN % 2**16 * stride >> 16)
    return runs.take(at, axis=0, mode="clip").reshape(-1)


def _part(values: Array, loops: kernels.Kernels | None) -> Part:
    """The counts and sums of a block."""
    if loops is None or values.dtype.kind != "f":
        return measure(values)
    integer = np.dtype(f"i{values.itemsize}")
    extremes, sums = np.empty(3, integer), np.empty(6)
    kernel = loops.measure32 if values.itemsize == 4 else loops.measure64
    zeros = kernel(values, values.view(integer), extremes, sums)
    if zeros < 0:
        return measure(values)
    low, high = extremes[:2].view(values.dtype).tolist()
    center, first, second, third, fourth, absolute = sums.tolist()
    n = values.size
    return Part(
        n, 0, 0, 0, zeros, int(extremes[2]), low, high, center, first / n, absolute / n,
        *about_mean(n, first, second, third, fourth),
    )  # fmt: skip


class _Tallier:
    """Counts how many values fall into each slot, as some rows that add up to them; for `_finite_only`."""

    def __init__(self, bins: Bins, loops: kernels.Kernels | None) -> None:
        self.bins = bins
        self._loops = loops if isinstance(bins, FloatBins) else None
        self.tallies = np.zeros((1 if self._loops is None else 4, bins.bins + 2), np.int64)
        self._slots = np.empty(kernels.SUB_BLOCK, np.int32)

    def take(self, values: Array) -> None:
        bins = self.bins
        if self._loops is None or not isinstance(bins, FloatBins):
            self.tallies[0] += tally(bins, values)
        else:
            sort = self._loops.bin32 if values.itemsize == 4 else self._loops.bin64
            sort(values, bins.low, bins.high, *bins.constants, bins.bins, self.tallies, self._slots)


def _finite_only(
    tallies: list[NDArray[np.int64]], parts: list[Part], loops: kernels.Kernels | None
) -> NDArray[np.int64]:
    """The counts of all blocks together; the compiled loop has put NaN below the range, infinity on its side of it."""
    slots = _total(tallies)
    if loops is not None:
        slots[0] -= sum(part.nan + part.neginf for part in parts)
        slots[-1] -= sum(part.posinf for part in parts)
    return slots


def _all_bars(found: list[dict[int, int] | None]) -> dict[int, int] | None:
    """The bars of all blocks together, None when they become too many or some block had too many."""
    bars: dict[int, int] | None = {}
    for some in found:
        if bars is None or some is None:
            return None
        bars = _add_bars(bars, np.array(list(some), object), np.array(list(some.values()), object))
    return bars


def _streamed(
    tensor: _Tensor, wanted: Wanted | None, median: bool, progress: Progress, ends: Array | None = None
) -> Sweep:
    """Read a sample, choose the range by it (or by `ends`), then measure and sort block by block."""
    loops, sample, bins = tensor.loops, ends, None
    if wanted is not None or median:
        sample = sample_of(tensor.reader(), tensor.elements) if sample is None else sample
        asked = wanted or Wanted(GUIDE)
        bins = choose_bins(sample, None, asked.bins, asked.span, loops)
    few = sample is not None and sample.dtype.kind != "f" and np.unique(sample).size <= MOST_BARS
    fine = finer(bins, FINE) if median and bins is not None else bins
    plan = _Plan(tensor, fine, few)
    blocks = Blocks(tensor.elements)
    workers = run(blocks, tensor.elements, lambda: _Measurer(plan), share(progress, 0, FIRST_LOOK if median else 1))
    parts = [part for _, part in sorted(pair for worker in workers for pair in worker.parts.items())]
    whole = merge(parts)
    if sample is not None and bins is None and whole.finite:
        # The sample had no finite value, the tensor has some.
        return _streamed(tensor, wanted, median, progress, np.array([whole.low, whole.high]))
    found = Sweep(0, 1, whole, moments(whole) if whole.finite else None, bins=bins, exact_range=False)
    guide = None
    if fine is not None and bins is not None and sample is not None:
        slots = _finite_only([worker.tallier.tallies for worker in workers], parts, loops)
        found = replace(found, slots=_together(slots, bins), sampled=sample.size)
        guide = (fine, slots) if median else None
    if few:
        found = replace(found, bars=_all_bars([worker.bars for worker in workers]))
    again = _Again(tensor, blocks, share(progress, FIRST_LOOK if median else 1, 1))
    ranked = _look_again(again, parts, found, _value_type(tensor), guide, loops)
    total = tensor.elements.nbytes(tensor.elements.count)
    progress(total, total)
    return replace(found, ranks=ranked)


def _value_type(tensor: _Tensor) -> np.dtype[Any]:
    """The type that the tensor's values come in."""
    return flat_values(tensor.reader().decode(np.zeros(1, stored_type(tensor.elements.dtype)))).dtype


def share(progress: Progress, first: float, last: float) -> Progress:
    """The progress of a part of the work, which goes on from `first` to `last` of the whole."""

    def tell(done: int, total: int) -> None:
        progress(total if done == total and last == 1 else int(first * total + (last - first) * done), total)

    return tell


def sample_of(reader: Reader, elements: Elements) -> Array:
    """About a quarter of a million values, always the same ones: short runs all over a tensor."""
    runs = Blocks(elements, READ_RUN * elements.dtype.itemsize)
    number = min(READ_RUNS, len(runs))
    places = [((i << 16) + i * GOLDEN % 2**16) * len(runs) // (number << 16) for i in range(number)]
    return np.concatenate([flat_values(reader.values(runs[place])).copy() for place in places])


@dataclass(frozen=True, slots=True)
class _Plan:
    tensor: _Tensor
    bins: Bins | None
    few: bool


class _Measurer:
    """One thread's share of a pass."""

    def __init__(self, plan: _Plan) -> None:
        self._loops = plan.tensor.loops
        self._reader = plan.tensor.reader()
        self.parts: dict[int, Part] = {}
        self.tallier = None if plan.bins is None else _Tallier(plan.bins, self._loops)
        self.bars: dict[int, int] | None = {} if plan.few else None

    def take(self, blocks: Blocks, index: int) -> None:
        values = flat_values(self._reader.values(blocks[index]))
        self.parts[index] = _part(values, self._loops)
        if self.tallier is not None:
            self.tallier.take(values)
        if self.bars is not None:
            self.bars = _add_bars(self.bars, values)


@dataclass(frozen=True, slots=True)
class _Again:
    """Values that are read once more."""

    tensor: _Tensor
    blocks: Blocks
    progress: Progress

    def each(self, make: Callable[[], Any], wanted: Sequence[bool] | None) -> list[Any]:
        workers = run(
            self.blocks, self.tensor.elements, lambda: _Rereader(make(), self.tensor.reader(), wanted), self.progress
        )
        return [worker.taker for worker in workers]


@dataclass(frozen=True, slots=True)
class _Rereader:
    """One thread's share of reading them once more."""

    taker: Any
    reader: Reader
    wanted: Sequence[bool] | None

    def take(self, blocks: Blocks, index: int) -> None:
        if self.wanted is None or self.wanted[index]:
            self.taker.take(index, flat_values(self.reader.values(blocks[index])))


class Worker(Protocol):
    """One thread's share: takes blocks one at a time, in any order."""

    def take(self, blocks: Blocks, index: int) -> None: ...


def run(blocks: Blocks, elements: Elements, make: Callable[[], Any], progress: Progress) -> list[Any]:
    """Let a worker a thread take all blocks; the workers, in no order. Progress is in bytes.

    A tensor of at most `KEPT` bytes is taken by this thread alone.

    Raises:
        Cancelled: `progress` raised it; the threads are done by then.
    """
    total = elements.nbytes(elements.count)
    workers: list[Any] = []
    own = threading.local()

    def take(index: int) -> None:
        worker = getattr(own, "worker", None)
        if worker is None:
            worker = own.worker = make()
            workers.append(worker)
        worker.take(blocks, index)

    threads = 1 if total <= KEPT else min(THREADS, len(blocks))
    each(len(blocks), take, lambda taken: progress(total * taken // len(blocks), total), threads)
    progress(total, total)
    return workers


def each(number: int, take: Callable[[int], None], tell: Callable[[int], None], threads: int) -> None:
    """Call `take` with each number below `number`, in this order, on this thread and the pool's, at most `threads`.

    `tell` is called on this thread with how many were taken before, and may raise to stop; no other thread is at work
    when this returns or raises.
    """
    waiting = deque(range(number))

    def work(tell: Callable[[int], None] | None) -> None:
        try:
            while True:
                if tell is not None:
                    tell(number - len(waiting))
                try:
                    index = waiting.popleft()
                except IndexError:
                    return
                take(index)
        except BaseException:
            waiting.clear()
            raise

    helpers: list[Future[None]] = [_pool().submit(work, None) for _ in range(threads - 1)]
    try:
        work(tell)
    finally:
        # One that has not begun by now has nothing left to do.
        begun = [helper for helper in helpers if not helper.cancel()]
        if begun:
            wait(begun)
    for helper in begun:
        helper.result()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """The threads that help, kept for the next tensor."""
    return ThreadPoolExecutor(max(1, THREADS - 1), "stats")
