"""A plot that is a grid of cells: what is pointed at is said, what is chosen is shown as a slice."""

from __future__ import annotations

from sdviewer.gui.plain import plain_tip
from sdviewer.gui.plots.cell_grid import CellGrid
from sdviewer.gui.plots.choosing import ChoosingPlot
from sdviewer.gui.plots.plot import SlicePart


class CellPlot(ChoosingPlot):
    """Who derives from it says what a cell shows, once there is an answer; before, cells are of the tensor before."""

    def set_grid(self, grid: CellGrid) -> None:
        """Show the cells."""
        self._cells = grid
        grid.pointed.connect(self._pointed)
        grid.chosen.connect(self._chosen)
        self.set_body(grid)
        self.setMinimumHeight(150)

    def words_of(self, cell: int) -> str:
        """What is said of a cell that is pointed at."""
        raise NotImplementedError

    def slice_of(self, cell: int) -> SlicePart:
        """The numbers that a cell stands for."""
        raise NotImplementedError

    def _pointed(self, cell: int) -> None:
        words = self.words_of(cell) if cell >= 0 and self._answer is not None else ""
        if words:
            self._cells.setToolTip(plain_tip(words))
        self.cursor_moved.emit(words)

    def _chosen(self, cell: int) -> None:
        if self._answer is not None:
            self.slice_wanted.emit(self.slice_of(cell))
