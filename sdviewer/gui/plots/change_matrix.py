"""How far each module moved in each step: a picture of amounts, module by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QImage, QPainter

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.step_map import StepMap

MOST_PERCENT: Final = 10.0
"""Ratio from which a change is told in times."""

MOST_SHADE, NO_SHADE = 254, 255
"""As `engine.series` writes them."""


def share_words(ratio: float) -> str:
    """How far something moved, over how large it was: `2.04 %`, `12.5 times`."""
    if math.isinf(ratio):
        return "from zero"
    return text.percent(ratio) if ratio < MOST_PERCENT else f"{text.value(ratio)} times"


class ChangeMatrix(StepMap):
    """Its columns are steps, or a few steps each. `cells` are the numbers that `shades` are of, as shares."""

    def __init__(self) -> None:
        super().__init__("Change of each module over the steps")
        self.columns: list[tuple[int, int]] = []
        self._column_of: list[int] = []
        self._cells: list[float] = []
        self._shades = b""
        self._label: Callable[[int], str] = str
        self._against: Callable[[int], str] = str

    def show_matrix(
        self,
        names: Sequence[str],
        columns: Sequence[tuple[int, int]],
        cells: Sequence[float],
        shades: bytes,
        said: str,
        *,
        short: Callable[[int], str],
        label: Callable[[int], str],
        against: Callable[[int], str],
    ) -> None:
        """Other numbers; `against` says what a step is compared with."""
        self.columns, self._cells, self._shades = list(columns), list(cells), shades
        self._column_of = [at for at, (start, stop) in enumerate(columns) for _ in range(start, stop)]
        self._label, self._against = label, against
        self.show_names(names, columns[-1][1] if columns else 0, said, short)

    def value(self, row: int, step: int) -> float:
        """The number of a cell, NaN where there is none."""
        return self._cells[row * len(self.columns) + self._column_of[step]] if self.columns else float("nan")

    def describe(self, row: int, step: int) -> str:
        value = self.value(row, step)
        start, stop = self.columns[self._column_of[step]]
        where = self._label(start) if stop - start == 1 else f"{self._label(start)} to {self._label(stop - 1)}"
        if value != value:
            return f"{self.names[row]}, {where}: no change is known"
        most = "at most " if stop - start > 1 else ""
        if value == 0:
            return f"{self.names[row]}, {where}: not changed against {self._against(start)}"
        return f"{self.names[row]}, {where}: {most}{share_words(value)} against {self._against(start)}"

    def draw_rows(self, painter: QPainter, first: int, last: int) -> None:
        area, columns = self.area, len(self.columns)
        if not columns or len(self._shades) != columns * len(self.names):
            return
        image = QImage(self._shades, columns, len(self.names), columns, QImage.Format.Format_Indexed8)
        empty = QColor(resources.colour("panel"))
        shades = [colours.amount(shade / MOST_SHADE).rgb() for shade in range(MOST_SHADE + 1)]
        image.setColorTable([*shades, empty.rgb()])
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        painter.drawImage(area, image)
        self._hatch(painter, area)
        painter.setPen(resources.colour("panel"))
        for row in range(first, last + 1):
            y = round(area.y() + row * self.row_height)
            painter.drawLine(round(area.x()), y, round(area.right()), y)
        if area.width() / columns >= 8:
            for column in range(columns + 1):
                x = round(area.x() + area.width() * column / columns)
                painter.drawLine(x, round(area.y()), x, round(area.bottom()))

    def _hatch(self, painter: QPainter, area: QRectF) -> None:
        """What has no number."""
        columns = len(self.columns)
        wide = area.width() / columns
        for row in range(len(self.names)):
            line = self._shades[row * columns : (row + 1) * columns]
            start = line.find(NO_SHADE)
            while start >= 0:
                stop = next((at for at in range(start, columns) if line[at] != NO_SHADE), columns)
                y = area.y() + row * self.row_height
                self.hatch(painter, QRectF(area.x() + start * wide, y, (stop - start) * wide, self.row_height))
                start = line.find(NO_SHADE, stop)
