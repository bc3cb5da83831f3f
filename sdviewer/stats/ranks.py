"""The value in the middle, and how many lie far from the mean: what takes a second look at the values.

Values are looked at as keys: integers in the same order as the values are (the bits of a float, but for the sign). What
the first pass counted into bins says between which two keys the middle lies; the second look takes those few out and
sorts them, and counts all that lie before, so that the answer is exact whatever the bins said. Where too many lie
there, they are counted by 16 bits of their keys at a time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdviewer.stats import kernels
from sdviewer.stats.binning import Bins, FloatBins
from sdviewer.stats.decode import Array
from sdviewer.stats.moments import Moments, Part

SIGMAS = 6
"""Standard deviations from the mean beyond which a value is an outlier."""

MOST_KEPT = 4 << 20
"""Values near the middle that a thread keeps for sorting."""

BUCKETS = 1 << 16
"""Counters for the keys of a range."""


class Values(Protocol):
    """All values of a tensor once more, block by block."""

    def each(self, make: Callable[[], Any], wanted: Sequence[bool] | None) -> list[Any]:
        """Let takers that `make` makes, one a thread, `take` the number and values of each block that is wanted; the
        takers."""


class Ranks(NamedTuple):
    """`outliers` are further than `SIGMAS` standard deviations from the mean; `median` is the mean of the middle two
    where their number is even, None where it was not asked for."""

    outliers: int
    median: int | float | None


# Keys


def keys_of(values: Array) -> NDArray[Any]:
    """Signed integers in the order of the values; NaN lies beyond the infinities, -0.0 just before 0.0."""
    bits = 8 * values.itemsize
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    codes: NDArray[Any] = values.view(f"i{values.itemsize}")
    if values.dtype.kind == "f":
        codes = codes ^ ((codes >> (bits - 1)) & _most(bits))
    elif values.dtype.kind == "u":
        codes = codes ^ ~_most(bits)
    return codes


def _most(bits: int) -> int:
    """The greatest signed integer of so many bits; with all bits turned it is the least."""
    return (1 << (bits - 1)) - 1


# Of single values without NumPy, which would take as long for each as for a thousand.
_FLOATS = {4: struct.Struct("<f"), 8: struct.Struct("<d")}
_CODES = {4: struct.Struct("<i"), 8: struct.Struct("<q")}


def key_of(value: Any, dtype: np.dtype[Any]) -> int:
    """The key of one value; of the nearest, if the type lacks it."""
    most = _most(8 * dtype.itemsize)
    if dtype.kind != "f":
        return int(value) if dtype.kind == "i" else int(value) - most - 1
    try:
        stored = _FLOATS[dtype.itemsize].pack(value)
    except OverflowError:
        stored = _FLOATS[dtype.itemsize].pack(math.copysign(math.inf, value))
    code: int = _CODES[dtype.itemsize].unpack(stored)[0]
    return code ^ most if code < 0 else code


def values_of(keys: NDArray[Any], dtype: np.dtype[Any]) -> Array:
    """The values of keys, which are signed integers of the size of the type; those of bool as uint8."""
    dtype = np.dtype("u1") if dtype.kind == "b" else dtype
    most = _most(8 * keys.itemsize)
    if dtype.kind == "f":
        keys = np.where(keys < 0, keys ^ most, keys)
    elif dtype.kind == "u":
        keys = keys ^ ~most
    return keys.view(dtype)


def value_of(key: int, dtype: np.dtype[Any]) -> Any:
    """The value of a key as a Python number."""
    most = _most(8 * dtype.itemsize)
    if dtype.kind != "f":
        return key if dtype.kind == "i" else key + most + 1
    code = _CODES[dtype.itemsize].pack(key ^ most if key < 0 else key)
    return _FLOATS[dtype.itemsize].unpack(code)[0] + 0


@dataclass(frozen=True, slots=True)
class _Frame:
    """Keys of a tensor: the finite ones lie in `bottom` to `top`, those of zero in `zero` to `zero_end`."""

    dtype: np.dtype[Any]
    bottom: int
    top: int
    zero: int
    zero_end: int

    def widened(self, low: int, high: int) -> tuple[int, int]:
        """A range that holds all keys of zero, or none."""
        low = self.zero if self.zero <= low <= self.zero_end else max(low, self.bottom)
        high = self.zero_end if self.zero <= high <= self.zero_end else min(high, self.top)
        return low, high


def _frame(dtype: np.dtype[Any], whole: Part) -> _Frame:
    zero_end = key_of(0, dtype)
    zero = zero_end - 1 if dtype.kind == "f" else zero_end
    bottom = zero if whole.low == 0 else key_of(whole.low, dtype)
    return _Frame(dtype, bottom, key_of(whole.high, dtype), zero, zero_end)


# Looking


@dataclass(frozen=True, slots=True)
class _Search:
    """What is looked through: values of which the first pass found `whole`, and `parts` block by block."""

    values: Values
    frame: _Frame
    whole: Part
    parts: Sequence[Part]
    loops: kernels.Kernels | None

    def look(self, low: int, high: int, near: tuple[int, int] = (0, 0), with_far: Sequence[bool] = ()) -> list[_Looker]:
        """Look at all values once more; `_Plan` says for what."""
        plan = _Plan(self, low, high, near, with_far or [False] * len(self.parts))
        return self.values.each(lambda: _Looker(plan), None)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to look for: keys in `low` to `high` that are not zero, and those that lie outside of `near`.

    The latter in those blocks alone that have some, as `with_far` says by their numbers. The range is empty when `low`
    is above `high`. `limits` and `far_limits` are both as values.
    """

    search: _Search
    low: int
    high: int
    near: tuple[int, int]
    with_far: Sequence[bool]
    limits: Array = field(init=False)
    far_limits: Array = field(init=False)

    def __post_init__(self) -> None:
        frame = self.search.frame
        far = frame.bottom, frame.top, *self.near
        for name, keys in (("limits", (self.low, self.high)), ("far_limits", far)):
            limits = np.array([value_of(key, frame.dtype) for key in keys], frame.dtype)
            object.__setattr__(self, name, limits)


