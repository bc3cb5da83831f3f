"""A grid of cells that are pointed at, gone through with the arrow keys, and chosen: kernels, attention heads."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPoint, QRectF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from sdviewer.gui import resources

_STEPS = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}


class CellGrid(QWidget):
    """`rows` x `columns` places of which the first `count` have a cell; who derives from it says where they are.

    `pointed` fires with the number of the cell under the pointer, or that the arrow keys moved to, -1 for none;
    `chosen` on a click or Enter.
    """

    pointed = Signal(int)
    chosen = Signal(int)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(150, 90)
        self.current = -1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of places."""
        raise NotImplementedError

    def has_cell(self, cell: int) -> bool:
        """Whether there is a cell of this number, counted row by row."""
        raise NotImplementedError

    def cell_rect(self, cell: int) -> QRectF:
        """Where a cell is."""
        raise NotImplementedError

    def cell_at(self, position: QPoint) -> int:
        """The cell at a place of the widget, -1 where there is none."""
        rows, columns = self.shape
        # Cells of one size in even rows: the first one and the next ones tell all.
        if not rows or not columns:
            return -1
        first = self.cell_rect(0)
        across = self.cell_rect(1).left() - first.left() if columns > 1 else first.width()
        down = self.cell_rect(columns).top() - first.top() if rows > 1 else first.height()
        column, row = int((position.x() - first.left()) // across), int((position.y() - first.top()) // down)
        cell = row * columns + column
        inside = 0 <= row < rows and 0 <= column < columns and self.has_cell(cell)
        return cell if inside and self.cell_rect(cell).contains(position.toPointF()) else -1

    def show_current(self, cell: int) -> None:
        """Frame a cell, -1 for none, without telling anybody."""
        if cell != self.current:
            self.current = cell
            self.update()

    def paint_current(self, painter: QPainter) -> None:
        """Frame the cell that is pointed at."""
        if self.current < 0 or not self.has_cell(self.current):
            return
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(resources.colour("accent"), 2))
        painter.drawRoundedRect(self.cell_rect(self.current).adjusted(-1, -1, 1, 1), 3, 3)

    def _point_at(self, cell: int) -> None:
        if cell != self.current:
            self.current = cell
            self.update()
            self.pointed.emit(cell)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._point_at(self.cell_at(event.position().toPoint()))

    def leaveEvent(self, event: QEvent) -> None:
        self._point_at(-1)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        cell = self.cell_at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and cell >= 0:
            self.chosen.emit(cell)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space) and self.current >= 0:
            self.chosen.emit(self.current)
        elif key in _STEPS:
            self._step(*_STEPS[key])
        else:
            super().keyPressEvent(event)

    def _step(self, down: int, across: int) -> None:
        rows, columns = self.shape
        if self.current < 0:
            first = next((cell for cell in range(rows * columns) if self.has_cell(cell)), -1)
            if first >= 0:
                self._point_at(first)
            return
        row, column = divmod(self.current, columns)
        row, column = row + down, column + across
        while 0 <= row < rows and 0 <= column < columns:
            if self.has_cell(row * columns + column):
                self._point_at(row * columns + column)
                return
            row, column = row + down, column + across  # over a gap
