"""What plots show of two tensors that belong together: slices with their difference, lines, histograms, a scatter.

Only the bytes of what is asked for are read, both tensors piece by piece at the same places, whatever the stride and
type of each. Numbers of all elements of all pairs are not made here but in `stats.pairs`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats.binning import FEW, IntBins, choose_bins, number_of_bins
from sdviewer.stats.decode import Array, Block, Elements, Reader, in_storage_order, product, refuse_bomb
from sdviewer.stats.histogram import BINS, Histogram, histogram, histogram_of
from sdviewer.stats.moments import magnitude, real
from sdviewer.stats.slices import (
    CellSums,
    How,
    Line,
    Plane,
    ReducedSlice,
    Window,
    block_of,
    envelope,
    inside,
    known_elements,
    limit_of,
    line,
    part_of,
    plane_of,
    reduced_slice,
    shades_of,
    tile_places,
    values_window,
)
from sdviewer.stats.sweep import Wanted, sample_of, swept

POINTS: Final = 3000
"""Points of a scatter."""
AT_ONCE: Final = 1 << 17
"""Elements of both tensors that are gone through together."""
ALL: Final = 1 << 20
"""Elements up to which a scatter's line is fitted to all of them."""
RUN: Final = 2048
"""Elements of a run of the sample of a larger tensor ..."""
RUNS: Final = 128
"""... and how many runs it has."""
_GOLDEN: Final = 40503
"""2**16 over the golden ratio: multiples of it are spread evenly and fall into no step."""


class Side(NamedTuple):
    """One of the two tensors."""

    source: ByteSource
    layout: TensorLayout


# Both at the same places


def _together(a: Elements, b: Elements) -> tuple[Elements, Elements]:
    """Both without dimensions of size 1, merged where both lie in one piece; the same shape for both.

    Raises:
        UsageError: their shapes differ in more than dimensions of size 1.
    """
    sizes, steps_a, steps_b = [1], [0], [0]
    longs = [[(n, step) for n, step in zip(e.shape, e.stride, strict=True) if n != 1] for e in (a, b)]
    if [n for n, _ in longs[0]] != [n for n, _ in longs[1]]:
        raise UsageError(f"tensors of the shapes {a.shape} and {b.shape} have no elements at the same places")
    for (n, step_a), (_, step_b) in zip(*longs, strict=True):
        if sizes[-1] == 1:
            sizes[-1], steps_a[-1], steps_b[-1] = n, step_a, step_b
        elif (steps_a[-1], steps_b[-1]) == (n * step_a, n * step_b):
            sizes[-1], steps_a[-1], steps_b[-1] = sizes[-1] * n, step_a, step_b
        else:
            sizes.append(n)
            steps_a.append(step_a)
            steps_b.append(step_b)
    shape = tuple(sizes)
    return replace(a, shape=shape, stride=tuple(steps_a)), replace(b, shape=shape, stride=tuple(steps_b))


