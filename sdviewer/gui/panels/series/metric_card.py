"""A number that the files of a series state of themselves, over the steps, with the best one marked."""

from __future__ import annotations

import math
from typing import Final

from PySide6.QtCore import Signal

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.series.series_card import SeriesCard
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.steps import StepLine, StepMark, StepPlot
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.widgets import Choice

WIDTH: Final = 150
"""Pixels of the choice of the metric."""


class MetricCard(SeriesCard):
    """The line of one metric. `metric_chosen` fires when another one is wanted."""

    name, title = "metric", "Metrics"

    metric_chosen = Signal(str)
    step_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._names: list[list[str]] = []
        self._shown: object = None
        self.choice = Choice("Metric")
        self.choice.setFixedWidth(WIDTH)
        self.choice.activated.connect(lambda at: self.metric_chosen.emit(self._names[at][0]))
        self.choice.hide()
        self.add_control(self.choice)
        self.plot = StepPlot("Metric over the steps")
        self.plot.step_chosen.connect(self.step_chosen)
        self.plot.pointed.connect(self.pointed)
        self._nothing = widgets.label("", "second")
        self._nothing.setWordWrap(True)
        self._nothing.hide()
        self.column.addWidget(self._nothing)
        self.set_body(self.plot)

    def table(self) -> list[Column]:
        drawn = self.plot.lines if not self.plot.isHidden() else []
        return [self.step_names(self.plot.steps), *[(line.name, line.values) for line in drawn]] if drawn else []

    def remark(self) -> str:
        return self.said or "as the files state it"

    def show_metrics(self, session: SeriesSession, body: Body) -> None:
        """Show what `engine.series` says of the metrics."""
        shown = (body, session.info["labels"], session.info["read"])
        if shown == self._shown:
            return
        self._shown, self.session = shown, session
        names = [[str(name), str(short)] for name, short in body["names"]]
        there = bool(names)
        self.choice.setVisible(len(names) > 1)
        self.plot.setVisible(there)
        self._nothing.setVisible(not there)
        if names != self._names:
            self._names = names
            self.choice.clear()
            self.choice.addItems([short for _, short in names])
        if not there:
            waits = session.info.get("read") != session.info.get("files")
            said = "Reading…" if waits else "The files state no number that changes: no epoch, accuracy or loss."
            self._nothing.setText(said)
            self.say("")
            return
        at = next(at for at, (name, _) in enumerate(names) if name == body["chosen"])
        self.choice.setCurrentIndex(at)
        self._draw(session, names[at][1], body)

    def _draw(self, session: SeriesSession, name: str, body: Body) -> None:
        values = [math.nan if value is None else float(value) for value in body["values"]]
        best, marks = int(body["best"]), []
        if best >= 0:
            words = f"{text.value(values[best])} at {session.label(best)}"
            marks.append(StepMark(best, words, "ok", values[best], body["rule"] == "highest"))
            self.say(f"{body['words']}: {session.label(best)}")
        else:
            self.say(name)
        odd = [int(step) for step in body["odd"]]
        if odd:
            marks.append(StepMark(odd[0], f"no number from {session.label(odd[0])} on", "S"))
        known = [(step, value) for step, value in enumerate(values) if math.isfinite(value)]
        said = f"{name} over {text.plural(len(values), 'step')}"
        if known:
            said += f", from {text.value(known[0][1])} to {text.value(known[-1][1])}"
        if best >= 0:
            said += f"; best {text.value(values[best])} at {session.label(best)}"
        if odd:
            said += f"; NaN or infinite in {text.plural(len(odd), 'file')}"
        self.plot.show_lines(
            [StepLine(name, values, "A")],
            list(range(len(values))),
            len(values),
            said,
            label=session.label,
            short=lambda step: str(session.info["labels"][step]),
            marks=marks,
        )
