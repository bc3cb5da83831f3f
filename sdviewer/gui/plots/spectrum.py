"""The singular values of a tensor as a matrix: its rank, and whether it has collapsed."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers, Job, is_cancelled
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.choosing import ChoosingPlot
from sdviewer.gui.plots.numbers import floats, has_numbers, long_axes, whole_numbers
from sdviewer.gui.plots.plot import Facts
from sdviewer.gui.plots.scale import plain_number, ticks
from sdviewer.gui.widgets import Segments

FEWEST_DECADES = 1.0
"""Decades below which a logarithmic axis has numbers between its powers of ten."""


class SpectrumPlot(ChoosingPlot):
    """Singular values over their rank, filled; a mark where 90 % of the energy is reached.

    `measured` fires with the body of each answer (`stats.Spectrum`), for the statistics column.
    """

    name = "spectrum"
    title = "Spectrum"
    heading = "Singular values"
    icon = "spectrum"
    columns = (("index", "index", "q"), ("singular value", "values", "d"))

    measured = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._scale = "linear"
        self._job: Job | None = None
        self._axes = Axes(plain_number)
        self.scale = Segments((("linear", "Linear", ""), ("log", "Log", "")), "Scale of the singular values")
        self.scale.choose("linear")
        self.scale.chosen.connect(self._set_scale)
        self.add_choice(self.scale)
        self._offer = QWidget()
        # Below each other: in the overview there is no room for two beside each other.
        offered = QVBoxLayout(self._offer)
        offered.setContentsMargins(0, 0, 0, 0)
        offered.setSpacing(6)
        self.exactly = widgets.button("Compute exactly")
        self.exactly.clicked.connect(lambda: self._compute("exact"))
        self.leading = widgets.button("Compute the first ones")
        self.leading.clicked.connect(lambda: self._compute("randomised"))
        self.cancel = widgets.button("Cancel", "x")
        self.cancel.clicked.connect(self._cancel)
        self._doing = widgets.label("", "note")
        row = QHBoxLayout()
        row.addWidget(self.cancel)
        row.addWidget(self._doing)
        row.addStretch(1)
        for button in (self.exactly, self.leading):
            offered.addWidget(button, 0, Qt.AlignmentFlag.AlignLeft)
        offered.addLayout(row)
        self._offer.hide()
        self.column.addWidget(self._offer)
        self._axes.setAccessibleName("Singular values")
        self.set_body(self._axes)
        self.setMinimumHeight(150)

    @staticmethod
    def score(facts: Facts) -> int:
        return 60 if has_numbers(facts) and len(long_axes(facts)) >= 2 else 0

    def begin(self, facts: Facts) -> None:
        self._job = None
        self._offer.hide()

    def forget(self) -> None:
        super().forget()
        self._job = None

    def take(self, body: Body, buffers: Buffers) -> None:
        self._job = None
        super().take(body, buffers)

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "spectrum", {"how": "auto"}

    def remark(self) -> str:
        body = self._answer[0] if self._answer is not None else {"kind": "none"}
        return f"randomised, the last up to {error(body)} too small" if body["kind"] == "randomised" else ""

    def clear(self) -> None:
        self._axes.start_over()
        self._offer.hide()

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._axes.start_over()
        self.measured.emit(body)
        if self._job is None:  # else what is computed can still be stopped
            self._show_offer(body)
        self.subtitle.setText(_subtitle(body, self._facts))
        self.subtitle.setToolTip(_accuracy(body))
        self._axes.setAccessibleDescription(description(body))
        self.scale.setVisible(body["kind"] != "none")
        if body["kind"] == "none":
            why = str(body["why"])
            self.say(f"No singular values: {why}." if why else "Its singular values would take a while.")
            return
        ranks = [float(index + 1) for index in whole_numbers(buffers["index"])]
        values = floats(buffers["values"])
        last = float(body["full"] if body["kind"] == "exact" else body["known"])
        base, top = self._draw_values(ranks, values, float(body["floor"]))
        rank = body["rank90"]
        if rank:
            self._axes.add_mark(float(rank), "text2", dashed=True)
            beyond = rank > last / 2
            self._axes.add_words(float(rank), top, f" 90 % energy at {rank:,} ", "text2", (1.0 if beyond else 0.0, 0.0))
        margin = max(last - 1, 1.0) * 0.012
        self._axes.set_range((1 - margin, last + margin), (base, top))

    def _draw_values(self, ranks: list[float], values: list[float], floor: float) -> tuple[float, float]:
        """Draw the curve; the range it takes up."""
        if self._scale == "linear" or not values[0] > 0:
            top = values[0] * 1.06 or 1.0
            self._axes.add_levels([level for level in ticks(0, top, 4) if level > 0])
            self._axes.add_area(ranks, values, 0.0)
            return 0.0, top
        # What cannot be told from zero has no logarithm either.
        shown = [(rank, math.log10(value)) for rank, value in zip(ranks, values, strict=True) if value > floor]
        bottom, top = shown[-1][1], shown[0][1]
        pad = (top - bottom) * 0.06 or 0.1
        self._axes.add_levels(log_levels(bottom - pad, top + pad), lambda level: plain_number(10**level))
        self._axes.add_area([rank for rank, _ in shown], [level for _, level in shown], bottom - pad)
        return bottom - pad, top + pad

    def _set_scale(self, scale: str) -> None:
        self._scale = scale
        self._draw_answer()

    # What takes long

    def _show_offer(self, body: Body) -> None:
        exact, sketched = (float(seconds) for seconds in body["seconds"])
        there = not body["why"] and body["kind"] != "exact"
        self._job = None
        self.cancel.hide()
        self._doing.setText("")
        self.exactly.setVisible(there and not body["too_large"])
        self.exactly.setText(f"Compute exactly ({about(exact)})")
        self.leading.setVisible(there and body["kind"] == "none")
        self.leading.setText(f"Only the first ones ({about(sketched)})")
        if there and body["too_large"]:
            self._doing.setText("Too large to be computed exactly")
        self._offer.setVisible(there)

    def _compute(self, how: str) -> None:
        session = self._session
        if session is None:
            return
        for widget in (self.exactly, self.leading):
            widget.hide()
        self.cancel.show()
        self._went_on(0.0)
        params = {"source": self._facts["source"], "how": how}
        self._job = session.jobs.run(
            self._lane,
            lambda done, failed, progressed: session.pool.request("spectrum", params, done, failed, progressed),
            self._answered,
            self._stopped,
            self._went_on,
            long=True,
        )

    def _went_on(self, fraction: float) -> None:
        self._doing.setText(f"Computing, {fraction:.0%}" if 0 <= fraction < 1 else "Computing eigenvalues")

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _stopped(self, failure: Body) -> None:
        if is_cancelled(failure) and self._answer is not None:
            self._show_offer(self._answer[0])
        else:
            self._job = None
            self._failed(failure)


def log_levels(low: float, high: float) -> list[float]:
    """Where the numbers of a logarithmic axis stand, as logarithms: at powers of ten, or between them where few are."""
    if high - low > FEWEST_DECADES:
        step = max(1, round((high - low) / 5))
        return [float(power) for power in range(math.ceil(low), math.floor(high) + 1) if power % step == 0]
    return [math.log10(level) for level in ticks(10**low, 10**high, 4) if level > 0]


def about(seconds: float) -> str:
    """An estimate: `about 6 s`, `about 3 min`."""
    return f"about {max(round(seconds), 1)} s" if seconds < 90 else f"about {round(seconds / 60):,} min"


def _subtitle(body: Body, facts: Facts) -> str:
    words = {
        "exact": f"{body['full']:,} of {body['full']:,}, exact",
        "randomised": f"≈ first {body['known']:,} of {body['full']:,}, randomised",
        "none": "",
    }[str(body["kind"])]
    flat = [int(body["rows"]), int(body["columns"])]
    if [size for size in facts.get("shape") or () if size != 1] != flat:
        as_matrix = f"as {text.shape(tuple(flat))}"
        words = f"{words} · {as_matrix}" if words else as_matrix
    return words


def _accuracy(body: Body) -> str:
    if body["kind"] == "exact":
        return (
            "From the Gram matrix of the smaller side in float64: exact to about a ten-millionth of the largest; "
            "smaller ones are not told from zero."
        )
    if body["kind"] == "randomised":
        return (
            f"From a random subspace: none is too large, the first are best, the last up to {error(body)} too small; "
            "what is below a thousandth of the largest is not told from zero. The sum of all squares is exact."
        )
    return ""


def error(body: Body) -> str:
    """The largest relative error of randomised values, rounded up to whole percents."""
    return f"{max(math.ceil(float(body['error']) * 100), 1)} %"


def description(body: Body) -> str:
    """The plot in words."""
    if body["kind"] == "none":
        return f"No singular values: {body['why']}" if body["why"] else "Singular values not computed"
    sign = "" if body["kind"] == "exact" else "about "
    rank = body["rank90"]
    share = f"90 % of the energy in the first {sign}{rank:,}" if rank is not None else "less than 90 % of the energy"
    return (
        f"Singular values, {_subtitle(body, {'shape': [body['rows'], body['columns']]})}; the largest {sign}"
        f"{text.value(body['spectral'])}, stable rank {sign}{text.value(body['stable_rank'])}, {share}"
    )