class _Pieces:
    """Both tensors cut alike, in row-major order: the index of the first element and the blocks."""

    def __init__(self, a: Elements, b: Elements, most: int) -> None:
        self._sides = _together(a, b)
        self.shape = shape = self._sides[0].shape
        self.elements = product(shape)
        axis, inner = len(shape), 1
        while axis > 1 and inner * shape[axis - 1] <= most:
            axis -= 1
            inner *= shape[axis]
        # Dimensions before `cut` are stepped through one by one, `cut` by some at a time, the others are whole.
        self._cut, self._inner = axis - 1, inner
        self._rows = max(1, most // inner)
        self._pieces = -(-shape[self._cut] // self._rows)

    def __len__(self) -> int:
        return product(self.shape[: self._cut]) * self._pieces if self.elements else 0

    def __getitem__(self, index: int) -> tuple[int, Block, Block]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        outer, piece = divmod(index, self._pieces)
        first = piece * self._rows
        rows = min(self._rows, self.shape[self._cut] - first)
        start = (outer * self.shape[self._cut] + first) * self._inner
        places = [first]
        for size in reversed(self.shape[: self._cut]):
            outer, place = divmod(outer, size)
            places.insert(0, place)
        blocks = []
        for side in self._sides:
            offset = side.offset + sum(at * step for at, step in zip(places, side.stride, strict=False))
            blocks.append(Block(offset, (rows, *self.shape[self._cut + 1 :]), side.stride[self._cut :]))
        return start, blocks[0], blocks[1]


def _difference(a: Array, b: Array) -> NDArray[np.float64]:
    """B - A in float64; of complex values its magnitude."""
    with np.errstate(invalid="ignore", over="ignore"):
        if a.dtype.kind == "c" or b.dtype.kind == "c":
            return magnitude(b.astype(np.complex128) - a.astype(np.complex128))
        return real(b) - real(a)


def _changed(a: Array, b: Array) -> int:
    """How many values differ; NaN is as good as NaN."""
    if a.dtype != b.dtype and not {a.dtype.kind, b.dtype.kind} <= {"i", "u", "b"}:
        wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
        a, b = a.astype(wide), b.astype(wide)
    differ = a != b
    if a.dtype.kind in "fc" and differ.any():
        differ &= ~(np.isnan(a) & np.isnan(b))
    return int(np.count_nonzero(differ))


# Slices


@dataclass(frozen=True, slots=True)
class PairSlice:
    """The same slice of both tensors and its difference, all reduced alike; the fields are those of `ReducedSlice`.

    `limit` and `clipped` are of A and B together, `limit_d` and `clipped_d` of B - A, each cell of which is over the
    differences of its elements. `changed` counts the elements that differ among those that were read.
    """

    x: int | None
    y: int | None
    index: tuple[int, ...]
    shape: tuple[int, int]
    window: Window
    block: tuple[int, int]
    sampled: bool
    how: How
    changed: int
    limit: float
    clipped: int
    limit_d: float
    clipped_d: int
    cells: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        fields = {name: getattr(self, name) for name in self.__slots__[:-1]}
        listed = ("index", "shape", "window", "block")
        return fields | {name: list(getattr(self, name)) for name in listed}

    def shades(self) -> dict[str, NDArray[np.uint8]]:
        """The cells on their scales of colours."""
        limits = (self.limit, self.limit, self.limit_d)
        return {name: shades_of(self.cells[i], limits[i]) for i, name in enumerate(("a", "b", "d"))}


def pair_slice(
    a: Side,
    b: Side,
    *,
    x: int | None = None,
    y: int | None = None,
    index: Sequence[int] | None = None,
    rows: int,
    columns: int,
    how: How = "mean",
    window: Sequence[int] | None = None,
    limits: tuple[float, float] | None = None,
    most: int | None = None,
    progress: Progress = no_progress,
) -> PairSlice:
    """A slice of two tensors of one shape in at most `rows` x `columns` cells; `limits` of the values and of B - A.

    The rest is as in `reduced_slice`, `most` being elements of each tensor. Progress is in elements.

    Raises:
        UsageError: there is no such slice, or the shapes differ.
        CorruptCheckpoint: the bytes are not there.
    """
    planes = [plane_of(*side, x, y, index) for side in (a, b)]
    shape = planes[0].elements.shape
    if planes[1].elements.shape != shape or rows < 1 or columns < 1:
        raise UsageError(f"slices of {shape} and {planes[1].elements.shape} cannot be compared cell by cell")
    shown = inside(window, shape)
    height, width = shown[2:]
    block = (max(1, -(-height // rows)), max(1, -(-width // columns)))
    cells, changed, sampled = _reduce_both((a, b), planes, shown, block, how, most, progress)
    limit, clipped = limit_of(np.concatenate(cells[:2]), limits and limits[0])
    limit_d, clipped_d = limit_of(cells[2], limits and limits[1])
    first = planes[0]
    return PairSlice(
        first.x, first.y, first.index, (shape[0], shape[1]), shown, block, sampled, how, changed,
        limit, clipped, limit_d, clipped_d, cells,
    )  # fmt: skip


def _reduce_both(
    sides: Sequence[Side],
    planes: Sequence[Plane],
    shown: Window,
    block: tuple[int, int],
    how: How,
    most: int | None,
    progress: Progress,
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], int, bool]:
    """The cells of A, B and B - A, how many elements differ, and whether only a part of each cell was read."""
    parts = [part_of(plane.elements, shown) for plane in planes]
    height, width = parts[0].shape
    # A dimension along which both repeat their elements is gone through once.
    expanded = [all(part.stride[axis] == 0 for part in parts) for axis in (0, 1)]
    steps = [1 if same else size for same, size in zip(expanded, block, strict=True)]
    seen = [min(n, 1) if same else n for same, n in zip(expanded, (height, width), strict=True)]
    turned = parts[0].stride[0] < parts[0].stride[1] and not expanded[0]
    if turned:
        # Stored column by column: read it that way.
        steps, seen = steps[::-1], seen[::-1]
    parts = [replace(p, shape=tuple(seen), stride=p.stride[::-1] if turned else p.stride) for p in parts]
    for part in parts:
        refuse_bomb(part)
    grid = -(-seen[0] // steps[0]), -(-seen[1] // steps[1])
    sums = [CellSums(grid, how) for _ in range(3)]
    readers = [Reader(*side) for side in sides]
    count = seen[0] * seen[1]
    read = steps[0] if most is None or count <= most else max(1, steps[0] * most // count)
    # Of a first look the first lines of each cell.
    sampled = read < steps[0]
    step, lines = (steps[0], read) if sampled else (max(seen[0], 1), seen[0])
    bands = [(row, min(lines, seen[0] - row)) for row in range(0, seen[0], step)]
    changed = 0
    for first, n in bands:
        for row, column, tall, wide in tile_places((n, seen[1]), AT_ONCE):
            progress((first + row) * seen[1], count)
            place = (first + row, column, tall, wide)
            values = [reader.values(block_of(part, place)) for reader, part in zip(readers, parts, strict=True)]
            changed += _changed(*values)
            shown_values = [magnitude(v) if v.dtype.kind == "c" else v for v in values]
            for total, some in zip(sums, (*shown_values, _difference(*values)), strict=True):
                total.add(some, first + row, column, (steps[0], steps[1]))
    progress(count, count)
    cells = [total.cells().T if turned else total.cells() for total in sums]
    whole = (-(-height // block[0]), -(-width // block[1]))
    made = [np.ascontiguousarray(np.broadcast_to(some, whole)) for some in cells]
    repeats = math.prod(n for n, same in zip((height, width), expanded, strict=True) if same)
    return (made[0], made[1], made[2]), changed * repeats, sampled


def slices_beside(
    sides: Sequence[Side], asked: Sequence[dict[str, Any]], how: How = "mean", progress: Progress = no_progress
) -> list[ReducedSlice]:
    """A slice of each of one or two tensors, as `reduced_slice` takes what is asked of it, with a common limit."""
    found = []
    for place, (side, params) in enumerate(zip(sides, asked, strict=True)):

        def tell(done: int, total: int, place: int = place) -> None:
            progress(place * total + done, len(sides) * total)

        found.append(reduced_slice(*side, **params, how=how, progress=tell))
    limit, _ = limit_of(np.concatenate([one.cells.reshape(-1) for one in found]))
    return [replace(one, limit=limit, clipped=limit_of(one.cells, limit)[1]) for one in found]


# Vectors


@dataclass(frozen=True, slots=True)
class PairLine:
    """The values of one or two vectors in their order, and of B - A where they are of one length; None for what is not.

    `changed`: elements that differ, -1 where they are not compared.
    """

    a: Line | None
    b: Line | None
    d: Line | None
    changed: int

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        sides = {name: getattr(self, name) for name in "abd"}
        return {name: line and line.to_json() for name, line in sides.items()} | {"changed": self.changed}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name: `low_a`, `high_a` and so on."""
        sides = [(name, getattr(self, name)) for name in "abd"]
        return {f"{key}_{name}": array for name, line in sides if line for key, array in line.arrays().items()}


def pair_line(a: Side | None, b: Side | None, points: int, progress: Progress = no_progress) -> PairLine:
    """The values of one or two vectors in at most `points` points each. Progress is in bytes.

    Raises:
        UsageError: one has more than one dimension.
        CorruptCheckpoint: the bytes are not there.
    """
    lines = [side and line(*side, points, progress=progress) for side in (a, b)]
    if a is None or b is None or lines[0] is None or lines[1] is None or lines[0].count != lines[1].count:
        return PairLine(lines[0], lines[1], None, -1)
    pieces = _Pieces(known_elements(*a), known_elements(*b), AT_ONCE)
    readers, changed = (Reader(*a), Reader(*b)), 0

    def differences() -> Iterator[tuple[int, NDArray[np.float64]]]:
        nonlocal changed
        for start, *blocks in map(pieces.__getitem__, range(len(pieces))):
            values = [reader.values(block).reshape(-1) for reader, block in zip(readers, blocks, strict=True)]
            changed += _changed(*values)
            yield start, _difference(*values)

    found = envelope(differences(), pieces.elements, lines[0].block)
    return PairLine(lines[0], lines[1], found, changed)


# Distributions


def pair_histograms(
    sides: Sequence[Side], bins: int = BINS, *, glance: bool = False, progress: Progress = no_progress
) -> list[Histogram]:
    """The histograms of one or two tensors over one range: that in which the middle of the values of either lies.

    A `glance` counts a sample of each; it is not scaled up. Progress is in bytes of the tensor at hand.

    Raises:
        CorruptCheckpoint: the bytes are not there.
    """
    samples = []
    for side in sides:
        elements, _ = in_storage_order(known_elements(*side))
        samples.append(sample_of(Reader(*side), elements) if elements.count else np.empty(0))
    counts = [int(np.count_nonzero(np.isfinite(sample))) for sample in samples]
    number = number_of_bins(max(counts), bins)
    # So that fewer values get no fewer bins than the other side has.
    asked = [number if n >= FEW or not n else round(number / math.sqrt(n / FEW)) for n in counts]
    spans = [span for span in (_span_of(sample, bins) for sample in samples) if span is not None]
    span = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
    if span is not None and span[0] == span[1]:
        span = None  # all are one value, around which each side has the same range
    if glance:
        some = [magnitude(sample) if sample.dtype.kind == "c" else sample for sample in samples]
        sweeps = [swept(v, None, Wanted(n, span), median=False) for v, n in zip(some, asked, strict=True)]
        return [histogram_of(replace(found, count=values.size)) for found, values in zip(sweeps, some, strict=True)]
    return [histogram(*side, n, span=span, progress=progress) for side, n in zip(sides, asked, strict=True)]


def _span_of(sample: Array, bins: int) -> tuple[float, float] | None:
    """The range of the middle of some values, no wider than they are; None when none is finite."""
    values = magnitude(sample) if sample.dtype.kind == "c" else sample
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    found = choose_bins(values, None, bins, None) if values.size and values.dtype.kind != "b" else None
    if found is None:
        return None
    low, high = values.min().item(), values.max().item()
    # One value has a range around it, and the last bin of integers may reach beyond them.
    return (
        (low, high) if low == high else (found.low, min(found.high, high) if isinstance(found, IntBins) else found.high)
    )


# B against A


@dataclass(frozen=True, slots=True)
class Scatter:
    """Some elements of B over those of A, and the line through them.

    `count`: elements of a tensor; `looked`: how many of them the line is fitted to, all or a sample; `finite`: those
    that are finite on both sides; `equal`: those that are the same. `r` is Pearson's, `slope` and `offset` those of the
    least squares of B over A, None where A or B is constant.
    """

    count: int
    looked: int
    finite: int
    equal: int
    r: float | None
    slope: float | None
    offset: float | None
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__[:-2]}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {"x": self.x, "y": self.y}


def scatter(a: Side, b: Side, points: int = POINTS, progress: Progress = no_progress) -> Scatter:
    """At most `points` elements of two tensors of one shape, always the same ones. Progress is in pieces.

    Raises:
        UsageError: the shapes differ.
        CorruptCheckpoint: the bytes are not there.
    """
    pieces = _Pieces(known_elements(*a), known_elements(*b), RUN)
    whole = pieces.elements <= ALL
    number = len(pieces) if whole else min(RUNS, len(pieces))
    readers = Reader(*a), Reader(*b)
    found: tuple[list[Array], list[Array]] = ([], [])
    for place in range(number):
        progress(place, number)
        # One somewhere in each of `number` stretches.
        index = ((place << 16) + place * _GOLDEN % 2**16) * len(pieces) // (number << 16)
        _, *blocks = pieces[index]
        for values, reader, block in zip(found, readers, blocks, strict=True):
            values.append(real(reader.values(block)).reshape(-1))
    progress(number, number)
    x, y = (np.concatenate(values) if values else np.empty(0) for values in found)
    looked = x.size
    equal = looked - _changed(x, y)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    r, slope, offset = _fit(x, y)
    if x.size > points:
        at = np.arange(points)
        at = ((at << 16) + at * _GOLDEN % 2**16) * x.size // (points << 16)
        shown_x, shown_y = x[at], y[at]
    else:
        shown_x, shown_y = x, y
    return Scatter(pieces.elements, looked, int(finite.sum()), equal, r, slope, offset, shown_x, shown_y)


def _fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """r, slope and offset of a line through points; None where all x or all y are one."""
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return None, None, None
    # Scaled, so that squares of very large and very small values are neither infinite nor nothing.
    scales = [2.0 ** math.frexp(float(np.abs(some).max()))[1] for some in (x, y)]
    u, v = x / scales[0], y / scales[1]
    mean_u, mean_v = float(u.mean()), float(v.mean())
    u, v = u - mean_u, v - mean_v
    uu, vv, uv = float(u @ u), float(v @ v), float(u @ v)
    if not uu or not vv:
        return None, None, None
    slope = uv / uu
    ratio = scales[1] / scales[0]
    return uv / math.sqrt(uu * vv), slope * ratio, (mean_v - slope * mean_u) * scales[1]


# One element


@dataclass(frozen=True, slots=True)
class PairValue:
    """The exact values at one place as text (`ValuesWindow`), "" where a side has none; `d` is B - A as text, or "".

    `numbers` are A, B and B - A in float64, NaN where there is none.
    """

    a: str
    b: str
    d: str
    numbers: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"a": self.a, "b": self.b, "d": self.d, "numbers": list(self.numbers)}


def pair_value(sides: Sequence[Side | None], places: Sequence[Sequence[int] | None]) -> PairValue:
    """The values of one or two tensors, each at a place of its own.

    Raises:
        UsageError: there is no such place.
        CorruptCheckpoint: the bytes are not there.
    """
    texts, numbers = ["", ""], [math.nan, math.nan]
    for which, (side, place) in enumerate(zip(sides, places, strict=True)):
        if side is not None and place is not None:
            x = len(place) - 1 if place else None
            window = values_window(*side, x, None, list(place), 0, 1, place[-1] if place else 0, 1)
            if window.texts:
                texts[which], numbers[which] = window.texts[0], float(window.numbers.reshape(-1)[0])
    d, text = math.nan, ""
    if all(texts):
        whole = [int(one) for one in texts if one.lstrip("-").isdigit()]
        if len(whole) == 2:
            text = str(whole[1] - whole[0])
            d = float(whole[1] - whole[0])
        elif "j" not in "".join(texts) and not any(one.startswith("0x") for one in texts):
            d = numbers[1] - numbers[0]
            text = str(d)
    return PairValue(texts[0], texts[1], text, (numbers[0], numbers[1], d))
