"""Norm, mean or deviation of every output row and every input column: dead units, outliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.boundaries import parts_along
from sdviewer.gui.plots.choosing import ChoosingPlot
from sdviewer.gui.plots.numbers import floats, has_numbers, long_axes
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Facts, Index
from sdviewer.gui.plots.scale import Mark, plain_number, ticks
from sdviewer.gui.widgets import Chip, Segments

POINTS = 1200
_FEW = 100
MEASURES = {"norm": "L2", "mean": "mean", "std": "std"}
HEADINGS = {"norm": "norms", "mean": "means", "std": "deviations"}
_RINGS = 24
"""Dead rows that are ringed."""
_NAMED = 3
"""Rows up to which a chip gives their indexes, of more only their number."""
_LISTED = 20
_PARTS = 12
"""Parts of an axis up to which each has its name."""


class Words(NamedTuple):
    """What is measured, and what the indexes along the axis are called."""

    what: str
    per: str
    noun: str
    nouns: str


class RowsPlot(ChoosingPlot):
    """One measure over the index along an axis; where several share a pixel, from their smallest to their largest."""

    name = "rows"
    title = "Rows & columns"
    heading = "Row norms"
    icon = "line"

    def __init__(self) -> None:
        super().__init__()
        self._place = 0
        self._measure = "norm"
        self._points: tuple[int, list[float], list[float]] = (1, [], [])
        self._dead = Chip("", "warn", "warn")
        self._odd = Chip("", "shape")
        self.axis = Segments((("0", "Rows", ""), ("1", "Columns", "")), "Rows or columns")
        self.measure = Segments((("norm", "L2", ""), ("mean", "Mean", ""), ("std", "std", "")), "What is measured")
        self.sorted = Chip("Sorted")
        self.sorted.setCheckable(True)
        self.sorted.setToolTip("In order of the values, not of the rows")
        self.add_note(self._dead, self._odd)
        self.add_choice(self.axis, self.measure, self.sorted)
        self.axis.choose("0")
        self.measure.choose("norm")
        self.axis.chosen.connect(self._set_axis)
        self.measure.chosen.connect(self._set_measure)
        self.sorted.toggled.connect(lambda _: self._draw_answer())
        self._axes = Axes(plain_number)
        self._axes.pointed.connect(self._pointed)
        self._axes.setAccessibleName(self.title)
        self.set_body(self._axes)
        self.setMinimumHeight(150)

    @staticmethod
    def score(facts: Facts) -> int:
        return 65 if has_numbers(facts) and len(long_axes(facts)) >= 2 else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "rows", {"points": POINTS}

    def clear(self) -> None:
        self._axes.start_over()

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        axes = body["axes"]
        self.axis.offer([str(place) for place in range(len(axes))])
        if not axes:
            self.say("Too many rows for a plot.")
            return
        place = min(self._place, len(axes) - 1)
        self.axis.choose(str(place))
        found = axes[place]
        order = "sorted" if self.sorted.isChecked() else "ordered"
        names = [f"{place}.{self._measure}.{order}.{side}" for side in ("low", "high")]
        low, high = (floats(buffers[name]) for name in names)
        self._points = (int(found["block"]), low, high)
        words = self._words(found)
        self.title_label.setText(f"{words.noun.capitalize()} {HEADINGS[self._measure]}")
        self.subtitle.setText(self._subtitle(found, words))
        self._show_chips(found, words)
        self._axes.setAccessibleDescription(self._description(found, words))
        finite = [number for number in (*low, *high) if math.isfinite(number)]
        if not finite:
            self.say("No finite values.")
            return
        self._draw_band(found, low, high, min(finite), max(finite))

    def data(self) -> list[Column]:
        """Of each run of rows the lowest and the highest."""
        block, low, high = self._points
        first = [number * block for number in range(len(low))]
        return [("first", first), ("lowest", low), ("highest", high)] if low else []

    def remark(self) -> str:
        several = self._points[0]
        return f"lowest and highest of {several:,} each, from the first on" if several > 1 else ""

    def _draw_band(self, found: Facts, low: list[float], high: list[float], bottom: float, top: float) -> None:
        n, block = int(found["count"]), int(found["block"])
        pad = (top - bottom) * 0.06 or abs(top) * 0.06 or 1.0
        base, ceiling = bottom - pad, top + pad
        self._axes.add_levels(ticks(base, ceiling, 4))
        if base < 0 < ceiling:
            self._axes.add_level(0.0)
        in_order = not self.sorted.isChecked()
        if in_order:
            self._draw_parts(found, ceiling)
        x = [float(i * block) for i in range(len(low))]
        if block > 1:
            self._axes.add_band(x, low, high)
        else:
            self._axes.add_line(x, low, "A", 1)
            if n <= _FEW:
                self._axes.add_points(x, low)
        if in_order and self._measure != "mean" and found["dead"]:
            at = [float(i) for i in found["dead_at"][:_RINGS]]
            self._axes.add_rings(at, [0.0] * len(at))
        self._axes.set_range((-n * 0.012, n * 1.012), (base, ceiling))

    def _draw_parts(self, found: Facts, ceiling: float) -> None:
        """Known boundaries, dashed, with their index below and the names of what lies between them."""
        n = int(found["count"])
        parts = parts_along(self._facts, int(found["axis"]))
        if not parts:
            return
        columns = {0: "0", **{start: f"{start}" for _, start, _ in parts}, n - 1: f"{n - 1}"}
        if len(parts) <= _PARTS:
            self._axes.add_columns([(float(at), words) for at, words in columns.items()])
        for name, start, stop in parts:
            if start:
                self._axes.add_mark(float(start), "text2", dashed=True)
            if len(parts) <= _PARTS:
                self._axes.add_words((start + stop) / 2, ceiling, name, "text2", (0.5, 0.0))

    def _words(self, found: Facts) -> Words:
        axis, what = int(found["axis"]), MEASURES[self._measure]
        if axis == 0:
            return Words(what, "output row", "row", "rows")
        if axis == 1:
            return Words(what, "input column", "column", "columns")
        return Words(what, f"index of dim {axis}", "index", "indexes")

    def _subtitle(self, found: Facts, words: Words) -> str:
        said = f"{words.what} per {words.per}"
        if len(long_axes(self._facts)) > 2:
            said += f" of {int(found['size']):,}"
        block = int(found["block"])
        return f"{said} · range of each {block:,}" if block > 1 else said

    def _show_chips(self, found: Facts, words: Words) -> None:
        for chip, field, before, behind, why in (
            (self._dead, "dead", "dead ", "", "all zero"),
            (self._odd, "odd", "", " with NaN or Inf", "NaN or infinite, in part or all"),
        ):
            n, listed = int(found[field]), found[f"{field}_at"]
            counted = text.plural(n, before + words.noun, before + words.nouns) + behind
            chip.setText(f"{counted}: {_listed(listed, n)}" if n <= _NAMED else counted)
            chip.setToolTip(f"{text.plural(n, words.noun, words.nouns)} {why}: {_listed(listed, n)}")
            chip.setVisible(n > 0)

    def _description(self, found: Facts, words: Words) -> str:
        said = f"{words.what} of {text.plural(int(found['count']), words.noun, words.nouns)}, per {words.per}"
        ends = found["ends"][self._measure]
        if ends:
            (first, least), (last, most) = ends
            said += f", from {text.value(least)} at {int(first)} to {text.value(most)} at {int(last)}"
        for field, why in (("dead", "all zero"), ("odd", "with NaN or infinity")):
            n = int(found[field])
            if n:
                said += f"; {text.plural(n, words.noun, words.nouns)} {why}: {_listed(found[f'{field}_at'], n)}"
        return said

    # Choices

    def _set_axis(self, place: str) -> None:
        self._place = int(place)
        self._draw_answer()

    def _set_measure(self, measure: str) -> None:
        self._measure = measure
        self._draw_answer()

    # The cursor

    def _pointed(self, x: float) -> None:
        if self._answer is None or math.isnan(x):
            self.cursor_moved.emit("")
            self.cell_moved.emit(())
            return
        found = self._answer[0]["axes"][min(self._place, len(self._answer[0]["axes"]) - 1)]
        at = min(max(round(x), 0), int(found["count"]) - 1)
        block, low, high = self._points
        least, most = low[at // block], high[at // block]
        words, n = self._words(found), int(found["count"])
        value = text.value(least) if least == most else f"{text.value(least)} to {text.value(most)}"
        if self.sorted.isChecked():
            self.cursor_moved.emit(f"{at + 1:,} of {text.plural(n, words.noun, words.nouns)}: {words.what} {value}")
            return
        first = at // block * block
        where = f"{at}" if block == 1 else f"{first} – {min(first + block, n) - 1}"
        self.cursor_moved.emit(f"{words.per} {where}: {words.what} {value}")
        shape = self._facts.get("shape") or ()
        self.cell_moved.emit(tuple(at if axis == found["axis"] else -1 for axis in range(len(shape))))

    def mark(self, cell: Index) -> None:
        """Show the row or column of an element that is pointed at elsewhere."""
        if self._answer is None or not self._answer[0]["axes"] or self.sorted.isChecked():
            return
        axes = self._answer[0]["axes"]
        axis = int(axes[min(self._place, len(axes) - 1)]["axis"])
        there = axis < len(cell) and cell[axis] >= 0
        self._axes.point_out([Mark(float(cell[axis]), str(cell[axis]))] if there else [])


def _listed(listed: Sequence[int], n: int) -> str:
    """The first indexes of n."""
    named = ", ".join(str(at) for at in listed[:_LISTED])
    return f"{named} …" if n > min(len(listed), _LISTED) else named
