"""Two tensors of one shape compared: first their bytes, and where these differ every value, in one pass over both.

Both are cut at the same places, whatever their strides; where the strides are alike the order is that of the storage,
and an element that both expand is read once. Memory does not grow with the tensors. Large ones are gone through by a
thread a core, with the compiled loops (`pair_kernels`) where it pays; the result is the same for any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.arrays import array_type, has_values
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats import pair_kernels
from sdviewer.stats.decode import Array, Blocks, Elements, Reader, elements_of, overlaps, refuse_bomb
from sdviewer.stats.pair_metrics import METRICS
from sdviewer.stats.pair_sums import PairSums, Tolerance, all_apart, merge, repeated
from sdviewer.stats.pair_table import CASTS, STATUSES
from sdviewer.stats.sweep import TINY, run, share
from sdviewer.stats.table import KNOWN, Columns

FIRST_LOOK = 0.3
"""Share of the time that comparing bytes takes where values have to be measured afterwards."""

_EXACT = Tolerance()


@dataclass(frozen=True, slots=True)
class PairNumbers:
    """What tells two tensors apart.

    `identical`: all bits are the same; then `sums` is empty, `finite` says that some value is finite and `nonzero` that
    one of these is not zero. `opaque`: they are bits, not numbers. `close`: a tolerance was given and all values are
    within it; `cast` is one of `pair_table.CASTS`. Counts of `sums` are of all values, an expanded one as often as it
    stands in the tensor; `at` is counted in row-major order.
    """

    count: int
    identical: bool = False
    opaque: bool = False
    finite: bool = False
    nonzero: bool = False
    sums: PairSums = PairSums(0)  # noqa: RUF009  a value
    close: bool = False
    cast: str = ""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One side."""

    source: ByteSource
    layout: TensorLayout

    def reader(self) -> Reader:
        return Reader(self.source, self.layout)


def compare(
    source_a: ByteSource,
    layout_a: TensorLayout,
    source_b: ByteSource,
    layout_b: TensorLayout,
    tolerance: Tolerance | None = None,
    *,
    progress: Progress = no_progress,
    compiled: bool = False,
) -> PairNumbers:
    """Compare two tensors of one shape. Progress is in bytes of A.

    `compiled`: by the compiled loops, except for a tiny tensor; loading them is worth it from `pair_kernels.WORTH` on.

    Raises:
        CorruptCheckpoint: one reaches outside of its storage, or its bytes cannot be read.
        OpenError: both repeat so few elements so often that it would take days (code `too_large`).
    """
    a, b = _Tensor(source_a, _bytes_of(layout_a)), _Tensor(source_b, _bytes_of(layout_b))
    whole_a, whole_b = elements_of(source_a, a.layout), elements_of(source_b, b.layout)
    opaque = "bits" in (whole_a.dtype.kind, whole_b.dtype.kind) or (layout_a.opaque, layout_b.opaque) != (None, None)
    if opaque:
        same = layout_a.dtype == layout_b.dtype and (layout_a.opaque is None) == (layout_b.opaque is None)
        if not same or whole_a.shape != whole_b.shape:
            return PairNumbers(whole_a.count, opaque=True)
    if not whole_a.count:
        return PairNumbers(0, identical=True)
    course = _course(whole_a, whole_b)
    pair = _Pair(a, b, course, tolerance or _EXACT)
    if layout_a.dtype == layout_b.dtype and _scale(layout_a) == _scale(layout_b):
        looked = _Looked(pair, values=not _same_form(layout_a, layout_b))
        run(course.blocks_a, course.a, lambda: _Looker(looked), share(progress, 0, FIRST_LOOK))
        if not looked.differs:
            progress(1, 1)
            finite, nonzero = (False, False) if opaque else _some_values(pair)
            return PairNumbers(whole_a.count, True, opaque, finite, nonzero)
    if opaque:
        return PairNumbers(whole_a.count, opaque=True)
    if compiled and course.a.nbytes(course.a.count) >= TINY:
        pair = replace(pair, loops=pair_kernels.load())
    found = _measured(pair, share(progress, FIRST_LOOK, 1))
    return replace(found, close=tolerance is not None and not found.sums.outside and not found.sums.odd)


def _bytes_of(layout: TensorLayout) -> TensorLayout:
    """For a type that only its container knows: its bytes."""
    return layout if layout.opaque is None else TensorLayout("uint8", (layout.opaque,), (1,), 0)


