"""Modules as tiles, painted: areas from `core.tile_layout`, one colour a tile, a name where there is room for it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from sdviewer.core import text
from sdviewer.core.tile_layout import HEADER, Layout, Rect, Weights, lay_out
from sdviewer.gui import resources, widgets
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.plots import colours

STILL: Final = 80
"""Milliseconds without another size after which the tiles are painted anew."""
NO_NUMBER: Final = 0.08
"""The shade of a tile that has no number, or is not coloured by one."""
LIGHTEST: Final = 0.12
"""The shade of the least number, so that it is not that of none."""


class Tile(NamedTuple):
    """One tile as the worker tells it; `group` is the index of its group."""

    row: int
    name: str
    params: int
    dtype: str
    tensors: int
    modules: int
    group: int


class GroupOf(NamedTuple):
    """One group; its tiles are those of these indexes."""

    row: int
    name: str
    params: int
    container: int
    tiles: range


class TileMap(QWidget):
    """The tiles. Arrows move among them, Enter or a click chooses one."""

    row_chosen = Signal(int)
    pointed = Signal(str)
    first_painted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName("Parameters by module")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(200, 150)
        self.groups: list[GroupOf] = []
        self.tiles: list[Tile] = []
        self.shades: list[float] = []
        self.words: list[str] = []
        self.layout_of_tiles: Layout | None = None
        self.current = -1
        self.hovered = -1
        self.marked = -1
        """What somebody wanted to see from elsewhere: seen without the keyboard here, too."""
        self._picture: QPixmap | None = None
        self._still = QTimer(self, interval=STILL, singleShot=True)
        self._still.timeout.connect(self._forget)
        self._painted = False

    def sizeHint(self) -> QSize:
        return QSize(900, 290)

    # What is shown

    def show_groups(self, groups: Sequence[Any]) -> None:
        """Show other groups (engine.overview)."""
        self.groups, self.tiles = [], []
        for at, (row, name, params, container, tiles) in enumerate(groups):
            first = len(self.tiles)
            self.tiles += [Tile._make((*tile, at)) for tile in tiles]
            self.groups.append(GroupOf(row, name, params, container, range(first, len(self.tiles))))
        self.shades = [NO_NUMBER] * len(self.tiles)
        self.words = [""] * len(self.tiles)
        self.current = self.hovered = self.marked = -1
        self.layout_of_tiles = None
        self._forget()

    def show_shades(self, shades: Sequence[float], words: Sequence[str]) -> None:
        """A share of the most (0..1) and what is said of it for each tile."""
        if list(shades) != self.shades or list(words) != self.words:
            self.shades, self.words = list(shades), list(words)
            self._forget()

    def _forget(self) -> None:
        self._picture = None
        self.update()

    @property
    def laid_out(self) -> Layout:
        """Where everything stands at this size."""
        if self.layout_of_tiles is None:
            weights = [
                Weights(group.container, tuple(self.tiles[at].params for at in group.tiles)) for group in self.groups
            ]
            self.layout_of_tiles = lay_out(weights, self.width() - 1, self.height() - 1)
        return self.layout_of_tiles

    def rect_of(self, tile: int) -> Rect:
        """Where a tile stands, empty where there is no room at all."""
        laid_out, group = self.laid_out, self.tiles[tile].group
        if not laid_out.groups:
            return Rect(0, 0, 0, 0)
        return laid_out.tiles[group][tile - self.groups[group].tiles.start]

    def tile_at(self, place: QPoint) -> int:
        """The tile at a point, -1 for none."""
        laid_out = self.laid_out
        for group, rect in zip(self.groups, laid_out.groups, strict=False):
            if rect.holds(place.x(), place.y()):
                return next((at for at in group.tiles if self.rect_of(at).holds(place.x(), place.y())), -1)
        return -1

    def is_cut(self, tile: int) -> bool:
        """Whether a tile is drawn smaller than its share."""
        group = self.tiles[tile].group
        return (group, tile - self.groups[group].tiles.start) in self.laid_out.cut

    def describe(self, tile: int) -> str:
        """A tile in words."""
        found = self.tiles[tile]
        group = self.groups[found.group]
        alone = len(group.tiles) == 1
        parts = [group.name if alone else f"{group.name}: {found.name}", f"{text.short_count(found.params)} parameters"]
        if found.modules > 1:
            parts.append(f"{found.modules:,} put together")
        elif found.tensors > 1:
            parts.append(text.plural(found.tensors, "tensor"))
        if found.dtype:
            parts.append(found.dtype)
        if self.words[tile]:
            parts.append(self.words[tile])
        if self.is_cut(tile):
            parts.append("drawn smaller than it is")
        return " · ".join(parts)

    def mark(self, tile: int) -> None:
        """Show one that is wanted from elsewhere, -1 for none."""
        self.marked = tile if tile < len(self.tiles) else -1
        if self.marked >= 0:
            self._go_to(self.marked)
        self.update()

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        ratio = self.devicePixelRatioF()
        fits = self._picture is not None and self._picture.size() == self.size() * ratio
        if self._picture is None or not (fits or self._still.isActive()):
            self._picture = self._draw(ratio)
        painter = QPainter(self)
        painter.drawPixmap(self.rect(), self._picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        current = self.current if self.hasFocus() else -1
        for tile, token, width in ((self.hovered, "edge", 1.5), (self.marked, "text", 2.0), (current, "text", 2.0)):
            if 0 <= tile < len(self.tiles):
                painter.setBrush(Qt.BrushStyle.NoBrush)
                if token == "text":
                    # Seen on the strongest shade too, which is nearly that of the ring.
                    painter.setPen(QPen(resources.colour("panel"), 2))
                    painter.drawRoundedRect(_inset(self.rect_of(tile), 3.0), 2, 2)
                painter.setPen(QPen(resources.colour(token), width))
                painter.drawRoundedRect(_inset(self.rect_of(tile), 1.0), 3, 3)
        if not self._painted and self.groups:
            self._painted = True
            self.first_painted.emit()

    def _draw(self, ratio: float) -> QPixmap:
        picture = QPixmap(self.size() * ratio)
        picture.setDevicePixelRatio(ratio)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        laid_out = self.laid_out
        for at, rect in enumerate(laid_out.groups):
            self._draw_group(painter, self.groups[at], rect, laid_out.headers[at])
        painter.end()
        return picture

    def _draw_group(self, painter: QPainter, group: GroupOf, rect: Rect, header: bool) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(resources.colour("sunk"))
        painter.drawRoundedRect(QRectF(*rect), 4, 4)
        if header:
            size = text.short_count(group.params)
            room = rect.width - 10
            wide = _width(size, False)
            short = _fitting(group.name, int(room - wide - 8), True)
            # A number alone says less than a name without its size.
            whole = short == group.name or "." in short
            with_size = short != "" and whole and not short.endswith("…") and _width(short, True) + wide + 8 < room
            name = short if with_size else _fitting(group.name, int(room), True)
            line = QRectF(rect.x + 5, rect.y, room, HEADER)
            painter.setFont(_font(True))
            painter.setPen(resources.colour("text"))
            painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
            if with_size:
                painter.setFont(_font(False))
                painter.setPen(resources.colour("text2"))
                painter.drawText(line, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, size)
        painter.setFont(_font(False))
        for tile in group.tiles:
            self._draw_tile(painter, tile, named=len(group.tiles) > 1 or not header)

    def _draw_tile(self, painter: QPainter, tile: int, *, named: bool) -> None:
        rect = _inset(self.rect_of(tile), 0.75)
        if rect.width() <= 0 or rect.height() <= 0:
            return
        ground = colours.amount(self.shades[tile])
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ground)
        painter.drawRoundedRect(rect, 2.5, 2.5)
        if self.is_cut(tile):
            _draw_cut(painter, rect, resources.colour("sunk"))
        high = painter.fontMetrics().height()
        if not named or rect.width() < 20 or rect.height() < high - 1:
            return
        line = rect.adjusted(5, 0, -3, 0)
        line.setHeight(min(rect.height(), high + 5))
        painter.setPen(colours.readable(ground))
        name = _fitting(self.tiles[tile].name, int(line.width()), False)
        painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)

    # Pointer and keys

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._hover(self.tile_at(event.position().toPoint()))

    def leaveEvent(self, event: QEvent) -> None:
        self._hover(-1)

    def _hover(self, tile: int) -> None:
        if tile != self.hovered:
            self.hovered = tile
            self.setCursor(Qt.CursorShape.ArrowCursor if tile < 0 else Qt.CursorShape.PointingHandCursor)
            self.pointed.emit("" if tile < 0 else self.describe(tile))
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        tile = self.tile_at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and tile >= 0:
            self._go_to(tile)
            self.row_chosen.emit(self.tiles[tile].row)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space) and 0 <= self.current < len(self.tiles):
            self.row_chosen.emit(self.tiles[self.current].row)
        elif key in _DIRECTIONS and self.tiles:
            self._go_to(0 if self.current < 0 else self.neighbour(self.current, *_DIRECTIONS[key]))
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End) and self.tiles:
            self._go_to(0 if key == Qt.Key.Key_Home else len(self.tiles) - 1)
        else:
            super().keyPressEvent(event)

    def neighbour(self, tile: int, across: int, down: int) -> int:
        """The nearest tile to one side of a tile; the tile itself at the edge."""
        rect = self.rect_of(tile)
        x, y = rect.x + rect.width / 2, rect.y + rect.height / 2
        best, least = tile, float("inf")
        for at in range(len(self.tiles)):
            other = self.rect_of(at)
            dx = _beyond(x, rect.x, rect.x + rect.width, other.x, other.x + other.width, across)
            dy = _beyond(y, rect.y, rect.y + rect.height, other.y, other.y + other.height, down)
            if at == tile or dx is None or dy is None:
                continue
            far = dx + 3 * dy if across else dy + 3 * dx
            if far < least:
                best, least = at, far
        return best

    def _go_to(self, tile: int) -> None:
        self.current = tile
        words = self.describe(tile)
        widgets.describe(self, words)
        self.pointed.emit(words)
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if self.current < 0 and self.tiles:
            self._go_to(0)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            tile = self.tile_at(event.pos())
            QToolTip.showText(event.globalPos(), "" if tile < 0 else plain_tip(self.describe(tile)), self)
            return True
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.layout_of_tiles = None
        if self._picture is not None:
            # Stretched while an edge is dragged: painted anew each time, many tiles would make that stick.
            self._still.start()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self._forget()


_DIRECTIONS: Final[Mapping[int, tuple[int, int]]] = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


def _beyond(centre: float, low: float, high: float, other_low: float, other_high: float, way: int) -> float | None:
    """How far another extent is on the `way` side of one, or (0) from its centre; None where it is on another side."""
    if way > 0:
        return other_low - high if other_low >= high - 1 else None
    if way < 0:
        return low - other_high if other_high <= low + 1 else None
    return max(other_low - centre, centre - other_high, 0.0)


def _font(bold: bool) -> QFont:
    return resources.font(resources.SMALL, 600 if bold else 400)


@functools.lru_cache(maxsize=4096)
def _width(words: str, bold: bool) -> float:
    return QFontMetricsF(_font(bold)).horizontalAdvance(words)


@functools.lru_cache(maxsize=4096)
def _fitting(name: str, room: int, bold: bool) -> str:
    """A name in a room, remembered: the tiles of all blocks have the same names, and they are painted often.

    One in bold is a module path, which is shortened by its parts; the name of a tile ends in an ellipsis.
    """
    metrics = QFontMetricsF(_font(bold))
    return shortened(name, metrics, room) if bold else metrics.elidedText(name, Qt.TextElideMode.ElideRight, room)


def shortened(name: str, metrics: QFontMetricsF, room: float) -> str:
    """A module path as far as it fits: a block's without what stands before its list, else with an ellipsis."""
    while metrics.horizontalAdvance(name) > room:
        _, dot, rest = name.partition(".")
        if not dot or not any(part[:1].isdigit() for part in rest.split(".")):
            return metrics.elidedText(name, Qt.TextElideMode.ElideRight, room)
        name = rest
    return name


def _inset(rect: Rect, by: float) -> QRectF:
    return QRectF(rect.x + by, rect.y + by, rect.width - 2 * by, rect.height - 2 * by)


def _draw_cut(painter: QPainter, rect: QRectF, colour: QColor) -> None:
    """Two slanted lines through the right end, as where a scale is broken."""
    painter.save()
    painter.setClipRect(rect)
    painter.setPen(QPen(colour, 3))
    for x in (rect.right() - 16, rect.right() - 8):
        painter.drawLine(round(x - 5), round(rect.bottom()) + 1, round(x + 5), round(rect.top()) - 1)
    painter.restore()
