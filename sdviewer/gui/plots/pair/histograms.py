"""The distributions of both tensors of a pair over each other: A filled, B as a line, over one range."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from PySide6.QtCore import QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui.badge import SMALL, Badge
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.numbers import floats, whole_numbers, with_zeros
from sdviewer.gui.plots.pair.pair_plot import NAMES, SIDES, PairPlot, is_same, is_scalar, measured
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Facts
from sdviewer.gui.plots.scale import plain_number, short_number, ticks
from sdviewer.gui.widgets import Elided

BINS: Final = 140
LARGE: Final = 1 << 22
"""Elements of a side from which a sample of both is shown until all is counted."""
_BAR: Final = 0.8
"""Width of the bar of one whole number."""
_ROOM: Final = 270
"""Pixels of width below which the names of the files are left out."""
_ODD: Final = {"nan": "NaN", "posinf": "Inf", "neginf": f"{text.MINUS}Inf"}


class _Counted(NamedTuple):
    """The histogram of one side: bins, or values of their own; with the exact zeros in the bin of zero."""

    found: Body
    edges: list[float]
    counts: list[int]
    values: list[int]

    @property
    def total(self) -> int:
        """All values, those outside of the range and those that are not finite included."""
        return max(int(self.found["count"]), 1)


class HistogramsPlot(PairPlot):
    """Counts in common bins; shares where the sides have not the same number of values."""

    name = "distributions"
    title = "Distributions"
    heading = "Distributions"
    icon = "hist"

    def __init__(self) -> None:
        super().__init__()
        self._looked = False
        self._whole_next = QTimer(self, interval=0, singleShot=True)
        self._whole_next.timeout.connect(self.ask)
        self._counted: dict[str, _Counted] = {}
        self._legend = QWidget()
        row = QHBoxLayout(self._legend)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(5)
        self._names = {side: Elided("", "note") for side in SIDES}
        self._badges = {side: Badge(NAMES[side], SMALL) for side in SIDES}
        for side in SIDES:
            row.addWidget(self._badges[side])
            row.addWidget(self._names[side])
            row.addSpacing(4)
        self._legend.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.add_control(self._legend)
        self.words = Elided("", "note")
        self.words.hide()
        self.column.addWidget(self.words)
        self._axes = Axes()
        self._axes.setAccessibleName(self.title)
        self.set_body(self._axes)
        self.setMinimumHeight(120)

    @staticmethod
    def score(facts: Facts) -> int:
        return 60 if measured(facts) and not is_scalar(facts) else 0

    def begin(self, facts: Facts) -> None:
        self._looked = False
        self._whole_next.stop()
        shown = self.sources(facts)
        for side in SIDES:
            self._names[side].setText(self.file_of(side, 16))
            self._badges[side].setVisible(side in shown)
        if is_same(facts):
            self._names["a"].setText("and B, the same")
        self._show_names()

    def forget(self) -> None:
        super().forget()
        self._whole_next.stop()

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        large = max(int(facts[side].get("params") or 0) for side in self.sources(facts)) >= LARGE
        return "pair_histogram", {"bins": BINS, "glance": large and not self._looked}

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._show_names()

    def _show_names(self) -> None:
        """The names of the files beside their letters, where there is room."""
        for side in SIDES:
            there = self._badges[side].isVisibleTo(self._legend) and bool(self._names[side].text())
            self._names[side].setVisible(there and self.width() >= _ROOM)

    def clear(self) -> None:
        self._axes.start_over()
        self.words.setText("")
        self._counted = {}

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        self._counted = {side: _counted(body[side], buffers, side) for side in SIDES if body.get(side)}
        large = max(int(self._facts[side].get("params") or 0) for side in self._counted) >= LARGE
        sampled = large and not self._looked
        bars = all(one.values for one in self._counted.values())
        if not any(one.values if bars else one.counts for one in self._counted.values()):
            self.say("No finite values.")
        elif bars:
            self._draw_bars()
        else:
            self._draw_steps()
        self._say(bars, sampled)
        if sampled:
            self._looked = True
            self._whole_next.start()

    @property
    def _shares(self) -> bool:
        """Whether sides of another number of values are drawn, whose counts could not be compared."""
        return len({one.total for one in self._counted.values()}) > 1

    def _heights(self, one: _Counted, counts: list[int]) -> list[float]:
        return [count / one.total for count in counts] if self._shares else [float(count) for count in counts]

    def _set_scale(self, top: float) -> float:
        ceiling = top * 1.08 or 1.0
        levels = [level for level in ticks(0, ceiling, 4) if level > 0]
        self._axes.add_levels(levels, _percent if self._shares else short_number)
        return ceiling

    def _draw_steps(self) -> None:
        heights = {side: self._heights(one, one.counts) for side, one in self._counted.items() if one.counts}
        ceiling = self._set_scale(max(max(some) for some in heights.values()))
        ends = [edge for side in heights for edge in (self._counted[side].edges[0], self._counted[side].edges[-1])]
        low, high = min(ends), max(ends)
        for side, some in heights.items():
            edges = self._counted[side].edges
            if side == "a":
                self._axes.add_steps(edges, some, 0.0)
        if low < 0 < high:
            self._axes.add_mark(0.0)
        if "b" in heights:
            self._axes.add_outline(self._counted["b"].edges, heights["b"], "Bf")
        margin = (high / 2 - low / 2) * 0.024
        self._axes.set_range((low - margin, high + margin), (0.0, ceiling))

    def _draw_bars(self) -> None:
        heights = {side: self._heights(one, one.counts) for side, one in self._counted.items()}
        ceiling = self._set_scale(max(max(some) for some in heights.values()))
        values = sorted({value for one in self._counted.values() for value in one.values})
        step = min((b - a for a, b in itertools.pairwise(values)), default=1)
        if "a" in heights:
            self._axes.add_bars([float(value) for value in self._counted["a"].values], heights["a"], step * _BAR, 0.0)
        if "b" in heights:
            self._axes.add_outline(*_outlined(self._counted["b"].values, heights["b"], step * _BAR), "Bf")
        self._axes.set_range((values[0] - step, values[-1] + step), (0.0, ceiling))

    def _say(self, bars: bool, sampled: bool) -> None:
        number = max((len(one.values if bars else one.counts) for one in self._counted.values()), default=0)
        words = ["share of each side"] if self._shares else []
        if sampled:
            words = [f"so far from {text.count(max(one.total for one in self._counted.values()))} values"]
        words += [f"{NAMES[side]} has {said}" for side, one in self._counted.items() if (said := _odd(one.found))]
        self.words.setText(" · ".join(words))
        self.words.setVisible(bool(words))
        about = "; ".join(self._described(side, bars) for side in self._counted)
        self._axes.setAccessibleDescription(
            f"{'Approximate distributions' if sampled else 'Distributions'} over one range in "
            f"{text.plural(number, 'value' if bars else 'bin')}. {about}"
        )

    def _described(self, side: str, bars: bool) -> str:
        one = self._counted[side]
        words = [f"{self.called(side)}: {text.count(one.total)} values"]
        if bars:
            pairs = zip(one.values[:8], one.counts, strict=False)
            words += [f"{text.count(count)} of {value}" for value, count in pairs]
        elif one.counts:
            most = max(range(len(one.counts)), key=one.counts.__getitem__)
            words.append(f"from {text.value(one.edges[0])} to {text.value(one.edges[-1])}")
            words.append(f"most near {text.value((one.edges[most] + one.edges[most + 1]) / 2)}")
            words.append(f"{text.count(int(one.found['below']) + int(one.found['above']))} outside of what is drawn")
        if said := _odd(one.found):
            words.append(said)
        return ", ".join(words)

    def data(self) -> list[Column]:
        """Bins by their edges, or values, with their counts of each side."""
        made: list[Column] = []
        for side, one in self._counted.items():
            name = NAMES[side]
            if one.values:
                made += [(f"value in {name}", one.values), (f"count in {name}", one.counts)]
            else:
                made += [(f"from in {name}", one.edges[:-1]), (f"to in {name}", one.edges[1:])]
                made.append((f"count in {name}", one.counts))
        return made


def _counted(found: Mapping[str, Any], buffers: Buffers, side: str) -> _Counted:
    values = [int(value) for value in found["values"]]
    if values:
        return _Counted(found, [], whole_numbers(buffers[f"value_counts_{side}"]), values)
    edges, counts = floats(buffers[f"edges_{side}"]), whole_numbers(buffers[f"counts_{side}"])
    return _Counted(found, edges, with_zeros(edges, counts, int(found["zeros"] or 0)), [])


def _outlined(values: list[int], heights: list[float], width: float) -> tuple[list[float], list[float]]:
    """The outline of bars as steps that go down to nothing between them."""
    edges = [edge for value in values for edge in (value - width / 2, value + width / 2)]
    steps = [step for height in heights for step in (height, 0.0)]
    return edges, steps[:-1]


def _odd(found: Mapping[str, Any]) -> str:
    """What is in no bin as it is no number."""
    return ", ".join(f"{text.count(int(found[field]))} {word}" for field, word in _ODD.items() if found[field])


def _percent(share: float) -> str:
    return f"{plain_number(100 * share)} %"
