"""What a plot shows of one tensor: a two-dimensional slice, a window of exact values, a line.

Only the bytes of what is asked for are read. A slice with more cells than the screen has is reduced block by block
while it streams past; how many elements stand in a cell is always told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats.decode import BLOCK, Array, Block, Elements, Reader, elements_of, refuse_bomb
from sdviewer.stats.moments import magnitude, real

How = Literal["mean", "max_abs", "rms"]

SHOWN = 0.997
"""Share of the shown magnitudes that the limit of the colours takes in."""

MOST_CELLS = 1 << 20
"""Cells of one window of exact values."""

MOST_SORTED = 1 << 24
"""Elements of a vector that are sorted for a plot, in memory."""

FAR = 3.7
"""An outlier is so many times the width of the middle half of all values from their median: five deviations of a normal
distribution, so that none of a thousand normal values is one."""

FEWEST, MOST_OUTLIERS = 16, 4
"""Points below which nothing stands out, and outliers that are told."""

SAFE = 400
"""Powers of two up to which float64 can be squared and added up, and as far down: beyond, sums are kept scaled."""

LARGEST = float(np.finfo(np.float64).max)

Window = tuple[int, int, int, int]
"""A part of a plane: first row, first column, rows, columns."""

HAS_NAN, HAS_INF = 1, 2
"""Flags of a cell."""


@dataclass(frozen=True, slots=True)
class ReducedSlice:
    """A slice of a tensor, reduced to `cells` (rows, columns) of float64.

    `x` and `y` are the dimensions along columns and rows (None where the tensor has too few), `index` the place in all
    dimensions (0 at x and y). `shape` is the slice in elements, `window` the part of it that the cells show (first row,
    first column, rows, columns), `block` the elements of a cell (the last row and column of cells may have fewer):
    (1, 1) says that every cell is one value. `sampled`: only a part of each block went into its cell. A cell is taken
    over its finite values and NaN when it has none; `flags` (uint8) marks cells with NaN (1) and infinity (2).
    `limit` is the 99.7 % quantile of the magnitudes of the cells, 0 when all are zero or none is finite, or what was
    asked for; `clipped` counts the cells beyond it.
    """

    x: int | None
    y: int | None
    index: tuple[int, ...]
    shape: tuple[int, int]
    window: tuple[int, int, int, int]
    block: tuple[int, int]
    sampled: bool
    how: How
    limit: float
    clipped: int
    cells: NDArray[np.float64]
    flags: NDArray[np.uint8]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        fields = {name: getattr(self, name) for name in self.__slots__[:10]}
        listed = ("index", "shape", "window", "block")
        return fields | {name: list(getattr(self, name)) for name in listed}

    def shades(self) -> NDArray[np.uint8]:
        """The cells as `shades_of` their limit."""
        return shades_of(self.cells, self.limit)


@dataclass(frozen=True, slots=True)
class ValuesWindow:
    """Exact values of a slice: `texts` row by row, and as float64 `(rows, columns)` for tinting (complex: |z|).

    A text is the shortest that gives the stored value back in its own type (bfloat16 and less: in float32), ASCII;
    ints are exact, bits types hexadecimal, quantized values dequantized. `row` and `column` are where the window
    begins, after it was kept inside of the slice.
    """

    row: int
    column: int
    texts: tuple[str, ...]
    numbers: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """All but the array, as JSON values."""
        rows, columns = self.numbers.shape
        return {"row": self.row, "column": self.column, "rows": rows, "columns": columns, "texts": list(self.texts)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The array by name."""
        return {"numbers": self.numbers}


