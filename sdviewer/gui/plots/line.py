"""The values of a vector in their order: bias, norm weight, running statistics."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.plot import Facts, Plot

POINTS = 1200
_FEW = 400


class LinePlot(Plot):
    """Value over index; where several share a pixel, from their smallest to their largest."""

    name = "line"
    title = "Line"
    heading = "In order"
    icon = "line"

    def __init__(self) -> None:
        super().__init__()
        self._axes: Any = None
        self._place = QWidget()
        self._inside = QVBoxLayout(self._place)
        self._inside.setContentsMargins(0, 0, 0, 0)
        self.set_body(self._place)
        self.setMinimumHeight(150)

    def prepare(self) -> None:
        from sdviewer.gui.plots import axes as plotting

        if self._axes is None:
            self._axes = plotting.Axes()
            self._axes.y_axis.tick_text = plotting.plain_number
            self._inside.addWidget(self._axes)

    @staticmethod
    def score(facts: Facts) -> int:
        shape = facts.get("shape") or ()
        long = [size for size in shape if size != 1]
        return 90 if facts.get("source") and len(long) == 1 and long[0] > 1 else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "line", {"points": POINTS}

    def draw(self, body: Body, buffers: Buffers) -> None:
        import numpy as np

        from sdviewer.gui.plots import axes as plotting

        self.prepare()
        axes = self._axes
        axes.start_over()
        n, block = int(body["count"]), int(body["block"])
        low, high = plotting.floats(buffers["low"]), plotting.floats(buffers["high"])
        finite = np.concatenate([low[np.isfinite(low)], high[np.isfinite(high)]])
        self.subtitle.setText("value over index" if block == 1 else f"smallest and largest of each {block:,}")
        if not len(finite):
            self.say("No finite values.")
            return
        bottom, top = float(finite.min()), float(finite.max())
        pad = (top - bottom) * 0.06 or abs(top) * 0.06 or 1.0
        levels = plotting.ticks(bottom - pad, top + pad, 5)
        axes.y_axis.setTicks([[(level, plotting.plain_number(level)) for level in levels]])
        axes.add_grid(levels)
        if bottom < 0 < top:
            axes.add_level(0.0)
        x = np.arange(len(low)) * block
        if len(low) < n:
            axes.add_band(x, low, high)
        else:
            axes.add_line(x, low, "A", 1.2)
            if n <= _FEW // 4:
                axes.add_points(x, low)
        axes.set_range((-n * 0.012, n * 1.012), (bottom - pad, top + pad))
        axes.setAccessibleDescription(
            f"{text.plural(n, 'value')} in order, from {text.value(bottom)} to {text.value(top)}"
        )
