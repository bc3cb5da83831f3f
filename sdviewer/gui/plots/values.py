"""The numbers themselves: a grid that holds only what is on the screen, tinted like the heatmap."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QEvent, QPoint, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.cell_editor import CellEditor
from sdviewer.gui.plots.heatmap import cell_text
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.plots.slices import SliceStrip

ROW_HEIGHT = 24
_NARROWEST = 84
# Rows read beyond the edge, so that a small change of size shows no gap.
_AROUND = 12
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

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Values")
        self.setMinimumSize(150, 90)
        self.rows = self.columns = 0
        self.cell = (0, 0)
        self._texts: dict[tuple[int, int], Cell] = {}
        self.verticalScrollBar().valueChanged.connect(self._moved)
        self.horizontalScrollBar().valueChanged.connect(self._moved)

    def set_size(self, rows: int, columns: int) -> None:
        """Another tensor: nothing of it is known yet."""
        if (rows, columns) != (self.rows, self.columns):
            self.rows, self.columns = min(rows, _MOST), min(columns, _MOST)
            self.cell = (0, 0)
            self.verticalScrollBar().setValue(0)
            self.horizontalScrollBar().setValue(0)
        self._set_ranges()

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
                    self._paint_cell(painter, rect, known[0], known[1], chosen=(row + i, column + j) == self.cell)
                    if known[3]:
                        self._mark_edited(painter, rect)

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

    def _paint_cell(self, painter: QPainter, rect: QRect, words: str, share: float, *, chosen: bool) -> None:
        if math.isnan(share):
            fill, token = resources.colour("S"), "panel"
            painter.fillRect(rect, fill)
            painter.setPen(resources.colour(token))
        else:
            fill = colours.colour(share * 0.72)
            painter.fillRect(rect, fill)
            painter.setPen(_readable(fill))
        painter.drawText(
            rect.adjusted(4, 0, -7, 0), int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), words
        )
        if chosen and self.hasFocus():
            painter.setPen(resources.colour("accent"))
            painter.drawRect(rect.adjusted(0, 0, -1, -1))
            painter.drawRect(rect.adjusted(1, 1, -2, -2))

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
        area, position = self._cells(), event.position().toPoint()
        if area.contains(position):
            row, column, _, _ = self.window()
            offset: QPoint = position - area.topLeft()
            self._choose(row + offset.y() // ROW_HEIGHT, column + offset.x() // self._width)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            widgets.copy_text(self.exact_text(*self.cell))
            return
        if event.key() in (Qt.Key.Key_F2, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.edit_requested.emit(*self.cell)
            return
        row, column = self.cell
        page = self.verticalScrollBar().pageStep()
        steps = {
            Qt.Key.Key_Up: (row - 1, column),
            Qt.Key.Key_Down: (row + 1, column),
            Qt.Key.Key_Left: (row, column - 1),
            Qt.Key.Key_Right: (row, column + 1),
            Qt.Key.Key_PageUp: (row - page, column),
            Qt.Key.Key_PageDown: (row + page, column),
            Qt.Key.Key_Home: (row, 0),
            Qt.Key.Key_End: (row, self.columns - 1),
        }
        target = steps.get(Qt.Key(event.key()))
        if target is None or event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            super().keyPressEvent(event)
            return
        self._choose(*target)

    def _choose(self, row: int, column: int) -> None:
        row, column = min(max(row, 0), self.rows - 1), min(max(column, 0), self.columns - 1)
        if row < 0 or column < 0:
            return
        self.cell = (row, column)
        for bar, place in ((self.verticalScrollBar(), row), (self.horizontalScrollBar(), column)):
            if place < bar.value():
                bar.setValue(place)
            elif place >= bar.value() + bar.pageStep():
                bar.setValue(place - bar.pageStep() + 1)
        self.viewport().update()
        self.cell_chosen.emit(row, column)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.viewport().update()


class ValuesPlot(Plot):
    """The grid in its card; a vector is one column, a scalar one cell."""

    name = "values"
    title = "Values"
    heading = "Numbers"
    icon = "tensor"

    def __init__(self) -> None:
        super().__init__()
        self._limit = 0.0
        self._strip = SliceStrip(self.ask)
        self.column.addWidget(self._strip)
        self.grid = ValuesGrid()
        self.set_body(self.grid)
        self._pause = QTimer(self, interval=25, singleShot=True)
        self._pause.timeout.connect(self._ask_window)
        self.grid.window_changed.connect(self._moved)
        self.grid.cell_chosen.connect(self._chosen)
        self.grid.edit_requested.connect(self.edit_cell)
        self.grid.setToolTip("F2 or a double click edits a number")
        self.editor: CellEditor | None = None
        self._editing = (0, 0)

    @staticmethod
    def score(facts: Facts) -> int:
        return 40 if facts.get("source") and math.prod(facts.get("shape") or (1,)) > 0 else 0

    def show_summary(self, summary: Facts) -> None:
        # Three deviations make about the same colours as the heatmap's.
        mean, std = float(summary.get("mean") or 0.0), float(summary.get("std") or 0.0)
        limit = abs(mean) + 3 * std
        self._limit = limit if math.isfinite(limit) else 0.0
        self._draw_answer()

    def begin(self, facts: Facts) -> None:
        if self.editor is not None:
            self.editor.close_now()
        self._limit = 0.0
        self._strip.begin(facts)
        shape = self._strip.shape
        axes = self._strip.axes
        rows, columns = (shape[axes[0]], shape[axes[1]]) if axes else (shape[0] if shape else 1, 1)
        self.grid.set_size(rows, columns)
        self.subtitle.setText(text.shape(shape))

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        row, column, rows, columns = self.grid.window()
        return "values", {
            **self._strip.params(),
            "row0": row,
            "col0": column,
            "rows": min(rows + _AROUND, self.grid.rows),
            "cols": min(columns + 1, self.grid.columns),
        }

    def draw(self, body: Body, buffers: Buffers) -> None:
        rows, columns = int(body["rows"]), int(body["columns"])
        numbers = array("d", memoryview(buffers["numbers"]).cast("B").cast("d"))
        texts = list(body["texts"])
        edited = self._written(int(body["row"]), int(body["column"]), rows, columns)
        for at, words in edited.items():
            texts[at], numbers[at] = words, _number(words)
        limit = self._limit or max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
        cells = []
        for at in range(rows * columns):
            number = numbers[at]
            share = number / limit if limit and not math.isinf(number) else math.copysign(1.0, number)
            cells.append((cell_text(texts[at], number), 0.0 if number == 0 else share, texts[at], at in edited))
        self.grid.set_values(int(body["row"]), int(body["column"]), columns, cells)

    def _written(self, row: int, column: int, rows: int, columns: int) -> dict[int, str]:
        """The numbers of a window that the recipe writes, by their places in it."""
        writes = (self._facts.get("made") or {}).get("writes") or ()
        shape = self._strip.shape
        found: dict[int, str] = {}
        for at in range(rows * columns if writes else 0):
            index = self._strip.full_index(row + at // columns, column + at % columns)
            for where, texts in writes:
                if index[: len(where)] == where:
                    found[at] = texts[_place(index[len(where) :], shape[len(where) :]) if len(texts) > 1 else 0]
        return found

    def edit_cell(self, row: int, column: int) -> None:
        """Edit a number in place, where its tensor can be edited and it is in sight."""
        session, facts = self._session, self._facts
        shown = self.grid.exact_text(row, column)
        if session is None or not shown or facts.get("row") != session.facts.get("row"):
            return
        why = str(facts.get("editable") or "") or ("" if facts.get("key") else "It is in no state dict")
        if why or facts.get("dropped"):
            said = why.rstrip(".").replace("Only the keys", "Only the tensors") or "It is dropped"
            session.trouble.emit({"message": f"This number cannot be edited: {said}", "remedy": ""})
            return
        if self.editor is not None:
            self.editor.close_now()
        made = CellEditor(self.grid.viewport(), session, self._strip.full_index(row, column), shown)
        self.editor, self._editing = made, (row, column)
        made.closed.connect(self._edited)
        made.show_at(self.grid.cell_rect(row, column), self.grid.viewport().rect())

    def _edited(self) -> None:
        self.editor = None
        self.grid.setFocus()

    def _moved(self) -> None:
        """Other cells are in sight, or the same ones elsewhere."""
        self._pause.start()
        if self.editor is None:
            return
        cell, inside = self.grid.cell_rect(*self._editing), self.grid.viewport().rect()
        if inside.contains(cell.center()):
            self.editor.show_at(cell, inside)
        else:
            self.editor.close_now()

    def _ask_window(self) -> None:
        if self._session is not None and not self.isHidden():
            self.ask()

    def _chosen(self, row: int, column: int) -> None:
        if words := self.grid.chosen_text():
            self.cursor_moved.emit(f"{self._strip.full_index(row, column)} = {words}")


def _number(words: str) -> float:
    """Where a number stands on the colour scale; of a complex one its real part."""
    try:
        return float(complex(words).real) if words not in ("True", "False") else float(words == "True")
    except ValueError:
        return math.nan


def _place(index: Sequence[int], shape: Sequence[int]) -> int:
    """How many elements stand before an index, row by row."""
    place = 0
    for at, size in zip(index, shape, strict=True):
        place = place * size + at
    return place


def _readable(fill: QColor) -> QColor:
    """Black or white, whichever stands out more."""
    luminance = 0.2126 * fill.redF() ** 2.2 + 0.7152 * fill.greenF() ** 2.2 + 0.0722 * fill.blueF() ** 2.2
    return QColor("#10151B") if luminance > 0.18 else QColor("#FFFFFF")
