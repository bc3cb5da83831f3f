"""A plot area in the house's look: thin lines, a horizontal grid, own numbers; the wheel zooms x.

What is drawn is remembered as the calls that draw it. So a plot can be drawn before the library has arrived (`library`,
`canvas`), and again in other colours: pyqtgraph does not follow a theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget
from shiboken6 import isValid

from sdviewer.gui import resources
from sdviewer.gui.plots.library import library
from sdviewer.gui.plots.scale import Mark, Numbers, TickText, View, short_number

if TYPE_CHECKING:
    from sdviewer.gui.plots.canvas import Canvas, Item


class Axes(QWidget):
    """A plot area. Draw with `start_over`, the `add` methods in the order of painting, and at last `set_range`.

    `pointed` tells where along x the pointer is, in the data's own numbers; NaN when it has left. `pressed` tells where
    it was clicked, x and y.
    """

    pointed = Signal(float)
    pressed = Signal(float, float)

    def __init__(self, tick_text: TickText = short_number) -> None:
        """`tick_text` writes the numbers of the vertical axis."""
        super().__init__()
        self._tick_text = tick_text
        self._items: list[Item] = []
        self._levels: list[tuple[float, str]] = []
        self._columns: list[tuple[float, str]] = []
        self._marks: list[Mark] = []
        self._whole = False
        self._home: View | None = None
        self._stale = False
        self._drawn_in = ""
        self._canvas: Canvas | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self.setMinimumSize(120, 60)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        if not library().ready:
            library().loaded.connect(self._draw)
        library().soon(self._prepare)

    def _prepare(self) -> None:
        """Have the canvas before it is needed, while nobody waits for it."""
        if isValid(self) and self._canvas is None:
            self._take_canvas().hide()

    def _take_canvas(self) -> Canvas:
        """The canvas, made at the latest when it is first drawn on."""
        from sdviewer.gui.plots.canvas import Canvas

        if self._canvas is None:
            self._canvas = Canvas()
            self._canvas.pointed.connect(self.pointed)
            self._canvas.pressed.connect(self.pressed)
            layout = self.layout()
            assert layout is not None
            layout.addWidget(self._canvas)
        return self._canvas

    # What is drawn

    def start_over(self) -> None:
        """Take everything off."""
        self._items, self._levels, self._columns, self._marks = [], [], [], []
        self._whole, self._home = False, None
        self.setAccessibleDescription("")
        # Most often it is drawn anew at once; hidden and shown, it would be laid out and painted once more.
        QTimer.singleShot(0, self, self._hide_nothing)

    def _hide_nothing(self) -> None:
        if self._canvas is not None and self._home is None:
            self._canvas.hide()

    def add_levels(self, levels: Numbers, tick_text: TickText | None = None) -> None:
        """Thin horizontal lines with their numbers."""
        words = tick_text or self._tick_text
        self._levels = [(level, words(level)) for level in levels]

    def add_columns(self, columns: Sequence[tuple[float, str]]) -> None:
        """Labels of the horizontal axis at places of one's own, instead of round numbers."""
        self._columns = list(columns)

    def add_steps(self, edges: Numbers, heights: Numbers, base: float) -> None:
        """True steps, filled to `base`; `edges` has one more than `heights`."""
        self._items.append(lambda canvas: canvas.add_steps(edges, heights, base))

    def add_outline(self, edges: Numbers, heights: Numbers, token: str, dashes: Sequence[float] = ()) -> None:
        """Steps without a fill, for several over each other; `dashes` are lengths in widths of the line."""
        self._items.append(lambda canvas: canvas.add_outline(edges, heights, token, dashes))

    def add_bars(self, centres: Numbers, heights: Numbers, width: float, base: float) -> None:
        """One bar for each whole number, `width` wide in the data's numbers and never thinner than its outline."""
        self._whole = True
        self._items.append(lambda canvas: canvas.add_bars(centres, heights, width, base))

    def add_line(self, x: Numbers, y: Numbers, token: str | float, width: float = 1.5, *, dashed: bool = False) -> None:
        """A line through points; what is no number is a gap in it. A number instead of a token is a share (0..1) of the
        colours of amounts."""
        self._items.append(lambda canvas: canvas.add_line(x, y, token, width, dashed))

    def add_area(self, x: Numbers, y: Numbers, base: float) -> None:
        """A line through points, filled to `base`."""
        self._items.append(lambda canvas: canvas.add_area(x, y, base))

    def add_band(self, x: Numbers, low: Numbers, high: Numbers, token: str = "A") -> None:
        """What lies between two lines, as where many points share a pixel."""
        self._items.append(lambda canvas: canvas.add_band(x, low, high, token))

    def add_spread(self, x: Numbers, low: Numbers, high: Numbers, token: str) -> None:
        """Tinted from one line to the other, behind what is added after it."""
        self._items.append(lambda canvas: canvas.add_spread(x, low, high, token))

    def add_points(self, x: Numbers, y: Numbers, size: float = 5, token: str = "A", *, opacity: float = 1.0) -> None:
        """Dots, for few values; `size` is in pixels. Many over each other are told apart if they let some through."""
        self._items.append(lambda canvas: canvas.add_points(x, y, size, token, opacity))

    def add_rings(self, x: Numbers, y: Numbers, token: str = "S") -> None:
        """Circles around what stands out."""
        self._items.append(lambda canvas: canvas.add_rings(x, y, token))

    def add_words(
        self, x: float, y: float, words: str, token: str = "text2", anchor: tuple[float, float] = (0.0, 0.5)
    ) -> None:
        """Plain text; `anchor` is the part of it that stands at the place, (0, 0) its upper left corner."""
        self._items.append(lambda canvas: canvas.add_words(x, y, words, token, anchor))

    def add_mark(self, x: float, token: str = "neutral", *, dashed: bool = False) -> None:
        """A thin vertical line."""
        self._items.append(lambda canvas: canvas.add_mark(x, token, dashed))

    def add_level(self, y: float, token: str = "neutral") -> None:
        """A thin horizontal line without a number."""
        self._items.append(lambda canvas: canvas.add_level(y, token))

    def set_range(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Show all that was added, and exactly this; a double click comes back to it."""
        self._home = View(*_opened(*x), *_opened(*y))
        self._draw()

    def point_out(self, marks: Sequence[Mark]) -> None:
        """Show these places along x above all that is drawn, instead of those before: quick enough for a pointer."""
        self._marks = list(marks)
        if self._canvas is not None and self._home is not None:
            self._canvas.show_marks(self._marks)

    @property
    def view(self) -> View | None:
        """What is shown now; None when nothing is, or not yet."""
        return None if self._home is None or self._canvas is None else self._canvas.view

    def _draw(self) -> None:
        if self._home is None:
            return
        if not library().ready:
            library().load()
            return
        if self.window().isVisible() and not self.isVisible():
            self._stale = True  # in a view that nobody sees: when it is seen
            return
        self._stale, self._drawn_in = False, resources.theme().name
        canvas = self._take_canvas()
        canvas.show()
        canvas.start(self._home, self._levels, self._columns, self._whole)
        for item in self._items:
            item(canvas)
        canvas.show_marks(self._marks)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        # A change of theme comes as several events: palette, no style sheet, another one. All plots in sight at once
        # would stall it; those of other tabs draw when they are seen.
        if resources.is_theme_change(event) and self._drawn_in != resources.theme().name and not self._stale:
            self._stale = True
            library().soon(self._draw_anew)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._draw_anew()

    def _draw_anew(self) -> None:
        if isValid(self) and self._stale and self.isVisible():
            self._draw()


def _opened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    if high > low:
        return low, high
    pad = abs(low) * 0.5 or 0.5
    return low - pad, low + pad
