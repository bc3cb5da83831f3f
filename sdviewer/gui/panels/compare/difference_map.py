"""The difference map: all rows that are visible in one narrow strip, and which of them are on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from PySide6.QtCore import QEvent, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import QWidget

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.models.compare_model import STATUSES
from sdviewer.gui.plots import colours

WIDTH: Final = 18
_FULL: Final = {"shape": "S", "only_a": "Af", "only_b": "Bf", "unreadable": "S"}


class DifferenceMap(QWidget):
    """`place_chosen` tells a share of all rows (0 to 1) that is to be brought to the middle; `resized` its height."""

    place_chosen = Signal(float)
    resized = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedWidth(WIDTH)
        self.setAccessibleName("Difference map")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._status: Any = b""
        self._change: Any = b""
        self._limit = 0.0
        self._shown = (0.0, 1.0)
        self._drawn: QPixmap | None = None

    def show_map(self, buffers: Mapping[str, memoryview], limit: float) -> None:
        """Show what the worker reduced."""
        self._status = buffers["status"].cast("B")
        self._change = buffers["change"].cast("B").cast("f")
        self._limit = limit
        self._drawn = None
        different = sum(STATUSES[code].name in ("changed", "dtype", *_FULL) for code in self._status)
        share = different / len(self._status) if len(self._status) else 0.0
        self.setAccessibleDescription(f"{text.percent(share)} of the rows that are shown differ")
        self.update()

    def show_part(self, first: float, last: float) -> None:
        """Which shares of all rows are on the screen."""
        if (first, last) != self._shown:
            self._shown = (first, last)
            self.update()

    def _colour(self, part: int) -> QColor | None:
        name = STATUSES[self._status[part]].name
        if name in _FULL:
            return resources.colour(_FULL[name])
        if name in ("changed", "dtype"):
            share = self._change[part] / self._limit if self._limit > 0 else 0.0
            return colours.amount(0.18 + 0.82 * min(max(share, 0.0), 1.0))
        return None

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._drawn is None or self._drawn.deviceIndependentSize().toSize() != self.size():
            self._drawn = self._draw()
        painter.drawPixmap(0, 0, self._drawn)
        first, last = self._shown
        if last - first < 1:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(resources.colour("edge"))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            height = max((last - first) * self.height(), 6.0)
            painter.drawRoundedRect(QRectF(2.5, first * self.height() + 0.5, WIDTH - 5, height - 1), 3, 3)

    def _draw(self) -> QPixmap:
        """The strip; a resize paints it stretched until the worker has answered."""
        ratio = self.devicePixelRatioF()
        drawn = QPixmap(self.size() * ratio)
        drawn.setDevicePixelRatio(ratio)
        drawn.fill(resources.colour("panel"))
        painter = QPainter(drawn)
        painter.fillRect(0, 0, 1, self.height(), resources.colour("border"))
        parts = len(self._status)
        if parts:
            each = self.height() / parts
            gap = 1 if each >= 3 else 0
            for part in range(parts):
                if (colour := self._colour(part)) is not None:
                    top = int(part * each)
                    painter.fillRect(6, top, WIDTH - 11, max(int((part + 1) * each) - top - gap, 1), colour)
        painter.end()
        return drawn

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._choose(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._choose(event)

    def _choose(self, event: QMouseEvent) -> None:
        if self.height():
            self.place_chosen.emit(min(max(event.position().y() / self.height(), 0.0), 1.0))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.resized.emit(self.height())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self._drawn = None
            self.update()
