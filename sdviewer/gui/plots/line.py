"""The values of a vector in their order or sorted: bias, norm weight, running statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtGui import QResizeEvent

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.boundaries import inner_edges, parts_along
from sdviewer.gui.plots.numbers import floats, has_numbers, long_axes
from sdviewer.gui.plots.place import Index
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.plots.scale import Mark, plain_number, ticks
from sdviewer.gui.widgets import Chip, Segments

POINTS: Final = 1200
MOST_SORTED: Final = 1 << 24
"""As the engine's: more values are not sorted."""
_FEW: Final = 100
_ROOM: Final = 400
"""Pixels of width below which there is no room for the choice of the shape, as in the overview."""


class LinePlot(Plot):
    """Value over index; where several share a pixel, from their smallest to their largest."""

    name = "line"
    title = "Line"
    heading = "1-D values"
    icon = "line"
    columns = (("low", "low", "d"), ("high", "high", "d"))

    def __init__(self) -> None:
        super().__init__()
        self.shape = Segments(
            (("points", "Points", ""), ("line", "Line", ""), ("sorted", "Sorted", "")), "How the values are drawn"
        )
        self._drawn = "points"
        self.shape.choose("points")
        self.shape.chosen.connect(self.set_shape)
        self.log = Chip("Log")
        self.log.setCheckable(True)
        self.log.setToolTip("Logarithmic values: all are positive, over more than three decades")
        self.log.clicked.connect(self._draw_answer)
        self.log.hide()
        self.add_control(self.log)
        self.add_control(self.shape)
        self._axes = Axes(plain_number)
        self._axes.setAccessibleName(self.title)
        self._axes.pointed.connect(self._pointed)
        self.set_body(self._axes)
        self.setMinimumHeight(150)
        self._values: list[tuple[float, float]] = []
        self._block, self._count, self._sorted = 1, 0, False
        self._ends: tuple[int | None, int | None] = (None, None)
        self._at = -1

    @staticmethod
    def score(facts: Facts) -> int:
        return 90 if has_numbers(facts) and len(long_axes(facts)) == 1 else 0

    def begin(self, facts: Facts) -> None:
        self.place.begin(facts.get("shape") or ())
        self.log.setChecked(True)
        size = math.prod(facts.get("shape") or ())
        self.shape.buttons()[2].setEnabled(size <= MOST_SORTED)
        self.shape.set_tooltip("sorted", "" if size <= MOST_SORTED else f"More than {MOST_SORTED:,} values")
        if self._drawn == "sorted" and size > MOST_SORTED:
            self._drawn = "points"
            self.shape.choose("points")

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "line", {"points": POINTS, "sort": self._drawn == "sorted"}

    def set_shape(self, shape: str) -> None:
        """Points, a line through them, or the values in the order of their size."""
        again = (shape == "sorted") != (self._drawn == "sorted")
        self._drawn = shape
        self.shape.choose(shape)
        if again:
            self.ask()
        else:
            self._draw_answer()

    def remark(self) -> str:
        return f"lowest and highest of {self._block:,} values each" if self._block > 1 else ""

    def clear(self) -> None:
        self._axes.start_over()
        self.log.hide()
        self._values = []

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        n, block = int(body["count"]), int(body["block"])
        low, high = (floats(buffers[name]) for name in ("low", "high"))
        self._block, self._count, self._sorted = block, n, bool(body["sorted"])
        self._ends = body["min_at"], body["max_at"]
        self._values = list(zip(low, high, strict=True))
        self.log.setVisible(bool(body["log"]))
        log = bool(body["log"]) and self.log.isChecked()
        self.subtitle.setText(self._words(log))
        finite = [number for number in (*low, *high) if math.isfinite(number)]
        if not finite:
            self._axes.setAccessibleDescription(f"{text.plural(n, 'value')}, none of them finite")
            self.say("No finite values.")
            return
        bottom, top = self._label_values(min(finite), max(finite), log)
        x = [float(i * block) for i in range(len(low))]
        self._draw_values(x, self._scaled(low, log), self._scaled(high, log), n)
        self._draw_boundaries(n, bottom, top)
        self._draw_outliers(body["outliers"], log, n)
        self._axes.set_range((-n * 0.012, max(n - 1, 1) + n * 0.012), (bottom, top))
        self._axes.setAccessibleDescription(self._description(min(finite), max(finite), body["outliers"], log))

    def _scaled(self, values: Sequence[float], log: bool) -> list[float]:
        return [math.log10(value) for value in values] if log else list(values)

    def _label_values(self, least: float, most: float, log: bool) -> tuple[float, float]:
        """Label the axis of values; where it begins and ends."""
        if log:
            bottom, top = math.log10(least), math.log10(most)
            bottom, top = bottom - (top - bottom) * 0.06, top + (top - bottom) * 0.06
            powers = range(math.ceil(bottom), math.floor(top) + 1)
            step = max(1, -(-len(powers) // 6))
            self._axes.add_levels([float(power) for power in powers[::step]], _power)
            return bottom, top
        pad = (most - least) * 0.06 or abs(most) * 0.06 or 1.0
        self._axes.add_levels(ticks(least - pad, most + pad, 5))
        if least < 0 < most:
            self._axes.add_level(0.0)
        return least - pad, most + pad

    def _draw_values(self, x: list[float], low: list[float], high: list[float], n: int) -> None:
        if len(low) < n and not self._sorted:
            self._axes.add_band(x, low, high)
        elif self._drawn == "points":
            self._axes.add_points(x, low, 5 if n <= 4 * _FEW else 3)
        else:
            self._axes.add_line(x, low, "A", 1.5 if self._sorted else 1)
            if n <= _FEW:
                self._axes.add_points(x, low)

    def _draw_boundaries(self, n: int, bottom: float, top: float) -> None:
        if self._sorted:
            return
        axis = next((axis for axis, size in enumerate(self._facts.get("shape") or ()) if size > 1), 0)
        parts = parts_along(self._facts, axis)
        for edge in inner_edges(parts, n):
            self._axes.add_mark(edge - 0.5, "text2", dashed=True)
        for part in parts:
            middle = (part.start + part.stop - 1) / 2
            self._axes.add_words(middle, top, part.name, "text2", (0.5, 0.0))
        if parts:
            edges = [0, *inner_edges(parts, n), n - 1]
            self._axes.add_columns([(float(edge), str(edge)) for edge in edges])

    def _draw_outliers(self, outliers: list[list[float]], log: bool, n: int) -> None:
        for at, value in outliers:
            y = math.log10(value) if log else value
            self._axes.add_rings([at], [y])
            right = at > n * 0.7
            words = f"  [{int(at)}] {text.value(value)}  "
            self._axes.add_words(at, y, words, "S", (1.0 if right else 0.0, 0.5))

    def _words(self, log: bool) -> str:
        if self._sorted:
            words = "value over rank" if self._block == 1 else f"value over rank, each {self._block:,}th"
        else:
            words = "value over index" if self._block == 1 else f"range of each {self._block:,}"
        return f"{words} · log" if log else words

    def _description(self, least: float, most: float, outliers: list[list[float]], log: bool) -> str:
        order = "sorted" if self._sorted else "in order"
        far = ", ".join(f"[{int(at)}] {text.value(value)}" for at, value in outliers)
        return (
            f"{text.plural(self._count, 'value')} {order}, from {text.value(least)} to {text.value(most)}"
            f"{', logarithmic' if log else ''}{f', outliers: {far}' if far else ''}"
        )

    # What is pointed at

    def _pointed(self, x: float) -> None:
        """The pointer is at a value, or has left."""
        at = -1 if math.isnan(x) or self._sorted else min(max(round(x), 0), self._count - 1)
        if at != self._at and self._values:
            self._at = at
            self._show_mark(at)
            self.cell_moved.emit(self._index(at) if at >= 0 else ())

    def _index(self, at: int) -> Index:
        """The index of a value in the tensor: dimensions of size 1 do not count."""
        return tuple(at if size > 1 else 0 for size in self._facts.get("shape") or ())

    def mark(self, cell: Index) -> None:
        shape = self._facts.get("shape") or ()
        at = next((at for at, size in zip(cell, shape, strict=False) if size > 1), -1) if cell else -1
        self._at = at
        self._show_mark(at)

    def _show_mark(self, at: int) -> None:
        if at < 0 or self._sorted:
            self._axes.point_out([])
            return
        point = at // self._block
        low, high = self._values[point] if point < len(self._values) else (math.nan, math.nan)
        words = text.value(low) if low == high or math.isnan(low) else f"{text.value(low)} to {text.value(high)}"
        self._axes.point_out([Mark(float(at), f" [{at}] {words} ")])

    def point_out(self, statistic: str, value: float | None) -> None:
        at = self._ends[0] if statistic == "min" else self._ends[1] if statistic == "max" else None
        if at is None or value is None or self._sorted:
            self._axes.point_out([])
        else:
            self._axes.point_out([Mark(float(at), f" {statistic} {text.value(value)} at [{at}] ")])

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.shape.setVisible(event.size().width() >= _ROOM)


def _power(power: float) -> str:
    """A power of ten on the axis: `0.01`, `1e−6`."""
    if -4 <= power < 5:
        return plain_number(10**power)
    return f"1e{text.MINUS if power < 0 else ''}{abs(round(power))}"
