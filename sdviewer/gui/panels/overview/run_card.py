"""Other checkpoints of the same run: the best metric that they state over their steps, with the open file marked."""

from __future__ import annotations

import math
from typing import Final

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.plots.steps import StepLine, StepMark, StepPlot
from sdviewer.gui.widgets import Card, Elided

HEIGHT: Final = 104
"""Pixels of the plot."""

SERIES_TIP: Final = "All checkpoints of this run in one tab: metrics, norms, keys and changes over the steps"
TIP: Final = "A click on a point opens that checkpoint. With Ctrl it is compared with this one."


class RunCard(Card):
    """The run of one file. `series_requested` carries the paths of it, `file_chosen` one, `compare_requested` two."""

    series_requested = Signal(object)
    file_chosen = Signal(str)
    compare_requested = Signal(str, str)
    pointed = Signal(str)

    def __init__(self) -> None:
        super().__init__("Same run")
        self._state: Body = {}
        self.plot = StepPlot("Metric of the checkpoints of this run")
        self.plot.setFixedHeight(HEIGHT)
        self.plot.setToolTip(TIP)
        self.plot.step_chosen.connect(self._choose)
        self.plot.pointed.connect(self.pointed)
        self.words = Elided("", "note")
        self.series = widgets.button("Open as series")
        self.series.setToolTip(
            "All checkpoints of this run in one tab: metrics, norms, keys and changes over the steps"
        )
        self.series.clicked.connect(lambda: self.series_requested.emit([str(path) for path in self._state["to_open"]]))
        self.column.addWidget(self.plot)
        foot = QHBoxLayout()
        foot.addWidget(self.words, 1)
        foot.addWidget(self.series)
        self.column.addLayout(foot)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def show_run(self, state: Body) -> None:
        """Show what is known of the run (engine.same_run, STATE)."""
        self._state = state
        labels = [str(label) for label, _, _ in state["points"]]
        files, read, metric = int(state["files"]), len(labels), str(state["metric"])
        self.subtitle.setText(f"{state['unit']} {labels[0]} to {labels[-1]}".strip())
        checkpoints = text.plural(files, "checkpoint")
        if read < files:
            checkpoints = f"{read:,} of {checkpoints}"
        self.words.setText(f"{metric} over {checkpoints}" if metric else f"{checkpoints}, none states a metric")
        self.plot.setVisible(bool(metric))
        if metric:
            self._draw(labels, metric, checkpoints)

    def _draw(self, labels: list[str], metric: str, checkpoints: str) -> None:
        values = [math.nan if value is None else float(value) for _, value, _ in self._state["points"]]
        own, unit = int(self._state["own"]), str(self._state["unit"])
        known = [value for value in values if math.isfinite(value)]
        said = (
            f"{metric} over {checkpoints}, from {text.value(known[0])} to {text.value(known[-1])}" if known else metric
        )
        marks = []
        if own >= 0:
            mine = values[own] if math.isfinite(values[own]) else None
            high = mine is not None and mine <= (min(known) + max(known)) / 2
            marks.append(StepMark(own, "this file", "accent", mine, above=high))
            said += f"; this file, {unit} {labels[own]}: {text.value(mine) if mine is not None else 'not known'}"
        self.plot.show_lines(
            [StepLine(metric, values, "A")],
            list(range(len(values))),
            len(values),
            said,
            label=lambda step: f"{unit} {labels[step]}".strip(),
            short=lambda step: labels[step],
            marks=marks,
        )

    def _choose(self, step: int) -> None:
        points, own = self._state["points"], int(self._state["own"])
        path = str(points[step][2])
        if step == own:
            self.pointed.emit("This is the open file.")
        elif own >= 0 and QGuiApplication.keyboardModifiers() & Qt.KeyboardModifier.ControlModifier:
            first, second = sorted((step, own))
            self.compare_requested.emit(str(points[first][2]), str(points[second][2]))
        else:
            self.file_chosen.emit(path)
