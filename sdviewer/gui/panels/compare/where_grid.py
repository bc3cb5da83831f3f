"""The pairs of a comparison as cells that one goes to: component by depth, or the most changed as bars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.panels.compare.where_words import scale_words, share_words
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.cell_grid import CellGrid

_RIGHT: Final = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_LEFT: Final = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_CENTRE: Final = int(Qt.AlignmentFlag.AlignCenter)
_BAR: Final = 9
"""Pixels of the bar of colours."""
_NAMES: Final = 0.36
"""Of the width what the names may take at most."""
_GAP: Final = 22
"""Pixels of a cell from which there is a gap of two pixels between cells; between smaller ones there is one."""


class ChangeGrid(CellGrid):
    """Cells with a change each (NaN where nothing was compared) and the row of the tree where its pair is."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.values: list[float] = []
        self.rows: list[int] = []
        self.limit = 0.0
        self.chosen_row = -1

    def has_cell(self, cell: int) -> bool:
        return 0 <= cell < len(self.rows) and self.rows[cell] >= 0

    def amount(self, cell: int) -> float:
        """How much a pair changed as a share of the most, 0..1."""
        value = self.values[cell]
        if math.isnan(value):
            return 0.0
        return min(value / self.limit, 1.0) if self.limit > 0 else float(value > 0)

    def name_of(self, cell: int) -> str:
        """The pair of a cell."""
        raise NotImplementedError

    def said(self, cell: int) -> str:
        """A pair and how much it changed."""
        return f"{self.name_of(cell)}: {share_words(self.values[cell])}"

    def show_chosen(self, row: int) -> None:
        """Frame the pair that is shown in detail."""
        if row != self.chosen_row:
            self.chosen_row = row
            self.update()

    @property
    def chosen_cell(self) -> int:
        """The cell of the pair that is shown in detail, -1 for none."""
        return self.rows.index(self.chosen_row) if self.chosen_row >= 0 and self.chosen_row in self.rows else -1

    def paint_frames(self, painter: QPainter) -> None:
        """Frame the cell of the pair in detail, and the one that is pointed at."""
        at = self.chosen_cell
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if at >= 0:
            painter.setPen(QPen(resources.colour("text"), 2))
            painter.drawRoundedRect(self.cell_rect(at).adjusted(-0.5, -0.5, 0.5, 0.5), 3, 3)
        self.paint_current(painter)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            cell = self.cell_at(event.pos())
            QToolTip.showText(event.globalPos(), plain_tip(self.said(cell)) if cell >= 0 else "", self)
            return True
        return super().event(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.update()


class Matrix(ChangeGrid):
    """Components down, depth across, and a bar of the colours."""

    HEIGHT: Final = 14
    """Pixels of a row where there is room."""
    LEAST: Final = 11

    def __init__(self) -> None:
        super().__init__("Change of each component over depth")
        self.components: list[str] = []
        self.depths: list[str] = []

    def show_cells(
        self, components: Sequence[str], depths: Sequence[str], limit: float, values: list[float], rows: list[int]
    ) -> None:
        """Show other numbers; what is pointed at stays."""
        if len(rows) != len(self.rows):
            self.current = -1
        self.components, self.depths = list(components), list(depths)
        self.limit, self.values, self.rows = limit, values, rows
        self.setMinimumHeight(self.LEAST * len(components) + self._below)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.updateGeometry()
        self.update()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.components), len(self.depths)

    def sizeHint(self) -> QSize:
        return QSize(420, self.HEIGHT * len(self.components) + self._below)

    def name_of(self, cell: int) -> str:
        row, column = divmod(cell, max(len(self.depths), 1))
        return f"{self.components[row]} of {self.depths[column]}"

    @property
    def _below(self) -> int:
        return QFontMetrics(resources.font(resources.SMALL)).height() + 6

    def area(self) -> QRectF:
        """Where the cells are."""
        metrics = QFontMetrics(resources.font(resources.SMALL, mono=True))
        names = max((metrics.horizontalAdvance(name) for name in self.components), default=0)
        left = min(names, int(self.width() * _NAMES)) + 8
        right = QFontMetrics(resources.font(resources.SMALL)).horizontalAdvance("00.0 %") + _BAR + 22
        return QRectF(left, 2, max(self.width() - left - right, 1), max(self.height() - self._below - 2, 1))

    def cell_rect(self, cell: int) -> QRectF:
        area, (rows, columns) = self.area(), self.shape
        row, column = divmod(cell, max(columns, 1))
        wide, high = area.width() / max(columns, 1), area.height() / max(rows, 1)
        gap = 2.0 if wide >= _GAP else 1.0 if wide >= 4 else 0.0
        return QRectF(area.left() + column * wide, area.top() + row * high, wide - gap, high - (2 if high > 8 else 1))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        rows, columns = self.shape
        rounded = columns > 0 and self.area().width() / columns >= 8
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, rounded)
        for cell in range(rows * columns):
            if not self.has_cell(cell):
                continue
            rect = self.cell_rect(cell)
            if math.isnan(self.values[cell]):
                # Compared later, or never: no colour of the scale, of which the lowest means no change.
                painter.setBrush(resources.colour("panel"))
                painter.setPen(QPen(resources.colour("border2"), 1))
                painter.drawRect(rect.adjusted(0.5, 0.5, -0.5, -0.5))
                painter.setPen(Qt.PenStyle.NoPen)
                continue
            painter.setBrush(colours.amount(self.amount(cell)))
            if rounded:
                painter.drawRoundedRect(rect, 2, 2)
            else:
                painter.drawRect(rect)
        self._paint_names(painter)
        self._paint_depths(painter)
        self._paint_bar(painter)
        self.paint_frames(painter)

    def _marked(self) -> tuple[int, int]:
        """Component and depth of what is pointed at, or else of the pair in detail."""
        cell = self.current if self.current >= 0 else self.chosen_cell
        return divmod(cell, len(self.depths)) if cell >= 0 and self.depths else (-1, -1)

    def _paint_names(self, painter: QPainter) -> None:
        area, (rows, columns) = self.area(), self.shape
        marked = self._marked()[0]
        for row in range(rows):
            font = resources.font(resources.SMALL, 600 if row == marked else 400, mono=True)
            painter.setFont(font)
            painter.setPen(resources.colour("text" if row == marked else "text2"))
            rect = self.cell_rect(row * columns)
            room = QRectF(0, rect.center().y() - 9, area.left() - 8, 18)
            words = QFontMetrics(font).elidedText(self.components[row], Qt.TextElideMode.ElideLeft, int(room.width()))
            painter.drawText(room, _RIGHT, words)

    def _paint_depths(self, painter: QPainter) -> None:
        """The names of the blocks, each second, third ... where there is no room for all."""
        area, (_, columns) = self.area(), self.shape
        metrics = QFontMetrics(resources.font(resources.SMALL, 600))
        widest = max((metrics.horizontalAdvance(depth) for depth in self.depths), default=0) + 6
        step = max(1, math.ceil(widest * columns / area.width())) if columns else 1
        marked = self._marked()[1]
        shown = [*range(0, columns, step)]
        if marked >= 0 and marked not in shown:
            shown = [column for column in shown if abs(column - marked) >= step] + [marked]
        for column in shown:
            painter.setFont(resources.font(resources.SMALL, 600 if column == marked else 400))
            painter.setPen(resources.colour("text" if column == marked else "text2"))
            middle = self.cell_rect(column).center().x()
            painter.drawText(QRectF(middle - 40, area.bottom() + 2, 80, self._below - 2), _CENTRE, self.depths[column])

    def _paint_bar(self, painter: QPainter) -> None:
        area = self.area()
        bar = QRectF(area.right() + 12, area.top(), _BAR, area.height())
        painter.setPen(Qt.PenStyle.NoPen)
        steps = max(int(bar.height()), 1)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        for step in range(steps):
            share = 1 - step / max(steps - 1, 1)
            painter.fillRect(QRectF(bar.left(), bar.top() + step, bar.width(), 1), colours.amount(share))
        painter.setFont(resources.font(resources.SMALL))
        painter.setPen(resources.colour("text2"))
        high = painter.fontMetrics().height()
        for share in (1.0, 0.5, 0.0) if self.limit > 0 else (0.0,):
            middle = bar.top() + (1 - share) * bar.height()
            middle = min(max(middle, bar.top() + high / 2 - 2), bar.bottom() - high / 2 + 2)
            beside = QRectF(bar.right() + 5, middle - high / 2, self.width() - bar.right() - 5, high)
            painter.drawText(beside, _LEFT, scale_words(self.limit * share))


