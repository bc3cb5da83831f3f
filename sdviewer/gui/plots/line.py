"""The values of a vector in their order: bias, norm weight, running statistics."""

from __future__ import annotations

import math
from typing import Any

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.plots.scale import plain_number, ticks

POINTS = 1200
_FEW = 100


class LinePlot(Plot):
    """Value over index; where several share a pixel, from their smallest to their largest."""

    name = "line"
    title = "Line"
    heading = "In order"
    icon = "line"

    def __init__(self) -> None:
        super().__init__()
        self._axes = Axes(plain_number)
        self.set_body(self._axes)
        self.setMinimumHeight(150)

    @staticmethod
    def score(facts: Facts) -> int:
        shape = facts.get("shape") or ()
        long = [size for size in shape if size != 1]
        return 90 if facts.get("source") and len(long) == 1 and long[0] > 1 else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "line", {"points": POINTS}

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        n, block = int(body["count"]), int(body["block"])
        low, high = (memoryview(buffers[name]).cast("B").cast("d").tolist() for name in ("low", "high"))
        finite = [number for number in (*low, *high) if math.isfinite(number)]
        self.subtitle.setText("value over index" if block == 1 else f"smallest and largest of each {block:,}")
        if not finite:
            self.say("No finite values.")
            return
        bottom, top = min(finite), max(finite)
        pad = (top - bottom) * 0.06 or abs(top) * 0.06 or 1.0
        self._axes.add_levels(ticks(bottom - pad, top + pad, 5))
        if bottom < 0 < top:
            self._axes.add_level(0.0)
        x = [float(i * block) for i in range(len(low))]
        if len(low) < n:
            self._axes.add_band(x, low, high)
        else:
            self._axes.add_line(x, low, "A", 1)
            if n <= _FEW:
                self._axes.add_points(x, low)
        self._axes.set_range((-n * 0.012, n * 1.012), (bottom - pad, top + pad))
        self._axes.setAccessibleDescription(
            f"{text.plural(n, 'value')} in order, from {text.value(bottom)} to {text.value(top)}"
        )
