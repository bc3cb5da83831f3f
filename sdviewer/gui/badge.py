"""The letters of the two sides of a comparison."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from sdviewer.gui import resources

BADGE: Final = 23
SMALL: Final = 16
"""Pixels of a badge: on a card, and in a line of words."""


class Badge(QWidget):
    """A or B, in the colour that this side has everywhere."""

    def __init__(self, letter: str, size: int = BADGE) -> None:
        super().__init__()
        self._letter = letter
        self.setFixedSize(size, size)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(resources.colour(f"{self._letter}f"))
        radius = self.width() * 5 / BADGE
        painter.drawRoundedRect(QRectF(self.rect()), radius, radius)
        painter.setPen(resources.colour("text") if resources.theme().name == "light" else resources.colour("win"))
        painter.setFont(resources.font(resources.BASE if self.width() >= BADGE else resources.SMALL, 700))
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), self._letter)