@dataclass(frozen=True, slots=True)
class Line:
    """The values of a vector of `count` elements in their order, float64.

    Each point stands for `block` elements (the last may stand for fewer), from their smallest `low` to their largest
    `high` finite value, NaN where none is finite; with a block of 1 both are the values. `flags` as in `ReducedSlice`.
    `min_at` and `max_at` are the first indexes of the smallest and largest finite value, None without one. `log`: all
    values are finite, positive, and over more than three decades. `outliers` are (index, value) of at most four that
    stand far from the others, on a logarithmic scale when `log`; where a point stands for several, only the smallest
    and the largest are looked at. When `sorted`, the points are in the order of their values, and indexes are None.
    """

    count: int
    block: int
    min_at: int | None
    max_at: int | None
    log: bool
    outliers: tuple[tuple[int, float], ...]
    sorted: bool
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    flags: NDArray[np.uint8]

    def to_json(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        fields = {name: getattr(self, name) for name in self.__slots__[:7]}
        return fields | {"outliers": [list(outlier) for outlier in self.outliers]}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {"low": self.low, "high": self.high, "flags": self.flags}


@dataclass(frozen=True, slots=True)
class Plane:
    """Two dimensions of a tensor with the others fixed; `elements` is `(rows, columns)`."""

    elements: Elements
    x: int | None
    y: int | None
    index: tuple[int, ...]


def known_elements(source: ByteSource, layout: TensorLayout) -> Elements:
    """The elements of a tensor whose single values can be read.

    Raises:
        UsageError: its type is known to its container alone.
    """
    if layout.opaque is not None:
        raise UsageError(f"values of type {layout.dtype} are not decoded, only their bytes are known")
    return elements_of(source, layout)


def default_axes(shape: Sequence[int]) -> tuple[int | None, int | None]:
    """(x, y) of the picture of a tensor: its two largest dimensions, the first of them along the rows."""
    largest = sorted(sorted(range(len(shape)), key=lambda dim: (-shape[dim], dim))[:2])
    if len(largest) == 2:
        return largest[1], largest[0]
    return (largest[0] if largest else None), None


def plane_of(
    source: ByteSource, layout: TensorLayout, x: int | None, y: int | None, index: Sequence[int] | None
) -> Plane:
    """Two dimensions of a tensor, as `reduced_slice` names them.

    Raises:
        UsageError: there is no such slice.
    """
    elements = known_elements(source, layout)
    shape, stride = elements.shape, elements.stride
    if x is None and y is None:
        x, y = default_axes(shape)
    place = list(index) if index is not None else [0] * len(shape)
    if len(place) == len(layout.shape):
        # A two-a-byte type has one dimension more than its layout when the last one is strided.
        place += [0] * (len(shape) - len(place))
    axes = [axis for axis in (x, y) if axis is not None]
    if x == y is not None or any(not 0 <= axis < len(shape) for axis in axes) or len(place) != len(shape):
        raise UsageError(f"a tensor of {len(shape)} dimensions has no slice along {y} and {x} at {place}")
    offset = elements.offset
    for dim, at in enumerate(place):
        if dim in axes:
            place[dim] = 0
        elif 0 <= at < shape[dim]:
            offset += at * stride[dim]
        elif shape[dim]:
            raise UsageError(f"index {at} is outside of dimension {dim} of size {shape[dim]}")
    empty = 0 in shape
    rows, down = (1, 0) if y is None else (shape[y], stride[y])
    columns, along = (1, 0) if x is None else (shape[x], stride[x])
    if empty and rows and columns:
        rows = 0
    return Plane(Elements(elements.dtype, offset, (rows, columns), (down, along)), x, y, tuple(place))


# A reduced slice


def reduced_slice(
    source: ByteSource,
    layout: TensorLayout,
    *,
    x: int | None = None,
    y: int | None = None,
    index: Sequence[int] | None = None,
    rows: int,
    columns: int,
    how: How = "mean",
    window: Sequence[int] | None = None,
    limit: float | None = None,
    most: int | None = None,
    progress: Progress = no_progress,
) -> ReducedSlice:
    """A slice of a tensor in at most `rows` x `columns` cells.

    `x` and `y` are dimensions (the two largest without them), `index` is the place in each dimension (at x and y it
    does not count; all 0 without it). A cell is the mean of its values, the one of largest magnitude (with its sign),
    or the root of their mean square. Complex values are taken by their magnitude. `window` (first row, first column,
    rows, columns) shows a part of the slice; what is outside of it is left out. `limit` sets the limit of the colours.
    At most about `most` elements are read, a part of each cell, for a first look. Progress is in bytes.

    Raises:
        UsageError: there is no such slice.
        CorruptCheckpoint: the bytes are not there.
    """
    if rows < 1 or columns < 1:
        raise UsageError(f"a slice cannot be reduced to {rows} by {columns} cells")
    plane = plane_of(source, layout, x, y, index)
    shape = plane.elements.shape
    shown = inside(window, shape)
    height, width = shown[2:]
    block = (max(1, -(-height // rows)), max(1, -(-width // columns)))
    elements = part_of(plane.elements, shown)
    # Of a first look whole lines of each cell are read, side by side in the storage where both ways leave some out.
    by_columns = elements.stride[0] < elements.stride[1] if min(block) > 1 else block[1] > 1
    lines = block[1] if by_columns else block[0]
    read = lines if most is None or elements.count <= most else max(1, lines * most // elements.count)
    if read == lines:
        cells, flags = _reduce(source, layout, elements, block, how, progress)
    elif by_columns:
        turned = replace(elements, shape=(width, height), stride=elements.stride[::-1])
        cells, flags = _reduce_some(source, layout, turned, (block[1], block[0]), read, how, progress)
        cells, flags = np.ascontiguousarray(cells.T), np.ascontiguousarray(flags.T)
    else:
        cells, flags = _reduce_some(source, layout, elements, block, read, how, progress)
    limit, clipped = limit_of(cells, limit)
    return ReducedSlice(
        plane.x,
        plane.y,
        plane.index,
        (shape[0], shape[1]),
        shown,
        block,
        read < lines,
        how,
        limit,
        clipped,
        cells,
        flags,
    )


def limit_of(cells: NDArray[np.float64], limit: float | None = None) -> tuple[float, int]:
    """The limit of the colours of some cells, or what was asked for, and how many cells are beyond it."""
    sizes = np.abs(cells[np.isfinite(cells)])
    if limit is None:
        limit = float(np.quantile(sizes, SHOWN)) if sizes.size else 0.0
        if limit == 0 and sizes.size:
            # Nearly everything is zero: what is not has to be seen.
            limit = float(sizes.max())
    return limit, int(np.count_nonzero(sizes > limit))


def shades_of(cells: NDArray[np.float64], limit: float) -> NDArray[np.uint8]:
    """Cells on a scale of colours: 0 is -`limit` or less, 127 zero, 254 `limit` or more, 255 no number."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip(cells / (limit or 1.0), -1.0, 1.0) * 127 + 127
    return np.where(np.isnan(cells), 255.0, np.rint(scaled)).astype(np.uint8)


def inside(window: Sequence[int] | None, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A window kept inside of a slice; the whole slice without one."""
    if window is None:
        return 0, 0, shape[0], shape[1]
    row, column = (min(max(0, at), size) for at, size in zip(window[:2], shape, strict=True))
    return row, column, max(0, min(window[2], shape[0] - row)), max(0, min(window[3], shape[1] - column))


def part_of(plane: Elements, window: Window) -> Elements:
    """The elements of a part of a plane."""
    row, column, height, width = window
    offset = plane.offset + row * plane.stride[0] + column * plane.stride[1]
    return replace(plane, offset=offset, shape=(height, width))


def _reduce_some(
    source: ByteSource,
    layout: TensorLayout,
    elements: Elements,
    block: tuple[int, int],
    read: int,
    how: How,
    progress: Progress,
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Cells from the first `read` rows of each block, one row of cells after the other."""
    height, width = elements.shape
    found = []
    for row in range(0, height, block[0]):
        progress(row, height)
        some = part_of(elements, (row, 0, min(read, height - row), width))
        found.append(_reduce(source, layout, some, (read, block[1]), how, no_progress))
    progress(height, height)
    return np.concatenate([cells for cells, _ in found]), np.concatenate([flags for _, flags in found])


class CellSums:
    """The cells while the elements stream past."""

    def __init__(self, shape: tuple[int, int], how: How) -> None:
        self.how = how
        self.flags: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self.counts: NDArray[np.int64] = np.zeros(shape, np.int64)
        self.most: NDArray[np.float64] = np.full(shape, -np.inf)
        self.least: NDArray[np.float64] = np.full(shape, np.inf)
        # The sums are of values times 2**-power: 0 but for the cells of a float64 tensor with huge or tiny values.
        self.sums: NDArray[np.float64] = np.zeros(shape)
        self.powers: NDArray[np.int32] | None = None

    def add(self, values: Array, row: int, column: int, block: tuple[int, int]) -> None:
        """Take in the tile of elements that begins at `(row, column)`."""
        sides = tuple(zip((row, column), values.shape, block, strict=True))
        starts = tuple(_starts(first, n, step) for first, n, step in sides)
        at = tuple(slice(first // step, (first + n - 1) // step + 1) for first, n, step in sides)
        odd = None
        if values.dtype.kind == "f":
            odd = ~np.isfinite(values)
            odd = odd if odd.any() else None
        if odd is None:
            heights, widths = (np.diff(s, append=n) for s, n in zip(starts, values.shape, strict=True))
            self.counts[at] += np.outer(heights, widths)
        else:
            nan = np.isnan(values)
            self.flags[at] |= _by_cell(np.logical_or, nan, starts) * np.uint8(HAS_NAN)
            self.flags[at] |= _by_cell(np.logical_or, odd & ~nan, starts) * np.uint8(HAS_INF)
            self.counts[at] += _by_cell(np.add, (~odd).astype(np.int64), starts)
        if self.how == "max_abs":
            most = _by_cell(np.maximum, values if odd is None else np.where(odd, -np.inf, values), starts)
            least = _by_cell(np.minimum, values if odd is None else np.where(odd, np.inf, values), starts)
            self.most[at] = np.maximum(self.most[at], most)
            self.least[at] = np.minimum(self.least[at], least)
            return
        v = real(values)
        if odd is not None:
            v[odd] = 0
        if values.dtype.itemsize == 8 and values.dtype.kind == "f":
            v = self._scaled(v, at, starts)
        if self.how == "rms":
            v *= v
        self.sums[at] += _by_cell(np.add, v, starts)

    def _scaled(self, v: Array, at: tuple[slice, ...], starts: tuple[NDArray[np.int64], ...]) -> Array:
        """The values of a tile times 2**-power of their cells, each large enough for the largest value so far."""
        sizes = np.abs(v)
        if self.powers is None and (2.0**-SAFE < (most := sizes.max()) < 2.0**SAFE or most == 0):
            return v
        powers = self.powers = np.zeros(self.sums.shape, np.int32) if self.powers is None else self.powers
        largest = _by_cell(np.maximum, sizes, starts)
        needed = np.frexp(largest)[1]
        needed[abs(needed) < SAFE] = 0
        sums, before = self.sums[at], powers[at]
        # Where there were only zeros the power may fall too.
        power = np.where(sums == 0, np.where(largest == 0, before, needed), np.maximum(before, needed))
        self.sums[at] = np.ldexp(sums, (before - power) * (2 if self.how == "rms" else 1))
        powers[at] = power
        for axis in (0, 1):
            power = np.repeat(power, np.diff(starts[axis], append=v.shape[axis]), axis=axis)
        return np.ldexp(v, -power)

    def cells(self) -> NDArray[np.float64]:
        """The cells; NaN where nothing was finite."""
        if self.how == "max_abs":
            cells = np.where(self.most >= -self.least, self.most, self.least)
        else:
            cells = self.sums / np.maximum(self.counts, 1)
            cells = np.sqrt(cells) if self.how == "rms" else cells
            if self.powers is not None:
                with np.errstate(over="ignore"):
                    # The mean of the largest values may be rounded to beyond them.
                    cells = np.clip(np.ldexp(cells, self.powers), -LARGEST, LARGEST)
        return np.where(self.counts > 0, cells, np.nan)


def _starts(first: int, n: int, step: int) -> NDArray[np.int64]:
    """Where in a tile of `n` elements from element `first` a cell of `step` elements begins."""
    return np.unique(np.concatenate([[0], np.arange(-first % step, n, step)])).astype(np.int64)


def _by_cell(ufunc: np.ufunc, values: Array, starts: tuple[NDArray[np.int64], ...]) -> Array:
    for axis in (0, 1):
        if len(starts[axis]) < values.shape[axis]:
            values = ufunc.reduceat(values, starts[axis], axis=axis)
    return values


def _reduce(
    source: ByteSource, layout: TensorLayout, elements: Elements, block: tuple[int, int], how: How, progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    height, width = elements.shape
    shape = (-(-height // block[0]), -(-width // block[1]))
    if 0 in shape:
        return np.zeros(shape), np.zeros(shape, np.uint8)
    # Along an expanded dimension all elements are the same one.
    expanded = tuple(step == 0 for step in elements.stride)
    seen = tuple(1 if same else size for same, size in zip(expanded, elements.shape, strict=True))
    steps = tuple(1 if same else size for same, size in zip(expanded, block, strict=True))
    elements = replace(elements, shape=seen)
    refuse_bomb(elements)
    turned = elements.stride[0] < elements.stride[1] and not expanded[0]
    if turned:
        # Stored column by column: read it that way.
        elements = replace(elements, shape=seen[::-1], stride=elements.stride[::-1])
        steps = steps[::-1]
    rows, columns = (-(-n // step) for n, step in zip(elements.shape, steps, strict=True))
    sums = CellSums((rows, columns), how)
    reader = Reader(source, layout)
    total, done = elements.nbytes(elements.count), 0
    for row, column, tile in _tiles(elements):
        progress(done, total)
        values = reader.values(tile)
        sums.add(magnitude(values) if values.dtype.kind == "c" else values, row, column, (steps[0], steps[1]))
        done += elements.nbytes(values.size)
    progress(total, total)
    cells, flags = sums.cells(), sums.flags
    if turned:
        cells, flags = cells.T, flags.T
    return np.ascontiguousarray(np.broadcast_to(cells, shape)), np.ascontiguousarray(np.broadcast_to(flags, shape))


def _tiles(elements: Elements) -> Iterator[tuple[int, int, Block]]:
    """The plane in tiles of about a block: as wide as the plane, or parts of one row."""
    most = max(1, BLOCK * elements.dtype.per_byte // elements.dtype.itemsize)
    for row, column, rows, columns in tile_places(elements.shape, most):
        yield row, column, block_of(elements, (row, column, rows, columns))


def tile_places(shape: tuple[int, ...], most: int) -> Iterator[Window]:
    """A plane in tiles of at most `most` values: as wide as the plane, or parts of one row."""
    height, width = shape
    columns = min(width, most)
    rows = max(1, most // max(columns, 1))
    for row in range(0, height, rows):
        for column in range(0, width, columns):
            yield row, column, min(rows, height - row), min(columns, width - column)


def block_of(plane: Elements, window: Window) -> Block:
    """A part of a plane, to be read."""
    part = part_of(plane, window)
    return Block(part.offset, part.shape, part.stride)


# Exact values


def values_window(
    source: ByteSource,
    layout: TensorLayout,
    x: int | None,
    y: int | None,
    index: Sequence[int] | None,
    row0: int,
    rows: int,
    col0: int,
    cols: int,
) -> ValuesWindow:
    """The exact values of `rows` x `cols` elements of a slice, from row `row0` and column `col0` on.

    What lies outside of the slice is left out. `x`, `y`, `index` are as in `reduced_slice`.

    Raises:
        UsageError: there is no such slice, or the window is too large.
        CorruptCheckpoint: the bytes are not there.
    """
    plane = plane_of(source, layout, x, y, index).elements
    row, column = (min(max(0, at), size) for at, size in zip((row0, col0), plane.shape, strict=True))
    height = max(0, min(row0 + rows, plane.shape[0]) - row)
    width = max(0, min(col0 + cols, plane.shape[1]) - column)
    if height * width > MOST_CELLS:
        raise UsageError(f"a window of {height} by {width} values is too large")
    if not height * width:
        return ValuesWindow(row, column, (), np.zeros((height, width)))
    block = Block(plane.offset + row * plane.stride[0] + column * plane.stride[1], (height, width), plane.stride)
    values = Reader(source, layout).values(block)
    return ValuesWindow(row, column, tuple(texts_of(values, plane)), real(values))


def texts_of(values: Array, elements: Elements) -> list[str]:
    """The shortest text of each value that gives it back, as in `ValuesWindow`."""
    flat = values.reshape(-1)
    if elements.dtype.kind == "bits":
        return [f"0x{value:0{2 * elements.dtype.itemsize}x}" for value in flat.tolist()]
    if elements.dtype.name == "float16":
        flat = flat.astype(np.float16)
    if flat.dtype.kind in "fc":
        # NumPy's own scalars know the fewest digits that tell a float32 from its neighbours.
        return [str(value) for value in flat]
    return [str(value) for value in flat.tolist()]


# A vector


def line(
    source: ByteSource, layout: TensorLayout, points: int, *, sort: bool = False, progress: Progress = no_progress
) -> Line:
    """The values of a vector in at most `points` points. Dimensions of size 1 do not count. Progress is in bytes.

    `sort` puts the finite values in their order first.

    Raises:
        UsageError: the tensor has more than one dimension, or more than `MOST_SORTED` elements are to be sorted.
        CorruptCheckpoint: the bytes are not there.
    """
    elements = known_elements(source, layout)
    dims = [(size, step) for size, step in zip(elements.shape, elements.stride, strict=True) if size != 1]
    if len(dims) > 1 or points < 1:
        raise UsageError(f"a tensor of shape {layout.shape} is not a line of {points} points")
    size, step = dims[0] if dims else (1, 1)
    block = max(1, -(-size // points))
    if sort:
        return _sorted(source, layout, replace(elements, shape=(size,), stride=(step,)), points, progress)
    if step == 0 and size:
        one = _envelope(source, layout, replace(elements, shape=(1,), stride=(1,)), 1, no_progress)
        n = -(-size // block)
        low, high, flags = np.full(n, one.low), np.full(n, one.high), np.full(n, one.flags)
        return replace(one, count=size, block=block, low=low, high=high, flags=flags)
    return _envelope(source, layout, replace(elements, shape=(size,), stride=(step,)), block, progress)


def _sorted(source: ByteSource, layout: TensorLayout, vector: Elements, points: int, progress: Progress) -> Line:
    if vector.count > MOST_SORTED:
        raise UsageError(f"{vector.count:,} values are too many to be sorted for a plot")
    reader = Reader(source, layout)
    parts = []
    for start, _, tile in _tiles(replace(vector, shape=(vector.count, 1), stride=(vector.stride[0], 0))):
        progress(vector.nbytes(start), vector.nbytes(vector.count))
        parts.append(real(reader.values(tile).reshape(-1)))
    values = np.concatenate(parts) if parts else np.empty(0)
    values = np.sort(values[np.isfinite(values)])
    block = max(1, -(-values.size // points))
    starts = np.arange(0, values.size, block)
    ends = np.minimum(starts + block, values.size) - 1
    low, high = values[starts], values[ends]
    log = bool(values.size == vector.count and _over_decades(low, high))
    return Line(values.size, block, None, None, log, (), True, low, high, np.zeros(low.size, np.uint8))


def _envelope(source: ByteSource, layout: TensorLayout, vector: Elements, block: int, progress: Progress) -> Line:
    reader, size = Reader(source, layout), vector.shape[0]

    def pieces() -> Iterator[tuple[int, NDArray[np.float64]]]:
        for start, _, tile in _tiles(replace(vector, shape=(size, 1), stride=(vector.stride[0], 0))):
            progress(vector.nbytes(start), vector.nbytes(size))
            yield start, real(reader.values(tile).reshape(-1))
        progress(vector.nbytes(size), vector.nbytes(size))

    return envelope(pieces(), size, block)


def envelope(pieces: Iterable[tuple[int, NDArray[np.float64]]], size: int, block: int) -> Line:
    """The line through `size` values, which come in pieces with the index of their first value."""
    points = -(-size // block)
    low, high, flags = np.full(points, np.inf), np.full(points, -np.inf), np.zeros(points, np.uint8)
    least, most = (np.inf, 0), (-np.inf, 0)
    for start, v in pieces:
        starts = _starts(start, v.size, block)
        at = slice(start // block, (start + v.size - 1) // block + 1)
        finite = np.isfinite(v)
        smaller, larger = np.where(finite, v, np.inf), np.where(finite, v, -np.inf)
        low[at] = np.minimum(low[at], np.minimum.reduceat(smaller, starts))
        high[at] = np.maximum(high[at], np.maximum.reduceat(larger, starts))
        if not finite.all():
            nan = np.isnan(v)
            flags[at] |= np.logical_or.reduceat(nan, starts) * np.uint8(HAS_NAN)
            flags[at] |= np.logical_or.reduceat(~(finite | nan), starts) * np.uint8(HAS_INF)
        first, last = int(smaller.argmin()), int(larger.argmax())
        least = min(least, (float(smaller[first]), start + first), key=lambda pair: pair[0])
        most = max(most, (float(larger[last]), start + last), key=lambda pair: pair[0])
    low[np.isinf(low)], high[np.isinf(high)] = np.nan, np.nan
    ends = [(at, value) for value, at in (least, most) if np.isfinite(value)]
    min_at, max_at = (ends[0][0], ends[1][0]) if ends else (None, None)
    log = bool(not flags.any() and _over_decades(low, high))
    candidates = list(enumerate(low.tolist())) if block == 1 else ends
    return Line(size, block, min_at, max_at, log, _outliers(candidates, low, high, log), False, low, high, flags)


def _over_decades(low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
    """Whether values are positive and over more than three decades."""
    return bool(low.size and low.min() > 0 and high.max() > 1000 * low.min())


def _outliers(
    candidates: list[tuple[int, float]], low: NDArray[np.float64], high: NDArray[np.float64], log: bool
) -> tuple[tuple[int, float], ...]:
    """Those that are farther from the median than `FAR` times the middle half of all is wide."""
    known = np.concatenate([low, high])
    known = known[np.isfinite(known)]
    if known.size < FEWEST:
        return ()
    if not log and np.abs(known).max() > LARGEST / 2**10:
        # Distances between them, and their multiples, would be infinite.
        known, candidates = known / 2**10, [(at, value / 2**10) for at, value in candidates]
        return tuple((at, value * 2**10) for at, value in _outliers_of(candidates, known, log))
    return _outliers_of(candidates, known, log)


def _outliers_of(
    candidates: list[tuple[int, float]], known: NDArray[np.float64], log: bool
) -> tuple[tuple[int, float], ...]:
    scaled = np.log10(known) if log else known
    first, middle, third = np.quantile(scaled, (0.25, 0.5, 0.75))
    reach = FAR * (third - first)
    apart = [
        (abs((np.log10(value) if log else value) - middle), at, value) for at, value in candidates if np.isfinite(value)
    ]
    far = sorted(entry for entry in apart if entry[0] > reach > 0)
    return tuple((at, value) for _, at, value in far[-MOST_OUTLIERS:][::-1])