class Bars(ChangeGrid):
    """The most changed pairs, one below the other, where there is no depth."""

    HEIGHT: Final = 22

    def __init__(self) -> None:
        super().__init__("The most changed")
        self.names: list[str] = []

    def show_bars(self, names: Sequence[str], limit: float, values: list[float], rows: list[int]) -> None:
        """Show other pairs."""
        if len(rows) != len(self.rows):
            self.current = -1
        self.names = list(names)
        self.limit, self.values, self.rows = limit, values, rows
        self.setFixedHeight(max(self.HEIGHT * len(names), 1))
        self.update()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.names), 1

    def name_of(self, cell: int) -> str:
        return self.names[cell]

    def cell_rect(self, cell: int) -> QRectF:
        return QRectF(1, cell * self.HEIGHT + 1, self.width() - 2, self.HEIGHT - 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        small = QFontMetrics(resources.font(resources.SMALL, mono=True))
        share = QFontMetrics(resources.font(resources.NOTE)).horizontalAdvance("000.00 %") + 8
        names = min(max(map(small.horizontalAdvance, self.names), default=0), int(self.width() * 0.5)) + 10
        for cell in range(len(self.names)):
            rect = self.cell_rect(cell)
            if not event.rect().intersects(rect.toAlignedRect()):
                continue
            strong = cell == self.chosen_cell
            painter.setFont(resources.font(resources.SMALL, 600 if strong else 400, mono=True))
            painter.setPen(resources.colour("text"))
            words = small.elidedText(self.names[cell], Qt.TextElideMode.ElideLeft, names - 12)
            painter.drawText(QRectF(6, rect.top(), names - 10, rect.height()), _LEFT, words)
            track = QRectF(names, rect.center().y() - 3.5, max(self.width() - names - share - 8, 1), 7)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(resources.colour("sunk"))
            painter.drawRoundedRect(track, 3.5, 3.5)
            painter.setBrush(colours.amount(0.15 + 0.85 * self.amount(cell)))
            track.setWidth(max(track.width() * self.amount(cell), 7))
            painter.drawRoundedRect(track, 3.5, 3.5)
            painter.setFont(resources.font(resources.NOTE))
            painter.setPen(resources.colour("text2"))
            right = QRectF(self.width() - share - 6, rect.top(), share, rect.height())
            painter.drawText(right, _RIGHT, share_words(self.values[cell]))
        self.paint_frames(painter)


def most_of(grid: ChangeGrid, number: int) -> list[int]:
    """The cells that changed most, the most first."""
    known = [cell for cell in range(len(grid.values)) if grid.has_cell(cell) and grid.values[cell] > 0]
    return sorted(known, key=lambda cell: -grid.values[cell])[:number]


def summed_up(grid: ChangeGrid, number: int = 3) -> str:
    """The pairs that changed most, in words."""
    return text.visible("; ".join(itertools.islice(map(grid.said, most_of(grid, number)), number)), 600)
