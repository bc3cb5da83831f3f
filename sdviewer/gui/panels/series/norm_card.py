"""The norm of each module over the steps, or how far it moved: light to dark by depth, what leaves the others named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import Signal

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.series.series_card import SeriesCard
from sdviewer.gui.plots.change_matrix import share_words
from sdviewer.gui.plots.numbers import floats
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.scale import plain_number
from sdviewer.gui.plots.steps import StepLine, StepMark, StepPlot
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.widgets import Elided, Segments

MEASURES: Final = (("norm", "Norm", ""), ("previous", "Change", ""), ("first", "From first", ""))
WORDS: Final = {
    "norm": "L2 norm of each module",
    "previous": "‖B − A‖ / ‖A‖ against the file before",
    "first": "‖B − A‖ / ‖A‖ against the first file",
}
LIGHTEST: Final = 0.3
"""Share of the colours of amounts that the first module has; lighter lines would not be seen."""
NAMED: Final = 12
"""Modules up to which every line is named; of more, every so manieth."""


class NormCard(SeriesCard):
    """The lines. `what_chosen` fires when another number is wanted, `measure_requested` when it is to be measured."""

    name, title = "norms", "Norms"

    what_chosen = Signal(str)
    step_chosen = Signal(int)
    measure_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.found = Elided("", "note")
        self.what = "norm"
        self._shown: object = None
        self.measures = Segments(MEASURES, "Which number")
        self.measures.choose(self.what)
        self.measures.set_tooltip("previous", "How far each module moved since the file before")
        self.measures.set_tooltip("first", "How far each module moved since the first file")
        self.measures.chosen.connect(self._choose)
        self.measure = widgets.button("Measure", link=True)
        self.measure.setProperty("tone", "accent")
        self.measure.clicked.connect(self.measure_requested)
        self.measure.hide()
        self.add_control(self.measure)
        self.add_control(self.measures)
        self.plot = StepPlot("Norms over the steps")
        self.plot.step_chosen.connect(self.step_chosen)
        self.plot.pointed.connect(self.pointed)
        self.column.addWidget(self.found)
        self.set_body(self.plot)

    def _choose(self, what: str) -> None:
        self.what = what
        self.title_label.setText("Norms" if what == "norm" else "Change")
        self.what_chosen.emit(what)

    def table(self) -> list[Column]:
        drawn = self.plot.lines
        return [self.step_names(self.plot.steps), *[(line.name, line.values) for line in drawn]] if drawn else []

    def remark(self) -> str:
        return WORDS[self.what]

    def show_measuring(self, session: SeriesSession) -> None:
        """Offer what is not measured by itself."""
        offered = session.measuring in ("offered", "stopped")
        rest = text.size(int(session.info.get("nbytes", 0)))
        self.measure.setVisible(offered)
        self.measure.setText("Measure the rest" if session.left < session.total else f"Measure, {rest}")
        self.measure.setToolTip(session.trouble or f"Read the weights of all files, {rest}")

    def show_lines(self, session: SeriesSession, body: Body, buffers: Buffers) -> None:
        """Show what `engine.series` says of the lines."""
        shown = (self.what, bytes(buffers["values"]), body, session.info["labels"], session.is_measured)
        if shown == self._shown:
            return
        self._shown, self.session = shown, session
        names, steps = [str(name) for name in body["names"]], [int(step) for step in body["steps"]]
        numbers = floats(buffers["values"])
        total = len(session.info["labels"])
        values = [numbers[at * len(steps) : (at + 1) * len(steps)] for at in range(len(names))]
        outlier = body["outlier"]
        odd = int(outlier[0]) if outlier else -1
        lines = [self._line(at, name, values[at], len(names), odd, body) for at, name in enumerate(names)]
        marks = []
        if body["onset"]:
            marks.append(StepMark(int(body["onset"][0]), f"NaN from {session.label(int(body['onset'][0]))} on", "S"))
        self._say_what(session, body)
        said = self._said(session, names, values, steps, body)
        self.plot.show_lines(
            lines,
            steps,
            total,
            said,
            label=session.label,
            short=lambda step: str(session.info["labels"][step]),
            marks=marks,
            number=text.value if self.what == "norm" else share_words,
            tick_text=plain_number if self.what == "norm" else lambda share: f"{plain_number(100 * share)} %",
        )

    def _line(self, at: int, name: str, values: Sequence[float], number: int, odd: int, body: Body) -> StepLine:
        if at == odd:
            return StepLine(name, values, "S", True, f"{body['outlier'][1]} the first")
        every = -(-number // NAMED)
        share = LIGHTEST + (1 - LIGHTEST) * at / max(number - 1, 1)
        return StepLine(name, values, share, named=at % every == 0)

    def _say_what(self, session: SeriesSession, body: Body) -> None:
        """What the lines are of, and in which tensors NaN set in."""
        known, wanted = int(body["known"]), int(body["total"])
        self.say(f"{known:,} of {wanted:,} files" if known < wanted and not session.is_measured else "")
        onset = body["onset"]
        found = f"NaN or Inf from {session.label(int(onset[0]))} on: {onset[1]}" if onset else ""
        self.found.setText(found or f"{WORDS[self.what]}, coloured by depth")
        widgets.set_property(self.found, "role", "error" if found else "note")

    def _said(
        self, session: SeriesSession, names: Sequence[str], values: Sequence[Sequence[float]], steps: Any, body: Body
    ) -> str:
        """The lines in a sentence."""
        number = text.value if self.what == "norm" else share_words
        parts = []
        for name, line in zip(names, values, strict=True):
            known = [value for value in line if math.isfinite(value)]
            if known:
                parts.append(f"{name} from {number(known[0])} to {number(known[-1])}")
        said = f"{WORDS[self.what]} over {text.plural(len(session.info['labels']), 'step')}: {'; '.join(parts[:20])}"
        if body["outlier"]:
            said += f". {names[int(body['outlier'][0])]} leaves the others: {body['outlier'][1]} as large as at first"
        if body["onset"]:
            said += f". NaN or infinite from {session.label(int(body['onset'][0]))} on in {body['onset'][1]}"
        return said
