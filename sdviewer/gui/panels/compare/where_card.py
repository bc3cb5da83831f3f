"""Where two checkpoints differ: a matrix of components by depth, or the most changed as bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Final

from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtWidgets import QFrame, QScrollArea, QSizePolicy, QStackedWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.compare.where_grid import Bars, ChangeGrid, Matrix, summed_up
from sdviewer.gui.panels.compare.where_words import frozen_words, scale_words
from sdviewer.gui.plots.numbers import floats
from sdviewer.gui.widgets import Card, Chip

MOST_SHOWN: Final = 13
"""Components that are in sight without scrolling ..."""
MOST_BARS: Final = 8
"""... and most changed pairs."""


class WhereCard(Card):
    """`pair_chosen` tells the row of a pair that was clicked."""

    pair_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__("Where did it change?", "relative L2 per tensor, depth \u2192")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._pairs = Chip("").only_says()
        self._pairs.hide()
        self.add_control(self._pairs)
        self.matrix, self.bars = Matrix(), Bars()
        grids: tuple[ChangeGrid, ...] = (self.matrix, self.bars)
        self._areas = {grid: self._scrolled(grid) for grid in grids}
        self._stack = QStackedWidget()
        for area in self._areas.values():
            self._stack.addWidget(area)
        self.set_body(self._stack)
        self.frozen = widgets.label("", "note")
        self.frozen.setWordWrap(True)
        self.column.addWidget(self.frozen)
        self._none = widgets.label("", "second")
        self._none.setWordWrap(True)
        self.column.addWidget(self._none)
        self._about = self.subtitle.text()
        self._show(None)
        self._none.setText("Nothing is compared yet.")

    def _scrolled(self, grid: ChangeGrid) -> QScrollArea:
        area = QScrollArea()
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(grid)
        # On the card, not on the page's colour.
        area.viewport().setAutoFillBackground(False)
        grid.setAutoFillBackground(False)
        grid.pointed.connect(partial(self._pointed, grid))
        grid.chosen.connect(partial(self._chosen, grid))
        return area

    def show_where(self, body: Body, buffers: Mapping[str, memoryview]) -> None:
        """Show {"components", "depths", "limit", "frozen", "pairs", "comparable", "bars": [[text, row, value]] | None}.

        Buffers "cells" f8 (components, depths; NaN for what is not compared) and "rows" i4 likewise, -1 for no pair.
        "frozen" are the names of parts of which nothing changed, "pairs" how many pairs did, of those
        that are "comparable". An infinite value of a bar is "inf".
        """
        limit = body.get("limit")
        most = float(limit) if limit is not None and math.isfinite(float(limit)) else 0.0
        components = [text.visible(str(name), 60) for name in body["components"]]
        depths = [text.visible(str(name), 24) for name in body["depths"]]
        bars = body.get("bars") or []
        if components and depths:
            cells = floats(buffers["cells"])
            rows = list(memoryview(buffers["rows"]).cast("B").cast("i"))
            self.matrix.show_cells(components, depths, most, cells, rows)
            self._about = "relative L2 per tensor, depth \u2192"
            self._show(self.matrix)
        elif bars:
            values = [math.nan if value is None else float(value) for _, _, value in bars]
            names = [text.visible(str(name), 200) for name, _, _ in bars]
            self.bars.show_bars(names, most, values, [int(row) for _, row, _ in bars])
            self._about = "relative L2 of the most changed"
            self._show(self.bars)
        else:
            self._about = "relative L2 per tensor"
            self._show(None)
            comparable = int(body.get("comparable", 1))
            nothing = "No tensor is on both sides in the same shape."
            self._none.setText("No number has changed." if comparable else nothing)
        self.subtitle.setText(self._about)
        pairs = body.get("pairs")
        self._pairs.setText("" if pairs is None else text.plural(int(pairs), "pair"))
        self._pairs.setToolTip("Pairs that changed")
        self._pairs.setVisible(pairs is not None)
        frozen = frozen_words([str(name) for name in body.get("frozen") or []])
        self.frozen.setText(text.visible(frozen, 500))
        self.frozen.setVisible(bool(frozen))
        self._describe(most)

    def show_chosen(self, row: int) -> None:
        """Frame the pair that is shown in detail, in sight; -1 for none."""
        for grid, area in self._areas.items():
            grid.show_chosen(row)
            if grid.chosen_cell >= 0:
                rect: QRect = grid.cell_rect(grid.chosen_cell).toAlignedRect()
                area.ensureVisible(rect.center().x(), rect.center().y(), 10, 20)

    def _show(self, grid: ChangeGrid | None) -> None:
        self._stack.setVisible(grid is not None)
        self._none.setVisible(grid is None)
        if grid is None:
            return
        self._stack.setCurrentWidget(self._areas[grid])
        if isinstance(grid, Matrix):
            whole = grid.sizeHint().height()
            self._stack.setFixedHeight(whole - Matrix.HEIGHT * max(grid.shape[0] - MOST_SHOWN, 0))
        else:
            self._stack.setFixedHeight(Bars.HEIGHT * max(min(grid.shape[0], MOST_BARS), 1))

    def _describe(self, most: float) -> None:
        """What is shown, for who does not see it."""
        grid = self._grid
        if grid is None:
            return
        rows, columns = grid.shape
        what = f"{rows} components by {columns} blocks" if isinstance(grid, Matrix) else f"{rows} most changed pairs"
        frozen = f". {self.frozen.text()}" if not self.frozen.isHidden() else ""
        grid.setAccessibleDescription(
            f"Relative change of {what}, from 0 to {scale_words(most)}. Most: {summed_up(grid) or 'none'}{frozen}"
        )

    @property
    def _grid(self) -> ChangeGrid | None:
        shown = self._stack.currentWidget()
        return None if self._stack.isHidden() else next(grid for grid, area in self._areas.items() if area is shown)

    def _pointed(self, grid: ChangeGrid, cell: int) -> None:
        self.subtitle.setText(grid.said(cell) if cell >= 0 else self._about)
        grid.setAccessibleName(grid.said(cell) if cell >= 0 else "Where did it change?")
        if cell >= 0 and grid.hasFocus():
            rect = grid.cell_rect(cell).toAlignedRect()
            self._areas[grid].ensureVisible(rect.center().x(), rect.center().y(), 10, 20)

    def _chosen(self, grid: ChangeGrid, cell: int) -> None:
        if grid.has_cell(cell):
            self.pair_chosen.emit(grid.rows[cell])