def _scale(layout: TensorLayout) -> tuple[float | None, int | None]:
    return layout.scale, layout.zero_point


def _same_form(a: TensorLayout, b: TensorLayout) -> bool:
    """Whether equal bits mean equal values."""
    return (a.dtype, a.conj, a.neg, _scale(a)) == (b.dtype, b.conj, b.neg, _scale(b))


@dataclass(frozen=True, slots=True)
class _Course:
    """The way through both tensors.

    `a` and `b` are the elements in the order in which they are gone through; each stands `repeats` times in the
    tensors. `dims` are the dimensions of `shape` in that order, without those that are repeated; None where the order
    is row-major and nothing is.
    """

    a: Elements
    b: Elements
    repeats: int
    blocks_a: Blocks
    blocks_b: Blocks
    shape: tuple[int, ...]
    dims: tuple[int, ...] | None

    @property
    def in_order(self) -> bool:
        """Whether what comes first stands first."""
        return self.dims is None or list(self.dims) == sorted(self.dims)

    def places(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the elements at these positions of the way first stand in the tensors, counted in row-major order."""
        if self.dims is None or not self.shape:
            return positions
        index = [np.zeros_like(positions) for _ in self.shape]
        for dim, at in zip(self.dims, np.unravel_index(positions, [self.shape[dim] for dim in self.dims]), strict=True):
            index[dim] = at
        return np.asarray(np.ravel_multi_index(index, self.shape), np.int64)


def _course(a: Elements, b: Elements) -> _Course:
    shape = a.shape
    long = [dim for dim, size in enumerate(shape) if size > 1]
    dims = [dim for dim in long if a.stride[dim] or b.stride[dim]]
    repeats = math.prod([shape[dim] for dim in long if dim not in dims])
    if all(a.stride[dim] == b.stride[dim] for dim in dims):
        dims.sort(key=lambda dim: -a.stride[dim])
    plain = dims == long
    if not plain:
        a, b = (
            replace(each, shape=tuple(shape[dim] for dim in dims), stride=tuple(each.stride[dim] for dim in dims))
            for each in (a, b)
        )
    if overlaps(a) and overlaps(b):
        refuse_bomb(a)
    return _Course(a, b, repeats, *Blocks.alike(a, b), shape, None if plain else tuple(dims))


@dataclass(frozen=True, slots=True)
class _Pair:
    a: _Tensor
    b: _Tensor
    course: _Course
    tolerance: Tolerance
    loops: pair_kernels.PairKernels | None = None


class _Looked:
    """What all threads have seen of the bytes."""

    def __init__(self, pair: _Pair, values: bool) -> None:
        self.pair = pair
        self.values = values
        self.differs = False


class _Looker:
    """One thread's share of comparing bits."""

    def __init__(self, looked: _Looked) -> None:
        self._looked = looked
        self._a, self._b = looked.pair.a.reader(), looked.pair.b.reader()

    def take(self, blocks: Blocks, index: int) -> None:
        looked = self._looked
        if looked.differs:
            return
        a = self._a.stored(blocks[index])
        b = self._b.stored(looked.pair.course.blocks_b[index])
        if looked.values:
            a, b = self._a.decode(a), self._b.decode(b)
        if not np.array_equal(_bits(a), _bits(b)):
            looked.differs = True


def _bits(values: Array) -> Array:
    """The bytes of values in row-major order, as the largest integers that fit."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return raw.view(np.uint64) if raw.size % 8 == 0 else raw


def _some_values(pair: _Pair) -> tuple[bool, bool]:
    """Whether any value of A is finite, and whether one of these is not zero; mostly its first block tells."""
    reader, finite = pair.a.reader(), False
    for block in pair.course.blocks_a:
        values = reader.values(block)
        some = np.isfinite(values)
        finite = finite or bool(some.any())
        if np.any(some & (values != 0)):
            return True, True
    return finite, False


def _measured(pair: _Pair, progress: Progress) -> PairNumbers:
    course = pair.course
    workers = run(course.blocks_a, course.a, lambda: _Measurer(pair), progress)
    parts = [part for _, part in sorted(found for worker in workers for found in worker.parts.items())]
    whole = merge(parts)
    # The largest of all threads; the first place that has it.
    at = min([worker.at for worker in workers if worker.most == whole.most], default=-1) if whole.most else -1
    times, count = course.repeats, course.a.count * course.repeats
    sums = repeated(whole, times)._replace(at=at)
    return PairNumbers(count, sums=sums, cast=_cast(pair, whole, workers))


class _Measurer:
    """One thread's share of a pass over the values."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._a, self._b = pair.a.reader(), pair.b.reader()
        self.parts: dict[int, PairSums] = {}
        self.most, self.at = 0.0, -1
        self.rounding = {word: cast for word, cast in _roundings(pair).items() if cast is not None}

    def take(self, blocks: Blocks, index: int) -> None:
        pair = self._pair
        a = _flat(self._a.values(blocks[index]))
        b = _flat(self._b.values(pair.course.blocks_b[index]))
        part = pair_kernels.compared(a, b, pair.tolerance, pair.loops)
        self.parts[index] = part
        self._look_for_largest(a, b, part, blocks.start(index))
        for word, cast in list(self.rounding.items()):
            if not cast(a, b):
                del self.rounding[word]

    def _look_for_largest(self, a: Array, b: Array, part: PairSums, start: int) -> None:
        course = self._pair.course
        if not part.most or part.most < self.most:
            return
        if course.in_order:
            at = int(course.places(np.array([start + part.at]))[0])
        else:
            at = int(course.places(start + all_apart(a, b, part.most)).min())
        if part.most > self.most or at < self.at:
            self.most, self.at = part.most, at


def _flat(values: Array) -> Array:
    return np.ascontiguousarray(values).reshape(-1)


def _roundings(pair: _Pair) -> dict[str, Callable[[Array, Array], bool] | None]:
    """For two element types: whether the values of one side are those of the other rounded to its type."""
    a, b = pair.a.layout, pair.b.layout
    if a.dtype == b.dtype:
        return {}
    to_a, to_b = _rounding(b, a), _rounding(a, b)
    return {
        "rounded_b": to_b and (lambda x, y: _same(to_b(x), y)),
        "rounded_a": to_a and (lambda x, y: _same(to_a(y), x)),
    }


def _rounding(of: TensorLayout, to: TensorLayout) -> Callable[[Array], Array] | None:
    """What torch's `to` does with values of a type; None where it does not round to the nearest."""
    if not (has_values(of.dtype) and has_values(to.dtype)):
        return None
    if DTYPES[to.dtype].kind != "float" or DTYPES[of.dtype].kind not in ("float", "int", "uint"):
        return None
    target = array_type(to.dtype)
    wide = np.float64 if target == np.float64 else np.float32

    def rounded(values: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            # As torch does: what is smaller than float32 is made of float32.
            return np.asarray(values.astype(wide).astype(target).astype(wide))

    return rounded


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same values, NaN included."""
    return bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())


def _cast(pair: _Pair, whole: PairSums, workers: list[Any]) -> str:
    """How the values of two element types go together."""
    if pair.a.layout.dtype == pair.b.layout.dtype:
        return ""
    if not whole.changed and not whole.odd:
        return "equal"
    return next((word for word in CASTS[2:] if all(word in worker.rounding for worker in workers)), "")


def status_of(found: PairNumbers, dtypes_differ: bool) -> str:
    """The word of `docs/cli.md` for a pair that was measured."""
    if dtypes_differ:
        return "dtype"
    return "identical" if found.identical else "close" if found.close else "changed"


def write_row(columns: Columns, place: int, found: PairNumbers, *, dtypes_differ: bool) -> None:
    """Put the numbers of one pair into its place."""
    row: dict[str, Any] = {
        "state": KNOWN,
        "status": STATUSES.index(status_of(found, dtypes_differ)),
        "count": found.count,
        "close": found.close,
        "cast": CASTS.index(found.cast),
    }
    if found.identical:
        row["changed"] = 0
        if not found.opaque:
            row |= {"sign_flips": 0, "norm_d": 0.0, "rel_l2": 0.0}
        if found.finite:
            row |= {"max_abs": 0.0, "mean_abs": 0.0, "changed_share": 0.0}
        if found.nonzero:
            row["cosine"] = 1.0
    elif not found.opaque:
        sums = found.sums
        row |= {metric.name: value for metric in METRICS if (value := metric.of(sums)) is not None}
        row |= {name: getattr(sums, name) for name in ("finite", "changed", "nan_a", "nan_b", "inf_a", "inf_b")}
        row |= {"sign_flips": sums.flips, "nonfinite_differs": bool(sums.odd), "max_at": sums.at}
    for name, value in row.items():
        columns[name][place] = value
