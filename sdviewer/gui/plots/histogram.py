"""The distribution of a tensor's values, in true steps, over a robust range or the full one."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.widgets import Chip, Segments

BINS = 140


class HistogramPlot(Plot):
    """Steps, the normal of the same mean and deviation dashed, zero as a thin line."""

    name = "histogram"
    title = "Histogram"
    heading = "Distribution"
    icon = "hist"

    def __init__(self) -> None:
        super().__init__()
        self._full = False
        self._scale = "linear"
        self._axes: Any = None
        self._below = Chip("")
        self._above = Chip("")
        self._robust = Chip("Full range")
        self._robust.setToolTip("Back to the range that holds 99.8 % of the values")
        for chip in (self._below, self._above):
            chip.setToolTip("Show the full range")
            chip.clicked.connect(lambda: self._show_full(True))
            chip.hide()
            self.add_control(chip)
        self._robust.clicked.connect(lambda: self._show_full(False))
        self._robust.hide()
        self.add_control(self._robust)
        self.scale = Segments((("linear", "Linear", ""), ("log", "Log", "")), "Scale of the counts")
        self.scale.choose("linear")
        self.scale.chosen.connect(self._set_scale)
        self.add_control(self.scale)
        self._place = QWidget()
        self._inside = QVBoxLayout(self._place)
        self._inside.setContentsMargins(0, 0, 0, 0)
        self.set_body(self._place)
        self.setMinimumHeight(150)

    @staticmethod
    def score(facts: Facts) -> int:
        elements = math.prod(facts.get("shape") or ())
        return 80 if facts.get("source") and elements > 1 else 0

    def begin(self, facts: Facts) -> None:
        self._full = False

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "histogram", {"bins": BINS, "full": self._full}

    def draw(self, body: Body, buffers: Buffers) -> None:
        import numpy as np

        from sdviewer.gui.plots import axes as plotting

        if self._axes is None:
            self._axes = plotting.Axes()
            self._inside.addWidget(self._axes)
        axes = self._axes
        axes.start_over()
        counts = plotting.floats(buffers["counts"])
        low, high = float(body["lo"]), float(body["hi"])
        self._show_chips(body)
        self.subtitle.setText(self._words(body, len(counts)))
        axes.setAccessibleDescription(self._description(body))
        if not len(counts) or not counts.sum():
            return
        edges = np.linspace(low, high, len(counts) + 1)
        top = float(counts.max())
        normal_x, normal_y = self._normal(np, body, edges, float(counts.sum()))
        if len(normal_y):
            top = max(top, min(float(normal_y.max()), top * 1.6))
        if self._scale == "log":
            heights, base = np.log10(np.maximum(counts, 0.7)), math.log10(0.7)
            normal_y = np.log10(np.maximum(normal_y, 0.7))
            axes.y_axis.tick_text = plotting.power_of_ten
            levels = [float(power) for power in range(math.floor(math.log10(top)) + 1)]
            ceiling = math.log10(top) + 0.15
        else:
            heights, base, ceiling = counts, 0.0, top * 1.08
            axes.y_axis.tick_text = plotting.short_number
            levels = plotting.ticks(0, ceiling, 4)
        axes.y_axis.setTicks([[(level, axes.y_axis.tick_text(level)) for level in levels if level > base or base]])
        axes.add_grid(levels)
        axes.add_steps(edges, heights, base)
        if len(normal_y):
            axes.add_line(normal_x, normal_y, "text2", 1.2, dashed=True)
        if low < 0 < high:
            axes.add_mark(0.0)
        margin = (high - low) * 0.012
        axes.set_range((low - margin, high + margin), (base, ceiling))

    def _normal(self, np: Any, body: Body, edges: Any, counted: float) -> tuple[Any, Any]:
        mean, std = body.get("mean"), body.get("std")
        if mean is None or not std or not math.isfinite(std):
            return np.empty(0), np.empty(0)
        x = np.linspace(edges[0], edges[-1], 400)
        width = edges[1] - edges[0]
        density = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
        return x, density * counted * width

    def _show_chips(self, body: Body) -> None:
        for chip, words, n in (
            (self._below, "‹ {} below", int(body.get("below") or 0)),
            (self._above, "{} above ›", int(body.get("above") or 0)),
        ):
            chip.setText(words.format(text.count(n)))
            chip.setVisible(n > 0 and not self._full)
        self._robust.setVisible(self._full)

    def _words(self, body: Body, bins: int) -> str:
        parts = [text.plural(bins, "bin")]
        if body.get("std"):
            parts[0] += " · dashed: normal, same μ and σ"
        if zeros := int(body.get("zeros") or 0):
            parts.append(text.plural(zeros, "exact zero"))
        if sampled := int(body.get("sampled") or 0):
            parts.append(f"from {text.count(sampled)} values")
        return " · ".join(parts)

    def _description(self, body: Body) -> str:
        return (
            f"Histogram from {text.value(body['lo'])} to {text.value(body['hi'])}, "
            f"{text.count(int(body.get('below') or 0))} values below and "
            f"{text.count(int(body.get('above') or 0))} above"
        )

    def _show_full(self, full: bool) -> None:
        self._full = full
        self.ask()

    def set_scale(self, scale: str) -> None:
        """Linear or log counts."""
        self._scale = scale
        self.scale.choose(scale)
        self._draw_answer()

    def _set_scale(self, scale: str) -> None:
        self.set_scale(scale)
