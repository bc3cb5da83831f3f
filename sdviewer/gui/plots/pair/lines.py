"""The values of two vectors over their index, over each other, and what was added to A to get B."""

from __future__ import annotations

import math
from typing import Any, Final

from PySide6.QtGui import QResizeEvent

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.numbers import floats, long_axes
from sdviewer.gui.plots.pair.pair_plot import NAMES, SIDES, PairPlot, comparable, is_line, is_same, measured
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.place import Index
from sdviewer.gui.plots.plot import Facts
from sdviewer.gui.plots.scale import Mark, plain_number, ticks
from sdviewer.gui.widgets import Segments

POINTS: Final = 1200
_FEW: Final = 200
"""Values up to which each is a dot."""
_TOKENS: Final = {"a": "Af", "b": "Bf", "d": "text2"}
_DIFFERENCE: Final = f"B {text.MINUS} A"
_ROOM: Final = 360
"""Pixels of width below which the choice has no place."""


class LinesPlot(PairPlot):
    """A blue, B orange; their difference by itself."""

    name = "lines"
    title = "Values"
    heading = "Values"
    icon = "line"
    main = True

    def __init__(self) -> None:
        super().__init__()
        self.mode = "both"
        entries = [("a", "A"), ("b", "B"), ("both", "A and B"), ("d", _DIFFERENCE)]
        self.modes = Segments([(mode, words, "") for mode, words in entries], "What is shown of the pair")
        self.modes.choose(self.mode)
        self.modes.chosen.connect(self.set_mode)
        self.add_control(self.modes)
        self._axes = Axes(plain_number)
        self._axes.setAccessibleName(self.title)
        self._axes.pointed.connect(self._pointed)
        self.set_body(self._axes)
        self.setMinimumHeight(120)
        self._lines: dict[str, list[tuple[float, float]]] = {}
        self._blocks: dict[str, int] = {}
        self._count, self._at = 0, -1
        self._two = False

    @staticmethod
    def score(facts: Facts) -> int:
        return 80 if measured(facts) and is_line(facts) else 0

    def begin(self, facts: Facts) -> None:
        self._at = -1
        self._two = len(self.sources(facts)) == 2
        self.modes.setVisible(self._two and self.width() >= _ROOM)
        self.modes.offer(["a", "b", "both", "d"] if comparable(facts) else ["a", "b", "both"])
        if not comparable(facts) and self.mode == "d":
            self.mode = "both"
        self.modes.choose(self.mode)

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "pair_line", {"points": POINTS}

    def set_mode(self, mode: str) -> None:
        """Show A, B, both, or their difference."""
        self.mode = mode
        self.modes.choose(mode)
        self._draw_answer()

    def clear(self) -> None:
        self._axes.start_over()
        self._lines = {}

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        self._lines = {
            side: list(zip(floats(buffers[f"low_{side}"]), floats(buffers[f"high_{side}"]), strict=True))
            for side in (*SIDES, "d")
            if body[side] is not None
        }
        shown = self._shown()
        self._count = max(int(body[side]["count"]) for side in shown)
        self._blocks = {side: int(body[side]["block"]) for side in self._lines}
        self.title_label.setText("Difference" if self.mode == "d" else "Values")
        finite = [number for side in shown for ends in self._lines[side] for number in ends if math.isfinite(number)]
        self.subtitle.setText(self._words(body, shown))
        self._axes.setAccessibleDescription(self._description(body, shown))
        if not finite:
            self.say("No finite values.")
            return
        if self.mode == "d" and not body["changed"]:
            self.say("No value differs.")
        self._draw_lines(body, shown, min(finite), max(finite))

    def _shown(self) -> list[str]:
        if len([side for side in self._lines if side in SIDES]) < 2:
            return list(self._lines)[:1]
        return {"both": ["a", "b"], "d": ["d"] if "d" in self._lines else ["a", "b"]}.get(self.mode, [self.mode])

    def _draw_lines(self, body: Body, shown: list[str], least: float, most: float) -> None:
        pad = (most / 2 - least / 2) * 0.12 or abs(most) * 0.06 or 1.0
        bottom, top = least - pad, most + pad
        self._axes.add_levels(ticks(bottom, top, 5))
        if bottom < 0 < top:
            self._axes.add_level(0.0)
        for side in shown:
            low, high = [one for one, _ in self._lines[side]], [other for _, other in self._lines[side]]
            block = self._blocks[side]
            x = [float(i * block) for i in range(len(low))]
            if block > 1:
                self._axes.add_band(x, low, high, _TOKENS[side])
            elif len(low) <= _FEW:
                # B a little smaller, so that where both are the same A looks out from below it.
                self._axes.add_points(x, low, 6 if side == "a" else 4, _TOKENS[side])
            else:
                self._axes.add_points(x, low, 3, _TOKENS[side])
        n = self._count
        self._axes.set_range((-n * 0.012, max(n - 1, 1) + n * 0.012), (bottom, top))

    def _words(self, body: Body, shown: list[str]) -> str:
        what = {"a": "A blue", "b": "B orange", "d": _DIFFERENCE}
        names = ", ".join(what[side] for side in shown) if len(shown) > 1 or shown == ["d"] else ""
        if is_same(self._facts):
            names = "A and B, the same"
        block = max(self._blocks[side] for side in shown)
        over = "over index" if block == 1 else f"smallest and largest of each {block:,}"
        changed = f"{int(body['changed']):,} differ" if int(body["changed"]) > 0 else ""
        return " · ".join(part for part in (names, over, changed) if part)

    def _description(self, body: Body, shown: list[str]) -> str:
        parts = []
        for side in shown:
            known = [number for ends in self._lines[side] for number in ends if math.isfinite(number)]
            span = f"from {text.value(min(known))} to {text.value(max(known))}" if known else "none finite"
            name = _DIFFERENCE if side == "d" else self.called(side)
            parts.append(f"{name}: {text.plural(int(body[side]['count']), 'value')} {span}")
        differ = int(body["changed"])
        return "; ".join(parts) + (f"; {differ:,} values differ" if differ >= 0 else "")

    def data(self) -> list[Column]:
        """The lowest and the highest of each point of the sides that are there."""
        made: list[Column] = []
        for side, ends in self._lines.items():
            name = NAMES.get(side, _DIFFERENCE)
            made += [(f"low of {name}", [one for one, _ in ends]), (f"high of {name}", [other for _, other in ends])]
        return made

    # What is pointed at

    def _pointed(self, x: float) -> None:
        at = -1 if math.isnan(x) else min(max(round(x), 0), self._count - 1)
        if at != self._at and self._lines:
            self._at = at
            self._show_mark(at)
            self.cell_moved.emit(self._index(at) if at >= 0 else ())

    def _index(self, at: int) -> Index:
        """The index in the side that the page's place is of; in the longer one where they differ."""
        sizes = list(self._facts.get("shape") or ())
        axes = long_axes(self._facts)
        return tuple(at if axis in axes else 0 for axis in range(len(sizes)))

    def mark(self, cell: Index) -> None:
        axes = long_axes(self._facts)
        self._at = cell[axes[0]] if cell and axes and axes[0] < len(cell) else -1
        self._show_mark(self._at)

    def _show_mark(self, at: int) -> None:
        words = []
        for side in self._shown() if at >= 0 else ():
            point = at // self._blocks[side]
            low, high = self._lines[side][point] if point < len(self._lines[side]) else (math.nan, math.nan)
            if not math.isnan(low):
                span = text.value(low) if low == high else f"{text.value(low)} to {text.value(high)}"
                words.append(f"{NAMES.get(side, _DIFFERENCE)} {span}")
        self._axes.point_out([Mark(float(at), f" [{at}] {'  '.join(words)} ")] if words else [])

    def tell_value(self, cell: Index, words: str) -> None:
        if self._at >= 0:
            self._axes.point_out([Mark(float(self._at), f" [{self._at}] {words} ")])

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.modes.setVisible(event.size().width() >= _ROOM and self._two)
