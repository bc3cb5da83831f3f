"""Both tensors of a pair beside each other, each with its own slice, in colours of one scale; or the one there is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from PySide6.QtCore import QSize, QTimer
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui.badge import SMALL, Badge
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.heatmap import LARGE, LOOK, cell_text, picture_of
from sdviewer.gui.plots.heatmap_canvas import Divisions, HeatmapCanvas
from sdviewer.gui.plots.numbers import long_axes
from sdviewer.gui.plots.pair.pair_plot import (
    NAMES,
    SIDES,
    PairPlot,
    index_in,
    is_same,
    measured,
    same_shape,
    sides_of,
)
from sdviewer.gui.plots.place import Index, Place, Window
from sdviewer.gui.plots.plot import PAUSE, Facts, Remark
from sdviewer.gui.plots.slices import SliceStrip
from sdviewer.gui.widgets import Elided

_SETTLE: Final = 120
"""Milliseconds without another size after which the pictures are asked for anew."""
_CHANGE: Final = 8
"""Pixels of change that are worth another picture."""


class SideView(QWidget):
    """One side: its letter and shape, the strip of its dimensions, its picture."""

    def __init__(self, side: str, changed: Callable[[], None]) -> None:
        super().__init__()
        self.place = Place()
        self.strip = SliceStrip(self.place)
        self.canvas = HeatmapCanvas()
        self.canvas.setMinimumSize(100, 60)  # two stand beside each other
        self.canvas.setAccessibleName(f"Heatmap of {NAMES[side]}")
        self._badge = Badge(NAMES[side], SMALL)
        self.head = Elided("", "note")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self._badge)
        row.addWidget(self.head, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.strip)
        column.addWidget(self.canvas, 1)
        self.canvas.window_wanted.connect(self.place.show_window)
        self.place.slice_changed.connect(changed)
        self.place.window_changed.connect(self._show_window)
        self.place.window_changed.connect(changed)
        self.looked = False
        self.asked = QSize()

    def _show_window(self) -> None:
        self.looked = False
        self.canvas.show_window(self.place.window)

    def begin(self, facts: Facts) -> None:
        """Turn to a tensor."""
        self.place.begin(facts.get("shape") or ())
        self.strip.setVisible(self.strip.needed)
        self.looked = False

    def request(self) -> dict[str, Any]:
        """What `slice` takes."""
        self.asked = self.canvas.picture_size()
        params = {"rows": self.asked.height(), "columns": self.asked.width(), **self.place.params()}
        window: Window = self.place.window or (0, 0, *self.place.size)
        if self.place.window is not None:
            params["window"] = list(window)
        if window[2] * window[3] > LARGE and not self.looked:
            params["most"] = LOOK
        return params


class SidesPlot(PairPlot):
    """For shapes that differ, for a tensor that only one side has, and for sides that are the same."""

    name = "sides"
    title = "Values"
    heading = "Values"
    icon = "heat"
    main = True

    def __init__(self) -> None:
        super().__init__()
        self.views = {side: SideView(side, self._changed) for side in SIDES}
        body = QWidget()
        row = QHBoxLayout(body)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        for side, view in self.views.items():
            row.addWidget(view, 1)
            view.canvas.hovered.connect(partial(self._hovered, side))
            view.canvas.chosen.connect(partial(self._hovered, side))
            view.canvas.resized.connect(self._resized)
        self.set_body(body)
        self._settle = QTimer(self, interval=_SETTLE, singleShot=True)
        self._settle.timeout.connect(self._ask_again)
        self._whole_next = QTimer(self, interval=0, singleShot=True)
        self._whole_next.timeout.connect(self.ask)
        self._wait = QTimer(self, interval=PAUSE, singleShot=True)
        self._wait.timeout.connect(self._ask_value)
        self._at: dict[str, Index] = {}
        self._described: dict[str, str] = {}

    @staticmethod
    def score(facts: Facts) -> int:
        if not any(len(long_axes(one)) >= 2 for one in sides_of(facts).values()) or not measured(facts):
            return 0
        return 0 if same_shape(facts) and not is_same(facts) else 70

    def begin(self, facts: Facts) -> None:
        shown = self.sources(facts)
        for side, view in self.views.items():
            view.setVisible(side in shown)
            if side not in shown:
                continue
            view.begin(facts[side])
            # Its letter stands before it.
            name = "A and B, the same" if is_same(facts) else self.file_of(side)
            view.head.setText(" · ".join(part for part in (name, text.shape(tuple(facts[side]["shape"]))) if part))

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "pair_sides", {"sides": [self.views[side].request() for side in self.sources(facts)]}

    def forget(self) -> None:
        super().forget()
        for timer in (self._settle, self._whole_next, self._wait):
            timer.stop()
        self._at = {}
        if self._session is not None:
            self._session.jobs.drop(f"{self._lane} value")

    def clear(self) -> None:
        for view in self.views.values():
            view.canvas.show_nothing()
            view.canvas.setAccessibleDescription("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        again = False
        cells = []
        for side, view in self.views.items():
            if not body.get(side):
                continue
            picture = picture_of(body[side], buffers[side], float(body[side]["limit"]))
            view.canvas.show_picture(picture, Divisions())
            block = picture.block
            cells.append("every cell" if block == (1, 1) else f"mean of {block[0]}×{block[1]}")
            height, width = picture.size
            self._described[side] = (
                f"Heatmap of {self.called(side)}, {height:,} by {width:,} values, {cells[-1]}, "
                f"colours from {text.value(-picture.limit)} to {text.value(picture.limit)}"
            )
            view.canvas.setAccessibleDescription(self._described[side])
            if body[side]["sampled"]:
                view.looked = again = True
        self.subtitle.setText(("≈ " if again else "") + " · ".join(cells))
        if again:
            self._whole_next.start()

    def wanted_table(self) -> tuple[str, dict[str, Any]] | None:
        if self._answer is None:
            return None
        tables = []
        for side, view in self.views.items():
            shown = self._answer[0].get(side)
            if not shown:
                continue
            (_, _, rows, columns), block = shown["window"], shown["block"]
            cells = {"rows": -(-rows // block[0]), "columns": -(-columns // block[1])}
            if all(cells.values()):
                tables.append([side, {**view.place.params(), **cells, "window": list(shown["window"])}])
        return ("pair_table", {"tables": tables}) if tables else None

    def table_remark(self) -> Remark:
        return _table_remark

    def _changed(self) -> None:
        """Another slice or part of one side is wanted."""
        self._answer = None
        self._ask_soon()

    def _resized(self) -> None:
        if self._session is not None and not self.isHidden():
            self._settle.start()

    def _ask_again(self) -> None:
        if self.pending:
            self._settle.start()
            return
        for view in self.views.values():
            size, before = view.canvas.picture_size(), view.asked
            away = max(abs(size.width() - before.width()), abs(size.height() - before.height()))
            if not view.isHidden() and away > _CHANGE:
                self.ask()
                return

    # The element that is pointed at

    def _hovered(self, side: str, row: int, column: int) -> None:
        """Point at the same element of the other side, where that has one."""
        if row < 0:
            self._at = {}
            self._wait.stop()
            for view in self.views.values():
                view.canvas.set_cursor(None)
            self.cursor_moved.emit("")
            return
        here = self.views[side].place
        cell = here.full_index(row, column)
        self._at = {side: cell}
        for other, view in self.views.items():
            if other != side and not view.isHidden():
                there = index_in(cell, here.shape or (), view.place.shape or ())
                view.canvas.set_cursor(None if there is None else view.place.in_slice(there))
                if there is not None:
                    self._at[other] = there
        self._wait.start()

    def _ask_value(self) -> None:
        """The exact values, once the pointer rests."""
        at = dict(self._at)
        shown = self.sources(self._facts)
        places = [list(at[side]) if side in at and side in shown else None for side in SIDES]

        def answered(body: Body, buffers: Buffers) -> None:
            if at != self._at:
                return
            said = []
            for which, side in enumerate(SIDES):
                if body[side]:
                    words = cell_text(str(body[side]), float(body["numbers"][which]))
                    view = self.views[side]
                    view.canvas.show_value(words)
                    view.canvas.setAccessibleDescription(f"{self._described[side]}. At {list(at[side])}: {words}")
                    name = "A = B" if is_same(self._facts) else NAMES[side]
                    said.append(f"{name} {list(at[side])} = {words}")
            self.cursor_moved.emit("   ".join(said))

        if self._facts and any(places):
            self.ask_aside(f"{self._lane} value", "pair_value", {"places": places}, answered)


def _table_remark(body: Body) -> str:
    """The line above the tables of both sides."""
    said = []
    for side, table in body["tables"]:
        (row, column, rows, columns), block = table["window"], table["block"]
        cells = "every value" if block == [1, 1] else f"mean of {block[0]}×{block[1]} values each"
        part = f"rows {row} to {row + rows - 1}, columns {column} to {column + columns - 1}"
        said.append(f"{NAMES[side]}: {part}, {cells}")
    return "; ".join(said)
