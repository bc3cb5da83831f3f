"""The axis strip: which two dimensions of a tensor are the picture, and where the others stand."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QPoint, QSignalBlocker, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QMenu, QScrollArea, QSlider, QSpinBox, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.plots.place import Place
from sdviewer.gui.widgets import Chip

MOST_SLIDERS: Final = 2
"""Dimensions that have a slider beside their number field."""
MOST_FIELDS: Final = 16
"""Dimensions that have a number field."""
_MOST = 2**31 - 1


class SliceStrip(QScrollArea):
    """Two chips for the dimensions of the picture, a slider and a number field for each of the others.

    Dimensions of size 1 are not there. A tensor with at most two others has no strip.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Slice")
        self.fields: dict[int, QSpinBox] = {}
        self.sliders: dict[int, QSlider] = {}
        self.rows, self.columns = Chip(""), Chip("")
        self.needed = False
        place.begun.connect(self._rebuild)
        place.slice_changed.connect(self._follow)
        self.rows.clicked.connect(lambda: self._choose(self.rows, 0))
        self.columns.clicked.connect(lambda: self._choose(self.columns, 1))
        self._rebuild()

    def _rebuild(self) -> None:
        shape, axes = self._place.shape or (), self._place.axes
        self.needed = axes is not None and sum(size > 1 for size in shape) > 2
        for chip in (self.rows, self.columns):
            chip.setParent(None)
        self.fields, self.sliders = {}, {}
        inner = QWidget()
        row = QHBoxLayout(inner)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        if self.needed and axes is not None:
            for chip in (self.rows, self.columns):
                row.addWidget(chip)
                chip.show()
            others = [axis for axis, size in enumerate(shape) if size > 1 and axis not in axes]
            for axis in others[:MOST_FIELDS]:
                self._add_axis(row, axis, shape[axis], slider=len(others) <= MOST_SLIDERS)
            if len(others) > MOST_FIELDS:
                row.addWidget(widgets.label(f"{len(others) - MOST_FIELDS} more at 0", "hint"))
        row.addStretch(1)
        self.setWidget(inner)
        wide = len(self.fields) > 2 * MOST_SLIDERS
        self.setFixedHeight(40 if wide else 28)
        on = Qt.ScrollBarPolicy.ScrollBarAsNeeded if wide else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setHorizontalScrollBarPolicy(on)
        self._follow()

    def _add_axis(self, row: QHBoxLayout, axis: int, size: int, *, slider: bool) -> None:
        name = f"Place in dimension {axis}, of {size:,}"
        last = min(size - 1, _MOST)
        row.addSpacing(10)
        row.addWidget(widgets.label(f"dim {axis}", "note"))
        if slider:
            made = QSlider(Qt.Orientation.Horizontal)
            made.setRange(0, last)
            made.setPageStep(max(1, size // 10))
            made.setMinimumWidth(60)
            made.setMaximumWidth(160)
            made.setAccessibleName(name)
            made.setToolTip(name)
            made.valueChanged.connect(lambda at: self._place.move(axis, at))
            self.sliders[axis] = made
            row.addWidget(made, 1)
        field = QSpinBox()
        field.setRange(0, last)
        field.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        field.setSuffix(f" of {size:,}")
        field.setFixedHeight(26)
        field.setKeyboardTracking(False)
        field.setAccessibleName(name)
        field.setToolTip(name)
        field.valueChanged.connect(lambda at: self._place.move(axis, at))
        self.fields[axis] = field
        row.addWidget(field)

    def _follow(self) -> None:
        """Show where the place is now."""
        axes, shape, index = self._place.axes, self._place.shape or (), self._place.index
        if axes is None or not self.needed:
            return
        if any(axis in self.fields for axis in axes):
            self._rebuild()
            return
        for chip, arrow, axis, what in ((self.rows, "↓", axes[0], "down"), (self.columns, "→", axes[1], "across")):
            chip.setText(f"{arrow} dim {axis} · {shape[axis]:,}")
            chip.setToolTip(f"Dimension {axis} goes {what}: choose another")
            chip.setAccessibleName(f"Dimension {axis}, of {shape[axis]:,}, goes {what}")
        for part in (self.fields, self.sliders):
            for axis, made in part.items():
                with QSignalBlocker(made):
                    made.setValue(index[axis])

    def _choose(self, chip: Chip, which: int) -> None:
        """Let somebody choose the dimension that goes down or across."""
        menu = QMenu(chip)
        self.fill_menu(menu, which)
        menu.exec(chip.mapToGlobal(QPoint(0, chip.height() + 2)))
        menu.deleteLater()

    def fill_menu(self, menu: QMenu, which: int) -> None:
        """An entry for each dimension that could go down (`which` 0) or across (1)."""
        axes = self._place.axes
        for axis, size in enumerate(self._place.shape or ()):
            if axes is None or (size == 1 and axis not in axes):
                continue
            action = menu.addAction(f"dim {axis} · {size:,}")
            action.setCheckable(True)
            action.setChecked(axes[which] == axis)
            row, column = (axis, axes[1]) if which == 0 else (axes[0], axis)
            action.triggered.connect(lambda _=False, row=row, column=column: self._place.set_axes(row, column))
