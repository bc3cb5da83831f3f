"""The icon set: our own SVG drawings, coloured by token when they are painted, crisp at every scale.

Pixmaps are kept by (name, size, colour, ratio); without that a repaint of the tree takes 2.5 times as long.
"""

from __future__ import annotations

import functools

from PySide6.QtCore import QByteArray, QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QIconEngine, QPainter, QPixmap, QPixmapCache
from PySide6.QtSvg import QSvgRenderer

from sdviewer.gui import resources


def pixmap(name: str, size: int, token: str, ratio: float = 1.0) -> QPixmap:
    """An icon as a pixmap of `size` logical pixels for a screen of `ratio`."""
    return _drawn(name, size, resources.colour(token).name(), round(ratio * 100))


def paint(painter: QPainter, name: str, x: int, y: int, size: int, token: str) -> None:
    """Draw an icon into a square; the fast way, for rows."""
    painter.drawPixmap(x, y, pixmap(name, size, token, painter.device().devicePixelRatioF()))


@functools.cache
def icon(name: str, token: str = "text2") -> QIcon:
    """An icon for buttons and menus; it takes the colour of its token whenever it is painted."""
    return QIcon(_Engine(name, token))


@functools.cache
def _source(name: str) -> str:
    return (resources.folder() / "icons" / f"{name}.svg").read_text(encoding="utf-8")


@functools.lru_cache(maxsize=600)
def _drawn(name: str, size: int, hex_colour: str, percent: int) -> QPixmap:
    ratio = percent / 100
    side = max(round(size * ratio), 1)
    made = QPixmap(side, side)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    renderer = QSvgRenderer(QByteArray(_source(name).replace("currentColor", hex_colour).encode()))
    renderer.render(painter, QRectF(0, 0, side, side))
    painter.end()
    made.setDevicePixelRatio(ratio)
    return made


class _Engine(QIconEngine):
    def __init__(self, name: str, token: str) -> None:
        super().__init__()
        self._name = name
        self._token = token

    def _colour(self, mode: QIcon.Mode) -> QColor:
        colour = resources.colour("text3" if mode == QIcon.Mode.Disabled else self._token)
        if mode == QIcon.Mode.Disabled:
            colour = _mixed(colour, resources.colour("win"), 0.5)
        return colour

    def clone(self) -> QIconEngine:
        return _Engine(self._name, self._token)

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        side = min(rect.width(), rect.height())
        ratio = painter.device().devicePixelRatioF()
        drawn = _drawn(self._name, side, self._colour(mode).name(), round(ratio * 100))
        painter.drawPixmap(rect.topLeft() + QPoint((rect.width() - side) // 2, (rect.height() - side) // 2), drawn)

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        return self.scaledPixmap(size, mode, state, 1.0)

    def scaledPixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State, scale: float) -> QPixmap:
        # Qt gives the size in logical pixels and expects as many more as the screen has.
        return _drawn(self._name, min(size.width(), size.height()), self._colour(mode).name(), round(scale * 100))

    def isNull(self) -> bool:
        return False

    def key(self) -> str:
        return "sdviewer"


def _rgb(colour: QColor) -> tuple[int, int, int]:
    return colour.red(), colour.green(), colour.blue()


def _mixed(a: QColor, b: QColor, share: float) -> QColor:
    return QColor(*(round(x * (1 - share) + y * share) for x, y in zip(_rgb(a), _rgb(b), strict=True)))


def forget() -> None:
    """Drop every drawn pixmap, also those that Qt keeps for style sheets."""
    _drawn.cache_clear()
    QPixmapCache.clear()
