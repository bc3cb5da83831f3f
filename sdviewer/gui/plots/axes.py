"""Axes of pyqtgraph in the house's look: thin lines, horizontal grid, own numbers, wheel zooms x.

Imports pyqtgraph, so it is loaded by `library` on a thread. Nothing that comes from a file is ever given to pyqtgraph
as a title or label: it renders those as HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen

from sdviewer.core import text
from sdviewer.gui import resources

TickText = Callable[[float], str]


def plain_number(x: float) -> str:
    """An axis number: `0.05`, `−0.1`."""
    return text.value(float(x)) if abs(x) > 1e-300 else "0"


def short_number(x: float) -> str:
    """A count on an axis: `20 K`, without idle zeros."""
    if x < 1000:
        return plain_number(x)
    number, _, unit = text.short_count(round(x)).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def power_of_ten(x: float) -> str:
    """A count whose log10 is drawn: `1`, `10`, `1 K`."""
    return short_number(10**x) if abs(x - round(x)) < 1e-6 else ""


class _Axis(pg.AxisItem):  # type: ignore[misc]
    """An axis with the house's numbers."""

    def __init__(self, side: str, tick_text: TickText) -> None:
        super().__init__(side)
        self.tick_text = tick_text
        self.enableAutoSIPrefix(False)

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        return [self.tick_text(value * scale) for value in values]


class _View(pg.ViewBox):  # type: ignore[misc]
    """Wheel zooms x, Shift+wheel y; a double click shows all again."""

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:
        shifted = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        super().wheelEvent(event, axis=1 if shifted else 0)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        self.autoRange(padding=0)
        event.accept()


class Axes(pg.PlotWidget):  # type: ignore[misc]
    """A plot area; `refresh_colours` before each drawing follows the theme."""

    def __init__(self) -> None:
        self.x_axis = _Axis("bottom", plain_number)
        self.y_axis = _Axis("left", short_number)
        super().__init__(
            viewBox=_View(enableMenu=False), axisItems={"bottom": self.x_axis, "left": self.y_axis}, background=None
        )
        self.hideButtons()
        self.setMenuEnabled(False)
        self.setAntialiasing(True)
        self.setFrameShape(self.Shape.NoFrame)
        self.getPlotItem().setContentsMargins(0, 2, 6, 0)
        self.setMinimumSize(120, 60)
        self.refresh_colours()

    def refresh_colours(self) -> None:
        """Take fonts and colours of the theme that is on."""
        for axis in (self.x_axis, self.y_axis):
            axis.setPen(QPen(resources.colour("border2"), 1))
            axis.setTextPen(resources.colour("text2"))
            axis.setTickFont(resources.font(resources.SMALL))
            axis.setStyle(tickLength=0, tickTextOffset=6, autoExpandTextSpace=True, hideOverlappingLabels=True)
        self.y_axis.setGrid(False)

    def start_over(self) -> None:
        """Take everything off."""
        self.clear()
        self.refresh_colours()

    def add_grid(self, positions: Sequence[float]) -> None:
        """Thin horizontal lines."""
        grid = QColor(resources.colour("text2"))
        grid.setAlphaF(0.14)
        for y in positions:
            self.addItem(pg.InfiniteLine(y, angle=0, pen=QPen(grid, 0)))

    def add_steps(self, edges: Any, heights: Any, base: float) -> None:
        """True steps, filled to `base`; `edges` has one more than `heights`."""
        fill = QColor(resources.colour("Af"))
        fill.setAlphaF(0.34)
        curve = pg.PlotCurveItem(
            edges, heights, stepMode="center", fillLevel=base, brush=fill, pen=_pen(resources.colour("A"), 1.5)
        )
        self.addItem(curve)

    def add_line(self, x: Any, y: Any, token: str, width: float = 1.5, *, dashed: bool = False) -> None:
        """A line through points."""
        pen = _pen(resources.colour(token), width)
        if dashed:
            pen.setDashPattern([4, 2.5])
        self.addItem(pg.PlotCurveItem(x, y, pen=pen, antialias=True))

    def add_band(self, x: Any, low: Any, high: Any) -> None:
        """What lies between two lines, as where many points share a pixel."""
        colour = resources.colour("A")
        lower = pg.PlotCurveItem(x, low, pen=_pen(colour, 1))
        upper = pg.PlotCurveItem(x, high, pen=_pen(colour, 1))
        for item in (lower, upper, pg.FillBetweenItem(lower, upper, brush=colour)):
            self.addItem(item)

    def add_points(self, x: Any, y: Any) -> None:
        """Dots, for few values."""
        self.addItem(pg.ScatterPlotItem(x, y, size=5, pen=None, brush=resources.colour("A")))

    def add_mark(self, x: float, token: str = "neutral") -> None:
        """A thin vertical line."""
        self.addItem(pg.InfiniteLine(x, angle=90, pen=_pen(resources.colour(token), 1)))

    def add_level(self, y: float, token: str = "neutral") -> None:
        """A thin horizontal line."""
        self.addItem(pg.InfiniteLine(y, angle=0, pen=_pen(resources.colour(token), 1)))

    def set_range(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Show exactly this; a double click comes back to it."""
        self.getViewBox().disableAutoRange()
        self.setRange(xRange=x, yRange=y, padding=0)


def _pen(colour: QColor, width: float) -> QPen:
    pen = QPen(colour, width)
    pen.setCosmetic(True)
    return pen


def floats(buffer: memoryview, code: str = "<f8") -> Any:
    """A buffer of the engine as an array."""
    return numpy.frombuffer(buffer, dtype=code)


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round positions between two values."""
    span = high - low
    if not span > 0 or not numpy.isfinite(span):
        return []
    step = 10.0 ** numpy.floor(numpy.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= most:
            step *= factor
            break
    first = numpy.ceil(low / step) * step
    return [float(first + i * step) for i in range(int((high - first) / step + 1e-9) + 1)]
