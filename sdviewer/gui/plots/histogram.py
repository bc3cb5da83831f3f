"""The distribution of a tensor's values, in true steps, over a robust range or the full one."""

from __future__ import annotations

import itertools
import math
from typing import Any

from PySide6.QtWidgets import QHBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.numbers import floats, has_numbers, long_axes, whole_numbers
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Asker, Facts, Plot
from sdviewer.gui.plots.scale import Mark, power_of_ten, ticks
from sdviewer.gui.widgets import Chip, Segments

BINS = 140
_CURVE = 240
_ODD = {"nan": "{} NaN", "posinf": "{} Inf", "neginf": "{} −Inf", "zeros": "{} exact zero"}
"""Values that are in no bin, by their field in the answer."""
_PLACES = {"min": "min", "max": "max", "mean": "mean", "median": "median", "absmean": "mean |x|"}
"""Statistics that are a value, so that they have a place."""
# Where an empty bin stands on a logarithmic axis: a little below one.
_LEAST = 0.7
_NAMED_BARS = 8
"""Bars that there would be room for up to which each has its value below it."""
MANY_ZEROS = 0.5
"""Share of exact zeros from which their chip warns."""


class HistogramPlot(Plot):
    """Steps, the normal of the same mean and deviation dashed, zero as a thin line."""

    name = "histogram"
    title = "Histogram"
    heading = "Distribution"
    icon = "hist"

    def __init__(self) -> None:
        super().__init__()
        self._full = False
        self._count = 1
        self._span: tuple[float, float] | None = None
        self._scale = "linear"
        self._axes = Axes()
        self._axes.setAccessibleName("Histogram")
        self._below = Chip("")
        self._above = Chip("")
        self._robust = Chip("Full range")
        self._robust.setToolTip("Back to the range that holds 99.8 % of the values")
        self._odd = {field: Chip("", "shape" if field != "zeros" else "") for field in _ODD}
        self._summary: Facts = {}
        self._odd_row = QWidget()
        row = QHBoxLayout(self._odd_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for chip in self._odd.values():
            chip.setEnabled(False)
            row.addWidget(chip)
        row.addStretch(1)
        self._odd_row.hide()
        self.column.addWidget(self._odd_row)
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
        self.set_body(self._axes)
        self.setMinimumHeight(150)

    @staticmethod
    def score(facts: Facts) -> int:
        return 80 if has_numbers(facts) and long_axes(facts) else 0

    def begin(self, facts: Facts) -> None:
        self._full = False

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        span = {"span": list(self._span)} if self._full and self._span else {}
        return "overview", {"bins": BINS, **span}

    def show_tensor(self, session: Asker, facts: Facts) -> None:
        # The panel asks for sums and histogram in one pass and hands the answer to `take`.
        self._session, self._facts = session, facts
        self._answer = None
        self.begin(facts)
        self.pending = True
        self._hint.start()

    def clear(self) -> None:
        self._axes.start_over()
        for part in (self._below, self._above, self._robust, self._odd_row):
            part.hide()

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        summary, found = body["summary"], body["histogram"]
        self._summary = summary
        low, high = summary.get("min"), summary.get("max")
        self._span = None if low is None or high is None or not float(low) < float(high) else (float(low), float(high))
        self._count = max(int(found["count"]), 1)
        self._show_chips(found)
        if found["values"]:
            values = [float(value) for value in found["values"]]
            self._draw_bars(values, _counts(buffers["value_counts"]))
            self.subtitle.setText(f"counts of {text.plural(len(values), 'value')}")
        else:
            edges, counts = floats(buffers["edges"]), _counts(buffers["counts"])
            self.subtitle.setText(self._words(found, summary, len(counts)))
            if counts and (sum(counts) or found["zeros"]):
                self._draw_steps(edges, counts, summary, int(found["zeros"]))
            else:
                self.say("No finite values.")
        self._axes.setAccessibleDescription(self._description(found, summary))

    def data(self) -> list[Column]:
        """Bins by their edges, or values, with their counts; exact zeros are in no bin."""
        if self._answer is None:
            return []
        body, buffers = self._answer
        if values := body["histogram"]["values"]:
            return [("value", values), ("count", whole_numbers(buffers["value_counts"]))]
        edges, counts = floats(buffers["edges"]), whole_numbers(buffers["counts"])
        return [
            *(("from", edges[:-1]), ("to", edges[1:]), ("count", counts)),
            ("exact zeros", [int(body["histogram"]["zeros"])]),
        ]

    def remark(self) -> str:
        return f"approximate, so far from {int(self._summary['sampled']):,} values" if self._sampled else ""

    def _draw_steps(self, edges: list[float], counts: list[float], summary: Facts, zeros: int) -> None:
        low, high = edges[0], edges[-1]
        top = max(*counts, 1.0)
        normal_x, normal_y = _normal(summary, edges, sum(counts))
        if normal_y:
            top = max(top, min(max(normal_y), top * 1.6))
        base, ceiling = self._set_scale_of_counts(top)
        self._axes.add_steps(edges, self._heights(counts), base)
        if normal_y:
            self._axes.add_line(normal_x, self._heights(normal_y), "text2", 1.2, dashed=True)
        if low < 0 < high:
            self._axes.add_mark(0.0)
        if zeros and low <= 0 <= high:
            spike = min(self._heights([float(zeros)])[0], ceiling)
            self._axes.add_line([0.0, 0.0], [base, spike], "text", 2.5)
            words = f"  {self._zero_words(zeros)} ({text.percent(zeros / self._count)})  "
            self._axes.add_words(0.0, ceiling, words, "text", (0.0, 0.0))
        margin = (high - low) * 0.012
        self._axes.set_range((low - margin, high + margin), (base, ceiling))

    def _draw_bars(self, values: list[float], counts: list[float]) -> None:
        base, ceiling = self._set_scale_of_counts(max(*counts, 1.0))
        step = min((b - a for a, b in itertools.pairwise(values)), default=1.0)
        self._axes.add_bars(values, self._heights(counts), step * 0.8, base)
        if self._facts.get("dtype") == "bool":
            self._axes.add_columns([(value, "true" if value else "false") for value in values])
        elif values[-1] - values[0] < step * _NAMED_BARS:
            # Beside them there is nothing: no numbers where no bar can be.
            self._axes.add_columns([(value, text.value(value)) for value in values])
        self._axes.set_range((values[0] - step, values[-1] + step), (base, ceiling))

    def _heights(self, counts: list[float]) -> list[float]:
        """Counts as they are drawn: on a logarithmic axis their logarithms."""
        return [math.log10(max(count, _LEAST)) for count in counts] if self._scale == "log" else counts

    def _set_scale_of_counts(self, top: float) -> tuple[float, float]:
        """Label the axis of counts; where it begins and ends."""
        if self._scale == "log":
            base, ceiling = math.log10(_LEAST), math.log10(top) + 0.15
            self._axes.add_levels([float(power) for power in range(math.floor(ceiling) + 1)], power_of_ten)
        else:
            base, ceiling = 0.0, top * 1.08
            self._axes.add_levels([level for level in ticks(0, ceiling, 5) if level > 0])
        return base, ceiling

    def _show_chips(self, found: Facts) -> None:
        about = self._about
        for chip, words, n in (
            (self._below, "‹ {} below", int(found["below"] or 0)),
            (self._above, "{} above ›", int(found["above"] or 0)),
        ):
            chip.setText(words.format(f"{about}{text.count(n)}"))
            chip.setVisible(n > 0 and not self._full)
        self._robust.setVisible(self._full)
        # Where each value has a bar of its own, zero has one too.
        counted = {field: int(found[field] or 0) for field in _ODD if field != "zeros" or not found["values"]}
        self._odd_row.setVisible(any(counted.values()))
        for field, words in _ODD.items():
            n = counted.get(field, 0)
            ending = "s" if field == "zeros" and n != 1 else ""
            self._odd[field].setText(words.format(f"{about}{text.count(n)}") + ending)
            self._odd[field].setVisible(n > 0)
            share = text.percent(n / self._count)
            if field == "zeros":
                many = n / self._count >= MANY_ZEROS
                self._odd[field].dress(self._odd[field].text(), "warn" if many else "", "warn" if many else "")
            self._odd[field].setToolTip(f"{about}{text.count(n)} of {int(found['count']):,} values, {about}{share}")

    @property
    def _sampled(self) -> bool:
        """Whether this is a first look, scaled up from a sample."""
        return bool(self._summary.get("approximate"))

    @property
    def _about(self) -> str:
        """What stands before a number of a first look."""
        return "≈ " if self._sampled else ""

    def _zero_words(self, n: int) -> str:
        return f"{self._about}{text.count(n)} exact {'zero' if n == 1 else 'zeros'}"

    def _words(self, found: Facts, summary: Facts, bins: int) -> str:
        parts = [text.plural(bins, "bin")]
        if self._sampled:
            return f"≈ {parts[0]} · so far from {text.count(int(summary['sampled']))} values"
        if summary.get("std"):
            parts[0] += " · dashed: normal, same μ, σ"
        if not found["exact_range"]:
            parts.append(f"range from {text.count(int(found['sampled']))} values")
        return " · ".join(parts)

    def _description(self, found: Facts, summary: Facts) -> str:
        odd = ", ".join(
            words.format(text.count(int(found[field]))) + ("s" if field == "zeros" and int(found[field]) != 1 else "")
            for field, words in _ODD.items()
            if int(found[field] or 0)
        )
        mean = "" if summary.get("mean") is None else f", mean {text.value(summary['mean'])}"
        std = "" if summary.get("std") is None else f", standard deviation {text.value(summary['std'])}"
        return (
            f"{'Approximate histogram' if self._sampled else 'Histogram'} of {text.count(int(found['count']))} values "
            f"from {text.value(summary.get('min'))} to {text.value(summary.get('max'))}{mean}{std}, "
            f"{text.count(int(found['below'] or 0))} below and {text.count(int(found['above'] or 0))} above what is "
            f"drawn{f', {odd}' if odd else ''}, {self._scale} counts"
        )

    def point_out(self, statistic: str, value: float | None) -> None:
        mean, std = self._summary.get("mean"), self._summary.get("std")
        if statistic == "std" and mean is not None and std:
            marks = [Mark(mean - std, " μ − σ "), Mark(mean + std, " μ + σ ")]
        elif statistic == "zeros":
            marks = [Mark(0.0, f" {self._zero_words(int(self._summary.get('zeros') or 0))} ")]
        elif statistic in ("outliers", "outliers6") and mean is not None and std:
            marks = [Mark(mean - 6 * std, " −6σ "), Mark(mean + 6 * std, " 6σ ")]
        elif statistic in _PLACES and value is not None and math.isfinite(value):
            marks = [Mark(value, f" {_PLACES[statistic]} {self._about}{text.value(value)} ")]
        else:
            marks = []
        self._axes.point_out(marks)

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


def _normal(summary: Facts, edges: list[float], counted: float) -> tuple[list[float], list[float]]:
    """The normal curve of the same mean and deviation, as counts in bins of this width."""
    mean, std = summary.get("mean"), summary.get("std")
    if mean is None or not std or not math.isfinite(std):
        return [], []
    low, width, bin_width = edges[0], edges[-1] - edges[0], edges[1] - edges[0]
    x = [low + width * i / (_CURVE - 1) for i in range(_CURVE)]
    most = counted * bin_width / (std * math.sqrt(2 * math.pi))
    return x, [most * math.exp(-0.5 * ((at - mean) / std) ** 2) for at in x]


def _counts(buffer: memoryview) -> list[float]:
    return [float(number) for number in whole_numbers(buffer)]