@dataclass(slots=True)
class _Looker:
    """One thread's share of a look: how many are far, before `low`, inside, and those inside while there is room."""

    plan: _Plan
    far: int = 0
    before: int = 0
    inside: int = 0
    kept: list[NDArray[Any]] = field(default_factory=list)
    room: Array = field(default_factory=lambda: np.empty(0))

    def take(self, index: int, values: Array) -> None:
        loops = self.plan.search.loops
        if loops is None or values.dtype.kind != "f":
            far, before, found = _look(index, keys_of(values), self.plan)
        else:
            far, before, found = self._look(index, values, loops)
        self.far += far
        self.before += before
        if found.size and self.inside <= MOST_KEPT:
            self.kept.append(found)
        self.inside += found.size

    def _look(self, index: int, values: Array, loops: kernels.Kernels) -> tuple[int, int, NDArray[Any]]:
        plan = self.plan
        find, seek = (loops.far32, loops.seek32) if values.itemsize == 4 else (loops.far64, loops.seek64)
        far = find(values, plan.far_limits) if plan.with_far[index] else 0
        if plan.low > plan.high:
            return far, 0, np.empty(0, np.int64)
        if self.room.size < values.size:
            self.room = np.empty(values.size, values.dtype)
        before, inside = seek(values, plan.limits, self.room)
        # It counted minus infinity too, which lies before all that is looked for.
        return far, before - plan.search.parts[index].neginf, keys_of(self.room[:inside])


def _look(index: int, keys: NDArray[Any], plan: _Plan) -> tuple[int, int, NDArray[Any]]:
    """How many keys are far, how many lie before the range, and those inside that are not zero."""
    frame = plan.search.frame
    finite = keys[(keys >= frame.bottom) & (keys <= frame.top)]
    far = np.count_nonzero((finite < plan.near[0]) | (finite > plan.near[1])) if plan.with_far[index] else 0
    inside = (finite >= plan.low) & (finite <= plan.high) & ((finite < frame.zero) | (finite > frame.zero_end))
    return int(far), int(np.count_nonzero(finite < plan.low)), finite[inside]


