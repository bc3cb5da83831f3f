"""The numbers behind a picture as lines of text with tabs between, for the clipboard.

Single values are written as `slices.values_window` writes them: the shortest text that gives the stored value back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats.decode import Block, Reader
from sdviewer.stats.kernel_images import kernel_page
from sdviewer.stats.pair_views import Side, pair_slice
from sdviewer.stats.slices import How, Window, reduced_slice, texts_of, values_window


@dataclass(frozen=True, slots=True)
class SliceTable:
    """The cells of a part of a slice; the first line and the first column say at which element each begins.

    `window` and `block` as in `slices.ReducedSlice`; with a block of (1, 1) each number is the exact value.
    """

    window: Window
    block: tuple[int, int]
    lines: str

    def to_json(self) -> dict[str, Any]:
        """All but the text, as JSON values."""
        return {"window": list(self.window), "block": list(self.block)}


def slice_table(
    source: ByteSource,
    layout: TensorLayout,
    window: Sequence[int],
    *,
    x: int | None = None,
    y: int | None = None,
    index: Sequence[int] | None = None,
    rows: int,
    columns: int,
    how: How = "mean",
    most: int,
    progress: Progress = no_progress,
) -> SliceTable:
    """A part of a slice in at most `rows` x `columns` cells, fewer where these are more than `most`.

    Raises:
        UsageError: there is no such slice, or it has no cells.
        CorruptCheckpoint: the bytes are not there.
    """
    rows, columns = _at_most(rows, columns, window, most)
    found = reduced_slice(
        source, layout, x=x, y=y, index=index, rows=rows, columns=columns, how=how, window=window, progress=progress
    )
    row, column, height, width = found.window
    if found.block == (1, 1):
        texts: Sequence[str] = values_window(source, layout, x, y, index, row, height, column, width).texts
    else:
        texts = [repr(value) for value in found.cells.reshape(-1).tolist()]
    return SliceTable(found.window, found.block, _lines(found.window, found.block, texts))


def difference_table(
    a: Side,
    b: Side,
    window: Sequence[int],
    *,
    x: int | None = None,
    y: int | None = None,
    index: Sequence[int] | None = None,
    rows: int,
    columns: int,
    how: How = "mean",
    most: int,
    progress: Progress = no_progress,
) -> SliceTable:
    """B - A in a part of a slice, as `slice_table` has a part of one tensor; each number in float64.

    Raises:
        UsageError: there is no such slice, it has no cells, or the shapes differ.
        CorruptCheckpoint: the bytes are not there.
    """
    rows, columns = _at_most(rows, columns, window, most)
    found = pair_slice(
        a, b, x=x, y=y, index=index, rows=rows, columns=columns, how=how, window=window, progress=progress
    )
    texts = [repr(value) for value in found.cells[2].reshape(-1).tolist()]
    return SliceTable(found.window, found.block, _lines(found.window, found.block, texts))


def _at_most(rows: int, columns: int, window: Sequence[int], most: int) -> tuple[int, int]:
    """So many rows and columns of cells of a part, fewer where these are more than `most`."""
    rows, columns = min(rows, window[2]), min(columns, window[3])
    if rows < 1 or columns < 1:
        raise UsageError("a part without values is no table")
    if rows * columns > most:
        # Both by the same factor, but none to less than one.
        rows = min(max(1, int(rows / math.sqrt(rows * columns / most))), most)
        columns = min(columns, most // rows)
    return rows, columns


def _lines(window: Window, block: tuple[int, int], texts: Sequence[str]) -> str:
    """Cells with the element at which each begins in the first line and the first column."""
    row, column, height, width = window
    across = range(column, column + width, block[1])
    lines = ["\t".join(["", *map(str, across)])]
    for at, first in enumerate(range(row, row + height, block[0])):
        lines.append("\t".join([str(first), *texts[at * len(across) : (at + 1) * len(across)]]))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class KernelTable:
    """Kernels as they are stored, a line each row of one; `kernels` of them, of `shown` on the page."""

    kernels: int
    shown: int
    lines: str

    def to_json(self) -> dict[str, Any]:
        """All but the text, as JSON values."""
        return {"kernels": self.kernels, "shown": self.shown}


def kernel_table(
    source: ByteSource, layout: TensorLayout, *, first: int = 0, channel: int = 0, rgb: bool = False, most: int
) -> KernelTable:
    """The values of a page of `kernel_images`, of as many kernels from the first on as have at most `most`.

    Raises:
        UsageError: the tensor does not hold kernels, or has no such channel.
        CorruptCheckpoint: the bytes are not there.
    """
    elements, page = kernel_page(source, layout, first, channel, rgb)
    shown, deep, height, width = page.shape
    number = min(shown, max(1, most // (deep * height * width)))
    block = Block(page.offset, (number, deep, height, width), page.stride)
    texts = texts_of(Reader(source, layout).values(block), elements)
    lines = ["\t".join(["kernel", "input", "row", *map(str, range(width))])]
    for line in range(number * deep * height):
        kernel, inner = divmod(line, deep * height)
        place = first + kernel, (0 if deep > 1 else channel) + inner // height, inner % height
        lines.append("\t".join([*map(str, place), *texts[line * width : (line + 1) * width]]))
    return KernelTable(number, shown, "\n".join(lines))
