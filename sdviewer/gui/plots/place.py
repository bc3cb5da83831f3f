"""Where in a tensor somebody looks: which slice, which part of it, which element, on what scale of colours.

The plots of a page share one `Place`, so that a slice chosen in the heatmap is the one whose values are listed. It is
kept when another tensor of the same shape is shown, and found again when one of an earlier shape is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from PySide6.QtCore import QObject, Signal

Index = tuple[int, ...]
"""A place in a tensor, one number for each of its dimensions; -1 where a plot knows none, as for a row of a matrix."""

Window = tuple[int, int, int, int]
"""A part of a slice: first row, first column, rows, columns."""

MOST_SHAPES: Final = 64
"""Shapes whose places are remembered."""


def picture_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """The two largest dimensions, in order; None for fewer than two."""
    if len(shape) < 2:
        return None
    largest = sorted(range(len(shape)), key=lambda axis: (-shape[axis], axis))[:2]
    row, column = sorted(largest)
    return row, column


@dataclass(slots=True)
class _Kept:
    """A place in tensors of one shape."""

    axes: tuple[int, int] | None
    index: list[int]
    cell: tuple[int, int] = (0, 0)
    window: Window | None = None
    scroll: tuple[int, int] = (0, 0)


class Place(QObject):
    """The place of one page. `axes` are the dimensions along rows and columns, None where there are fewer than two."""

    begun = Signal()  # another shape
    slice_changed = Signal()
    window_changed = Signal()
    limit_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.shape: tuple[int, ...] | None = None
        self._kept = _Kept(None, [])
        self._shapes: dict[tuple[int, ...], _Kept] = {}
        self.locked: float | None = None

    def begin(self, shape: Sequence[int]) -> None:
        """Turn to a tensor of this shape; where it is the same, all stays."""
        if self.shape == tuple(shape):
            return
        self.shape = tuple(shape)
        kept = self._shapes.pop(self.shape, None) or _Kept(picture_axes(shape), [0] * len(shape))
        self._shapes[self.shape] = self._kept = kept
        if len(self._shapes) > MOST_SHAPES:
            del self._shapes[next(iter(self._shapes))]
        self.begun.emit()

    def copy(self) -> Place:
        """Another one that stands at the same place."""
        made = Place()
        made.begin(self.shape or ())
        kept = replace(self._kept, index=list(self._kept.index))
        made._shapes[self.shape or ()] = made._kept = kept
        made.locked = self.locked
        return made

    @property
    def axes(self) -> tuple[int, int] | None:
        """The dimensions along the rows' numbers and along the columns'."""
        return self._kept.axes

    @property
    def index(self) -> list[int]:
        """Where each dimension stands that is not in the picture; 0 for the two that are."""
        return [0 if self.axes and axis in self.axes else at for axis, at in enumerate(self._kept.index)]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the slice; a vector is one column, a scalar one cell."""
        shape = self.shape or ()
        if self.axes is not None:
            return shape[self.axes[0]], shape[self.axes[1]]
        return (shape[0] if shape else 1), 1

    def set_axes(self, row: int, column: int) -> None:
        """Choose the two dimensions of the picture; choosing one twice swaps them."""
        axes = self._kept.axes
        if axes is None or (row, column) == axes:
            return
        if row == column:
            row, column = axes[1], axes[0]
        # A dimension that leaves the picture stands where the chosen element is.
        for axis, at in zip(axes, self._kept.cell, strict=True):
            self._kept.index[axis] = at
        self._kept.axes, self._kept.window, self._kept.scroll = (row, column), None, (0, 0)
        self._kept.cell = self._kept.index[row], self._kept.index[column]
        self.slice_changed.emit()

    def move(self, axis: int, at: int) -> None:
        """Go to another slice along a dimension that is not in the picture."""
        if self._kept.index[axis] != at:
            self._kept.index[axis] = at
            self.slice_changed.emit()

    # The element that was chosen, the part that is shown enlarged, where the table of values is scrolled to

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column of the element that is chosen."""
        return self._kept.cell

    @cell.setter
    def cell(self, cell: tuple[int, int]) -> None:
        self._kept.cell = cell

    @property
    def scroll(self) -> tuple[int, int]:
        """The first row and column that the table of values shows."""
        return self._kept.scroll

    @scroll.setter
    def scroll(self, scroll: tuple[int, int]) -> None:
        self._kept.scroll = scroll

    @property
    def window(self) -> Window | None:
        """The part of the slice that the heatmap shows, None for all of it."""
        return self._kept.window

    def show_window(self, window: Window | None) -> None:
        """Enlarge a part of the slice."""
        if self._kept.window != window:
            self._kept.window = window
            self.window_changed.emit()

    def show_part(self, axes: tuple[int, int], index: Index, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Enlarge a part of a slice, from the first row and column to those before the last."""
        if self._kept.axes is None:
            return
        self._kept.axes, self._kept.index = axes, list(index)
        self._kept.cell, self._kept.scroll = (rows[0], columns[0]), (rows[0], columns[0])
        window = rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0]
        self._kept.window = None if window == (0, 0, *self.size) else window
        self.slice_changed.emit()
        self.window_changed.emit()

    def lock(self, limit: float | None) -> None:
        """Keep the colours at a limit, for this and all other tensors; None lets each have its own again."""
        if self.locked != limit:
            self.locked = limit
            self.limit_changed.emit()

    # Between the slice and the tensor

    def params(self) -> dict[str, Any]:
        """What the numbers pool takes: the dimensions along columns and rows, and the place in the others."""
        y, x = self.axes if self.axes is not None else ((0, None) if self.shape else (None, None))
        return {"x": x, "y": y, "index": self.index}

    def full_index(self, row: int, column: int) -> Index:
        """The index of an element of the slice in the whole tensor."""
        index = self.index
        if self.axes is not None:
            index[self.axes[0]], index[self.axes[1]] = row, column
        elif index:
            index[0] = row
        return tuple(index)

    def in_slice(self, index: Index) -> tuple[int, int] | None:
        """Row and column of an element (-1 where its index has none); None when it stands in another slice."""
        if len(index) != len(self.shape or ()):
            return None
        axes = self.axes
        if axes is None:
            return (index[0] if index else 0), 0
        elsewhere = any(axis not in axes and at not in (-1, self._kept.index[axis]) for axis, at in enumerate(index))
        return None if elsewhere else (index[axes[0]], index[axes[1]])

    def go(self, index: Index) -> None:
        """Choose an element of the tensor, in whichever slice it stands."""
        axes = self.axes
        self.cell = (index[axes[0]], index[axes[1]]) if axes else ((index[0] if index else 0), 0)
        moved = False
        for axis, at in enumerate(index):
            if (axes is None or axis not in axes) and self._kept.index[axis] != at and axes is not None:
                self._kept.index[axis] = at
                moved = True
        if moved:
            self.slice_changed.emit()