@dataclass(slots=True)
class _Counter:
    """One thread's share of counting the keys of a range by `BUCKETS` buckets of 2**shift keys."""

    low: int
    high: int
    shift: int
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))

    def take(self, index: int, values: Array) -> None:
        keys = keys_of(values)
        keys = keys[(keys >= self.low) & (keys <= self.high)].astype(np.int64)
        # Differences modulo 2**64 are exact for every pair of keys.
        apart = (keys.view(np.uint64) - np.uint64(self.low % 2**64)) >> np.uint64(self.shift)
        self.counts += np.bincount(apart.astype(np.int64), minlength=BUCKETS)


def ranks(
    values: Values,
    dtype: np.dtype[Any],
    parts: Sequence[Part],
    whole: Part,
    found: Moments,
    guide: tuple[Bins, NDArray[np.int64]] | None,
    loops: kernels.Kernels | None,
) -> Ranks:
    """Look at the values again as far as it is needed. `parts` are those of the blocks, `whole` is all of them.

    With a `guide`, bins and the counts of their slots with zeros among them, the median is looked for too.
    """
    frame, limits = _frame(dtype, whole), limits_of(whole, found, dtype)
    near = key_of(limits[0], dtype), key_of(limits[1], dtype)
    with_far = [part.finite > 0 and (part.low < limits[0] or part.high > limits[1]) for part in parts]
    search = _Search(values, frame, whole, parts, loops)
    if guide is None or whole.low == whole.high:
        nothing = _Plan(search, frame.top, frame.bottom, near, with_far)
        lookers = values.each(lambda: _Looker(nothing), with_far) if any(with_far) else []
        return Ranks(sum(looker.far for looker in lookers), None if guide is None else whole.low)
    low, high = _guided(*guide, whole.finite, frame)
    lookers = search.look(low, high, near, with_far)
    middle = (whole.finite - 1) // 2, whole.finite // 2
    two = _found(search, (low, high), middle, lookers)
    return Ranks(sum(looker.far for looker in lookers), _between(*two))


