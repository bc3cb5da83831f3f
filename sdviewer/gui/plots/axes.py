"""A plot area in the house's look: thin lines, a horizontal grid, own numbers; the wheel zooms x.

It paints itself. A plotting library's scene took 20 to 40 ms to change and to paint what these few lines do in one or
two, and its import and its first widgets stalled the window (decision 0009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetrics, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import resources

TickText = Callable[[float], str]
Numbers = Sequence[float]

_FAR = 30_000.0
"""Pixels beyond which nothing is drawn: the rasteriser's coordinates are small."""
_CENTRED = int(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextSingleLine)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)


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


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round positions between two values, `most` or one more."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return []
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= most), 10)
    first = math.ceil(low / step)
    last = math.floor(high / step + 1e-9)
    return [step * i for i in range(first, min(last, first + 4 * most) + 1)]


class View(NamedTuple):
    """What is shown, in the data's own numbers."""

    left: float
    right: float
    bottom: float
    top: float


class _Scale(NamedTuple):
    """From the data's numbers to pixels of the widget."""

    area: QRectF
    view: View

    def x(self, x: float) -> float:
        share = (x - self.view.left) / (self.view.right - self.view.left)
        return min(max(self.area.left() + share * self.area.width(), -_FAR), _FAR)

    def y(self, y: float) -> float:
        share = (y - self.view.bottom) / (self.view.top - self.view.bottom)
        return min(max(self.area.bottom() - share * self.area.height(), -_FAR), _FAR)

    def points(self, pairs: Iterable[tuple[float, float]]) -> QPolygonF:
        return QPolygonF([QPointF(self.x(x), self.y(y)) for x, y in pairs])


Paint = Callable[[QPainter, _Scale], None]


