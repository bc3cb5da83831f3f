"""The distribution of a tensor's values, in true steps, over a robust range or the full one."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.plot import Facts, Plot
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Chip, Segments

BINS = 140
# Where an empty bin stands on a logarithmic axis: a little below one.
_LEAST = 0.7


class HistogramPlot(Plot):
    """Steps, the normal of the same mean and deviation dashed, zero as a thin line."""

    name = "histogram"
    title = "Histogram"
    heading = "Distribution"
    icon = "hist"

    def __init__(self) -> None:
        super().__init__()
        self._full = False
        self._span: tuple[float, float] | None = None
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

    def prepare(self) -> None:
        from sdviewer.gui.plots import axes as plotting

        if self._axes is None:
            self._axes = plotting.Axes()
            self._inside.addWidget(self._axes)

    @staticmethod
    def score(facts: Facts) -> int:
        elements = math.prod(facts.get("shape") or ())
        return 80 if facts.get("source") and elements > 1 else 0

    def begin(self, facts: Facts) -> None:
        self._full = False

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        span = {"span": list(self._span)} if self._full and self._span else {}
        return "overview", {"bins": BINS, **span}

    def show_tensor(self, session: Session, facts: Facts) -> None:
        # The panel asks for sums and histogram in one pass and hands the answer to `take`.
        self._session, self._facts = session, facts
        self._answer = None
        self.begin(facts)
        self.pending = True
        self._hint.start()

    def draw(self, body: Body, buffers: Buffers) -> None:
        import numpy

        from sdviewer.gui.plots import axes as plotting

        self.prepare()
        self._axes.start_over()
        summary, found = body["summary"], body["histogram"]
        low, high = summary.get("min"), summary.get("max")
        self._span = None if low is None or high is None or not float(low) < float(high) else (float(low), float(high))
        self._show_chips(found)
        if found["values"]:
            values = numpy.asarray(found["values"], "<f8")
            self._draw_bars(plotting, values, plotting.floats(buffers["value_counts"], "<i8"))
            self.subtitle.setText(f"counts of {text.plural(len(values), 'value')}")
        else:
            edges, counts = plotting.floats(buffers["edges"]), plotting.floats(buffers["counts"], "<i8")
            self.subtitle.setText(self._words(found, summary, len(counts)))
            if len(counts) and (counts.sum() or found["zeros"]):
                self._draw_steps(plotting, edges, counts, summary, int(found["zeros"]))
            else:
                self.say("No finite values.")
        self._axes.setAccessibleDescription(self._description(found, summary))

    def _draw_steps(self, plotting: Any, edges: Any, counts: Any, summary: Facts, zeros: int) -> None:
        numpy, axes = plotting.numpy, self._axes
        low, high = float(edges[0]), float(edges[-1])
        top = max(float(counts.max()), 1.0)
        normal_x, normal_y = _normal(numpy, summary, edges, float(counts.sum()))
        if len(normal_y):
            top = max(top, min(float(normal_y.max()), top * 1.6))
        base, ceiling = self._set_scale_of_counts(plotting, top)
        axes.add_steps(edges, self._heights(numpy, counts), base)
        if len(normal_y):
            axes.add_line(normal_x, self._heights(numpy, normal_y), "text2", 1.2, dashed=True)
        if low < 0 < high:
            axes.add_mark(0.0)
        if zeros and low <= 0 <= high:
            spike = min(float(self._heights(numpy, numpy.array([float(zeros)]))[0]), ceiling)
            axes.add_line([0.0, 0.0], [base, spike], "text", 2.5)
        margin = (high - low) * 0.012
        axes.set_range((low - margin, high + margin), (base, ceiling))

    def _draw_bars(self, plotting: Any, values: Any, counts: Any) -> None:
        numpy, axes = plotting.numpy, self._axes
        base, ceiling = self._set_scale_of_counts(plotting, max(float(counts.max()), 1.0))
        step = float(numpy.diff(values).min()) if len(values) > 1 else 1.0
        edges = numpy.stack([values - step * 0.4, values + step * 0.4], axis=1).ravel()
        heights = numpy.full(len(edges) - 1, 0.0)
        heights[::2] = counts
        heights = self._heights(numpy, heights)
        heights[1::2] = base
        axes.add_steps(edges, heights, base)
        axes.set_range((float(edges[0]) - step, float(edges[-1]) + step), (base, ceiling))

    def _heights(self, numpy: Any, counts: Any) -> Any:
        """Counts as they are drawn: pyqtgraph has no logarithmic steps, so the logarithm is taken here."""
        return numpy.log10(numpy.maximum(counts, _LEAST)) if self._scale == "log" else counts

    def _set_scale_of_counts(self, plotting: Any, top: float) -> tuple[float, float]:
        """Label the axis of counts; where it begins and ends."""
        axes = self._axes
        if self._scale == "log":
            base, ceiling = math.log10(_LEAST), math.log10(top) + 0.15
            levels = [float(power) for power in range(math.floor(math.log10(top)) + 1)]
            tick_text = plotting.power_of_ten
        else:
            base, ceiling = 0.0, top * 1.08
            levels = [level for level in plotting.ticks(0, ceiling, 5) if level > 0]
            tick_text = plotting.short_number
        axes.y_axis.setTicks([[(level, tick_text(level)) for level in levels]])
        axes.add_grid(levels)
        return base, ceiling

    def _show_chips(self, found: Facts) -> None:
        for chip, words, n in (
            (self._below, "‹ {} below", int(found["below"] or 0)),
            (self._above, "{} above ›", int(found["above"] or 0)),
        ):
            chip.setText(words.format(text.count(n)))
            chip.setVisible(n > 0 and not self._full)
        self._robust.setVisible(self._full)

    def _words(self, found: Facts, summary: Facts, bins: int) -> str:
        parts = [text.plural(bins, "bin")]
        if summary.get("std"):
            parts[0] += " · dashed: normal, same μ and σ"
        if zeros := int(found["zeros"] or 0):
            parts.append(f"{text.plural(zeros, 'exact zero')} ({text.percent(zeros / max(int(found['count']), 1))})")
        if not found["exact_range"]:
            parts.append(f"range from {text.count(int(found['sampled']))} values")
        return " · ".join(parts)

    def _description(self, found: Facts, summary: Facts) -> str:
        return (
            f"Histogram of {text.count(int(found['count']))} values from {text.value(summary.get('min'))} to "
            f"{text.value(summary.get('max'))}, {text.count(int(found['below'] or 0))} below and "
            f"{text.count(int(found['above'] or 0))} above what is drawn"
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


def _normal(numpy: Any, summary: Facts, edges: Any, counted: float) -> tuple[Any, Any]:
    """The normal curve of the same mean and deviation, as counts in bins of this width."""
    mean, std = summary.get("mean"), summary.get("std")
    if mean is None or not std or not math.isfinite(std):
        return numpy.empty(0), numpy.empty(0)
    x = numpy.linspace(edges[0], edges[-1], 400)
    density = numpy.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return x, density * counted * (edges[1] - edges[0])