def limits_of(whole: Part, found: Moments, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The least and the greatest value of a type that is no outlier, as Python numbers."""
    spread = SIGMAS * found.std
    if dtype.kind != "f":
        limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
        least, most = int(limits.min), int(limits.max)
        # In float64 the mean of large ones may be off by more than their spread.
        middle, rest = (whole.center, whole.mean) if isinstance(whole.center, int) else (0, found.mean)
        first, last = middle + math.ceil(rest - spread), middle + math.floor(rest + spread)
        return min(max(first, least), most), min(max(last, least), most)
    low, high = found.mean - spread, found.mean + spread
    # Rounded to the type they may have come to lie outside.
    first, last = key_of(low, dtype), key_of(high, dtype)
    first += value_of(first, dtype) < low
    last -= value_of(last, dtype) > high
    return value_of(first, dtype), value_of(last, dtype)


def _guided(bins: Bins, slots: NDArray[np.int64], n: int, frame: _Frame) -> tuple[int, int]:
    """Between which keys the middle lies by the counts of the slots."""
    running = np.cumsum(slots)
    first, last = (int(np.searchsorted(running, rank, side="right")) for rank in ((n - 1) // 2, n // 2))
    low, high = frame.bottom, frame.top
    if isinstance(bins, FloatBins):
        # The edges are not exactly where the slots end: a little more, and one more of the type, on each side.
        if first > 0:
            low = key_of(bins.at(first - 1) - bins.slack, frame.dtype) - 1
        if last <= bins.bins:
            high = key_of(bins.at(last) + bins.slack, frame.dtype) + 1
    else:
        least, most = value_of(low, frame.dtype), value_of(high, frame.dtype)
        if first > 0:
            low = key_of(min(max(bins.low + (first - 1) * bins.width, least), most), frame.dtype)
        if last <= bins.bins:
            high = key_of(min(max(bins.low + last * bins.width, least), most), frame.dtype)
    return frame.widened(low, high)


def _found(
    search: _Search, span: tuple[int, int], places: tuple[int, int], lookers: list[_Looker]
) -> tuple[int | float, int | float]:
    """The values of two ranks next to each other, or of one twice.

    `lookers` have looked at the `span` of keys; it is narrowed until what is in it has been kept.
    """
    frame, whole = search.frame, search.whole
    first, last = places
    while True:
        low, high = span
        before, inside = sum(looker.before for looker in lookers), sum(looker.inside for looker in lookers)
        zeros = whole.zeros if low <= frame.zero <= high else 0
        if not (before <= first and last < before + inside + zeros):
            before, low, high = 0, frame.bottom, frame.top
        elif all(looker.inside <= MOST_KEPT for looker in lookers):
            return _picked(frame, lookers, zeros, first - before, last - before)
        spans = _narrowed(search.values, low, high, (first - before, last - before))
        if all(start == end for start, end in spans):
            return value_of(spans[0][0], frame.dtype), value_of(spans[1][0], frame.dtype)
        looks = [(span, search.look(*span)) for span in dict.fromkeys(frame.widened(*span) for span in spans)]
        if len(looks) > 1:
            one, other = (
                _found(search, span, (rank, rank), lookers)[0]
                for rank, (span, lookers) in zip(places, looks, strict=True)
            )
            return one, other
        span, lookers = looks[0]


def _picked(
    frame: _Frame, lookers: list[_Looker], zeros: int, first: int, last: int
) -> tuple[int | float, int | float]:
    """The values of two ranks among the keys kept, with so many zeros among them."""
    keys = np.concatenate([keys for looker in lookers for keys in looker.kept] or [np.empty(0, np.int64)])
    negative = int(np.count_nonzero(keys < frame.zero))
    # Zeros have not been kept: None is one of them.
    places = [
        None if negative <= rank < negative + zeros else rank - zeros * (rank >= negative) for rank in (first, last)
    ]
    wanted = sorted({place for place in places if place is not None})
    keys = np.partition(keys, wanted) if wanted else keys
    one, other = (value_of(frame.zero_end if at is None else int(keys[at]), frame.dtype) for at in places)
    return one, other


def _narrowed(values: Values, low: int, high: int, places: tuple[int, int]) -> list[tuple[int, int]]:
    """For each of two ranks the keys of the bucket that holds it; one key each once buckets are as narrow as that."""
    shift = max(0, (high - low).bit_length() - 16)
    counters = values.each(lambda: _Counter(low, high, shift), None)
    running = np.cumsum(np.sum([counter.counts for counter in counters], axis=0))
    starts = [low + (int(np.searchsorted(running, rank, side="right")) << shift) for rank in places]
    return [(start, min(high, start + (1 << shift) - 1)) for start in starts]


def _between(low: int | float, high: int | float) -> int | float:
    """The mean of two values, without overflow."""
    if low == high:
        return low
    return (low + high) / 2 if isinstance(low, int) else low / 2 + high / 2


def median_of(values: Array, weights: Array | None = None) -> int | float:
    """The median of finite values that are all at hand, each as often as its weight says."""
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    n = values.size if weights is None else int(weights.sum())
    first, last = (n - 1) // 2, n // 2
    if weights is None:
        parted = np.partition(values, (first, last))
        return _between(parted[first].item() + 0, parted[last].item() + 0)
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    low, high = (values[order[np.searchsorted(running, rank, side="right")]] for rank in (first, last))
    return _between(low.item() + 0, high.item() + 0)


def outliers_of(values: Array, weights: Array | None, whole: Part, found: Moments) -> int:
    """How many of some finite values that are all at hand lie far from the mean."""
    spread = SIGMAS * found.std
    if isinstance(whole.center, float) and found.mean - spread <= whole.low and whole.high <= found.mean + spread:
        return 0
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    low, high = (np.array(limit, values.dtype) for limit in limits_of(whole, found, values.dtype))
    far = (values < low) | (values > high)
    return int(np.count_nonzero(far)) if weights is None else int(weights[far].sum())
