"""A grid of numbers that holds only what is on the screen: its cells, their tint, what is chosen and selected."""

from __future__ import annotations

import math

from PySide6.QtCore import QEvent, QPoint, QRect, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QFontMetrics,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QMenu

from sdviewer.gui import resources
from sdviewer.gui.plots import colours

ROW_HEIGHT = 24
_NARROWEST = 84
_MOST = 2**31 - 1

Cell = tuple[str, float, str, bool]
"""What is shown, where it stands on the colour scale (-1..1, NaN for no number), what is copied, whether it is edited.
"""

_UNKNOWN: Cell = ("", 0.0, "", False)


class ValuesGrid(QAbstractScrollArea):
    """A grid of `(rows, columns)` cells; asks for the window it shows, by row and column."""

    window_changed = Signal()
    cell_chosen = Signal(int, int)
    edit_requested = Signal(int, int)
    copy_requested = Signal(str)  # "value", "numpy" or "table"

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Values")
        self.setMinimumSize(150, 90)
        self.rows = self.columns = 0
        self.cell = self._anchor = (0, 0)
        self._marked: tuple[int, int] | None = None
        self._texts: dict[tuple[int, int], Cell] = {}
        self.verticalScrollBar().valueChanged.connect(self._moved)
        self.horizontalScrollBar().valueChanged.connect(self._moved)

    def set_size(
        self, rows: int, columns: int, cell: tuple[int, int] = (0, 0), scroll: tuple[int, int] = (0, 0)
    ) -> None:
        """Another tensor, of which nothing is known yet: what is chosen in it and where it is scrolled to."""
        self.rows, self.columns = min(rows, _MOST), min(columns, _MOST)
        self.cell = self._anchor = cell
        self._texts, self._marked = {}, None
        self._set_ranges()
        self.verticalScrollBar().setValue(scroll[0])
        self.horizontalScrollBar().setValue(scroll[1])

    def selected(self) -> tuple[int, int, int, int]:
        """First row and column of what is selected, and how many of each."""
        (row, column), (other_row, other_column) = self.cell, self._anchor
        top, left = min(row, other_row), min(column, other_column)
        return top, left, abs(row - other_row) + 1, abs(column - other_column) + 1

    def mark(self, cell: tuple[int, int] | None) -> None:
        """Frame an element that is pointed at in another plot; bring it into sight."""
        if cell is None or not (0 <= cell[0] < self.rows):
            self._marked = None
        else:
            self._marked = cell
            self._scroll_to(cell[0], cell[1] if cell[1] >= 0 else self.horizontalScrollBar().value())
        self.viewport().update()

    def window(self) -> tuple[int, int, int, int]:  # type: ignore[override]
        """First row and column on the screen, and how many of each."""
        row, column = self.verticalScrollBar().value(), self.horizontalScrollBar().value()
        area = self._cells()
        rows = min(area.height() // ROW_HEIGHT + 1, self.rows - row)
        columns = min(area.width() // self._width + 1, self.columns - column)
        return row, column, max(rows, 0), max(columns, 0)

    def set_values(self, row: int, column: int, columns: int, cells: list[Cell]) -> None:
        """What stands in a window that begins at a cell, row by row."""
        self._texts = {(row + i // columns, column + i % columns): cell for i, cell in enumerate(cells)}
        self.viewport().update()

    def chosen_text(self) -> str:
        """The value of the chosen cell, "" where it is not known."""
        return self._texts.get(self.cell, _UNKNOWN)[0]

    def exact_text(self, row: int, column: int) -> str:
        """The value of a cell with all its digits, "" where it is not known."""
        return self._texts.get((row, column), _UNKNOWN)[2]

    def cell_rect(self, row: int, column: int) -> QRect:
        """Where a cell stands in the viewport."""
        area = self._cells()
        top, left, _, _ = self.window()
        x, y = area.left() + (column - left) * self._width, area.top() + (row - top) * ROW_HEIGHT
        return QRect(x, y, self._width - 1, ROW_HEIGHT - 1)

    @property
    def _width(self) -> int:
        """The width of a column in pixels: as many whole ones as fit share the room."""
        across = self._cells().width()
        shown = min(max(across // _NARROWEST, 1), max(self.columns, 1))
        return max(min(across // shown, 2 * _NARROWEST), _NARROWEST)

    def _cells(self) -> QRect:
        metrics = QFontMetrics(resources.font(resources.SMALL))
        left = metrics.horizontalAdvance("0" * len(str(max(self.rows - 1, 0)))) + 16
        return self.viewport().rect().adjusted(left, 22, 0, 0)

    def _set_ranges(self) -> None:
        area = self._cells()
        shown_rows, shown_columns = max(area.height() // ROW_HEIGHT, 1), max(area.width() // self._width, 1)
        for bar, n, shown in (
            (self.verticalScrollBar(), self.rows, shown_rows),
            (self.horizontalScrollBar(), self.columns, shown_columns),
        ):
            bar.setRange(0, max(n - shown, 0))
            bar.setPageStep(shown)
        self.viewport().update()

    def _moved(self) -> None:
        self.viewport().update()
        self.window_changed.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._set_ranges()
        self.window_changed.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        area = self._cells()
        row, column, rows, columns = self.window()
        self._paint_heads(painter, area, row, column, rows, columns)
        painter.setFont(resources.font(resources.NOTE, mono=True))
        # Whole columns only: what is left over at the right is too narrow to read.
        painter.setClipRect(area.adjusted(0, 0, max(area.width() // self._width, 1) * self._width - area.width(), 0))
        for i in range(rows):
            for j in range(columns):
                known = self._texts.get((row + i, column + j))
                rect = QRect(
                    area.left() + j * self._width, area.top() + i * ROW_HEIGHT, self._width - 1, ROW_HEIGHT - 1
                )
                if known is not None:
                    self._paint_cell(painter, rect, known[0], known[1])
                    if known[3]:
                        self._mark_edited(painter, rect)
        self._paint_frames(painter, area)

    def _paint_heads(self, painter: QPainter, area: QRect, row: int, column: int, rows: int, columns: int) -> None:
        painter.setFont(resources.font(resources.SMALL))
        painter.setPen(resources.colour("text3"))
        right = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for i in range(rows):
            place = QRect(0, area.top() + i * ROW_HEIGHT, area.left() - 8, ROW_HEIGHT)
            if place.bottom() <= area.bottom() + ROW_HEIGHT // 2:
                painter.drawText(place, right, str(row + i))
        for j in range(columns):
            place = QRect(area.left() + j * self._width, 0, self._width - 9, area.top())
            painter.drawText(place, right, str(column + j))

    def _paint_frames(self, painter: QPainter, area: QRect) -> None:
        """Around what is selected, and around what is pointed at elsewhere."""
        row, column, rows, columns = self.selected()
        first, last = self.cell_rect(row, column), self.cell_rect(row + rows - 1, column + columns - 1)
        frames = [(first.united(last), "accent")] if self.hasFocus() or rows * columns > 1 else []
        if self._marked is not None:
            frames.append((self.cell_rect(self._marked[0], max(self._marked[1], 0)), "text"))
            if self._marked[1] < 0:
                frames[-1][0].setRight(area.right())
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for rect, token in frames:
            painter.setPen(resources.colour(token))
            painter.drawRect(rect.adjusted(0, 0, -1, -1))
            painter.drawRect(rect.adjusted(1, 1, -2, -2))

    def _paint_cell(self, painter: QPainter, rect: QRect, words: str, share: float) -> None:
        if math.isnan(share):
            fill, token = resources.colour("S"), "panel"
            painter.fillRect(rect, fill)
            painter.setPen(resources.colour(token))
        else:
            fill = colours.colour(share)
            painter.fillRect(rect, fill)
            painter.setPen(colours.readable(fill))
        painter.drawText(
            rect.adjusted(4, 0, -7, 0), int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), words
        )

    def _mark_edited(self, painter: QPainter, rect: QRect) -> None:
        """A bar at the left and a corner: seen without its colour too."""
        painter.fillRect(rect.left(), rect.top(), 3, rect.height() + 1, resources.colour("accent"))
        corner = [rect.topLeft(), rect.topLeft() + QPoint(10, 0), rect.topLeft() + QPoint(0, 10)]
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(resources.colour("accent"))
        painter.drawPolygon(corner)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def event(self, event: QEvent) -> bool:
        # F2 is the window's for a key; here it is the number that is edited.
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_F2
        ):
            event.accept()
            return True
        return super().event(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._cells().contains(event.position().toPoint()):
            self.edit_requested.emit(*self.cell)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        cell = self._cell_at(event.position().toPoint())
        top, left, rows, columns = self.selected()
        inside = cell is not None and top <= cell[0] < top + rows and left <= cell[1] < left + columns
        if cell is not None and not (event.button() == Qt.MouseButton.RightButton and inside):
            self._choose(*cell, extend=bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        cell = self._cell_at(event.position().toPoint())
        if event.buttons() & Qt.MouseButton.LeftButton and cell is not None and cell != self.cell:
            self._choose(*cell, extend=True)

    def _cell_at(self, position: QPoint) -> tuple[int, int] | None:
        area = self._cells()
        if not area.contains(position):
            return None
        row, column, _, _ = self.window()
        offset = position - area.topLeft()
        return row + offset.y() // ROW_HEIGHT, column + offset.x() // self._width

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        menu = QMenu(self)
        self.fill_menu(menu)
        menu.exec(event.globalPos())
        menu.deleteLater()

    def fill_menu(self, menu: QMenu) -> None:
        """What can be done with what is selected."""
        _, _, rows, columns = self.selected()
        what = "Copy value" if rows * columns == 1 else f"Copy {rows:,} × {columns:,} values as a table"
        first = menu.addAction(what, lambda: self.copy_requested.emit("value" if rows * columns == 1 else "table"))
        first.setShortcut(QKeySequence.StandardKey.Copy)
        menu.addAction("Copy as NumPy", lambda: self.copy_requested.emit("numpy"))
        menu.addSeparator()
        menu.addAction("Select all", self.select_all)
        edit = menu.addAction("Edit number", lambda: self.edit_requested.emit(*self.cell))
        edit.setShortcut(Qt.Key.Key_F2)

    def select_all(self) -> None:
        """Select every value of the slice."""
        self._anchor, self.cell = (0, 0), (max(self.rows - 1, 0), max(self.columns - 1, 0))
        self.viewport().update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            _, _, rows, columns = self.selected()
            self.copy_requested.emit("value" if rows * columns == 1 else "table")
            return
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self.select_all()
            return
        if event.key() in (Qt.Key.Key_F2, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.edit_requested.emit(*self.cell)
            return
        row, column = self.cell
        page = self.verticalScrollBar().pageStep()
        far = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        steps = {
            Qt.Key.Key_Up: (0 if far else row - 1, column),
            Qt.Key.Key_Down: (self.rows - 1 if far else row + 1, column),
            Qt.Key.Key_Left: (row, 0 if far else column - 1),
            Qt.Key.Key_Right: (row, self.columns - 1 if far else column + 1),
            Qt.Key.Key_PageUp: (row - page, column),
            Qt.Key.Key_PageDown: (row + page, column),
            Qt.Key.Key_Home: (0 if far else row, 0),
            Qt.Key.Key_End: (self.rows - 1 if far else row, self.columns - 1),
        }
        target = steps.get(Qt.Key(event.key()))
        if target is None:
            super().keyPressEvent(event)
            return
        self._choose(*target, extend=bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier))

    def go(self, row: int, column: int) -> None:
        """Choose a cell and show it in the middle."""
        for bar, at in ((self.verticalScrollBar(), row), (self.horizontalScrollBar(), column)):
            if not bar.value() <= at < bar.value() + bar.pageStep():
                bar.setValue(at - bar.pageStep() // 2)
        self._choose(row, column)

    def _choose(self, row: int, column: int, *, extend: bool = False) -> None:
        row, column = min(max(row, 0), self.rows - 1), min(max(column, 0), self.columns - 1)
        if row < 0 or column < 0:
            return
        self.cell = (row, column)
        if not extend:
            self._anchor = self.cell
        self._scroll_to(row, column)
        self.viewport().update()
        self.cell_chosen.emit(row, column)

    def _scroll_to(self, row: int, column: int) -> None:
        for bar, place in ((self.verticalScrollBar(), row), (self.horizontalScrollBar(), column)):
            if place < bar.value():
                bar.setValue(place)
            elif place >= bar.value() + bar.pageStep():
                bar.setValue(place - bar.pageStep() + 1)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.viewport().update()
