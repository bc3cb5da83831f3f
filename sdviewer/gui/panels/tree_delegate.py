"""How a row of the module tree looks: chevron, icon, name and grey note; shape; parameters with a bar; dtype."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from sdviewer.core import sheet as sheets
from sdviewer.core import text
from sdviewer.gui import icons, resources
from sdviewer.gui.models import tree_model
from sdviewer.gui.models.tree_model import CONTAINERS, TreeModel

ROW_HEIGHT: Final = 26
INDENT: Final = 16
CHEVRON: Final = 16
ICON: Final = 15
BAR_WIDTH: Final = 44
SHAPE_WIDTH: Final = 104
PARAMS_WIDTH: Final = BAR_WIDTH + 60
_LEFT: Final = 4
# Deep trees are not allowed to push their names out of the column.
_DEEPEST_INDENT: Final = 14

ICONS: Final = {
    "module": "module",
    "dict": "dict",
    "list": "list",
    "object": "object",
    "optimizer": "gauge",
    "fold": "module",
    "tensor": "tensor",
    "vector": "vector",
    "scalar": "scalar",
    "value": "scalar",
    "part": "vector",
}


def indent(depth: int) -> int:
    """Where a row of this depth starts, in pixels from the left of its cell."""
    return _LEFT + INDENT * min(depth, _DEEPEST_INDENT)


def chevron_rect(cell: QRect, depth: int) -> QRect:
    """The square of a row's chevron, given the rectangle of its name cell."""
    return QRect(cell.left() + indent(depth) - 2, cell.top(), CHEVRON + 4, cell.height())


