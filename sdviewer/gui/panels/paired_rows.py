"""What tables with two sides in one row have in common: their ground, their chevrons, and the room of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from PySide6.QtCore import QRect, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence, QPainter

from sdviewer.gui import icons, resources
from sdviewer.gui.hatching import Hatching
from sdviewer.gui.models.flat_tree import PairedModel
from sdviewer.gui.panels.flat_tree import FlatTreeView, Painter
from sdviewer.gui.panels.tree_rows import ROW_HEIGHT, RowPen, indent


class Places(NamedTuple):
    """Left edge and width of each column in pixels; the width is 0 where it is hidden."""

    columns: tuple[tuple[int, int], ...]
    width: int


class PairedPen(RowPen):
    """Draws what is below the words of a row."""

    def __init__(self) -> None:
        self._hatching = Hatching()
        super().__init__()

    def _ground(
        self, painter: QPainter, y: int, width: int, token: str, *, hatched: bool, selected: bool, hovered: bool
    ) -> None:
        """The tint of a row, "" for none, which shines through what is selected."""
        whole = QRect(0, y, width, ROW_HEIGHT)
        if token:
            painter.fillRect(whole, resources.colour(token))
        if hatched:
            self._hatching.fill(painter, whole, "S", 0.10)
        if selected or hovered:
            painter.setOpacity((0.75 if selected else 0.35) if token else 1.0)
            painter.fillRect(whole, resources.colour("sel" if selected else "hover"))
            painter.setOpacity(1.0)
        if selected:
            painter.fillRect(0, y, 3, ROW_HEIGHT, resources.colour("accent"))

    def _chevron(self, painter: QPainter, y: int, left: int, depth: int, *, expanded: bool) -> None:
        x = left + indent(depth) + 1
        icons.paint(painter, "chevd" if expanded else "chev", x, y + ROW_HEIGHT // 2 - 6, 12, "text2")


class PairedView(FlatTreeView):
    """Both sides, one scroll. `copy_requested` tells that the key of the current row is to be copied."""

    copy_requested = Signal()

    def __init__(self, model: PairedModel, painter: Painter, name: str) -> None:
        self._count = len(model.headers)
        super().__init__(model, painter)
        self.setAccessibleName(name)
        self.share_room()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_requested.emit()
        else:
            super().keyPressEvent(event)

    def places(self) -> Places:
        return Places(tuple(self._column(column) for column in range(self._count)), self.viewport().width())

    def set_widths(self, widths: Mapping[int, int]) -> None:
        """Pixels of each column; one of none is hidden."""
        for column, wide in widths.items():
            self.setColumnHidden(column, wide == 0)
            if wide:
                self.setColumnWidth(column, wide)
