"""Which keys are there when: a bar for each part of the model, with a dot where its shape or dtype changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.plots.step_map import StepMap

BAR: Final = 10
"""Pixels of the height of a bar."""
DOT: Final = 5
"""Pixels of the radius of a dot."""


class PresenceRow(NamedTuple):
    """Keys that come, go and change together: runs are [first step, one behind the last, which form]."""

    name: str
    keys: int
    runs: tuple[tuple[int, int, int], ...]
    forms: tuple[str, ...]

    @classmethod
    def of(cls, row: Any) -> PresenceRow:
        """As `engine.series` sends it."""
        name, keys, runs, forms = row
        return cls(str(name), int(keys), tuple([(int(a), int(b), int(c)) for a, b, c in runs]), tuple(map(str, forms)))

    def form(self, at: int) -> str:
        """Shape and dtype of the first of them in words, "" where that is not told."""
        return self.forms[at] if at < len(self.forms) else ""

    def always(self, steps: int) -> bool:
        """Whether nothing of it changes."""
        return self.runs == ((0, steps, 0),)

    def changes(self) -> list[int]:
        """Steps at which the form is another one than before."""
        return [b[0] for a, b in itertools.pairwise(self.runs) if a[2] != b[2]]


class PresenceMap(StepMap):
    """The bars."""

    lowest, highest = 20, 24

    def __init__(self) -> None:
        super().__init__("Keys over the steps")
        self.rows: list[PresenceRow] = []
        self._unknown: frozenset[int] = frozenset()
        self._unknown_runs: list[tuple[int, int]] = []
        self._label: Callable[[int], str] = str

    def show_rows(
        self,
        rows: Sequence[PresenceRow],
        steps: int,
        said: str,
        *,
        short: Callable[[int], str],
        label: Callable[[int], str],
        unknown: Sequence[int] = (),
    ) -> None:
        """Other bars; of the steps in `unknown` nothing is known."""
        self.rows, self._label, self._unknown = list(rows), label, frozenset(unknown)
        # Drawn as one each: a pattern for every one of 2,000 steps takes 20 ms.
        starts = [step for step in unknown if step - 1 not in self._unknown]
        stops = [step + 1 for step in unknown if step + 1 not in self._unknown]
        self._unknown_runs = list(zip(starts, stops, strict=True))
        self.show_names([row.name for row in rows], steps, said, short)

    def describe(self, row: int, step: int) -> str:
        of = self.rows[row]
        what = f"{of.name}, {text.plural(of.keys, 'key')}"
        if step in self._unknown:
            return f"{what}: {self._label(step)} is not read"
        run = next((run for run in of.runs if run[0] <= step < run[1]), None)
        if run is None:
            return f"{what}: not in {self._label(step)}"
        form = of.form(run[2])
        first = f" ({form}{' the first of them' if of.keys > 1 else ''})" if form else ""
        if step in of.changes():
            before = max(other[2] for other in of.runs if other[1] <= step)
            old = of.form(before) or "another one"
            return f"{what}: another shape or dtype from {self._label(step)} on, {old} before{first}"
        return f"{what}: in {self._label(step)}{first}"

    def draw_rows(self, painter: QPainter, first: int, last: int) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for row in range(first, last):
            of = self.rows[row]
            track = self._bar(row, 0, self.steps)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(resources.colour("sunk"))
            painter.drawRoundedRect(track, 3, 3)
            token = "neutral" if of.always(self.steps) else "Af"
            for start, stop, form in of.runs:
                colour = resources.colour(token)
                if form:
                    colour = colour.darker(125) if resources.theme().name == "light" else colour.lighter(125)
                painter.setBrush(colour)
                painter.setPen(Qt.PenStyle.NoPen)
                painter.drawRoundedRect(self._bar(row, start, stop), 3, 3)
            painter.setBrush(resources.colour("S"))
            painter.setPen(QPen(resources.colour("panel"), 1.5))
            for step in of.changes():
                bar = self._bar(row, step, step + 1)
                painter.drawEllipse(QPointF(bar.x() + 1, bar.center().y()), DOT, DOT)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        for start, stop in self._unknown_runs:
            place = self.cell_rect(first, start, stop)
            place.setHeight(self.row_height * (last - first))
            painter.fillRect(place, resources.colour("panel"))
            self.hatch(painter, place)

    def _bar(self, row: int, start: int, stop: int) -> QRectF:
        place = self.cell_rect(row, start, stop)
        return QRectF(place.x(), place.center().y() - BAR / 2, place.width(), BAR)
