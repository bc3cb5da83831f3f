"""The pairs of a workbench: what goes from a key is struck through, what is exchanged is marked, gaps are hatched."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QRect, QRectF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence, QPainter

from sdviewer.core.key_marks import Kind, Mark, marks
from sdviewer.gui import icons, resources
from sdviewer.gui.models import fit_model
from sdviewer.gui.models.fit_model import FitModel
from sdviewer.gui.panels.paired_rows import PairedPen, PairedView, Places
from sdviewer.gui.panels.tree_rows import CHEVRON, ROW_HEIGHT, indent

SHAPE_WIDTH: Final = 100
MARK_WIDTH: Final = 36
RESULT_WIDTH: Final = 118
NARROWEST_KEY: Final = 140
WIDE_ENOUGH: Final = 760
"""Pixels from which the shapes of both sides have room."""
_STYLES: Final[dict[Kind, tuple[str, str]]] = {
    "same": ("text", ""),
    "gone": ("text2", ""),
    "replaced": ("A", "tA"),
    "new": ("B", "tB"),
}
"""Tokens of the words and of the ground of each kind of piece."""


class FitPainter(PairedPen):
    """Paints rows from the arrays of the model."""

    def __init__(self, model: FitModel) -> None:
        self._model = model
        super().__init__()

    def paint(
        self, painter: QPainter, row: int, y: int, columns: Places, *, selected: bool = False, hovered: bool = False
    ) -> None:
        """Paint the row of the table that begins at `y`."""
        model = self._model
        node = model.node(row)
        look = model.look(node)
        group = model.group(node)
        if group is not None:
            painter.fillRect(0, y, columns.width, ROW_HEIGHT, resources.colour("sunk"))
        hatched = look.token == "S"
        self._ground(painter, y, columns.width, look.ground, hatched=hatched, selected=selected, hovered=hovered)
        if model.has_children(node):
            left = columns.columns[0][0]
            self._chevron(painter, y, left, model.depth(node), expanded=model.is_expanded(node))
        if group is not None:
            self._group(painter, y, node, group, columns)
        elif not model.is_leaf(node):
            self._module(painter, y, node, columns)
        else:
            self._pair(painter, y, node, columns)

    def _group(self, painter: QPainter, y: int, node: int, group: tuple[str, str, str], columns: Places) -> None:
        icon, token, title = group
        x = columns.columns[0][0] + indent(0) + CHEVRON + 5
        icons.paint(painter, icon, x, y + (ROW_HEIGHT - 15) // 2, 15, token)
        x += 22
        self._text(painter, x, y, title, self._bold, "text")
        x += self._bold.width(title) + 8
        said = self._plain.elided(self._model.count_words(node), columns.width - x - 8)
        self._text(painter, x, y, said, self._plain, "text2")

    def _module(self, painter: QPainter, y: int, node: int, columns: Places) -> None:
        model = self._model
        for side, column in (("a", fit_model.SOURCE), ("b", fit_model.TARGET)):
            left, width = columns.columns[column]
            x = left + indent(model.depth(node)) + (CHEVRON + 6 if side == "a" else 0)
            if model.is_gap(node, side):
                self._gap(painter, y, columns.columns[column])
                continue
            font, token = (self._mono, "text2") if model.is_more(node) else (self._bold, "text")
            shown = font.elided(model.words(node, f"name_{side}"), left + width - x - 4)
            self._text(painter, x, y, shown, font, token)

    def _pair(self, painter: QPainter, y: int, node: int, columns: Places) -> None:
        model, place = self._model, columns.columns
        look = model.look(node)
        old, now, new = (model.words(node, column) for column in ("name_a", "now", "name_b"))
        before, after = marks(old, new or now or old)
        going = look.says in ("dropped", "will be dropped")
        step = indent(model.depth(node)) - indent(0)
        sides = (("a", fit_model.SOURCE, fit_model.SHAPE_A, before), ("b", fit_model.TARGET, fit_model.SHAPE_B, after))
        for side, column, shape, pieces in sides:
            (left, width), room = place[column], place[shape]
            if model.is_gap(node, side):
                inset = indent(1) + CHEVRON + 6 - 8 if side == "a" and not model.is_tree else 0
                self._gap(painter, y, (left + inset, width - inset))
                self._gap(painter, y, room)
                continue
            x = left + 8 + (step if model.is_tree else 0) if side == "b" else left + step + indent(0) + CHEVRON + 6
            self._key(painter, x, y, left + width - 6, pieces, struck=going)
            if room[1] and (sizes := model.words(node, f"shape_{side}")):
                token = "S" if look.icon == "shape" else "text3" if going else "text2"
                shown = self._mono.elided(sizes, room[1] - 8)
                self._text(painter, room[0] + 8, y, shown, self._mono, token)
        left, width = place[fit_model.MARK]
        token = {"will match": "accent"}.get(look.says, look.token)
        icons.paint(painter, look.icon, left + (width - 15) // 2, y + (ROW_HEIGHT - 15) // 2, 15, token)
        left, width = place[fit_model.RESULT]
        self._text(painter, left + 8, y, self._small.elided(look.says, width - 10), self._small, look.token)

    def _key(self, painter: QPainter, x: int, y: int, right: int, pieces: tuple[Mark, ...], *, struck: bool) -> None:
        """A key in its pieces; the one that runs out of room ends in an ellipsis."""
        font = self._mono
        if self.words:
            self._mark_words(painter, x, y, "".join(piece.text for piece in pieces), font)
        for piece in pieces:
            token, ground = _STYLES[piece.kind]
            shown = font.elided(piece.text, right - x)
            width = font.width(shown)
            if ground and not struck:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(resources.colour(ground))
                painter.drawRoundedRect(QRectF(x - 1, y + 4.5, width + 2, ROW_HEIGHT - 9), 3, 3)
                painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
            token = "text3" if struck else token
            self._text(painter, x, y, shown, font, token, strike=struck or piece.kind == "gone")
            x += width
            if shown != piece.text:
                return

    def _gap(self, painter: QPainter, y: int, place: tuple[int, int]) -> None:
        start, room = place
        if room > 40:
            rect = QRect(start + 8, y + 6, room - 16, ROW_HEIGHT - 12)
            self._hatching.fill(painter, rect, "text3", 0.35)


class FitView(PairedView):
    """Both keys in one row. `drop_requested` is of all rows that are selected."""

    drop_requested = Signal()

    def __init__(self, model: FitModel) -> None:
        self.painter = FitPainter(model)
        super().__init__(model, self.painter, "Keys of the file and of the target")
        self.horizontalHeader().setSectionsClickable(False)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Delete):
            self.drop_requested.emit()
            return
        super().keyPressEvent(event)

    def share_room(self) -> None:
        width = max(self.viewport().width(), 2 * NARROWEST_KEY + MARK_WIDTH + RESULT_WIDTH)
        shapes = SHAPE_WIDTH if width >= WIDE_ENOUGH else 0
        widths = {
            fit_model.SHAPE_A: shapes,
            fit_model.SHAPE_B: shapes,
            fit_model.MARK: MARK_WIDTH,
            fit_model.RESULT: RESULT_WIDTH,
        }
        left = width - sum(widths.values())
        widths[fit_model.SOURCE] = left * 61 // 100
        widths[fit_model.TARGET] = left - widths[fit_model.SOURCE]
        self.set_widths(widths)
