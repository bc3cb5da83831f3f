"""The elements of B over those of A: a few thousand points, the diagonal, and in words how B follows A."""

from __future__ import annotations

import itertools
from typing import Any, Final

from PySide6.QtGui import QResizeEvent

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.numbers import floats
from sdviewer.gui.plots.pair.pair_plot import PairPlot, comparable, is_same, is_scalar
from sdviewer.gui.plots.plot import Facts
from sdviewer.gui.plots.scale import plain_number, ticks
from sdviewer.gui.widgets import Elided

POINTS: Final = 3000
_ROOM: Final = 190
"""Pixels of width below which how many points there are is not beside the title."""
_CLOSENESS: Final = (
    (0.99999, "follows A exactly"),
    (0.99, "follows A closely"),
    (0.9, "follows A"),
    (0.5, "follows A loosely"),
    (0.1, "hardly follows A"),
    (0.0, "does not follow A"),
)
"""What is said of B by how large r is."""


class ScatterPlot(PairPlot):
    """Points and the diagonal, on which nothing has changed."""

    name = "scatter"
    title = "B against A"
    heading = "B against A"
    icon = "line"
    columns = (("A", "x", "d"), ("B", "y", "d"))

    def __init__(self) -> None:
        super().__init__()
        self.axes = Axes(plain_number)
        self.axes.setAccessibleName(self.title)
        self.words = Elided("", "note")
        self.column.addWidget(self.words)
        self.set_body(self.axes)
        self.setMinimumHeight(120)

    @staticmethod
    def score(facts: Facts) -> int:
        return 50 if comparable(facts) and not is_same(facts) and not is_scalar(facts) and not of_flags(facts) else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "pair_scatter", {"points": POINTS}

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.subtitle.setVisible(event.size().width() >= _ROOM)

    def clear(self) -> None:
        self.axes.start_over()
        self.words.setText("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        draw_scatter(self.axes, body, buffers)
        self.subtitle.setText(amount(body))
        self.words.setText(numbers_of(body))
        self.words.setToolTip(in_words(body))
        if not body["finite"]:
            self.say("No element is finite on both sides.")


def of_flags(facts: Facts) -> bool:
    """Whether values of a side are flags, of which thousands would be the same four points."""
    return any(facts[side]["dtype"] == "bool" for side in ("a", "b"))


def draw_scatter(axes: Axes, body: Body, buffers: Buffers) -> None:
    """Draw a scatter (`stats.pair_views.Scatter`) with its description."""
    axes.start_over()
    x, y = floats(buffers["x"]), floats(buffers["y"])
    if not x:
        axes.setAccessibleDescription("No element is finite on both sides")
        return
    low, high = min(itertools.chain(x, y)), max(itertools.chain(x, y))
    pad = (high / 2 - low / 2) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = max(low - pad, -1.7e308), min(high + pad, 1.7e308)
    axes.add_levels(ticks(low, high, 5))
    axes.add_line([low, high], [low, high], "text2", 1.2, dashed=True)
    axes.add_points(x, y, 3, "text2", opacity=0.45)
    axes.set_range((low, high), (low, high))
    axes.setAccessibleDescription(
        f"B against A, {amount(body)} around the diagonal, from {text.value(low)} to {text.value(high)}. "
        + in_words(body)
    )


def amount(body: Body) -> str:
    """How many points there are."""
    shown = min(int(body["finite"]), POINTS)
    return text.plural(shown, "point") if shown == int(body["count"]) else f"{shown:,} sampled"


def numbers_of(body: Body) -> str:
    """r and slope, with a word for how close B is to A."""
    if body["r"] is None:
        return "no line: a side is constant"
    r = float(body["r"])
    return f"r {text.cosine(r)} · slope {text.value(body['slope'])} · B {closeness(r)}"


def closeness(r: float) -> str:
    """What a correlation means for the values of B."""
    words = next(words for least, words in _CLOSENESS if abs(r) >= least)
    return f"{words}, turned round" if r <= -_CLOSENESS[-2][0] else words


def in_words(body: Body) -> str:
    """How the values of B follow those of A, in a sentence or two."""
    if body["r"] is None:
        return "The values of a side are all the same, so no line is fitted."
    r, slope = float(body["r"]), float(body["slope"])
    steep = f"{text.percent(abs(abs(slope) - 1))} {'steeper' if abs(slope) > 1 else 'flatter'} than the diagonal"
    if abs(abs(slope) - 1) < 5e-5:
        steep = "as steep as the diagonal"
    looked, equal = int(body["looked"]), int(body["equal"])
    sample = "" if looked == int(body["count"]) else f", from a sample of {text.count(looked)}"
    same = f" {text.percent(equal / max(looked, 1))} are equal." if equal else ""
    return f"B {closeness(r)} (r {text.cosine(r)}), {steep} (slope {text.value(slope)}){sample}.{same}"
