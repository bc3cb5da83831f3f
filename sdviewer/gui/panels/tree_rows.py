"""How a row of the module tree looks: chevron, icon, name and grey note; shape; parameters with a bar; dtype.

The view paints its rows itself, in one call: a delegate is called for every cell, which takes three times as long and
may wait for the interpreter lock at each of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from PySide6.QtCore import QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen, QPixmap

from sdviewer.core import sheet as sheets
from sdviewer.core import text
from sdviewer.core.tree import ARROW
from sdviewer.gui import icons, resources
from sdviewer.gui.models.tree_model import CONTAINERS, Mark, TreeModel

ROW_HEIGHT: Final = 26
INDENT: Final = 16
CHEVRON: Final = 16
ICON: Final = 15
BAR_WIDTH: Final = 44
PILL: Final = 18
"""Pixels of a mark around its word, and behind it."""
SHAPE_WIDTH: Final = 104
PARAMS_WIDTH: Final = BAR_WIDTH + 60
_LEFT: Final = 4
# Texts whose widths are remembered; most are seen again and again.
_REMEMBERED: Final = 6000
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
}


def indent(depth: int) -> int:
    """Where a row of this depth starts, in pixels from the left of its cell."""
    return _LEFT + INDENT * min(depth, _DEEPEST_INDENT)


def chevron_rect(cell: QRect, depth: int) -> QRect:
    """The square of a row's chevron, given the rectangle of its name cell."""
    return QRect(cell.left() + indent(depth) - 2, cell.top(), CHEVRON + 4, cell.height())


def drag_picture(words: str, ratio: float) -> QPixmap:
    """What follows the pointer while rows are dragged."""
    font = resources.font(resources.BASE)
    metrics = QFontMetrics(font)
    shown = metrics.elidedText(words, Qt.TextElideMode.ElideMiddle, 300)
    size = QSize(metrics.horizontalAdvance(shown) + 24, ROW_HEIGHT)
    picture = QPixmap(size * ratio)
    picture.setDevicePixelRatio(ratio)
    picture.fill(resources.colour("accentSoft"))
    painter = QPainter(picture)
    painter.setFont(font)
    painter.setPen(resources.colour("text"))
    painter.drawText(QRect(12, 0, size.width() - 12, size.height()), int(Qt.AlignmentFlag.AlignVCenter), shown)
    painter.end()
    return picture


class Columns(NamedTuple):
    """Left edge and width of each column in pixels; the width is 0 where it is hidden."""

    name: tuple[int, int]
    shape: tuple[int, int]
    params: tuple[int, int]
    dtype: tuple[int, int]
    added: tuple[tuple[int, int], ...] = ()

    @property
    def width(self) -> int:
        """All of them together."""
        return sum(width for _, width in (self.name, self.shape, self.params, self.dtype, *self.added))


class RowFont:
    """A font, where its baseline is in a row, and the widths of texts."""

    def __init__(self, font: QFont) -> None:
        self.font = font
        self._metrics = QFontMetrics(font)
        self.baseline = (ROW_HEIGHT + self._metrics.ascent() - self._metrics.descent()) // 2
        self.height = self._metrics.height()
        self._widths: dict[str, int] = {}

    def width(self, shown: str) -> int:
        known = self._widths.get(shown)
        if known is None:
            if len(self._widths) >= _REMEMBERED:
                self._widths.clear()
            known = self._widths[shown] = self._metrics.horizontalAdvance(shown)
        return known

    def elided(self, shown: str, width: int) -> str:
        # Almost every text fits: then the costly search for the place of the ellipsis is not begun.
        if self.width(shown) <= width:
            return shown
        return self._metrics.elidedText(shown, Qt.TextElideMode.ElideRight, max(width, 0))


