"""The picture of a heatmap, its axes, its colour bar, and what wheel, pointer and keys do on it."""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.boundaries import Part
from sdviewer.gui.plots.place import Window

ZOOM: Final = 1.25
"""How much larger one turn of the wheel makes what is shown."""
FEWEST: Final = 4
"""Rows and columns that are left at the closest look."""
ROOM_FOR_HEADS: Final = 7
"""Pixels of a head below which its borders are not drawn."""
_LEAST = 48
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)


class Picture(NamedTuple):
    """A reduced part of a slice: `window` of a slice of `size` in cells of `block` elements, in shades of `limit`.

    `one_sided`: nothing in it is negative.
    """

    image: QImage
    window: Window
    block: tuple[int, int]
    size: tuple[int, int]
    limit: float
    one_sided: bool = False


class Coloured:
    """A picture in the colours of the theme that is on, kept until that changes."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._made: tuple[str, QImage] | None = None

    def image(self) -> QImage:
        """The picture, to be painted."""
        theme = resources.theme().name
        if self._made is None or self._made[0] != theme:
            self.picture.image.setColorTable(colours.table())
            self._made = theme, self.picture.image.convertToFormat(QImage.Format.Format_RGB32)
        return self._made[1]


class Divisions(NamedTuple):
    """Named parts, the edges between them and the edges of heads; each along the rows and along the columns."""

    named: tuple[tuple[Part, ...], ...] = ()
    edges: tuple[tuple[int, ...], ...] = ()
    heads: tuple[tuple[int, ...], ...] = ()


class HeatmapCanvas(QWidget):
    """Shows a `Picture`. `hovered` and `chosen` tell row and column of the slice, `hovered` -1, -1 for outside."""

    hovered = Signal(int, int)
    chosen = Signal(int, int)
    window_wanted = Signal(object)
    resized = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Heatmap")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(150, 110)
        self._shown: Picture | None = None
        self._window: Window = (0, 0, 0, 0)
        self._divisions = Divisions()
        self._coloured: Coloured | None = None
        self._cursor: tuple[int, int] | None = None
        self._cell: tuple[int, int] | None = None
        self._value = ""
        self._pointed: tuple[tuple[int, int], str] | None = None
        self._pressed: tuple[QPoint, Window] | None = None

    def show_picture(self, picture: Picture, divisions: Divisions) -> None:
        """Show another picture."""
        self._shown, self._divisions, self._coloured = picture, divisions, Coloured(picture)
        self._window = picture.window
        self.update()

    def show_nothing(self) -> None:
        """Take the picture off."""
        self._shown, self._divisions, self._coloured = None, Divisions(), None
        self._window = (0, 0, 0, 0)
        self._cursor = self._pointed = None
        self.update()

    def show_window(self, window: Window | None) -> None:
        """Show a part of the slice with what is there of it, until a picture of its own comes."""
        if self._shown is not None:
            self._window = window or (0, 0, *self._shown.size)
            self.update()

    def set_cursor(self, cell: tuple[int, int] | None) -> None:
        """Cross hairs at an element; a row or a column of -1 has no line."""
        if cell != self._cursor:
            self._cursor, self._value = cell, ""
            self.update()

    def set_cell(self, cell: tuple[int, int] | None) -> None:
        """The element from which the arrow keys go on."""
        self._cell = cell

    def show_value(self, words: str) -> None:
        """The exact value at the cross hairs."""
        self._value = words
        self.update()

    def point_out(self, cell: tuple[int, int] | None, words: str) -> None:
        """A ring with words around an element, None for none."""
        pointed = None if cell is None or min(cell) < 0 else (cell, words)
        if pointed != self._pointed:
            self._pointed = pointed
            self.update()

    def picture_size(self) -> QSize:
        """How many device pixels the picture has room for."""
        rect = self._picture()
        ratio = self.devicePixelRatioF()
        return QSize(max(round(rect.width() * ratio), _LEAST), max(round(rect.height() * ratio), _LEAST))

    # Where things stand

    def _picture(self) -> QRect:
        metrics = QFontMetrics(resources.font(resources.SMALL))
        rows = self._shown.size[0] if self._shown is not None else 0
        named = self._divisions.named[0] if self._divisions.named else ()
        words = [f"{max(rows - 1, 100):d}", *(part.name for part in named)]
        left = min(max(metrics.horizontalAdvance(word) for word in words) + 8, 110)
        right = metrics.horizontalAdvance("−0.00000") + 26
        return self.rect().adjusted(left, 4, -right, -metrics.height() - 6)

    def _y(self, row: float, rect: QRect) -> float:
        return rect.top() + (row - self._window[0]) / max(self._window[2], 1) * rect.height()

    def _x(self, column: float, rect: QRect) -> float:
        return rect.left() + (column - self._window[1]) / max(self._window[3], 1) * rect.width()

    def cell_at(self, position: QPointF) -> tuple[int, int] | None:
        """The element at a place of this widget."""
        rect = self._picture()
        row0, column0, rows, columns = self._window
        if not rows or not columns or not rect.contains(position.toPoint()):
            return None
        row = row0 + int((position.y() - rect.top()) / rect.height() * rows)
        column = column0 + int((position.x() - rect.left()) / rect.width() * columns)
        return min(max(row, row0), row0 + rows - 1), min(max(column, column0), column0 + columns - 1)

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._shown is None or self._coloured is None or self._shown.image.isNull():
            return
        painter = QPainter(self)
        painter.setFont(resources.font(resources.SMALL))
        rect = self._picture()
        painter.save()
        painter.setClipRect(rect)
        self._paint_pictures(painter, rect, self._coloured)
        self._paint_divisions(painter, rect)
        painter.restore()
        painter.setPen(QPen(resources.colour("accent" if self.hasFocus() else "border2"), 1))
        painter.drawRect(rect.adjusted(0, 0, -1, -1))
        self._paint_rows(painter, rect)
        self._paint_columns(painter, rect)
        self._paint_bar(painter, rect, self._shown)
        if self._pointed is not None:
            self._paint_pointed(painter, rect, *self._pointed)
        if self._cursor is not None:
            self._paint_cursor(painter, rect, *self._cursor)

    def _paint_pictures(self, painter: QPainter, rect: QRect, coloured: Coloured) -> None:
        self._paint_image(painter, rect, coloured)

    def _paint_image(self, painter: QPainter, rect: QRect, coloured: Coloured) -> None:
        shown = coloured.picture
        row, column = shown.window[:2]
        # The last cells may stand for fewer elements than the others: they are cut, not squeezed.
        bottom = row + shown.image.height() * shown.block[0]
        right = column + shown.image.width() * shown.block[1]
        corner = QPointF(self._x(column, rect), self._y(row, rect))
        # Enlarged cells stay squares with sharp edges; reduced ones were averaged by the worker.
        painter.drawImage(QRectF(corner, QPointF(self._x(right, rect), self._y(bottom, rect))), coloured.image())

    def _paint_divisions(self, painter: QPainter, rect: QRect) -> None:
        strong, faint = QColor(resources.colour("text")), QColor(resources.colour("text2"))
        strong.setAlphaF(0.75)
        faint.setAlphaF(0.35)
        for edges, colour in ((self._divisions.heads, faint), (self._divisions.edges, strong)):
            painter.setPen(QPen(colour, 1))
            for axis, places in enumerate(edges):
                across = axis == 0
                at = [self._y(place, rect) if across else self._x(place, rect) for place in places]
                gap = min((b - a for a, b in itertools.pairwise(at)), default=math.inf)
                if edges is self._divisions.heads and gap < ROOM_FOR_HEADS:
                    continue
                for place in map(round, at):
                    if across:
                        painter.drawLine(rect.left(), place, rect.right(), place)
                    else:
                        painter.drawLine(place, rect.top(), place, rect.bottom())

    def _labels(self, axis: int, room: int) -> tuple[list[int], list[Part]]:
        """Round indexes to write along an axis, and the named parts that are in sight."""
        start, n = self._window[axis], self._window[axis + 2]
        parts = list(self._divisions.named[axis]) if len(self._divisions.named) > axis else []
        shown = [Part(p.name, max(p.start, start), min(p.stop, start + n)) for p in parts]
        shown = [part for part in shown if part.start < part.stop]
        if not shown:
            return _marks(start, n, room), []
        edges = {start, start + n - 1} | {e for e in self._divisions.edges[axis] if start < e < start + n}
        return sorted(edges), shown

    def _paint_rows(self, painter: QPainter, rect: QRect) -> None:
        painter.setPen(resources.colour("text2"))
        height = painter.fontMetrics().height()
        marks, parts = self._labels(0, rect.height() // 60)
        written: list[float] = []
        wanted = [(self._y(row + 0.5, rect), str(row)) for row in marks]
        wanted += [(self._y((part.start + part.stop) / 2, rect), part.name) for part in parts]
        for y, words in wanted:
            y = min(max(y, rect.top() + height / 2 - 3), rect.bottom() - height / 2 + 3)
            if all(abs(y - other) >= height - 2 for other in written):
                written.append(y)
                place = QRectF(0, y - height / 2, rect.left() - 6, height)
                shown = painter.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, rect.left() - 6)
                painter.drawText(place, _RIGHT, shown)

    def _paint_columns(self, painter: QPainter, rect: QRect) -> None:
        metrics = painter.fontMetrics()
        marks, parts = self._labels(1, rect.width() // 56)
        written: list[tuple[float, float]] = []
        wanted = [(self._x(column + 0.5, rect), str(column)) for column in marks]
        wanted += [(self._x((part.start + part.stop) / 2, rect), part.name) for part in parts]
        for x, words in wanted:
            wide = metrics.horizontalAdvance(words)
            left = min(max(x - wide / 2, rect.left() - 4), rect.right() + 4 - wide)
            if all(left > b + 6 or left + wide < a - 6 for a, b in written):
                written.append((left, left + wide))
                painter.drawText(QRectF(left, rect.bottom() + 4, wide + 2, metrics.height()), _LEFT, words)

    def _paint_bar(self, painter: QPainter, rect: QRect, shown: Picture) -> None:
        bar = QRect(rect.right() + 12, rect.top(), 9, rect.height())
        lowest = colours.ZERO if shown.one_sided else 0
        shades = bytes(range(colours.NO_NUMBER - 1, lowest - 1, -1))
        ramp = QImage(shades, 1, len(shades), 1, QImage.Format.Format_Indexed8)
        ramp.setColorTable(colours.table())
        painter.drawImage(bar, ramp)
        painter.setPen(resources.colour("text2"))
        height = painter.fontMetrics().height()
        limit = _short(shown.limit)
        marks = [(1.0, text.value(limit)), (0.0, "0")]
        if shown.one_sided:
            marks = [(1.0, text.value(limit)), (0.0, text.value(limit / 2)), (-1.0, "0")]
        else:
            marks.append((-1.0, text.value(-limit)))
        if limit == 0:
            marks = [(-1.0 if shown.one_sided else 0.0, "0")]
        for share, words in marks:
            place = bar.top() + (1 - share) / 2 * bar.height()
            middle = min(max(place, bar.top() + height / 2 - 2), bar.bottom() - height / 2 + 2)
            beside = QRectF(bar.right() + 5, middle - height / 2, self.width() - bar.right() - 5, height)
            painter.drawText(beside, _LEFT, words)

    def _paint_cursor(self, painter: QPainter, rect: QRect, row: int, column: int) -> None:
        x, y = self._x(column + 0.5, rect), self._y(row + 0.5, rect)
        line = QColor(resources.colour("text"))
        line.setAlphaF(0.7)
        painter.setPen(QPen(line, 1))
        if column >= 0 and rect.left() <= x <= rect.right():
            painter.drawLine(QPointF(x, rect.top()), QPointF(x, rect.bottom()))
        if row >= 0 and rect.top() <= y <= rect.bottom():
            painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))
        if row >= 0 and column >= 0:
            words = f"[{row}, {column}]" + (f"  {self._value}" if self._value else "")
            self._paint_words(painter, rect, QPointF(x, y), words)

    def _paint_words(self, painter: QPainter, rect: QRect, at: QPointF, words: str) -> None:
        painter.setFont(resources.font(resources.NOTE, mono=True))
        metrics = painter.fontMetrics()
        box = QRectF(0, 0, metrics.horizontalAdvance(words) + 16, metrics.height() + 8)
        box.moveTopLeft(QPointF(at.x() + 8, at.y() - box.height() - 8))
        box.moveLeft(min(max(box.left(), rect.left() + 3), max(rect.right() - box.width() - 3, rect.left() + 3)))
        box.moveTop(min(max(box.top(), rect.top() + 3), rect.bottom() - box.height() - 3))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(resources.colour("border2"), 1))
        painter.setBrush(resources.colour("panel"))
        painter.drawRoundedRect(box, 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(resources.colour("text"))
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), words)

    def _paint_pointed(self, painter: QPainter, rect: QRect, cell: tuple[int, int], words: str) -> None:
        at = QPointF(self._x(cell[1] + 0.5, rect), self._y(cell[0] + 0.5, rect))
        if not rect.adjusted(-1, -1, 1, 1).contains(at.toPoint()):
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(resources.colour("panel"), 4))
        painter.drawEllipse(at, 7, 7)
        painter.setPen(QPen(resources.colour("text"), 2))
        painter.drawEllipse(at, 7, 7)
        self._paint_words(painter, rect, at, f"[{cell[0]}, {cell[1]}]  {words}")
        painter.restore()

    # Pointer, wheel, keys

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self._drag(event.position().toPoint())
            return
        cell = self.cell_at(event.position())
        if cell is None:
            self._leave()
        elif cell != self._cursor:
            self.set_cursor(cell)
            self.hovered.emit(*cell)

    def _drag(self, position: QPoint) -> None:
        """Move what is shown of an enlarged picture with the pointer."""
        assert self._pressed is not None and self._shown is not None
        start, (row, column, rows, columns) = self._pressed
        moved = position - start
        if moved.manhattanLength() < QApplication.startDragDistance():
            return
        rect = self._picture()
        down = round(moved.y() / rect.height() * rows)
        along = round(moved.x() / rect.width() * columns)
        self._want(row - down, column - along, rows, columns)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        cell = self.cell_at(event.position())
        if event.button() == Qt.MouseButton.LeftButton and cell is not None:
            self._pressed = event.position().toPoint(), self._window
            self._choose(*cell)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.window_wanted.emit(None)

    def wheelEvent(self, event: QWheelEvent) -> None:
        cell = self.cell_at(event.position())
        turns = event.angleDelta().y() / 120
        if cell is None or self._shown is None or not turns:
            event.ignore()
            return
        self.zoom(ZOOM**turns, *cell)
        event.accept()

    def zoom(self, factor: float, row: int, column: int) -> None:
        """Show `factor` times larger, with an element staying where it is."""
        if self._shown is None:
            return
        row0, column0, rows, columns = self._window
        height, width = self._shown.size
        new_rows = min(max(round(rows / factor), min(FEWEST, height)), height)
        new_columns = min(max(round(columns / factor), min(FEWEST, width)), width)
        top = row - (row - row0) * new_rows / max(rows, 1)
        left = column - (column - column0) * new_columns / max(columns, 1)
        self._want(round(top), round(left), new_rows, new_columns)

    def _want(self, row: int, column: int, rows: int, columns: int) -> None:
        assert self._shown is not None
        height, width = self._shown.size
        row, column = min(max(row, 0), height - rows), min(max(column, 0), width - columns)
        whole = (rows, columns) == (height, width)
        self.window_wanted.emit(None if whole else (row, column, rows, columns))

    def leaveEvent(self, event: QEvent) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._cursor is not None:
            self.set_cursor(None)
            self.hovered.emit(-1, -1)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._shown is None:
            return
        height, width = self._shown.size
        row, column = self._cell or (self._window[0], self._window[1])
        far = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        step = 10 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1
        page = max(self._window[2] // 4, 1)
        targets = {
            Qt.Key.Key_Up: (0 if far else row - step, column),
            Qt.Key.Key_Down: (height - 1 if far else row + step, column),
            Qt.Key.Key_Left: (row, 0 if far else column - step),
            Qt.Key.Key_Right: (row, width - 1 if far else column + step),
            Qt.Key.Key_PageUp: (row - page, column),
            Qt.Key.Key_PageDown: (row + page, column),
            Qt.Key.Key_Home: (0 if far else row, 0),
            Qt.Key.Key_End: (height - 1 if far else row, width - 1),
        }
        key = Qt.Key(event.key())
        if key in targets:
            self._choose(*targets[key])
        elif event.text() in ("+", "="):
            self.zoom(ZOOM, row, column)
        elif event.text() == "-":
            self.zoom(1 / ZOOM, row, column)
        elif event.text() == "0" or (key == Qt.Key.Key_Escape and self._window[2:] != self._shown.size):
            self.window_wanted.emit(None)
        else:
            super().keyPressEvent(event)

    def _choose(self, row: int, column: int) -> None:
        assert self._shown is not None
        height, width = self._shown.size
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        row0, column0, rows, columns = self._window
        self._cell = (row, column)
        if not (row0 <= row < row0 + rows and column0 <= column < column0 + columns):
            top = min(max(row0, row - rows + 1), row)
            left = min(max(column0, column - columns + 1), column)
            self._want(top, left, rows, columns)
        self.set_cursor(self._cell)
        self.chosen.emit(row, column)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.resized.emit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.update()


def _short(x: float) -> float:
    return float(f"{x:.2g}") if math.isfinite(x) else x


def _marks(start: int, n: int, most: int) -> list[int]:
    """Round indexes along an axis that shows `n` elements from `start` on, with the first and the last."""
    if n <= 1:
        return [start] if n else []
    most = max(most, 1)
    step = next(
        factor * 10**power for power in range(19) for factor in (1, 2, 4, 5) if n / (factor * 10**power) <= most
    )
    # Sizes of networks are round in powers of two more often than in tens.
    for round_to in (256, 64) if start == 0 else ():
        for parts in range(max(most, 2), 1, -1):
            if n % parts == 0 and n // parts % round_to == 0:
                step = n // parts
                return [*range(0, n, step), n - 1]
    last = start + n - 1
    first = -(-start // step) * step
    marks = [mark for mark in range(first, last, step) if last - mark >= step * 0.5 and mark - start >= step * 0.5]
    return [start, *marks, last]