class TreeDelegate(QStyledItemDelegate):
    """Paints from the arrays of the model; nothing goes through a QVariant."""

    def __init__(self, model: TreeModel) -> None:
        super().__init__()
        self._model = model
        self.hovered_row = -1
        self.update_fonts()

    def update_fonts(self) -> None:
        """Take fonts and their metrics again, after a change of the platform's."""
        self._bold, self._plain = resources.font(resources.BASE, 600), resources.font(resources.BASE)
        self._small, self._mono = resources.font(resources.NOTE), resources.font(resources.NOTE, mono=True)
        self._metrics = {id(font): QFontMetrics(font) for font in (self._bold, self._plain, self._small, self._mono)}

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        model = self._model
        if model.sheet is None:
            return
        rect: QRect = option.rect
        state: QStyle.StateFlag = option.state
        row, column = index.row(), index.column()
        node = model.node(row)
        selected = bool(state & QStyle.StateFlag.State_Selected)
        if selected:
            painter.fillRect(rect, resources.colour("sel"))
        elif row == self.hovered_row:
            painter.fillRect(rect, resources.colour("hover"))
        if column == tree_model.NAME:
            if selected:
                painter.fillRect(QRect(rect.left(), rect.top(), 3, rect.height()), resources.colour("accent"))
            painter.save()
            painter.setClipRect(rect)
            self._paint_name(painter, rect, node)
            painter.restore()
        elif column == tree_model.SHAPE:
            if model.kind(node) in CONTAINERS:
                self._paint_overflow(painter, rect, rect.left(), node)
            else:
                self._paint_shape(painter, rect, rect, node)
        elif column == tree_model.PARAMS:
            if model.kind(node) == "value":
                # A value has no parameters: its text goes on into this cell.
                before = QRect(rect.left() - SHAPE_WIDTH, rect.top(), SHAPE_WIDTH, rect.height())
                self._paint_shape(painter, rect, before, node)
            elif self._shows_params(node):
                self._paint_params(painter, rect, node)
            else:
                self._paint_overflow(painter, rect, rect.left() - SHAPE_WIDTH, node)
        else:
            dtype = self._elide(self._small, model.dtype(node), rect.width() - 10)
            self._text(painter, rect.adjusted(6, 0, 0, 0), dtype, self._small, "text2")

    def _paint_name(self, painter: QPainter, cell: QRect, node: int) -> None:
        model = self._model
        flags = model.flags_of(node)
        depth = model.depth(node)
        kind = model.kind(node)
        dropped = bool(flags & sheets.DROPPED)
        x = cell.left() + indent(depth)
        middle = cell.center().y()
        if flags & sheets.CHILDREN:
            name = "chevd" if flags & sheets.EXPANDED else "chev"
            icons.paint(painter, name, QRect(x + 1, middle - 5, 12, 12), "text2")
        x += CHEVRON + 1
        problem = bool(flags & sheets.PROBLEM)
        token = "S" if problem else "text3" if dropped else "text2"
        icons.paint(painter, "warn" if problem else ICONS[kind], QRect(x, middle - 7, ICON, ICON), token)
        x += ICON + 6
        font = self._bold if kind in CONTAINERS else self._plain
        room = cell.right() - 4 - x
        name = self._elide(font, model.name(node), room)
        width = self._advance(font, name)
        rect = QRect(x, cell.top(), min(width + 2, max(room, 0)), cell.height())
        edited = bool(flags & sheets.EDITED)
        self._text(painter, rect, name, font, "text3" if dropped else "accent" if edited else "text", strike=dropped)
        if kind == "value":
            return
        x += width + 8
        if note := model.note(node):
            room = cell.right() - 4 - x + self._overflow(node)
            self._paint_note(painter, QRect(x, cell.top(), room, cell.height()), note, edited)

    def _shows_params(self, node: int) -> bool:
        model = self._model
        return model.params(node) > 0 and not (model.kind(node) == "optimizer" and model.depth(node) == 0)

    def _paint_overflow(self, painter: QPainter, cell: QRect, name_right: int, node: int) -> None:
        """What of a container's note runs over from its name's cell, which ends at `name_right`, into an empty one."""
        painter.save()
        painter.setClipRect(cell)
        self._paint_name(painter, QRect(0, cell.top(), name_right, cell.height()), node)
        painter.restore()

    def _overflow(self, node: int) -> int:
        """How many pixels a row's note may run over: the cells that are empty behind it."""
        if self._model.kind(node) not in CONTAINERS:
            return 0
        shape = SHAPE_WIDTH - 8
        return shape if self._shows_params(node) else shape + PARAMS_WIDTH

    def _paint_note(self, painter: QPainter, rect: QRect, note: str, edited: bool) -> None:
        if rect.width() < 20:
            return
        before, was, old = note.rpartition("was ") if edited else ("", "", "")
        if not was:
            self._text(painter, rect, self._elide(self._small, note, rect.width()), self._small, "text2")
            return
        self._text(painter, rect, before, self._small, "text2")
        rest = rect.adjusted(self._advance(self._small, before), 0, 0, 0)
        self._text(painter, rest, self._elide(self._small, old, rest.width()), self._small, "text3", strike=True)

    def _paint_shape(self, painter: QPainter, clip: QRect, cell: QRect, node: int) -> None:
        model = self._model
        is_value = model.kind(node) == "value"
        shown = model.note(node) if is_value else model.shape(node)
        if not shown:
            return
        width = cell.width() - 8 + (PARAMS_WIDTH if is_value else 0)
        token = "warn" if shown.startswith("0×") or "×0" in shown.split("×")[1:] else "text2"
        dropped = model.flags_of(node) & sheets.DROPPED
        painter.save()
        painter.setClipRect(clip)
        rect = QRect(cell.left() + 4, cell.top(), width, cell.height())
        elided = self._elide(self._mono, shown, width)
        self._text(painter, rect, elided, self._mono, "text3" if dropped else token)
        painter.restore()

    def _paint_params(self, painter: QPainter, cell: QRect, node: int) -> None:
        model = self._model
        params = model.params(node)
        bar = QRectF(cell.right() - BAR_WIDTH - 8, cell.center().y() - 2.5, BAR_WIDTH, 6)
        number = QRect(cell.left(), cell.top(), round(bar.left()) - cell.left() - 8, cell.height())
        dropped = model.flags_of(node) & sheets.DROPPED
        painter.setFont(self._small)
        painter.setPen(resources.colour("text3" if dropped else "text2"))
        painter.drawText(
            number, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), text.short_count(params)
        )
        share = min(max(model.share(node), 0.0), 1.0)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        self._pill(painter, bar, resources.colour("sunk"))
        bar.setWidth(max(BAR_WIDTH * share, 2.5))
        self._pill(painter, bar, resources.colour("border2" if dropped else "neutral"))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _pill(self, painter: QPainter, rect: QRectF, colour: QColor) -> None:
        painter.setBrush(colour)
        radius = min(rect.width() / 2, 3)
        painter.drawRoundedRect(rect, radius, radius)

    def _text(
        self, painter: QPainter, rect: QRect, shown: str, font: QFont, token: str, *, strike: bool = False
    ) -> None:
        painter.setFont(font)
        painter.setPen(resources.colour(token))
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine), shown)
        if strike:
            y = rect.center().y() + 1
            painter.drawLine(QPoint(rect.left(), y), QPoint(rect.left() + self._advance(font, shown), y))

    def _advance(self, font: QFont, shown: str) -> int:
        return self._metrics[id(font)].horizontalAdvance(shown)

    def _elide(self, font: QFont, shown: str, width: int) -> str:
        metrics = self._metrics[id(font)]
        # Almost every text fits: then the costly search for the place of the ellipsis is not begun.
        if metrics.horizontalAdvance(shown) <= width:
            return shown
        return metrics.elidedText(shown, Qt.TextElideMode.ElideRight, max(width, 0))

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(60, ROW_HEIGHT)
