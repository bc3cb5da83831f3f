"""The aligned tree: both names in one row, hatched where one is missing, a sign between, the change as a bar."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QRect, QRectF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter
from PySide6.QtWidgets import QAbstractItemView

from sdviewer.gui import icons, resources
from sdviewer.gui.models import compare_model
from sdviewer.gui.models.compare_model import CompareModel
from sdviewer.gui.models.tree_model import CONTAINERS
from sdviewer.gui.panels.paired_rows import PairedPen, PairedView, Places
from sdviewer.gui.panels.tree_rows import CHEVRON, ICON, ICONS, ROW_HEIGHT, indent
from sdviewer.gui.plots import colours

SHAPE_WIDTH: Final = 90
MARK_WIDTH: Final = 34
CHANGE_WIDTH: Final = 144
COSINE_WIDTH: Final = 88
BAR_WIDTH: Final = 80
NARROWEST_NAME: Final = 120
WIDE_ENOUGH: Final = 700
"""Pixels from which the shapes of both sides have room, and below which the cosine goes too."""
WIDEST: Final = "100.00 %"
"""The number that has room beside a bar; all bars are of one length."""


class AlignedPainter(PairedPen):
    """Paints rows from the arrays of the model."""

    def __init__(self, model: CompareModel) -> None:
        self._model = model
        super().__init__()

    def paint(
        self, painter: QPainter, row: int, y: int, columns: Places, *, selected: bool = False, hovered: bool = False
    ) -> None:
        """Paint the row of the table that begins at `y`."""
        model = self._model
        node = model.node(row)
        status = model.status(node)
        ground = status.ground if model.is_leaf(node) else ""
        hatched = bool(ground) and status.name == "shape"
        self._ground(painter, y, columns.width, ground, hatched=hatched, selected=selected, hovered=hovered)
        place = columns.columns
        if model.has_children(node):
            self._chevron(painter, y, place[0][0], model.depth(node), expanded=model.is_expanded(node))
        self._side(painter, y, node, "a", place[compare_model.NAME_A], place[compare_model.SHAPE_A])
        self._side(painter, y, node, "b", place[compare_model.NAME_B], place[compare_model.SHAPE_B])
        self._mark(painter, y, node, place[compare_model.MARK])
        self._change(painter, y, node, place[compare_model.CHANGE])
        if place[compare_model.COSINE][1] and (shown := model.cosine_words(node)):
            left, width = place[compare_model.COSINE]
            x = left + max(width - 8 - self._mono.width(shown), 0)
            self._text(painter, x, y, self._mono.elided(shown, width - 4), self._mono, "text2")

    def _side(
        self, painter: QPainter, y: int, node: int, side: str, name: tuple[int, int], shape: tuple[int, int]
    ) -> None:
        model = self._model
        left, width = name
        if model.is_gap(node, side):
            token = {"only_a": "A", "only_b": "B"}.get(model.status(node).name, "text3")
            for start, room in (name, shape):
                if room > 12:
                    self._hatching.fill(painter, QRect(start + 4, y + 5, room - 8, ROW_HEIGHT - 10), token, 0.35)
            return
        x = left + indent(model.depth(node)) + (CHEVRON + 1 if side == "a" else 0)
        right = left + width - 4
        shown = model.side_name(node, side)
        if not shown:
            return
        kind = model.side_kind(node, side)
        icons.paint(painter, ICONS[kind], x, y + ROW_HEIGHT // 2 - 8, ICON, "text2")
        x += ICON + 6
        font = self._bold if kind in CONTAINERS else self._plain
        by_hand = model.by_hand(node) and side == "b"
        shown = font.elided(shown, right - x - (18 if by_hand else 0))
        if self.words:
            self._mark_words(painter, x, y, shown, font)
        self._text(painter, x, y, shown, font, "text")
        if by_hand:
            icons.paint(painter, "link", x + font.width(shown) + 5, y + ROW_HEIGHT // 2 - 6, 12, "accent")
        if shape[1] and (sizes := model.shape(node, side)):
            self._text(painter, shape[0] + 4, y, self._mono.elided(sizes, shape[1] - 8), self._mono, "text2")

    def _mark(self, painter: QPainter, y: int, node: int, place: tuple[int, int]) -> None:
        status = self._model.status(node)
        if status.icon and place[1]:
            token = status.token if self._model.is_leaf(node) else "text3"
            icons.paint(painter, status.icon, place[0] + (place[1] - 15) // 2, y + (ROW_HEIGHT - 15) // 2, 15, token)

    def _change(self, painter: QPainter, y: int, node: int, place: tuple[int, int]) -> None:
        model = self._model
        left, width = place
        status, share = model.status(node), model.change(node)
        shown = model.change_words(node)
        if share is None or status.name in ("shape", "only_a", "only_b", "unreadable") or model.is_value(node):
            if shown:
                token = status.token if status.ground or status.name == "unreadable" else "text2"
                self._text(painter, left + 4, y, self._small.elided(shown, width - 8), self._small, token)
            return
        x = left + width - 8 - self._mono.width(shown)
        bar = min(BAR_WIDTH, max(width - 18 - self._mono.width(WIDEST), 0))
        if status.name in ("identical", "ignored") and not share:
            self._text(painter, left + 4, y, status.says, self._small, "text3")
            return
        whole = min(max(share / model.limit, 0.0), 1.0) if model.limit > 0 else 0.0
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        top = y + ROW_HEIGHT / 2 - 3
        self._pill(painter, QRectF(left + 4, top, bar, 6), resources.colour("sunk"))
        self._pill(painter, QRectF(left + 4, top, max(bar * whole, 2.5), 6), colours.amount(max(whole, 0.18)))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._text(painter, x, y, shown, self._mono, "text")


class AlignedView(PairedView):
    """Both trees. `blinked` tells that the key is down that shows A and B in turn."""

    blinked = Signal(bool)

    def __init__(self, model: CompareModel) -> None:
        self.rows = model
        self.painter = AlignedPainter(model)
        super().__init__(model, self.painter, "Both trees, aligned")
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.modifiers():
            if not event.isAutoRepeat():
                self.blinked.emit(True)
            return
        super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self.blinked.emit(False)
        super().keyReleaseEvent(event)

    def share_room(self) -> None:
        width = max(self.viewport().width(), 2 * NARROWEST_NAME + MARK_WIDTH + CHANGE_WIDTH)
        shapes = width >= WIDE_ENOUGH
        with_cosine = width >= WIDE_ENOUGH - COSINE_WIDTH - SHAPE_WIDTH
        widths = {
            compare_model.SHAPE_A: SHAPE_WIDTH if shapes else 0,
            compare_model.SHAPE_B: SHAPE_WIDTH if shapes else 0,
            compare_model.MARK: MARK_WIDTH,
            compare_model.CHANGE: CHANGE_WIDTH,
            compare_model.COSINE: COSINE_WIDTH if with_cosine else 0,
        }
        left = width - sum(widths.values())
        widths[compare_model.NAME_A] = left * 55 // 100
        widths[compare_model.NAME_B] = left - widths[compare_model.NAME_A]
        self.set_widths(widths)
