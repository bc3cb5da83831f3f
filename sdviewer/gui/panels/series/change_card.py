"""How far each module moved in each step, as a matrix; a cell leads to the two files that it is of."""

from __future__ import annotations

import math
from typing import Final

from PySide6.QtCore import Signal

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.file_view import scrolled
from sdviewer.gui.panels.series.series_card import SeriesCard
from sdviewer.gui.plots.change_matrix import ChangeMatrix, share_words
from sdviewer.gui.plots.numbers import floats
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.widgets import Elided, Segments

COLUMNS: Final = 150
"""Columns of the matrix; of more steps several are one."""

AGAINST: Final = (("previous", "Each step", ""), ("first", "From first", ""))


class ChangeCard(SeriesCard):
    """The matrix. `asked` fires when another one is wanted, `pair_chosen` carries two steps."""

    name, title = "changes", "Changes"

    asked = Signal()
    pair_chosen = Signal(int, int)
    pair_activated = Signal(int, int)

    def __init__(self) -> None:
        super().__init__()
        self.found = Elided("", "note")
        self.what = "previous"
        self.against = Segments(AGAINST, "Against which file")
        self.against.choose(self.what)
        self.against.chosen.connect(self._choose)
        self.add_control(self.against)
        self.matrix = ChangeMatrix()
        self.matrix.cell_chosen.connect(lambda row, step: self.pair_chosen.emit(*self._pair(step)))
        self.matrix.cell_activated.connect(lambda row, step: self.pair_activated.emit(*self._pair(step)))
        self.matrix.pointed.connect(self.pointed)
        scroll = scrolled(self.matrix)
        for part in (self.matrix, scroll.viewport()):
            part.setAutoFillBackground(False)
        self.column.addWidget(self.found)
        self.set_body(scroll)

    def _choose(self, what: str) -> None:
        self.what = what
        self.asked.emit()

    def _pair(self, step: int) -> tuple[int, int]:
        """The two steps that a cell is of."""
        return (max(step - 1, 0) if self.what == "previous" else 0), step

    def table(self) -> list[Column]:
        """A line for each module, a column for each step, or the most of a few."""
        matrix = self.matrix
        if not matrix.columns:
            return []
        first = self.step_names([start for start, _ in matrix.columns])[1]
        values = [[matrix.value(row, start) for row in range(len(matrix.names))] for start, _ in matrix.columns]
        return [("module", matrix.names), *zip(map(str, first), values, strict=True)]

    def remark(self) -> str:
        several = any(stop - start > 1 for start, stop in self.matrix.columns)
        against = "the file before" if self.what == "previous" else "the first file"
        return f"‖B − A‖ / ‖A‖ against {against}{', the most from each step to the next one' if several else ''}"

    @property
    def params(self) -> dict[str, object]:
        """What to ask the worker."""
        return {"what": self.what, "columns": COLUMNS}

    def show_matrix(self, session: SeriesSession, body: Body, buffers: Buffers) -> None:
        """Show what `engine.series` says of the changes."""
        self.session = session
        names = [str(name) for name in body["names"]]
        columns = [(int(start), int(stop)) for start, stop in body["steps"]]
        known, total, limit = int(body["known"]), int(body["total"]), float(body["limit"])
        frozen = [str(name) for name in body["frozen"]]
        parts = []
        if frozen:
            parts.append(f"{_named(frozen)} never changed")
        if limit and math.isfinite(limit):
            parts.append(f"up to {share_words(limit)}")
        self.say(f"{known:,} of {total:,} steps" if known < total and not session.is_measured else "")
        self.found.setText(" · ".join(["‖B − A‖ / ‖A‖", *parts]))
        against = "the file before" if self.what == "previous" else "the first file"
        said = f"Change of {text.plural(len(names), 'module')} against {against}"
        self.matrix.show_matrix(
            names,
            columns,
            floats(buffers["cells"]),
            bytes(buffers["shades"]),
            f"{said}: {'; '.join(parts)}",
            short=lambda step: str(session.info["labels"][step]),
            label=session.label,
            against=lambda step: session.label(self._pair(step)[0]),
        )


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown
