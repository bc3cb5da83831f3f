"""A row for each of several things over the steps of a series: what the change matrix and the bars of keys share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QBrush,
    QFocusEvent,
    QFontMetrics,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QToolTip, QWidget

from sdviewer.gui import resources, widgets
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.plots.steps import labels_along

HEAD: Final = 20
"""Pixels of the labels of the steps, above the rows."""
WIDEST_NAME: Final = 0.34
"""Share of the width that names take at most."""
GAP: Final = 8
"""Pixels between names and rows, and at the right."""


class StepMap(QWidget):
    """Names at the left, steps from left to right; a cell is pointed at, gone to with the arrow keys, and chosen.

    `cell_chosen` carries row and step of a click, `cell_activated` those of a double click or Enter.
    """

    cell_chosen = Signal(int, int)
    cell_activated = Signal(int, int)
    pointed = Signal(str)

    lowest, highest = 14, 26
    """Pixels of a row."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.names: list[str] = []
        self.steps = 0
        self.current = (-1, -1)
        self._selected: list[int] = []
        self._short: Callable[[int], str] = str
        self._said = ""
        # Measured once for each width: there can be hundreds of names, and thousands of labels.
        self._name_width: int | None = None
        self._known_labels: list[tuple[int, str]] | None = None

    def show_names(self, names: Sequence[str], steps: int, said: str, short: Callable[[int], str]) -> None:
        """Other rows over so many steps; `said` describes them, `short` is what a step is called above them."""
        self.names, self.steps, self._said, self._short = list(names), steps, said, short
        self._measure_again()
        row, step = self.current
        self.current = (row, step) if row < len(names) and step < steps else (-1, -1)
        self.setMinimumHeight(HEAD + self.lowest * len(self.names) + 2)
        self.setAccessibleDescription(said)
        self.update()

    def hatch(self, painter: QPainter, place: QRectF) -> None:
        """Fill a place of which nothing is known: what has no number is no small number."""
        painter.fillRect(place, QBrush(resources.colour("border2"), Qt.BrushStyle.BDiagPattern))

    def select(self, steps: Sequence[int]) -> None:
        """Show which steps are selected."""
        self._selected = list(steps)
        self.update()

    def describe(self, row: int, step: int) -> str:
        """What is in a cell, in words."""
        raise NotImplementedError

    def draw_rows(self, painter: QPainter, first: int, last: int) -> None:
        """Paint what stands behind the names of the rows from `first` to the one before `last`."""
        raise NotImplementedError

    # Places

    @property
    def row_height(self) -> float:
        """Pixels of a row: they fill the height as far as is good to look at."""
        room = (self.height() - HEAD - 2) / max(len(self.names), 1)
        return min(max(room, self.lowest), self.highest)

    @property
    def name_width(self) -> int:
        """Pixels of the names."""
        if self._name_width is None:
            metrics = QFontMetrics(resources.font(resources.SMALL))
            widest = max((metrics.horizontalAdvance(name) for name in self.names), default=40)
            self._name_width = round(min(widest + 4, self.width() * WIDEST_NAME))
        return self._name_width

    def _labels(self) -> list[tuple[int, str]]:
        """The labels above the rows that there is room for."""
        if self._known_labels is None:
            metrics = QFontMetrics(resources.font(resources.SMALL))
            self._known_labels = labels_along(self.steps, self._short, metrics, self.area.width())
        return self._known_labels

    def _measure_again(self) -> None:
        self._name_width = self._known_labels = None

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._measure_again()

    @property
    def area(self) -> QRectF:
        """Where the cells are."""
        left = self.name_width + GAP
        return QRectF(left, HEAD, max(self.width() - left - GAP, 10), self.row_height * len(self.names))

    def cell_rect(self, row: int, start: float, stop: float) -> QRectF:
        """The place of some steps in a row."""
        area = self.area
        wide = area.width() / max(self.steps, 1)
        return QRectF(area.x() + start * wide, area.y() + row * self.row_height, (stop - start) * wide, self.row_height)

    def cell_at(self, x: float, y: float) -> tuple[int, int]:
        """Row and step at a place; -1 for none."""
        area = self.area
        row = int((y - area.y()) // self.row_height)
        step = int((x - area.x()) // (area.width() / max(self.steps, 1)))
        if not (0 <= row < len(self.names) and y >= area.y()):
            row = -1
        return row, step if x >= area.x() and 0 <= step < self.steps else -1

    def sizeHint(self) -> QSize:
        return QSize(300, HEAD + self.highest * len(self.names) + 2)

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(resources.font(resources.SMALL))
        if not self.names or not self.steps:
            return
        high, area = self.row_height, self.area
        self._draw_labels(painter, area)
        first = max(int((event.rect().top() - HEAD) // high), 0)
        last = min(int((event.rect().bottom() - HEAD) // high) + 1, len(self.names))
        painter.setPen(resources.colour("text2"))
        metrics, width = painter.fontMetrics(), self.name_width
        for row in range(first, last):
            name = metrics.elidedText(self.names[row], Qt.TextElideMode.ElideMiddle, width)
            line = QRectF(0, HEAD + row * high, width, high)
            painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
        self.draw_rows(painter, first, last)
        self._draw_selection(painter, area)

    def _draw_labels(self, painter: QPainter, area: QRectF) -> None:
        metrics = painter.fontMetrics()
        wide = area.width() / self.steps
        for step, words in self._labels():
            taken = metrics.horizontalAdvance(words)
            middle = area.x() + (step + 0.5) * wide
            place = QRectF(min(max(middle - taken / 2, 0), self.width() - taken), 0, taken + 1, HEAD - 4)
            painter.setPen(resources.colour("text" if step in self._selected else "text3"))
            painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, words)

    def _draw_selection(self, painter: QPainter, area: QRectF) -> None:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for step in self._selected:
            place = self.cell_rect(0, step, step + 1)
            place.setHeight(area.height())
            painter.setPen(QPen(resources.colour("accent"), 1.5))
            painter.drawRect(place.adjusted(0.5, 0.5, -0.5, -0.5))
        row, step = self.current
        if self.hasFocus() and row >= 0:
            painter.setPen(QPen(resources.colour("text"), 1.5))
            painter.drawRect(self.cell_rect(row, step, step + 1).adjusted(0.75, 0.75, -0.75, -0.75))

    # Pointer and keys

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        row, step = self.cell_at(event.position().x(), event.position().y())
        self.pointed.emit(self.describe(row, step) if row >= 0 and step >= 0 else "")

    def leaveEvent(self, event: QEvent) -> None:
        self.pointed.emit("")

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        row, step = self.cell_at(event.position().x(), event.position().y())
        if event.button() == Qt.MouseButton.LeftButton and row >= 0 and step >= 0:
            self._go_to(row, step)
            self.cell_chosen.emit(row, step)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        row, step = self.cell_at(event.position().x(), event.position().y())
        if row >= 0 and step >= 0:
            self.cell_activated.emit(row, step)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        row, step = self.current
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and row >= 0:
            self.cell_activated.emit(row, step)
        elif key == Qt.Key.Key_Space and row >= 0:
            self.cell_chosen.emit(row, step)
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down) and self.names:
            across = (key == Qt.Key.Key_Right) - (key == Qt.Key.Key_Left)
            down = (key == Qt.Key.Key_Down) - (key == Qt.Key.Key_Up)
            self._go_to(
                min(max(row + down, 0), len(self.names) - 1),
                min(max(step + across, 0), max(self.steps - 1, 0)),
            )
        else:
            super().keyPressEvent(event)

    def _go_to(self, row: int, step: int) -> None:
        self.current = (row, step)
        words = self.describe(row, step)
        widgets.describe(self, words)
        self.pointed.emit(words)
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if self.current[0] < 0 and self.names and self.steps:
            self._go_to(0, 0)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.setAccessibleDescription(self._said)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            row, step = self.cell_at(event.pos().x(), event.pos().y())
            words = "" if row < 0 else self.names[row] if step < 0 else self.describe(row, step)
            QToolTip.showText(event.globalPos(), plain_tip(words), self)
            return True
        return super().event(event)
