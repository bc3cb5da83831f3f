"""The pyqtgraph side of a plot area: its items, its axes, and what wheel and pointer do.

Imported by `library` on a thread, by nothing else. Everything is drawn in shares of the range that is shown at first,
0 to 1 each way: a weight of 1e-30 and one of 1e30 are then alike to transformations that are not made for either.
Nothing that comes from a file is ever given to pyqtgraph as a title or label: it renders those as HTML.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QLineF, QPoint, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QMouseEvent, QPainter, QPen
from PySide6.QtWidgets import QStyleOptionGraphicsItem, QWidget

from sdviewer.gui import resources
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.scale import Mark, Numbers, View, plain_number, ticks

CLOSEST: Final = 1e-6
"""Share of the first range below which nothing is seen any more; and its inverse, how far away one can go, is 1000."""
FARTHEST: Final = 1e3
MARGIN: Final = 8
"""Pixels above and beside the area."""
GAP: Final = 6
"""Pixels between an axis and its numbers."""
CLICK: Final = 5
"""Pixels that the pointer may move between press and release of a click."""
LEAST_WIDTH: Final = 40
"""Pixels for the shortest number of the horizontal axis ..."""
APART: Final = 24
"""... and pixels between two of them."""


SPREAD = 0.16
"""How strong the tint of a band is: lines and numbers on it must stay readable."""


class _Values(pg.AxisItem):  # type: ignore[misc]
    """The horizontal axis: round numbers of the data."""

    def __init__(self) -> None:
        super().__init__("bottom")
        self.home = (0.0, 1.0)
        self.whole = False
        self.columns: list[tuple[float, str]] = []

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        if self.columns:
            self._words = {_share(place, *self.home): words for place, words in self.columns}
            return [(1.0, list(self._words))]
        left, right = (_value(share, *self.home) for share in (low, high))
        numbers = self._fitting(left, right, size)
        shares = [_share(number, *self.home) for number in numbers]
        self._words = dict(zip(shares, map(plain_number, numbers), strict=True))
        return [(1.0, shares)]

    def _fitting(self, left: float, right: float, size: float) -> list[float]:
        """As many round numbers as have room beside each other."""
        metrics = QFontMetrics(resources.font(resources.SMALL))
        numbers: list[float] = []
        for most in range(max(int(size // LEAST_WIDTH), 1), 0, -1):
            numbers = ticks(left, right, most)
            if self.whole:
                numbers = [number for number in numbers if number == round(number)]
            widest = max((metrics.horizontalAdvance(plain_number(number)) for number in numbers), default=0)
            if len(numbers) * (widest + APART) <= size:
                break
        return numbers

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        return [self._words.get(value, "") for value in values]


class _Levels(pg.AxisItem):  # type: ignore[misc]
    """The vertical axis: the numbers of the levels, each second, third ... where there is no room for all."""

    def __init__(self) -> None:
        super().__init__("left")
        self.places: list[tuple[float, str]] = []

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        apart = (high - low) / max(size, 1) * QFontMetrics(resources.font(resources.SMALL)).height()
        shown = sorted(place for place in self.places if low <= place[0] <= high)
        step = 1
        while any(b[0] - a[0] < apart for a, b in itertools.pairwise(shown[::step])):
            step += 1
        self._words = dict(shown[::step])
        return [(1.0, list(self._words))]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        return [self._words.get(value, "") for value in values]


class _Area(pg.ViewBox):  # type: ignore[misc]
    """Wheel zooms x, Shift+wheel y; a double click shows all again."""

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:
        shifted = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        super().wheelEvent(event, axis=1 if shifted else 0)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        self.show_all()
        event.accept()

    def show_all(self) -> None:
        """Back to the first range."""
        self.setRange(xRange=(0, 1), yRange=(0, 1), padding=0)


class Canvas(pg.GraphicsView):  # type: ignore[misc]
    """A plot area: `start`, then the items in the order of painting.

    `pointed` tells the place of the pointer along x in the data's own numbers, NaN when it has left; `pressed` x and y
    of a click.
    """

    pointed = Signal(float)
    pressed = Signal(float, float)

    def __init__(self) -> None:
        # Not a PlotWidget: that makes a menu of 40 controls, shown or not, which takes longer than all the rest.
        super().__init__(background=None)
        self.enableMouse(False)
        self.setFrameShape(self.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAcceptDrops(False)
        self.area, self.left, self.bottom = _Area(enableMenu=False), _Levels(), _Values()
        self.area.disableAutoRange()
        self.area.setLimits(minXRange=CLOSEST, minYRange=CLOSEST, maxXRange=FARTHEST, maxYRange=FARTHEST)
        self.left.linkToView(self.area)
        self.bottom.linkToView(self.area)
        grid = pg.GraphicsLayout()
        grid.setContentsMargins(0, MARGIN, MARGIN, 0)
        grid.setSpacing(0)
        grid.addItem(self.left, 0, 0)
        grid.addItem(self.area, 0, 1)
        grid.addItem(self.bottom, 1, 1)
        self.setCentralItem(grid)
        self._pressed_at = QPoint()
        self._home = View(0.0, 1.0, 0.0, 1.0)
        self._marks: list[Any] = []

    @property
    def view(self) -> View:
        """What is shown, in the data's own numbers."""
        (left, right), (bottom, top) = self.area.viewRange()
        across, up = self._home[:2], self._home[2:]
        return View(_value(left, *across), _value(right, *across), _value(bottom, *up), _value(top, *up))

    def start(
        self,
        home: View,
        levels: Sequence[tuple[float, str]],
        columns: Sequence[tuple[float, str]],
        whole: bool,
    ) -> None:
        """Take everything off, show `home` and label the horizontal lines `levels`, in the colours of the theme.

        `columns` are labels of the horizontal axis instead of round numbers.
        """
        self.area.clear()
        self._marks = []
        self._home = home
        self.bottom.home, self.bottom.whole, self.bottom.columns = home[:2], whole, list(columns)
        left = self.left
        for axis in (self.bottom, left):
            axis.setPen(QPen(resources.colour("border2"), 1))
            axis.setTextPen(resources.colour("text2"))
            axis.setTickFont(resources.font(resources.SMALL))
            # Half a number may stand beyond the end of its axis: in the margin.
            axis.setStyle(tickLength=0, tickTextOffset=GAP, hideOverlappingLabels=MARGIN)
            axis.enableAutoSIPrefix(False)
        # Stated sizes: else the axes measure their numbers while they paint, and all is laid out and painted again.
        metrics = QFontMetrics(resources.font(resources.SMALL))
        left.setWidth(max([metrics.horizontalAdvance(words) for _, words in levels], default=0) + GAP + 2)
        self.bottom.setHeight(metrics.height() + GAP)
        places = [(_share(level, home.bottom, home.top), words) for level, words in levels]
        left.places = places
        # Not the axis's own grid: with that on, a number that stands half in the margin is left out.
        thin = QColor(resources.colour("text2"))
        thin.setAlphaF(0.14)
        for share, _ in places:
            self.area.addItem(pg.InfiniteLine(share, angle=0, pen=QPen(thin, 0)))
        self.area.show_all()

    def _x(self, numbers: Numbers) -> NDArray[np.float64]:
        return _shares(numbers, self._home.left, self._home.right)

    def _y(self, numbers: Numbers) -> NDArray[np.float64]:
        return _shares(numbers, self._home.bottom, self._home.top)

    def add_steps(self, edges: Numbers, heights: Numbers, base: float) -> None:
        """True steps, filled to `base`; `edges` has one more than `heights`.

        The outline is one pixel wide and has no soft edges, which upright lines do not need: those of 140 uneven steps
        would take Qt 8 ms to paint.
        """
        x, y = np.repeat(self._x(edges), 2), np.repeat(self._y(heights), 2)
        ground = self._y([base])
        outline = np.concatenate([ground, y, ground])
        self._add_curve(x, outline, _pen("A", 1), fillLevel=float(ground[0]), brush=_fill(), antialias=False)

    def add_outline(self, edges: Numbers, heights: Numbers, token: str, dashes: Sequence[float]) -> None:
        """Steps without a fill, for several over each other; `dashes` are lengths in widths of the line."""
        pen = _pen(token, 1.6)
        if dashes:
            pen.setDashPattern(list(dashes))
        x, y = np.repeat(self._x(edges), 2)[1:-1], np.repeat(self._y(heights), 2)
        self._add_curve(x, y, pen, antialias=False)

    def add_bars(self, centres: Numbers, heights: Numbers, width: float, base: float) -> None:
        """One bar for each value, `width` wide in the data's numbers; its outline is seen where it has no width."""
        ground = float(self._y([base])[0])
        share = width / (self._home.right - self._home.left)
        bars = pg.BarGraphItem(
            x=self._x(centres), y0=ground, y1=self._y(heights), width=share, pen=_pen("A", 1.5), brush=_fill()
        )
        self.area.addItem(bars)

    def add_line(self, x: Numbers, y: Numbers, token: str | float, width: float, dashed: bool) -> None:
        """A line through points; what is no number is a gap in it."""
        pen = _pen(token, width)
        if dashed:
            pen.setDashPattern([4, 2.5])
            self._add_curve(self._x(x), self._y(y), pen, connect="finite")
        else:
            self.area.addItem(_Line(self._x(x), self._y(y), pen=pen, antialias=True, connect="finite"))

    def add_area(self, x: Numbers, y: Numbers, base: float) -> None:
        """A line through points, filled to `base`."""
        ground = float(self._y([base])[0])
        self._add_curve(self._x(x), self._y(y), _pen("A", 1.5), fillLevel=ground, brush=_fill())

    def add_band(self, x: Numbers, low: Numbers, high: Numbers, token: str) -> None:
        """What lies between two lines, as where many points share a pixel.

        A line up and down, without soft edges: filled as an area with thousands of corners it takes Qt 100 ms to paint.
        """
        places, ends = np.repeat(self._x(x), 2), np.empty(2 * len(x))
        ends[0::2], ends[1::2] = self._y(low), self._y(high)
        # Turned at every second point, so that the next one is near.
        ends[2::4], ends[3::4] = ends[3::4].copy(), ends[2::4].copy()
        self._add_curve(places, ends, _pen(token, 1), connect="finite", antialias=False)

    def add_spread(self, x: Numbers, low: Numbers, high: Numbers, token: str) -> None:
        """Tinted from one line to the other; both are numbers throughout."""
        across, none = self._x(x), QPen(Qt.PenStyle.NoPen)
        lines = [pg.PlotCurveItem(across, self._y(numbers), pen=none) for numbers in (low, high)]
        tint = QColor(resources.colour(token))
        tint.setAlphaF(SPREAD)
        self.area.addItem(pg.FillBetweenItem(*lines, brush=tint))

    def add_points(self, x: Numbers, y: Numbers, size: float, token: str, opacity: float) -> None:
        """Dots, for few values."""
        across, up = self._x(x), self._y(y)
        there = np.isfinite(up)
        brush = QColor(resources.colour(token))
        brush.setAlphaF(opacity)
        self.area.addItem(pg.ScatterPlotItem(across[there], up[there], size=size, pen=None, brush=brush))

    def add_rings(self, x: Numbers, y: Numbers, token: str) -> None:
        """Circles around what stands out."""
        rings = pg.ScatterPlotItem(self._x(x), self._y(y), size=11, pen=_pen(token, 2), brush=None)
        self.area.addItem(rings)

    def add_words(self, x: float, y: float, words: str, token: str, anchor: tuple[float, float]) -> None:
        """Plain text; `anchor` is the part of it that stands at the place, (0, 0) its upper left corner."""
        self.area.addItem(self._words(float(self._x([x])[0]), float(self._y([y])[0]), words, token, anchor))

    def _words(self, x: float, y: float, words: str, token: str, anchor: tuple[float, float]) -> Any:
        behind = QColor(resources.colour("panel"))
        behind.setAlphaF(0.75)
        made = pg.TextItem(words, color=resources.colour(token), anchor=anchor, fill=behind)
        made.setFont(resources.font(resources.SMALL))
        # Its ground no taller than the words: it would cover those of the line next to it.
        made.textItem.document().setDocumentMargin(1)
        made.updateTextPos()
        made.setPos(x, y)
        made.setZValue(20)
        return made

    def add_mark(self, x: float, token: str, dashed: bool) -> None:
        """A thin vertical line."""
        pen = _pen(token, 1)
        if dashed:
            pen.setDashPattern([4, 3])
        self.area.addItem(pg.InfiniteLine(self._x([x])[0], angle=90, pen=pen))

    def show_marks(self, marks: Sequence[Mark]) -> None:
        """Thin lines over all else with words at their upper end, instead of those before; nothing else is redrawn."""
        for item in self._marks:
            self.area.removeItem(item)
        self._marks = []
        (left, right), (_, top) = self.area.viewRange()
        for place, words, token in marks:
            x = float(self._x([place])[0])
            if not left <= x <= right:
                words = f"‹ {words}" if x < left else f"{words} ›"
                x = left if x < left else right
            else:
                self._marks.append(pg.InfiniteLine(x, angle=90, pen=_pen(token, 1.5)))
            if words:
                beyond = x > left + (right - left) * 0.7
                self._marks.append(self._words(x, top, words, token, (1.0 if beyond else 0.0, 0.0)))
        for item in self._marks:
            item.setZValue(30)
            self.area.addItem(item)

    def add_level(self, y: float, token: str) -> None:
        """A thin horizontal line without a number."""
        self.area.addItem(pg.InfiniteLine(self._y([y])[0], angle=0, pen=_pen(token, 1)))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        at = self.area.mapSceneToView(self.mapToScene(event.position().toPoint()))
        inside = self.area.sceneBoundingRect().contains(self.mapToScene(event.position().toPoint()))
        self.pointed.emit(_value(at.x(), *self._home[:2]) if inside else math.nan)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        super().mousePressEvent(event)
        self._pressed_at = event.position().toPoint()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        place = event.position().toPoint()
        # What moved further was a drag.
        if event.button() == Qt.MouseButton.LeftButton and (place - self._pressed_at).manhattanLength() < CLICK:
            at = self.area.mapSceneToView(self.mapToScene(place))
            self.pressed.emit(_value(at.x(), *self._home[:2]), _value(at.y(), *self._home[2:]))

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.pointed.emit(math.nan)

    def _add_curve(self, x: NDArray[np.float64], y: NDArray[np.float64], pen: QPen, **style: Any) -> None:
        self.area.addItem(pg.PlotCurveItem(x, y, pen=pen, **{"antialias": True, **style}))


