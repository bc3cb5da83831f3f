"""Which keys are there when and with which shape, as bars."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Signal

from sdviewer.core import text
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.file_view import scrolled
from sdviewer.gui.panels.series.series_card import SeriesCard
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.presence import PresenceMap, PresenceRow
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.widgets import Chip

MOST: Final = 300
"""Rows that are shown; what changes goes first."""


class KeysCard(SeriesCard):
    """The bars. `asked` fires when all rows are wanted, or only those that change."""

    name, title = "keys", "Keys"

    asked = Signal()
    step_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.only_changes = Chip("Only what changes")
        self.only_changes.setCheckable(True)
        self.only_changes.clicked.connect(self.asked)
        self.only_changes.hide()
        self.add_control(self.only_changes)
        self.map = PresenceMap()
        self.map.cell_chosen.connect(lambda row, step: self.step_chosen.emit(step))
        self.map.pointed.connect(self.pointed)
        self.scroller = scrolled(self.map)
        for part in (self.map, self.scroller.viewport()):
            part.setAutoFillBackground(False)
        self.set_body(self.scroller)

    @property
    def params(self) -> dict[str, object]:
        """What to ask the worker."""
        return {"changed": self.only_changes.isChecked(), "most": MOST}

    def table(self) -> list[Column]:
        """A line for each run of steps in which keys are there in one shape and dtype."""
        runs = [(row, run) for row in self.map.rows for run in row.runs]
        if not runs:
            return []
        return [
            ("part", [row.name for row, _ in runs]),
            ("keys", [row.keys for row, _ in runs]),
            ("from", self.step_names([start for _, (start, _, _) in runs])[1]),
            ("to", self.step_names([stop - 1 for _, (_, stop, _) in runs])[1]),
            ("first of them", [row.form(form) for row, (_, _, form) in runs]),
        ]

    def remark(self) -> str:
        return self.said

    def show_keys(self, session: SeriesSession, body: Body) -> None:
        """Show what `engine.series` says of the keys."""
        self.session = session
        rows = [PresenceRow.of(row) for row in body["rows"]]
        steps, changing = len(session.info["labels"]), int(body["changing"])
        keys = int(body["keys"])
        self.only_changes.setVisible(0 < changing < int(body["all"]))
        still = "" if changing else "the same keys and shapes in every file" if rows else "none is known yet"
        come = text.plural(changing, "part comes, goes or changes", "parts come, go or change")
        more = f" · {int(body['more']):,} rows not shown" if body["more"] else ""
        self.say(f"{text.plural(keys, 'key')}, {still or come}{more}")
        said = "; ".join(self._said(session, row, steps) for row in rows if not row.always(steps))
        self.map.show_rows(
            rows,
            steps,
            f"{text.plural(keys, 'key')} over {text.plural(steps, 'step')}: {said or still}",
            short=lambda step: str(session.info["labels"][step]),
            label=session.label,
            unknown=[int(step) for step in body["unknown"]],
        )

    def _said(self, session: SeriesSession, row: PresenceRow, steps: int) -> str:
        """When a row comes, goes and changes."""
        parts = []
        if row.runs and row.runs[0][0] > 0:
            parts.append(f"from {session.label(row.runs[0][0])} on")
        if row.runs and row.runs[-1][1] < steps:
            parts.append(f"up to {session.label(row.runs[-1][1] - 1)}")
        parts += [f"another shape or dtype from {session.label(step)} on" for step in row.changes()[:4]]
        return f"{row.name} {', '.join(parts)}"
