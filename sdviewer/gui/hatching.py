"""Hatched ground: nothing is here, or something else than it should be."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QBrush, QPainter, QPixmap

from sdviewer.gui import resources

STEP: Final = 7
"""Pixels from one line to the next."""


class Hatching:
    """Keeps the tiles that it has drawn."""

    def __init__(self) -> None:
        self._tiles: dict[tuple[str, str, int], QPixmap] = {}

    def fill(self, painter: QPainter, rect: QRect, token: str, strength: float) -> None:
        """Lines from the lower left to the upper right, in the colour of a token."""
        key = (resources.theme().name, token, round(strength * 100))
        tile = self._tiles.get(key)
        if tile is None:
            tile = self._tiles[key] = _tile(token, strength)
        painter.setBrushOrigin(0, rect.top())
        painter.fillRect(rect, QBrush(tile))


def _tile(token: str, strength: float) -> QPixmap:
    tile = QPixmap(STEP, STEP)
    tile.fill(Qt.GlobalColor.transparent)
    drawing = QPainter(tile)
    drawing.setRenderHint(QPainter.RenderHint.Antialiasing)
    drawing.setOpacity(strength)
    drawing.setPen(resources.colour(token))
    for offset in (-STEP, 0, STEP):
        drawing.drawLine(offset, STEP, offset + STEP, 0)
    drawing.end()
    return tile
