"""Two tensors of one shape compared: first their bytes, and where these differ every value, in one pass over both.

Memory does not grow with the tensors. Large ones are gone through by a thread a core, with the compiled loops
(`pair_kernels`) where that is asked for; the result is the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout, is_contiguous
from sdviewer.stats import pair_kernels
from sdviewer.stats.decode import Array, Block, Blocks, Elements, Reader, elements_of
from sdviewer.stats.pair_casts import Roundings, cast_of, roundings
from sdviewer.stats.pair_course import PairCourse, course_through
from sdviewer.stats.pair_metrics import METRICS
from sdviewer.stats.pair_sums import PairSums, Tolerance, all_apart, measure, merge, repeated
from sdviewer.stats.pair_table import CASTS, STATUSES
from sdviewer.stats.sweep import TINY, run, share
from sdviewer.stats.table import KNOWN, Columns

FIRST_LOOK = 0.3
"""Share of the time that comparing bytes takes where values have to be measured afterwards."""

FEW = 1024
"""Bytes of a tensor that mostly tell whether all of it is zero."""

_EXACT = Tolerance()


class PairNumbers(NamedTuple):
    """What tells two tensors apart.

    `identical`: all bits are the same; then `sums` is empty, `finite` says that some value is finite and `nonzero` that
    one of these is not zero. `opaque`: they are bits, not numbers. `close`: a tolerance was given and all values are
    within it; `cast` is one of `pair_table.CASTS`. Counts of `sums` are of all values, an expanded one as often as it
    stands in the tensor; its `at` is counted in row-major order.
    """

    values: int
    identical: bool = False
    opaque: bool = False
    finite: bool = False
    nonzero: bool = False
    sums: PairSums = PairSums(0)
    close: bool = False
    cast: str = ""


class _Side(NamedTuple):
    source: ByteSource
    layout: TensorLayout
    elements: Elements

    def reader(self) -> Reader:
        """One for a thread."""
        return Reader(self.source, self.layout)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides. `alike`: equal bits mean that they are identical, of the stored elements if `as_stored`, else of the
    values that a lazy flag of torch's makes of them."""

    a: _Side
    b: _Side
    tolerance: Tolerance
    opaque: bool
    alike: bool
    as_stored: bool
    loops: pair_kernels.PairKernels | None = None

    @property
    def values(self) -> int:
        """Number of values of either side."""
        return self.a.elements.count

    def same_bits(self, a: Array, b: Array, readers: tuple[Reader, Reader]) -> bool:
        """Whether the stored elements of a part are identical on both sides."""
        if not self.as_stored:
            a, b = readers[0].decode(a), readers[1].decode(b)
        return bool(np.array_equal(_bits(a), _bits(b)))


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
    pair = _pair(source_a, layout_a, source_b, layout_b, tolerance or _EXACT)
    if pair.a.elements.shape != pair.b.elements.shape:
        # As types that only a container knows, each in its own number of bytes.
        return PairNumbers(pair.values, opaque=True)
    if not pair.values:
        found = PairNumbers(0, identical=True)
    elif _is_small(pair.a.elements) and _is_small(pair.b.elements):
        found = _small(pair)
    else:
        found = _large(pair, compiled, progress)
    progress(1, 1)
    within = found.identical or not (found.opaque or found.sums.outside or found.sums.odd)
    return found._replace(close=tolerance is not None and within)


def _pair(
    source_a: ByteSource, layout_a: TensorLayout, source_b: ByteSource, layout_b: TensorLayout, tolerance: Tolerance
) -> _Pair:
    sides = []
    for source, layout in ((source_a, layout_a), (source_b, layout_b)):
        # Of a type that only its container knows: the bytes.
        known = layout if layout.opaque is None else TensorLayout("uint8", (layout.opaque,), (1,), 0)
        sides.append(_Side(source, known, elements_of(source, known)))
    a, b = sides
    opaque = any(
        layout.opaque is not None or side.elements.dtype.kind == "bits"
        for layout, side in ((layout_a, a), (layout_b, b))
    )
    alike = (layout_a.dtype, layout_a.scale, layout_a.zero_point) == (
        layout_b.dtype,
        layout_b.scale,
        layout_b.zero_point,
    )
    as_stored = (layout_a.conj, layout_a.neg) == (layout_b.conj, layout_b.neg)
    return _Pair(a, b, tolerance, opaque, alike, as_stored)


def _is_small(elements: Elements) -> bool:
    """Whether a tensor is read at once, and nothing has to be arranged for it."""
    return elements.nbytes(elements.count) <= TINY and is_contiguous(elements.shape, elements.stride)


def _small(pair: _Pair) -> PairNumbers:
    """Compare two tensors that both lie in row-major order."""
    readers = pair.a.reader(), pair.b.reader()
    stored_a, stored_b = (
        reader.stored(Block(side.elements.offset, (pair.values,), (1,)))
        for reader, side in zip(readers, (pair.a, pair.b), strict=True)
    )
    same = pair.alike and pair.same_bits(stored_a, stored_b, readers)
    if pair.opaque:
        return PairNumbers(pair.values, same, opaque=True)
    a = readers[0].decode(stored_a)
    if same:
        return PairNumbers(pair.values, True, False, *_finite_nonzero(a))
    b = readers[1].decode(stored_b)
    sums = measure(a, b, pair.tolerance)
    rounded = {word for word, holds in _roundings(pair).items() if holds(a, b)}
    return PairNumbers(pair.values, sums=sums, cast=_cast(pair, sums, [rounded]))


