"""The values of a tensor over their probability: how far the tails reach."""

from __future__ import annotations

import bisect
import math
from statistics import NormalDist
from typing import Any

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.choosing import ChoosingPlot
from sdviewer.gui.plots.numbers import floats, has_numbers
from sdviewer.gui.plots.plot import Facts
from sdviewer.gui.plots.scale import plain_number, ticks
from sdviewer.gui.widgets import Segments

TOLD = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Probabilities whose quantiles the description has."""
LABELLED = (1e-6, 1e-4, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1 - 1e-4, 1 - 1e-6)
"""Probabilities that are labelled on the scale of a normal distribution, where there is room."""
_LABEL = 58
"""Pixels that a label takes."""


class QuantilesPlot(ChoosingPlot):
    """Value over probability, evenly or on the scale of a normal distribution, which then is a straight line."""

    name = "quantiles"
    title = "Quantiles"
    heading = "Quantiles"
    icon = "depth"
    columns = (("share", "probabilities", "d"), ("value", "values", "d"))

    def __init__(self) -> None:
        super().__init__()
        self._scale = "linear"
        self._summary: Facts = {}
        self._drawn: tuple[list[float], list[float], list[float]] = ([], [], [])
        self.scale = Segments((("linear", "Linear", ""), ("probit", "Probit", "")), "Scale of the probability")
        self.scale.set_tooltip("probit", "Normal deviates: a normal distribution is a straight line")
        self.scale.choose("linear")
        self.scale.chosen.connect(self._set_scale)
        self.add_choice(self.scale)
        self._axes = Axes(plain_number)
        self._axes.pointed.connect(self._pointed)
        self._axes.setAccessibleName("Quantiles")
        self.set_body(self._axes)
        self.setMinimumHeight(150)

    @staticmethod
    def score(facts: Facts) -> int:
        return 40 if has_numbers(facts) and math.prod(facts.get("shape") or ()) > 1 else 0

    def begin(self, facts: Facts) -> None:
        self._summary = {}

    def show_summary(self, summary: Facts) -> None:
        self._summary = summary
        if self._scale == "probit":
            self._draw_answer()

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "quantiles", {}

    def remark(self) -> str:
        sampled = int(self._answer[0]["sampled"]) if self._answer is not None else 0
        return f"approximate, from a sample of {sampled:,} values" if sampled else ""

    def clear(self) -> None:
        self._axes.start_over()

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        shares, deviates, values = (floats(buffers[name]) for name in ("probabilities", "deviates", "values"))
        probit = self._scale == "probit"
        self._drawn = (deviates if probit else shares, shares, values)
        self.subtitle.setText(self._subtitle(body))
        self._axes.setAccessibleDescription(_description(body, shares, values))
        if not values:
            self.say("No finite values.")
            return
        bottom, top = values[0], values[-1]
        pad = (top / 2 - bottom / 2) * 0.12 or abs(top) * 0.06 or 1.0
        self._axes.add_levels(ticks(bottom - pad, top + pad, 5))
        if bottom < 0 < top:
            self._axes.add_level(0.0)
        x = self._drawn[0]
        across = x[-1] - x[0] or 1.0
        columns = _columns(x[0], x[-1], self._axes.width()) if probit else [(i / 4, f"{25 * i} %") for i in range(5)]
        self._axes.add_columns(columns)
        normal = self._normal(x) if probit else []
        if normal:
            self._axes.add_line(x, normal, "text2", 1.2, dashed=True)
        self._axes.add_line(x, values, "A", 2)
        self._axes.set_range((x[0] - across * 0.05, x[-1] + across * 0.05), (bottom - pad, top + pad))

    def _normal(self, deviates: list[float]) -> list[float]:
        """The quantiles of the normal distribution with the same mean and deviation."""
        mean, std = self._summary.get("mean"), self._summary.get("std")
        if not isinstance(mean, (int, float)) or not isinstance(std, (int, float)) or not 0 < std < math.inf:
            return []
        return [mean + std * deviate for deviate in deviates]

    def _subtitle(self, body: Body) -> str:
        words = "value over probability"
        if body["sampled"]:
            words = f"≈ {words}, from a sample of {text.count(int(body['sampled']))} values"
        elif body["left_out"]:
            words += f" · {text.count(int(body['left_out']))} NaN or infinite left out"
        if self._scale == "probit" and self._normal([0.0]):
            words += " · dashed: normal, same μ, σ"
        return words

    def _set_scale(self, scale: str) -> None:
        self._scale = scale
        self._draw_answer()

    def _pointed(self, x: float) -> None:
        places, shares, values = self._drawn
        if self._answer is None or math.isnan(x) or not values:
            self.cursor_moved.emit("")
            return
        at = min(max(bisect.bisect_left(places, x), 0), len(places) - 1)
        sign = "≈ " if self._answer[0]["sampled"] else ""
        self.cursor_moved.emit(f"{_share(shares[at])} of the values are at most {sign}{text.value(values[at])}")


def _columns(low: float, high: float, width: int) -> list[tuple[float, str]]:
    """Labelled probabilities on the scale of normal deviates, those in the middle first, as far as there is room."""
    found: dict[float, str] = {}
    normal, apart = NormalDist(), (high - low) * _LABEL / max(width, _LABEL)
    for share in sorted(LABELLED, key=lambda share: abs(share - 0.5)):
        place = normal.inv_cdf(share)
        if low <= place <= high and all(abs(place - other) >= apart for other in found):
            found[place] = _share(share)
    return sorted(found.items())


def _share(share: float) -> str:
    """A probability in percent, with as many digits as its distance from the nearer end needs."""
    nearer = min(share, 1 - share) * 100
    digits = 0 if nearer <= 0 else min(max(0, 1 - math.floor(math.log10(nearer))), 8)
    words = f"{share * 100:.{digits}f}"
    return f"{words.rstrip('0').rstrip('.') if '.' in words else words} %"


def _description(body: Body, shares: list[float], values: list[float]) -> str:
    if not values:
        return "No quantiles: no value is finite"
    sign = "about " if body["sampled"] else ""
    told = (f"{share:.0%} at most {sign}{text.value(_at(share, shares, values))}" for share in TOLD)
    return (
        f"Quantiles of {text.count(int(body['finite']))} values, from {sign}{text.value(values[0])} to "
        f"{sign}{text.value(values[-1])}: {', '.join(told)}"
    )


def _at(share: float, shares: list[float], values: list[float]) -> float:
    return values[min(bisect.bisect_left(shares, share - 1e-12), len(values) - 1)]
