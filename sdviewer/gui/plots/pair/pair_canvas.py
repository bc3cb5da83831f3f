"""The picture of a pair: one of its two sides, their difference, or both with a divider between them."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPen

from sdviewer.gui import resources
from sdviewer.gui.plots.heatmap_canvas import Coloured, Divisions, HeatmapCanvas, Picture

GRIP: Final = 5
"""Pixels beside the divider at which it can be taken."""
STEP: Final = 0.05
"""How far a key moves the divider, as a share of the picture's width."""
_CENTRE = int(Qt.AlignmentFlag.AlignCenter)


class PairCanvas(HeatmapCanvas):
    """A heatmap's canvas on which B may lie over the right part of A.

    `blinked` tells that Space is pressed or let go, `divided` that the divider was moved.
    """

    blinked = Signal(bool)
    divided = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.divider = 0.5
        self._right: Coloured | None = None
        self._corners: tuple[str, ...] = ()
        self._dragging = False

    def show_split(self, left: Picture, right: Picture, divisions: Divisions) -> None:
        """Show two pictures of one slice, the second one right of the divider."""
        self.show_picture(left, divisions)
        self._right = Coloured(right)

    def show_picture(self, picture: Picture, divisions: Divisions) -> None:
        super().show_picture(picture, divisions)
        self._right = None

    def show_nothing(self) -> None:
        super().show_nothing()
        self._right, self._corners = None, ()

    def label(self, *words: str) -> None:
        """Write in the upper corners which side is shown: one word, or one for each side of the divider."""
        self._corners = words
        self.update()

    def set_divider(self, share: float) -> None:
        """Move the divider to a share of the picture's width."""
        share = min(max(share, 0.0), 1.0)
        if share != self.divider:
            self.divider = share
            self.update()
            self.divided.emit(share)

    @property
    def is_split(self) -> bool:
        """Whether there is a divider."""
        return self._right is not None

    def divider_x(self) -> float:
        """Where the divider stands in the widget."""
        rect = self._picture()
        return rect.left() + self.divider * rect.width()

    # Painting

    def _paint_pictures(self, painter: QPainter, rect: QRect, coloured: Coloured) -> None:
        super()._paint_pictures(painter, rect, coloured)
        if self._right is not None:
            x = self.divider_x()
            painter.save()
            painter.setClipRect(QRectF(QPointF(x, rect.top()), QPointF(rect.right() + 1, rect.bottom() + 1)))
            self._paint_image(painter, rect, self._right)
            painter.restore()
            self._paint_divider(painter, rect, x)
        self._paint_corners(painter, rect)

    def _paint_divider(self, painter: QPainter, rect: QRect, x: float) -> None:
        """A line with a handle, light within dark so that it is seen on any colour."""
        middle = rect.center().y()
        for token, width in (("panel", 4), ("text", 2)):
            painter.setPen(QPen(resources.colour(token), width))
            painter.drawLine(QPointF(x, rect.top()), QPointF(x, rect.bottom()))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(resources.colour("text"), 1.5))
        painter.setBrush(resources.colour("panel"))
        painter.drawRoundedRect(QRectF(x - 4, middle - 10, 8, 20), 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _paint_corners(self, painter: QPainter, rect: QRect) -> None:
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(resources.font(resources.SMALL, 600))
        for place, words in enumerate(self._corners):
            wide = painter.fontMetrics().horizontalAdvance(words) + 12
            left = rect.left() + 4 if place == 0 else rect.right() - wide - 4
            box = QRectF(left, rect.top() + 4, wide, painter.fontMetrics().height() + 4)
            fill, ink = {"A": ("tA", "A"), "B": ("tB", "B")}.get(words, ("panel", "text"))
            painter.setPen(QPen(resources.colour(ink), 1))
            painter.setBrush(resources.colour(fill))
            painter.drawRoundedRect(box, 4, 4)
            painter.drawText(box, _CENTRE, words)
        painter.restore()

    # The divider, by pointer and keys; Space

    def _at_divider(self, position: QPointF) -> bool:
        rect = self._picture()
        beside = abs(position.x() - self.divider_x()) <= GRIP and rect.top() <= position.y() <= rect.bottom()
        return self.is_split and beside

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._at_divider(event.position()):
            self._dragging = True
            return
        super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._dragging:
            rect = self._picture()
            self.set_divider((event.position().x() - rect.left()) / max(rect.width(), 1))
            return
        near = self._at_divider(event.position())
        self.setCursor(Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.ArrowCursor)
        super().mouseMoveEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._dragging = False
        super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space:
            self.blinked.emit(True)
        elif self.is_split and event.text() in ("[", "]"):
            self.set_divider(self.divider + (STEP if event.text() == "]" else -STEP))
        else:
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space:
            if not event.isAutoRepeat():
                self.blinked.emit(False)
        else:
            super().keyReleaseEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.blinked.emit(False)