class _Line(pg.PlotCurveItem):  # type: ignore[misc]
    """A line that is drawn piece by piece and in pixels.

    As one path Qt looks for all places where it crosses itself, and what is wider than a pixel it draws slowly where
    anything is scaled: 250 points up and down take it 25 ms either way, and so half a millisecond.
    """

    _drawn: tuple[tuple[float, ...], list[QLineF]] = (), []
    """The pieces, and where they are seen: they are drawn again for every mark above them."""

    def paint(self, painter: QPainter, option: QStyleOptionGraphicsItem, widget: QWidget) -> None:
        to_pixels = painter.worldTransform()
        place = to_pixels.m11(), to_pixels.dx(), to_pixels.m22(), to_pixels.dy()
        if self._drawn[0] != place:
            self._drawn = place, self._pieces(*place)
        painter.resetTransform()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(self.opts["pen"])
        if self._drawn[1]:
            painter.drawLines(self._drawn[1])

    def _pieces(self, wide: float, left: float, high: float, top: float) -> list[QLineF]:
        x, y = self.getData()
        known = np.isfinite(x) & np.isfinite(y)
        ends = np.column_stack([x[:-1] * wide + left, y[:-1] * high + top, x[1:] * wide + left, y[1:] * high + top])
        return [QLineF(*piece) for piece in ends[known[:-1] & known[1:]].tolist()]


Item = Callable[[Canvas], None]
"""Something drawn, as a call that draws it again: in other colours, or on a canvas that came late."""


def _share(value: float, low: float, high: float) -> float:
    # Halves, as the whole distance between two numbers can be more than a float holds.
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _value(share: float, low: float, high: float) -> float:
    return low * (1 - share) + high * share


def _shares(numbers: Numbers, low: float, high: float) -> NDArray[np.float64]:
    return (np.asarray(numbers, np.float64) / 2 - low / 2) / (high / 2 - low / 2)


def _pen(token: str | float, width: float) -> QPen:
    pen = QPen(colours.amount(token) if isinstance(token, float) else resources.colour(token), width)
    pen.setCosmetic(True)
    return pen


def _fill() -> QColor:
    colour = QColor(resources.colour("Af"))
    colour.setAlphaF(0.34)
    return colour
