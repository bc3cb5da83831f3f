"""The views of a tensor beside its statistics: the overview, a fixed grid of four, or one plot alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Final

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.panels.linked_cursor import LinkedCursor
from sdviewer.gui.panels.overview_grid import ALONE, ORDER, Cell, in_order, places
from sdviewer.gui.panels.pinned import PinnedPlot
from sdviewer.gui.panels.statistics import Statistics
from sdviewer.gui.panels.view_bar import ViewBar
from sdviewer.gui.plots import PLOTS
from sdviewer.gui.plots.heatmap import HeatmapPlot
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.place import Place
from sdviewer.gui.plots.plot import Facts, Plot, SlicePart
from sdviewer.gui.plots.slices import SliceStrip
from sdviewer.gui.plots.spectrum import SpectrumPlot
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card

OVERVIEW: Final = "overview"
_ROOM_FOR_STATISTICS: Final = 640
_STRETCH: Final = (8, 6, 7)
"""The heights of the rows of the grid, in proportion."""


class _Plots(dict[str, Plot]):
    """The plots that are there, by name; one that is asked for and is not is made."""

    def __init__(self, make: Callable[[str], Plot]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> Plot:
        made = self[name] = self._make(name)
        return made


class TensorPage(QWidget):
    """Plots share one `place` and one cursor."""

    histogram_scale_chosen = Signal(str)
    finished = Signal()
    cursor_moved = Signal(str)
    view_wanted = Signal(str)

    def __init__(self, scale: str) -> None:
        super().__init__()
        self._scale = scale
        self.plots = _Plots(self._make)
        self._scores: dict[str, int] = {}
        self.summary: Mapping[str, Any] = {}
        self._shows: tuple[Session, Facts] | None = None
        self._alone = ""
        self.place = Place()
        self.linked = LinkedCursor(self.place, self.shown)
        self.linked.said.connect(self.cursor_moved)
        kinds = {kind.name: (kind.name, kind.title, kind.icon) for kind in PLOTS}
        order = in_order(dict.fromkeys(kinds, 1))
        self.views = ViewBar([(OVERVIEW, "Overview", "treemap"), *(kinds[name] for name in order)])
        self.offered: list[str] = [OVERVIEW]
        self._note = Card("No numbers", "")
        self._why = widgets.label("", "second")
        self._why.setWordWrap(True)
        self._note.column.addWidget(self._why)
        self._note.column.addStretch(1)
        self._note.hide()
        self.strip = SliceStrip(self.place)
        self.strip.hide()
        self._edited = widgets.label("", "note")
        self._edited.setWordWrap(True)
        self._edited.hide()
        self._grid = QGridLayout()
        self._grid.setSpacing(10)
        for side in range(2):
            self._grid.setColumnStretch(side, 1)
        left = QVBoxLayout()
        left.setSpacing(8)
        left.addWidget(self._edited)
        left.addWidget(self._note, 1000)
        left.addWidget(self.strip)
        left.addLayout(self._grid, 1)
        self._body = QHBoxLayout()
        self._body.setSpacing(10)
        self._body.addLayout(left, 1)
        self.pinned: PinnedPlot | None = None
        self.pin = widgets.icon_button("pin", "")
        self.pin.setCheckable(True)
        self.pin.clicked.connect(self._pin)
        self.head = QHBoxLayout()
        self.head.addWidget(self.views, 1)
        self._fold = widgets.icon_button("list", "Statistics")
        self._fold.setCheckable(True)
        self._fold.toggled.connect(lambda shown: self.statistics.setVisible(shown))
        self._fold.hide()
        self.head.addWidget(self.pin)
        self.head.addWidget(self._fold)
        self.in_overview = widgets.icon_button("treemap", "Show in overview")
        self.head.addWidget(self.in_overview)
        self.export = widgets.icon_button("export", "Export (Ctrl+Shift+E)")
        self.head.addWidget(self.export)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        column.addLayout(self.head)
        column.addLayout(self._body, 1)

    @cached_property
    def statistics(self) -> Statistics:
        """The column of numbers."""
        made = Statistics()
        widgets.polish(made)
        made.hovered.connect(self.point_out)
        self._body.addWidget(made)
        return made

    def shown(self) -> list[Plot]:
        """The plots in sight."""
        return [plot for plot in self.plots.values() if not plot.isHidden()]

    def make(self, piece: int) -> None:
        """Make one piece of the page, if it is not there: a plot that most tensors have, or at last the statistics."""
        _ = self.plots[ORDER[piece]] if piece < len(ORDER) else self.statistics

    def _make(self, name: str) -> Plot:
        made = next(kind for kind in PLOTS if kind.name == name)()
        made.hide()
        made.setMinimumHeight(0)  # in a small window three stand above each other
        widgets.polish(made)
        made.share(self.place)
        made.finished.connect(self.finished)
        made.cursor_moved.connect(self.cursor_moved)
        made.cell_moved.connect(partial(self.linked.move, made))
        made.slice_wanted.connect(self._show_part)
        if isinstance(made, SpectrumPlot):
            made.measured.connect(lambda body: self.statistics.show_spectrum(body))
        if isinstance(made, HistogramPlot):
            made.set_scale(self._scale)
            made.scale.chosen.connect(self.histogram_scale_chosen)
        self._grid.addWidget(made, *ALONE)
        return made

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = event.size().width() < _ROOM_FOR_STATISTICS
        if narrow == self._fold.isHidden():
            self._fold.setVisible(narrow)
            self._fold.setChecked(not narrow)
            self.statistics.setVisible(not narrow)

    # What is shown of a tensor

    def begin(self, session: Session, facts: Facts) -> None:
        """Turn to a tensor: its place, if one of its shape was seen before."""
        self.place.begin(facts.get("shape") or ())
        self.linked.begin(session, facts)
        self.summary = {}
        self._shows = session, facts
        for plot in self.plots.values():
            plot.mark(())

    def forget(self) -> None:
        """Nothing is wanted any more of the tensor."""
        for plot in self.plots.values():
            plot.forget()
        self.linked.stop()

    def offer(self, scores: Mapping[str, int]) -> None:
        """Offer only the views a tensor can have."""
        self._scores = dict(scores)
        names = in_order(scores)
        self.offered = [OVERVIEW, *names] if len(names) > 1 else names
        self.views.offer(self.offered)
        for name, plot in self.plots.items():
            if name not in scores:
                plot.hide()
        if not scores:
            self.strip.hide()
            self._alone = ""
            self._show_pin()

    def show_view(self, view: str) -> None:
        """Show the overview or one plot alone."""
        if view == OVERVIEW and len(self._scores) == 1:
            view = next(iter(self._scores))
        self.views.choose(view)
        cells = places(self._scores) if view == OVERVIEW else {view: ALONE}
        self._alone = "" if view == OVERVIEW else view
        self._show_pin()
        self._lay_out(cells)
        self.strip.setVisible(self.strip.needed and any(plot.uses_slice for plot in self.shown()))

    def _lay_out(self, cells: Mapping[str, Cell]) -> None:
        for name, cell in cells.items():
            self._grid.addWidget(self.plots[name], *cell)
        for name, plot in self.plots.items():
            plot.setVisible(name in cells)
        used = {row for cell in cells.values() for row in range(cell.row, cell.row + cell.rows)}
        for row, share in enumerate(_STRETCH):
            self._grid.setRowStretch(row, share if row in used else 0)

    def _show_part(self, part: SlicePart) -> None:
        """Enlarge in the heatmap what was chosen in another plot."""
        self.place.show_part(part.axes, part.place, part.rows, part.columns)
        self.view_wanted.emit(HeatmapPlot.name)

    # A plot that stays

    def _pin(self) -> None:
        """Keep the plot that is shown alone beside those to come, or let go of the one that is kept."""
        if self.pinned is not None:
            self.unpin()
        elif self._shows is not None and self._alone:
            kind = type(self.plots[self._alone])
            self.pinned = PinnedPlot(kind, *self._shows, self.place)
            self.pinned.closed.connect(self.unpin)
            self._body.insertWidget(1, self.pinned, 1)
        self._show_pin()

    def unpin(self) -> None:
        """Let go of the pinned plot."""
        if self.pinned is not None:
            self.pinned.forget()
            self.pinned.hide()
            self.pinned.deleteLater()
            self.pinned = None
        self._show_pin()

    def _show_pin(self) -> None:
        """Say what the button would do now."""
        words = "Let go of the pinned plot"
        if self.pinned is None:
            words = "Keep this plot beside the next" if self._alone else "Turn to one view to keep it beside the next"
        self.pin.setChecked(self.pinned is not None)
        self.pin.setEnabled(self.pinned is not None or bool(self._alone))
        self.pin.setToolTip(words)
        self.pin.setAccessibleName(words)

    def show_summary(self, summary: Mapping[str, Any]) -> None:
        """The numbers of all values."""
        self.summary = summary
        self.statistics.show_numbers(summary)

    def point_out(self, statistic: str) -> None:
        """Let the plots show where a line of the statistics stands; "" for none."""
        value = self.summary.get(statistic)
        number = float(value) if isinstance(value, int | float) else None
        for plot in self.shown():
            plot.point_out(statistic, number)

    def say_edited(self, words: str) -> None:
        """A line above the plots, "" for none."""
        self._edited.setText(words)
        self._edited.setVisible(bool(words))

    def say(self, words: str, title: str = "No numbers") -> None:
        """Why there are no plots, in their place; "" where there are."""
        self._note.title_label.setText(title)
        self._why.setText(words)
        self._note.setVisible(bool(words))
