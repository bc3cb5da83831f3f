"""Parameters by module: the tiles, what colours them, and the scale of that colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QLinearGradient, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.core.dtypes import DTYPES
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.overview.tile_map import LIGHTEST, NO_NUMBER, TileMap
from sdviewer.gui.plots import colours
from sdviewer.gui.widgets import Card, Segments

COLOURS: Final = (("size", "Size", ""), ("std", "std", ""), ("norm", "Norm", ""), ("dtype", "dtype", ""))
MOST_DTYPES: Final = 5
EDGE: Final = 0.01
"""Share of the elements at either end of the numbers that the scale does not stretch for."""


class TilesCard(Card):
    """The tiles of one checkpoint."""

    row_chosen = Signal(int)
    pointed = Signal(str)
    colour_chosen = Signal(str)

    def __init__(self, colour: str) -> None:
        super().__init__("Parameters by module")
        self.map = TileMap()
        self.scale = ColourScale()
        self.segments = Segments(COLOURS, "Colour of the tiles")
        self.colour = colour if colour in [name for name, *_ in COLOURS] else "std"
        self.segments.choose(self.colour)
        self.segments.chosen.connect(self._choose)
        self.add_control(self.scale)
        self.add_control(self.segments)
        self.set_body(self.map)
        self._nothing = widgets.label("No tensor is in it. Its values are listed under Tensors.", "second")
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._nothing.hide()
        self.column.addWidget(self._nothing, 1)
        self.map.row_chosen.connect(self.row_chosen)
        self.map.pointed.connect(self.pointed)
        self._numbers: dict[str, list[float | None]] = {}
        self._left_out = ""

    def show_groups(self, body: Body) -> None:
        """Other tiles; their numbers follow."""
        self._numbers = {}
        self._left_out = str(body["left_out"])
        self.map.show_groups(body["groups"])
        there = bool(self.map.tiles)
        for part in (self.map, self.scale, self.segments):
            part.setVisible(there)
        self._nothing.setVisible(not there)
        self._show_colours()
        self._say()

    def show_numbers(self, body: Body) -> None:
        """Numbers of the tiles, as far as they are known."""
        numbers = {name: list(body[name]) for name in ("std", "norm")}
        if all(len(values) == len(self.map.tiles) for values in numbers.values()):
            self._numbers = numbers
            self._show_colours()

    def _say(self) -> None:
        said = ["area = parameters"]
        if not self.map.tiles:
            said = []
        elif self._left_out:
            said.append(f"without {self._left_out}")
        self.subtitle.setText(", ".join(said))
        tip = "In file order. What would be too small to be seen is drawn larger; a tile of more than 40 % is cut."
        self.subtitle.setToolTip(tip)
        first = [self.map.describe(at) for at in range(min(len(self.map.tiles), 5))]
        self.map.setAccessibleDescription("; ".join(first))

    def _choose(self, colour: str) -> None:
        self.colour = colour
        self._show_colours()
        self.colour_chosen.emit(colour)

    def _show_colours(self) -> None:
        tiles = self.map.tiles
        if self.colour == "dtype":
            names = list(
                dict.fromkeys(tile.dtype for tile in sorted(tiles, key=lambda tile: -tile.params) if tile.dtype)
            )
            shade = {name: _of_several(at, len(names)) for at, name in enumerate(names)}
            self.map.show_shades([shade.get(tile.dtype, NO_NUMBER) for tile in tiles], [""] * len(tiles))
            self.scale.show_names(
                [(_short(name), shade[name]) for name in names[:MOST_DTYPES]], len(names) - MOST_DTYPES
            )
            return
        values = self._numbers.get(self.colour) or [None] * len(tiles)
        # What stands for several modules has no number of its own, and what is small does not stretch the scale.
        values = [value if tile.modules == 1 else None for tile, value in zip(tiles, values, strict=True)]
        low, high = limits([(v, t.params) for t, v in zip(tiles, values, strict=True) if v is not None])
        words = [
            "" if value is None or self.colour == "size" else f"{self.colour} {text.value(value)}" for value in values
        ]
        span = high - low
        shades = [
            NO_NUMBER if value is None else LIGHTEST + (1 - LIGHTEST) * _clamped((value - low) / span if span else 0.4)
            for value in values
        ]
        self.map.show_shades(shades, words)
        if self.colour == "size":
            self.scale.show_nothing()
        else:
            self.scale.show_span(f"colour: {self.colour}", low, high, any(value is not None for value in values))


def limits(values: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The ends of a scale of numbers with their weights: without the outermost that together weigh little."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)
    aside = EDGE * sum(weight for _, weight in ordered)
    ends = []
    for run in (ordered, ordered[::-1]):
        passed, end = 0.0, run[0][0]
        for value, weight in run:
            end = value
            passed += weight
            if passed > aside:
                break
        ends.append(end)
    return ends[0], ends[1]


def _clamped(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _of_several(at: int, number: int) -> float:
    """Shades that are told apart; the first, of most elements, is a light one."""
    return (0.18, 0.62, 0.92, 0.4, 0.78)[at] if at < min(number, MOST_DTYPES) else NO_NUMBER


def _short(dtype: str) -> str:
    return DTYPES[dtype].short if dtype in DTYPES else text.visible(dtype, 20)


class ColourScale(QWidget):
    """What the colours mean: from which number to which, or which name."""

    BAR: Final = 88

    def __init__(self) -> None:
        super().__init__()
        self._what = self._low = self._high = ""
        self._names: list[tuple[str, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_span(self, what: str, low: float, high: float, known: bool) -> None:
        """A scale between two numbers."""
        self._names = []
        self._what = what if known else f"{what}, no numbers yet"
        self._low, self._high = (text.value(low), text.value(high)) if known else ("", "")
        self._said(f"{what} from {self._low} to {self._high}" if known else self._what)

    def show_names(self, names: Sequence[tuple[str, float]], more: int) -> None:
        """A shade for each of a few names."""
        self._what = self._low = self._high = ""
        self._names = [*names, *([(f"+ {more}", NO_NUMBER)] if more > 0 else [])]
        self._said(", ".join(name for name, _ in self._names))

    def show_nothing(self) -> None:
        """No colour means anything."""
        self._what = self._low = self._high = ""
        self._names = []
        self._said("")

    def _said(self, words: str) -> None:
        self.setAccessibleName(words)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        metrics = QFontMetricsF(resources.font(resources.NOTE))
        width = sum(metrics.horizontalAdvance(name) + 28 for name, _ in self._names)
        width += metrics.horizontalAdvance(self._what)
        if self._low:
            width += self.BAR + metrics.horizontalAdvance(self._low) + metrics.horizontalAdvance(self._high) + 30
        return QSize(round(width) + 4, 26)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(resources.font(resources.NOTE))
        metrics = QFontMetricsF(painter.font())
        x, middle = 0.0, self.height() / 2

        def write(words: str) -> None:
            nonlocal x
            painter.setPen(resources.colour("text2"))
            wide = metrics.horizontalAdvance(words)
            painter.drawText(QRectF(x, 0, wide + 2, self.height()), Qt.AlignmentFlag.AlignVCenter, words)
            x += wide + 8

        def swatch(width: float, brush: Any) -> None:
            nonlocal x
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(brush)
            painter.drawRoundedRect(QRectF(x, middle - 4.5, width, 9), 3, 3)
            x += width + 8

        if self._what:
            write(self._what)
        if self._low:
            x += 4
            write(self._low)
            gradient = QLinearGradient(x, 0, x + self.BAR, 0)
            for step in range(11):
                gradient.setColorAt(step / 10, colours.amount(LIGHTEST + (1 - LIGHTEST) * step / 10))
            swatch(self.BAR, gradient)
            write(self._high)
        for name, shade in self._names:
            swatch(12, colours.amount(shade))
            write(name)
