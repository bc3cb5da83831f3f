"""Which two dimensions of a tensor are the picture, and where the others stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtWidgets import QHBoxLayout, QSpinBox, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.plots.plot import Facts


def picture_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """The two largest dimensions, in order; None for fewer than two."""
    if len(shape) < 2:
        return None
    largest = sorted(range(len(shape)), key=lambda axis: (-shape[axis], axis))[:2]
    row, column = sorted(largest)
    return row, column


class SliceStrip(QWidget):
    """A number field for every dimension that is not in the picture."""

    def __init__(self, moved: Callable[[], None]) -> None:
        super().__init__()
        self._moved = moved
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(6)
        self.hide()
        self._fields: dict[int, QSpinBox] = {}
        self.axes: tuple[int, int] | None = None
        self.shape: tuple[int, ...] = ()

    def begin(self, facts: Facts) -> None:
        """Take the dimensions of another tensor; where they are the same, the place stays."""
        shape = tuple(facts.get("shape") or ())
        if shape == self.shape:
            return
        self.shape, self.axes = shape, picture_axes(shape)
        self._fields = {}
        widgets.clear_layout(self._row)
        for axis, size in enumerate(shape):
            if self.axes is None or axis in self.axes or size == 1:
                continue
            field = QSpinBox()
            field.setRange(0, min(size - 1, 2**31 - 1))
            field.setPrefix(f"dim {axis}: ")
            field.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
            field.setFixedSize(84, 24)
            field.setAccessibleName(f"Place in dimension {axis}, of {size}")
            field.setToolTip(f"Place in dimension {axis}, of {size:,}")
            field.setKeyboardTracking(False)
            field.valueChanged.connect(lambda _: self._moved())
            self._fields[axis] = field
            self._row.addWidget(field)
        self._row.addStretch(1)
        self.setVisible(bool(self._fields))

    def params(self) -> dict[str, Any]:
        """What the numbers pool takes: the dimensions along columns and rows, and the place in the others."""
        index = [self._fields[axis].value() if axis in self._fields else 0 for axis in range(len(self.shape))]
        y, x = self.axes if self.axes is not None else ((0, None) if self.shape else (None, None))
        return {"x": x, "y": y, "index": index}

    def full_index(self, row: int, column: int) -> list[int]:
        """The index of a cell of the picture in the whole tensor."""
        index = self.params()["index"]
        if self.axes is not None:
            index[self.axes[0]], index[self.axes[1]] = row, column
        elif index:
            index[0] = row
        return [int(i) for i in index]