class Axes(QWidget):
    """A plot area. Draw with `start_over`, the `add` methods in the order of painting, `set_range`."""

    def __init__(self, tick_text: TickText = short_number) -> None:
        """`tick_text` writes the numbers of the vertical axis."""
        super().__init__()
        self._tick_text = tick_text
        self._items: list[Paint] = []
        self._levels: list[tuple[float, str]] = []
        self._whole = False
        self._home = self._view = View(0.0, 1.0, 0.0, 1.0)
        self._grabbed: tuple[QPointF, View] | None = None
        self.setMinimumSize(120, 60)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    # What is drawn

    def start_over(self) -> None:
        """Take everything off."""
        self._items, self._levels, self._whole = [], [], False
        self.update()

    def add_levels(self, levels: Numbers, tick_text: TickText | None = None) -> None:
        """Thin horizontal lines with their numbers."""
        words = tick_text or self._tick_text
        self._levels = [(level, words(level)) for level in levels]

    def add_steps(self, edges: Numbers, heights: Numbers, base: float) -> None:
        """True steps, filled to `base`; `edges` has one more than `heights`."""
        outline = [(edges[0], base)]
        for i, height in enumerate(heights):
            outline += [(edges[i], height), (edges[i + 1], height)]
        outline.append((edges[-1], base))
        self._items.append(lambda painter, scale: _paint_filled(painter, scale.points(outline)))

    def add_bars(self, centres: Numbers, heights: Numbers, width: float, base: float) -> None:
        """One bar for each whole number, `width` wide in the data's numbers and never thinner than two pixels."""
        self._whole = True
        bars = list(zip(centres, heights, strict=True))

        def paint(painter: QPainter, scale: _Scale) -> None:
            half = max((scale.x(width) - scale.x(0.0)) / 2, 1.0)
            for centre, height in bars:
                left, right, top = scale.x(centre) - half, scale.x(centre) + half, scale.y(height)
                bottom = scale.y(base)
                corners = [QPointF(left, bottom), QPointF(left, top), QPointF(right, top), QPointF(right, bottom)]
                _paint_filled(painter, QPolygonF(corners))

        self._items.append(paint)

    def add_line(self, x: Numbers, y: Numbers, token: str, width: float = 1.5, *, dashed: bool = False) -> None:
        """A line through points; what is no number is a gap in it."""
        runs = list(_runs(x, y))

        def paint(painter: QPainter, scale: _Scale) -> None:
            pen = QPen(resources.colour(token), width)
            if dashed:
                pen.setDashPattern([4, 2.5])
            painter.setPen(pen)
            for run in runs:
                painter.drawPolyline(scale.points(run))

        self._items.append(paint)

    def add_band(self, x: Numbers, low: Numbers, high: Numbers) -> None:
        """What lies between two lines, as where many points share a pixel."""
        lower, upper = list(_runs(x, low)), list(_runs(x, high))

        def paint(painter: QPainter, scale: _Scale) -> None:
            painter.setPen(QPen(resources.colour("A"), 1))
            painter.setBrush(resources.colour("A"))
            for below, above in zip(lower, upper, strict=True):
                painter.drawPolygon(scale.points([*below, *reversed(above)]))

        self._items.append(paint)

    def add_points(self, x: Numbers, y: Numbers) -> None:
        """Dots, for few values."""
        pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]

        def paint(painter: QPainter, scale: _Scale) -> None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(resources.colour("A"))
            for a, b in pairs:
                painter.drawEllipse(QPointF(scale.x(a), scale.y(b)), 2.5, 2.5)

        self._items.append(paint)

    def add_mark(self, x: float, token: str = "neutral") -> None:
        """A thin vertical line."""

        def paint(painter: QPainter, scale: _Scale) -> None:
            painter.setPen(QPen(resources.colour(token), 1))
            painter.drawLine(QPointF(scale.x(x), scale.area.top()), QPointF(scale.x(x), scale.area.bottom()))

        self._items.append(paint)

    def add_level(self, y: float, token: str = "neutral") -> None:
        """A thin horizontal line without a number."""

        def paint(painter: QPainter, scale: _Scale) -> None:
            painter.setPen(QPen(resources.colour(token), 1))
            painter.drawLine(QPointF(scale.area.left(), scale.y(y)), QPointF(scale.area.right(), scale.y(y)))

        self._items.append(paint)

    def set_range(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Show exactly this; a double click comes back to it."""
        self._home = self._view = View(*_opened(*x), *_opened(*y))
        self.update()

    @property
    def view(self) -> View:
        """What is shown now."""
        return self._view

    # Painting

    def _area(self) -> QRectF:
        metrics = QFontMetrics(resources.font(resources.SMALL))
        left = max((metrics.horizontalAdvance(words) for _, words in self._levels), default=0) + 8
        return QRectF(self.rect()).adjusted(left, 4, -8, -metrics.height() - 5)

    def paintEvent(self, event: QPaintEvent) -> None:
        area = self._area()
        if area.width() < 4 or area.height() < 4 or not self._items:
            return
        scale = _Scale(area, self._view)
        painter = QPainter(self)
        painter.setFont(resources.font(resources.SMALL))
        self._paint_grid(painter, scale)
        painter.save()
        painter.setClipRect(area)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for paint in self._items:
            paint(painter, scale)
        painter.restore()
        painter.setPen(QPen(resources.colour("border2"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.drawLine(area.topLeft(), area.bottomLeft())
        self._paint_numbers(painter, scale)

    def _paint_grid(self, painter: QPainter, scale: _Scale) -> None:
        grid = QColor(resources.colour("text2"))
        grid.setAlphaF(0.14)
        height = painter.fontMetrics().height()
        for level, words in self._levels:
            if not self._view.bottom <= level <= self._view.top:
                continue
            y = round(scale.y(level))
            painter.setPen(QPen(grid, 1))
            painter.drawLine(QPointF(scale.area.left(), y), QPointF(scale.area.right(), y))
            painter.setPen(resources.colour("text2"))
            painter.drawText(QRectF(0, y - height / 2, scale.area.left() - 6, height), _RIGHT, words)

    def _paint_numbers(self, painter: QPainter, scale: _Scale) -> None:
        painter.setPen(resources.colour("text2"))
        metrics = painter.fontMetrics()
        free_from = -math.inf
        for x in ticks(self._view.left, self._view.right, max(int(scale.area.width() // 76), 1)):
            if self._whole and x != round(x):
                continue
            words = plain_number(x)
            half = metrics.horizontalAdvance(words) / 2 + 2
            middle = min(max(scale.x(x), half), self.width() - half)
            if middle - half >= free_from:
                place = QRectF(middle - half, scale.area.bottom() + 4, 2 * half, metrics.height())
                painter.drawText(place, _CENTRED, words)
                free_from = middle + half + 6

    # Zooming and moving

    def _show(self, view: View) -> None:
        # Closer than a double can tell apart there is nothing to see.
        wide = view.right - view.left > 1e-12 * max(abs(view.left), abs(view.right))
        high = view.top - view.bottom > 1e-12 * max(abs(view.bottom), abs(view.top))
        if wide and high and all(math.isfinite(edge) for edge in view):
            self._view = view
            self.update()

    def wheelEvent(self, event: QWheelEvent) -> None:
        turned = event.angleDelta().y() or event.angleDelta().x()
        area, view = self._area(), self._view
        factor = 0.85 ** (turned / 120)
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            share = (area.bottom() - event.position().y()) / max(area.height(), 1)
            bottom, top = _zoomed(view.bottom, view.top, share, factor)
            self._show(view._replace(bottom=bottom, top=top))
        else:
            share = (event.position().x() - area.left()) / max(area.width(), 1)
            left, right = _zoomed(view.left, view.right, share, factor)
            self._show(view._replace(left=left, right=right))
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._grabbed = (event.position(), self._view)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._grabbed is None:
            return
        area, (start, view) = self._area(), self._grabbed
        across = (start.x() - event.position().x()) / max(area.width(), 1) * (view.right - view.left)
        up = (event.position().y() - start.y()) / max(area.height(), 1) * (view.top - view.bottom)
        self._show(View(view.left + across, view.right + across, view.bottom + up, view.top + up))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._grabbed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self._show(self._home)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.update()


def _paint_filled(painter: QPainter, outline: QPolygonF) -> None:
    fill = QColor(resources.colour("Af"))
    fill.setAlphaF(0.34)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(fill)
    painter.drawPolygon(outline)
    painter.setPen(QPen(resources.colour("A"), 1.5))
    painter.drawPolyline(outline)


def _runs(x: Numbers, y: Numbers) -> Iterator[list[tuple[float, float]]]:
    """Stretches of points without a gap."""
    run: list[tuple[float, float]] = []
    for a, b in zip(x, y, strict=True):
        if math.isfinite(b):
            run.append((a, b))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _opened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    if high > low:
        return low, high
    pad = abs(low) * 0.5 or 0.5
    return low - pad, low + pad


def _zoomed(low: float, high: float, share: float, factor: float) -> tuple[float, float]:
    """A range made `factor` as long, with the place at `share` of it staying where it is."""
    centre = low + share * (high - low)
    return centre - (centre - low) * factor, centre + (high - centre) * factor