def _large(pair: _Pair, compiled: bool, progress: Progress) -> PairNumbers:
    """Compare two tensors block by block."""
    course = course_through(pair.a.elements, pair.b.elements)
    if pair.alike:
        looked = _Looked(pair, course)
        run(course.blocks_a, course.a, lambda: _Looker(looked), share(progress, 0, FIRST_LOOK))
        if not looked.differs:
            return PairNumbers(pair.values, True, pair.opaque, *_some_values(pair, course))
    if pair.opaque:
        return PairNumbers(pair.values, opaque=True)
    if compiled:
        pair = replace(pair, loops=pair_kernels.load())
    return _measured(pair, course, share(progress, FIRST_LOOK, 1))


class _Looked:
    """What all threads have seen of the bits."""

    def __init__(self, pair: _Pair, course: PairCourse) -> None:
        self.pair, self.course = pair, course
        self.differs = False


class _Looker:
    """One thread's share of comparing bits."""

    def __init__(self, looked: _Looked) -> None:
        self._looked = looked
        self._readers = looked.pair.a.reader(), looked.pair.b.reader()

    def take(self, blocks: Blocks, index: int) -> None:
        looked = self._looked
        if looked.differs:
            return
        a = self._readers[0].stored(blocks[index])
        b = self._readers[1].stored(looked.course.blocks_b[index])
        if not looked.pair.same_bits(a, b, self._readers):
            looked.differs = True


def _bits(values: Array) -> Array:
    """The bytes of values in row-major order, as the largest integers that fit."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return raw.view(np.uint64) if raw.size % 8 == 0 else raw


def _finite_nonzero(values: Array) -> tuple[bool, bool]:
    """Whether any value is finite, and whether one of these is not zero."""
    finite = np.isfinite(values)
    return bool(finite.any()), bool((finite & (values != 0)).any())


def _some_values(pair: _Pair, course: PairCourse) -> tuple[bool, bool]:
    """The same of all values of A; mostly the first of them tell."""
    if pair.opaque:
        return False, False
    reader, finite = pair.a.reader(), False
    for blocks in (Blocks(course.a, FEW)[:1], course.blocks_a):
        for block in blocks:
            some, nonzero = _finite_nonzero(reader.values(block))
            finite = finite or some
            if nonzero:
                return True, True
    return finite, False


def _measured(pair: _Pair, course: PairCourse, progress: Progress) -> PairNumbers:
    workers = run(course.blocks_a, course.a, lambda: _Measurer(pair, course), progress)
    parts = [part for _, part in sorted(found for worker in workers for found in worker.parts.items())]
    whole = merge(parts)
    # The largest of all threads; the first place that has it.
    at = min([worker.at for worker in workers if worker.most == whole.most], default=-1) if whole.most else -1
    sums = repeated(whole, course.repeats)._replace(at=at)
    return PairNumbers(pair.values, sums=sums, cast=_cast(pair, whole, [worker.roundings for worker in workers]))


class _Measurer:
    """One thread's share of a pass over the values."""

    def __init__(self, pair: _Pair, course: PairCourse) -> None:
        self._pair, self._course = pair, course
        self._a, self._b = pair.a.reader(), pair.b.reader()
        self.parts: dict[int, PairSums] = {}
        self.most, self.at = 0.0, -1
        self.roundings = _roundings(pair)

    def take(self, blocks: Blocks, index: int) -> None:
        pair = self._pair
        a = pair_kernels.values_of(self._a, blocks[index], pair.loops)
        b = pair_kernels.values_of(self._b, self._course.blocks_b[index], pair.loops)
        part = pair_kernels.compared(a, b, pair.tolerance, pair.loops)
        self.parts[index] = part
        if part.most and part.most >= self.most:
            at = self._place(a, b, part, blocks.start(index))
            if part.most > self.most or at < self.at:
                self.most, self.at = part.most, at
        self.roundings = {word: holds for word, holds in self.roundings.items() if holds(a, b)}

    def _place(self, a: Array, b: Array, part: PairSums, start: int) -> int:
        """The first place in the tensors that has the largest difference of a part."""
        course = self._course
        positions: NDArray[np.int64] = np.array([part.at]) if course.in_order else all_apart(a, b, part.most)
        return int(course.places(start + positions).min())


def _roundings(pair: _Pair) -> Roundings:
    return roundings(pair.a.layout.dtype, pair.b.layout.dtype)


def _cast(pair: _Pair, sums: PairSums, rounded: Sequence[Collection[str]]) -> str:
    return cast_of(sums, rounded) if pair.a.layout.dtype != pair.b.layout.dtype else ""


def status_of(found: PairNumbers, dtypes_differ: bool) -> str:
    """The word of `docs/cli.md` for a pair that was measured."""
    if dtypes_differ:
        return "dtype"
    return "identical" if found.identical else "close" if found.close else "changed"


def write_row(columns: Columns, place: int, found: PairNumbers, *, dtypes_differ: bool) -> None:
    """Put the numbers of one pair into its place in the columns of `pair_table`."""
    row: dict[str, Any] = {
        "state": KNOWN,
        "status": STATUSES.index(status_of(found, dtypes_differ)),
        "count": found.values,
        "close": found.close,
        # What a file stores in another type can be read as the same, as a quantized tensor is read as float32.
        "cast": CASTS.index("equal" if dtypes_differ and found.identical else found.cast),
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
