"""A two-dimensional slice of a tensor as colours, centred at zero, reduced to what fits on the screen."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QFontMetrics, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.plots.slices import SliceStrip
from sdviewer.gui.widgets import Chip

CURSOR_PAUSE = 40
"""Milliseconds the cursor rests before the exact value under it is asked for."""
_LEAST = 48


class HeatmapCanvas(QWidget):
    """The picture, its two axes and its colour bar."""

    hovered = Signal(int, int)  # row and column of the tensor; -1, -1 outside
    resized = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(150, 110)
        self._image = QImage()
        self._rows = self._columns = 0
        self._limit = 0.0
        self._cursor: tuple[int, int] | None = None
        self._value = ""

    def show_image(self, image: QImage, rows: int, columns: int, limit: float) -> None:
        """A picture of a slice of `(rows, columns)`."""
        self._image, self._rows, self._columns, self._limit = image, rows, columns, limit
        self._cursor, self._value = None, ""
        self.update()

    def show_value(self, words: str) -> None:
        """The exact value under the cursor."""
        self._value = words
        self.update()

    def picture_size(self) -> QSize:
        """How many device pixels the picture has room for."""
        rect = self._picture()
        ratio = self.devicePixelRatioF()
        return QSize(max(round(rect.width() * ratio), _LEAST), max(round(rect.height() * ratio), _LEAST))

    def _picture(self) -> QRect:
        metrics = QFontMetrics(resources.font(resources.SMALL))
        left = metrics.horizontalAdvance(f"{max(self._rows - 1, 100):d}") + 8
        right = metrics.horizontalAdvance("−0.00000") + 26
        return self.rect().adjusted(left, 4, -right, -metrics.height() - 6)

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._image.isNull():
            return
        painter = QPainter(self)
        painter.setFont(resources.font(resources.SMALL))
        rect = self._picture()
        self._image.setColorTable(colours.table())
        # Enlarged cells stay squares with sharp edges; reduced ones were averaged by the worker.
        painter.drawImage(rect, self._image)
        painter.setPen(QPen(resources.colour("border2"), 1))
        painter.drawRect(rect.adjusted(0, 0, -1, -1))
        self._paint_axes(painter, rect)
        self._paint_bar(painter, rect)
        if self._cursor is not None:
            self._paint_cursor(painter, rect)

    def _paint_axes(self, painter: QPainter, rect: QRect) -> None:
        painter.setPen(resources.colour("text2"))
        height = painter.fontMetrics().height()
        for row in _marks(self._rows, rect.height() // 60):
            y = _at(row, self._rows, rect.top(), rect.height())
            y = min(max(y, rect.top() + height / 2 - 3), rect.bottom() - height / 2 + 3)
            place = QRectF(0, y - height / 2, rect.left() - 6, height)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), str(row))
        for column in _marks(self._columns, rect.width() // 56):
            x = _at(column, self._columns, rect.left(), rect.width())
            place = QRectF(x - 40, rect.bottom() + 4, 80, height)
            place.moveLeft(min(max(place.left(), rect.left() - 36), rect.right() - 48))
            painter.drawText(place, int(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop), str(column))

    def _paint_bar(self, painter: QPainter, rect: QRect) -> None:
        bar = QRect(rect.right() + 12, rect.top(), 9, rect.height())
        ramp = QImage(
            bytes(range(colours.NO_NUMBER - 1, -1, -1)), 1, colours.NO_NUMBER, 1, QImage.Format.Format_Indexed8
        )
        ramp.setColorTable(colours.table())
        painter.drawImage(bar, ramp)
        painter.setPen(resources.colour("text2"))
        height = painter.fontMetrics().height()
        for share, words in ((1, text.value(_short(self._limit))), (0, "0"), (-1, text.value(_short(-self._limit)))):
            place = bar.top() + (1 - share) / 2 * bar.height()
            middle = min(max(place, bar.top() + height / 2 - 2), bar.bottom() - height / 2 + 2)
            painter.drawText(
                QRectF(bar.right() + 5, middle - height / 2, self.width() - bar.right() - 5, height),
                int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter),
                words,
            )

    def _paint_cursor(self, painter: QPainter, rect: QRect) -> None:
        assert self._cursor is not None
        row, column = self._cursor
        x = _at(column, self._columns, rect.left(), rect.width())
        y = _at(row, self._rows, rect.top(), rect.height())
        line = QColor(resources.colour("text"))
        line.setAlphaF(0.7)
        painter.setPen(QPen(line, 1))
        painter.drawLine(QPointF(x, rect.top()), QPointF(x, rect.bottom()))
        painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))
        painter.setFont(resources.font(resources.NOTE, mono=True))
        words = f"[{row}, {column}]" + (f"  {self._value}" if self._value else "")
        metrics = painter.fontMetrics()
        box = QRectF(0, 0, metrics.horizontalAdvance(words) + 16, metrics.height() + 8)
        box.moveTopLeft(QPointF(x + 8, y - box.height() - 8))
        box.moveLeft(min(max(box.left(), rect.left() + 3), max(rect.right() - box.width() - 3, rect.left() + 3)))
        box.moveTop(max(box.top(), rect.top() + 3))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(resources.colour("border2"), 1))
        painter.setBrush(resources.colour("panel"))
        painter.drawRoundedRect(box, 4, 4)
        painter.setPen(resources.colour("text"))
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), words)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        rect = self._picture()
        position = event.position()
        if not self._rows or not self._columns or not rect.contains(position.toPoint()):
            self._leave()
            return
        row = int((position.y() - rect.top()) / rect.height() * self._rows)
        column = int((position.x() - rect.left()) / rect.width() * self._columns)
        cell = (min(max(row, 0), self._rows - 1), min(max(column, 0), self._columns - 1))
        if cell != self._cursor:
            self._cursor, self._value = cell, ""
            self.update()
            self.hovered.emit(*cell)

    def leaveEvent(self, event: QEvent) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._cursor is not None:
            self._cursor = None
            self.update()
            self.hovered.emit(-1, -1)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.resized.emit()


class HeatmapPlot(Plot):
    """Diverging colours; limits from what is shown; the reduction of cells is stated."""

    name = "heatmap"
    title = "Heatmap"
    heading = "Values"
    icon = "heat"

    def __init__(self) -> None:
        super().__init__()
        self._strip = SliceStrip(self.ask)
        self._reduction = Chip("")
        self._reduction.setEnabled(False)
        self.column.addWidget(self._strip)
        self.add_control(self._reduction)
        self.canvas = HeatmapCanvas()
        self.canvas.hovered.connect(self._hovered)
        self.canvas.resized.connect(self._resized)
        self.set_body(self.canvas)
        self._asked = QSize()
        self._wait = QTimer(self, interval=CURSOR_PAUSE, singleShot=True)
        self._wait.timeout.connect(self._ask_cell)
        self._settle = QTimer(self, interval=120, singleShot=True)
        self._settle.timeout.connect(self._ask_again)
        self._cell = (-1, -1)

    @staticmethod
    def score(facts: Facts) -> int:
        shape = facts.get("shape") or ()
        return 70 if facts.get("source") and sum(size > 1 for size in shape) >= 2 else 0

    def begin(self, facts: Facts) -> None:
        self._strip.begin(facts)

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        self._asked = self.canvas.picture_size()
        return "slice", {"rows": self._asked.height(), "columns": self._asked.width(), **self._strip.params()}

    def draw(self, body: Body, buffers: Buffers) -> None:
        rows, columns = (int(size) for size in body["shape"])
        block = [int(size) for size in body["block"]]
        height, width = -(-rows // block[0]), -(-columns // block[1])
        limit = float(body["limit"])
        # The image only looks into the bytes: `copy` takes them over before they go.
        image = QImage(buffers["shades"], width, height, width, QImage.Format.Format_Indexed8).copy()
        self.canvas.show_image(image, rows, columns, limit)
        self.subtitle.setText(text.shape(self._strip.shape))
        self._reduction.setText("every cell" if block == [1, 1] else f"mean of {block[0]}×{block[1]}")
        clipped = int(body.get("clipped") or 0)
        self._reduction.setToolTip(f"{text.plural(clipped, 'cell')} beyond the colour scale" if clipped else "")
        self.canvas.setAccessibleDescription(
            f"Heatmap of {rows} by {columns} values, colours from {text.value(-limit)} to {text.value(limit)}"
        )

    def _resized(self) -> None:
        if self._session is not None and not self.isHidden():
            self._settle.start()

    def _ask_again(self) -> None:
        size, before = self.canvas.picture_size(), self._asked
        if abs(size.width() - before.width()) > 8 or abs(size.height() - before.height()) > 8:
            self.ask()

    def _hovered(self, row: int, column: int) -> None:
        self._cell = (row, column)
        if row < 0:
            self._wait.stop()
            self.cursor_moved.emit("")
        else:
            self._wait.start()

    def _ask_cell(self) -> None:
        row, column = self._cell
        params = {**self._strip.params(), "row0": row, "rows": 1, "col0": column, "cols": 1}

        def answered(body: Body, buffers: Buffers) -> None:
            if self._cell != (row, column):
                return
            words = cell_text(str(body["texts"][0]), memoryview(buffers["numbers"]).cast("B").cast("d")[0])
            self.canvas.show_value(words)
            self.cursor_moved.emit(f"{self._strip.full_index(row, column)} = {words}")

        self.ask_aside("cell", "values", params, answered)


def cell_text(exact: str, number: float) -> str:
    """One value as it is shown: whole numbers and words as they are, others with four digits."""
    if not math.isfinite(number) or not ("." in exact or "e" in exact):
        return text.visible(exact, 40).replace("-", text.MINUS)
    return text.value(number) if exact[-1:].isdigit() else text.visible(exact, 40)


def _short(x: float) -> float:
    return float(f"{x:.2g}") if math.isfinite(x) else x


def _marks(n: int, most: int) -> list[int]:
    """Round indexes along an axis of `n` cells, with the first and the last."""
    if n <= 1:
        return [0] if n else []
    most = max(most, 1)
    step = 1
    for power in range(12):
        for factor in (1, 2, 4, 5):
            step = factor * 10**power
            if n / step <= most:
                break
        if n / step <= most:
            break
    # Sizes of networks are round in powers of two more often than in tens.
    for round_to in (256, 64):
        for parts in range(max(most, 2), 1, -1):
            if n % parts == 0 and n // parts % round_to == 0:
                step = n // parts
                return [*range(0, n, step), n - 1]
    marks = [mark for mark in range(0, n, step) if n - 1 - mark >= step * 0.5]
    return [*(marks or [0]), n - 1]


def _at(index: int, n: int, start: int, length: int) -> float:
    return start + (index + 0.5) / max(n, 1) * length