class RowPen:
    """The fonts of rows, and what is drawn of any tree."""

    def __init__(self) -> None:
        self.words: tuple[str, ...] = ()
        """What of a name is marked, in lower case: the words of the filter."""
        self.update_fonts()

    def update_fonts(self) -> None:
        """Take fonts and their metrics again, after a change of the platform's."""
        self._bold, self._plain = RowFont(resources.font(resources.BASE, 600)), RowFont(resources.font(resources.BASE))
        self._small = RowFont(resources.font(resources.NOTE))
        self._mono = RowFont(resources.font(resources.NOTE, mono=True))

    def _mark_words(self, painter: QPainter, x: int, y: int, name: str, font: RowFont) -> None:
        """A soft ground behind what the filter's words found."""
        lower = name.lower()
        for word in self.words:
            at = lower.find(word) if len(lower) == len(name) else -1
            if at >= 0:
                left, width = x + font.width(name[:at]), font.width(name[at : at + len(word)])
                painter.fillRect(left - 1, y + 4, width + 2, ROW_HEIGHT - 8, resources.colour("tB"))

    def _pill(self, painter: QPainter, rect: QRectF, colour: QColor) -> None:
        painter.setBrush(colour)
        radius = min(rect.width() / 2, 3)
        painter.drawRoundedRect(rect, radius, radius)

    def _text(
        self, painter: QPainter, x: int, y: int, shown: str, font: RowFont, token: str, *, strike: bool = False
    ) -> None:
        painter.setFont(font.font)
        painter.setPen(resources.colour(token))
        painter.drawText(x, y + font.baseline, shown)
        if strike:
            middle = y + ROW_HEIGHT // 2 + 1
            painter.drawLine(x, middle, x + font.width(shown), middle)


class RowPainter(RowPen):
    """Paints rows from the arrays of the model; nothing goes through a QVariant."""

    def __init__(self, model: TreeModel) -> None:
        self._model = model
        super().__init__()

    def paint(
        self, painter: QPainter, row: int, y: int, columns: Columns, *, selected: bool = False, hovered: bool = False
    ) -> None:
        """Paint the row of the table that begins at `y`."""
        model = self._model
        node = model.node(row)
        if selected or hovered:
            left = columns.name[0]
            painter.fillRect(left, y, columns.width, ROW_HEIGHT, resources.colour("sel" if selected else "hover"))
            if selected:
                painter.fillRect(left, y, 3, ROW_HEIGHT, resources.colour("accent"))
        kind, flags = model.kind(node), model.flags_of(node)
        dropped = bool(flags & sheets.DROPPED)
        self._paint_name(painter, y, columns, node, kind, flags)
        if columns.shape[1] and kind not in CONTAINERS:
            self._paint_shape(painter, y, columns, node, kind == "value", dropped)
        if kind != "value" and self._shows_params(node, kind):
            self._paint_params(painter, y, columns.params, node, dropped)
        left, width = columns.dtype
        if width and (dtype := model.dtype(node)):
            token = "accent" if dtype.startswith(ARROW) else "text2"
            self._text(painter, left + 6, y, self._small.elided(dtype, width - 10), self._small, token)
        for name, (left, width) in zip(model.columns, columns.added, strict=True):
            if shown := model.cell(node, name):
                shown = self._small.elided(shown, width - 12)
                x = left + width - 8 - self._small.width(shown)
                self._text(painter, x, y, shown, self._small, "text3" if dropped else "text2")

    def paint_target(self, painter: QPainter, row: QRect) -> None:
        """The frame of the row that something is dragged over."""
        painter.setPen(QPen(resources.colour("accent"), 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(row.adjusted(1, 1, -2, -1))

    def _paint_name(self, painter: QPainter, y: int, columns: Columns, node: int, kind: str, flags: int) -> None:
        model = self._model
        left, width = columns.name
        right = left + width - 4
        x = left + indent(model.depth(node))
        middle = y + ROW_HEIGHT // 2
        if flags & sheets.CHILDREN:
            name = "chevd" if flags & sheets.EXPANDED else "chev"
            icons.paint(painter, name, x + 1, middle - 6, 12, "text2")
        x += CHEVRON + 1
        dropped, problem = bool(flags & sheets.DROPPED), bool(flags & sheets.PROBLEM)
        hazard = bool(flags & sheets.HAZARD)
        token = "S" if problem else "text3" if dropped else "warn" if hazard else "text2"
        drawn = "warn" if problem else "shieldw" if hazard else ICONS[kind]
        icons.paint(painter, drawn, x, middle - 8, ICON, token)
        x += ICON + 6
        font = self._bold if kind in CONTAINERS else self._plain
        marks, noted = model.marks(node)
        name = model.name(node)
        word = self._mark_word(marks, right - x - font.width(name) - PILL) if marks else ""
        taken = self._small.width(word) + PILL if word else 0
        name = font.elided(name, right - x - taken)
        edited = bool(flags & sheets.EDITED)
        if self.words:
            self._mark_words(painter, x, y, name, font)
        token = "text3" if dropped else "accent" if edited else "text"
        # What goes into another tensor is not lost.
        self._text(painter, x, y, name, font, token, strike=dropped and not edited)
        if kind == "value":
            return
        x += font.width(name) + 8
        if word:
            self._paint_mark(painter, x, y, word, noted)
            x += taken
        note = model.note(node)
        if hazard:
            note = f"{note}, not run" if note else "not run"
        if note:
            self._paint_note(painter, x, y, right - x + self._overflow(columns, node, kind), note, edited)

    def _mark_word(self, marks: list[Mark], room: int) -> str:
        """What a pill says: how much is odd, the worst as a word where there is room for it."""
        more = f" +{len(marks) - 1}" if len(marks) > 1 else ""
        word = f"{marks[0].word}{more}"
        return word if self._small.width(word) <= room else f"{marks[0].sign}{more}"

    def _paint_mark(self, painter: QPainter, x: int, y: int, word: str, noted: bool) -> None:
        """What is odd about the numbers, in a pill; one that is only said has no colour."""
        pill = QRectF(x + 0.5, y + 5.5, self._small.width(word) + 11, ROW_HEIGHT - 11)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(resources.colour("border2") if not noted else Qt.PenStyle.NoPen)
        painter.setBrush(resources.colour("tW") if noted else Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(pill, 7, 7)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._text(painter, x + 6, y, word, self._small, "warn" if noted else "text2")

    def _shows_params(self, node: int, kind: str) -> bool:
        model = self._model
        return model.params(node) > 0 and not (kind == "optimizer" and model.depth(node) == 0)

    def _overflow(self, columns: Columns, node: int, kind: str) -> int:
        """How many pixels a row's note may run over to the right: the cells that are empty behind it."""
        if kind not in CONTAINERS:
            return 0
        shape = max(columns.shape[1] - 8, 0)
        return shape if self._shows_params(node, kind) else shape + columns.params[1]

    def _paint_note(self, painter: QPainter, x: int, y: int, room: int, note: str, edited: bool) -> None:
        if room < 20:
            return
        before, was, old = note.rpartition("was ") if edited else ("", "", "")
        if not was:
            self._text(painter, x, y, self._small.elided(note, room), self._small, "text2")
            return
        used = self._small.width(before)
        self._text(painter, x, y, self._small.elided(before, room), self._small, "text2")
        if used >= room:
            return
        self._text(painter, x + used, y, self._small.elided(old, room - used), self._small, "text3", strike=True)

    def _paint_shape(
        self, painter: QPainter, y: int, columns: Columns, node: int, is_value: bool, dropped: bool
    ) -> None:
        model = self._model
        shown = model.note(node) if is_value else model.shape(node)
        if not shown:
            return
        # A value has no parameters: its text goes on into their cell.
        width = columns.shape[1] - 8 + (columns.params[1] if is_value else 0)
        new, was, old = (
            shown.partition(" · was ") if is_value and model.flags_of(node) & sheets.EDITED else (shown, "", "")
        )
        if was:
            x = columns.shape[0] + 4
            self._text(painter, x, y, self._mono.elided(new, width), self._mono, "accent")
            x += self._mono.width(new) + 10
            elided = self._mono.elided(old, max(columns.shape[0] + 4 + width - x, 0))
            self._text(painter, x, y, elided, self._mono, "text3", strike=True)
            return
        token = "warn" if shown.startswith("0×") or "×0" in shown.split("×")[1:] else "text2"
        if shown.startswith(ARROW):
            token = "accent"
        elided = self._mono.elided(shown, width)
        self._text(painter, columns.shape[0] + 4, y, elided, self._mono, "text3" if dropped else token)

    def _paint_params(self, painter: QPainter, y: int, column: tuple[int, int], node: int, dropped: bool) -> None:
        left, width = column
        bar_left = left + width - BAR_WIDTH - 9
        number = text.short_count(self._model.params(node))
        x = bar_left - 8 - self._small.width(number)
        self._text(painter, x, y, number, self._small, "text3" if dropped else "text2")
        share = min(max(self._model.share(node), 0.0), 1.0)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        top = y + ROW_HEIGHT / 2 - 3
        self._pill(painter, QRectF(bar_left, top, BAR_WIDTH, 6), resources.colour("sunk"))
        filled = QRectF(bar_left, top, max(BAR_WIDTH * share, 2.5), 6)
        self._pill(painter, filled, resources.colour("border2" if dropped else "neutral"))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
