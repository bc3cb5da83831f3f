"""The tab of a series: its files at the left; metrics, norms, keys and changes over the steps beside them.

Cards are made and filled a piece a turn of the event loop. What a step is in one of them is marked in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, TypeVar

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.opened_page import FailedPage, OpeningPage
from sdviewer.gui.panels.series.change_card import ChangeCard
from sdviewer.gui.panels.series.files_card import FilesCard
from sdviewer.gui.panels.series.keys_card import KeysCard
from sdviewer.gui.panels.series.metric_card import MetricCard
from sdviewer.gui.panels.series.norm_card import NormCard
from sdviewer.gui.plots.step_map import StepMap
from sdviewer.gui.plots.steps import StepPlot
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.turns import Turns
from sdviewer.gui.widgets import Choice, Elided

NARROWEST: Final = 330
WIDEST: Final = 480
SIDE: Final = 0.34
"""Pixels of the list of files, which takes that share of the window in between."""

PAUSE: Final = 700
"""Milliseconds between two looks at numbers that come in."""

SUBJECT_WIDTH: Final = 190
"""Pixels of the choice of what is shown."""

SUBJECT_TIP: Final = (
    "Norms and changes are of the model. The EMA of its weights, and the state of an optimizer by the names of its "
    "parameters, can be looked at instead. What an optimizer only counts, as its step, is left out: it is no weight."
)

KEYS_PAUSE: Final = 3.0
"""Seconds between two looks at the keys while files are read: those of 100,000 take half a second of the reading."""

POINTS: Final = 3_000
"""Points of all lines together."""


AnyCard = TypeVar("AnyCard", MetricCard, NormCard, KeysCard, ChangeCard)


class SeriesPage(QWidget):
    """All that is shown of one series. `settled` fires when everything that was asked for is shown."""

    compare_requested = Signal(str, str)
    file_chosen = Signal(str)
    close_requested = Signal()
    cursor_moved = Signal(str)
    settled = Signal()
    built = Signal()

    def __init__(self, session: SeriesSession) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName("Series")
        self.session = session
        self._metric = ""
        self._keys_again = 0.0
        self._unmarked: list[StepPlot | StepMap] = []
        """Plots that do not show yet what is selected."""
        self._turns = Turns(self)
        self._turns.ended.connect(self._tell_settled)
        self._opening = OpeningPage(session.name)
        self._inside = QWidget()
        self._stack = QStackedWidget()
        self._stack.addWidget(self._opening)
        self._stack.addWidget(self._inside)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._stack)
        self._heading = widgets.label("", "path")
        self._facts = Elided("", "second")
        self._left_out = Elided("", "note")
        self.subject = Choice("What of the files is shown")
        self.subject.setToolTip(SUBJECT_TIP)
        self.subject.setMinimumWidth(SUBJECT_WIDTH)
        self.subject.hide()
        self._subjects: list[list[str]] = []
        self.subject.activated.connect(self._choose_subject)
        self._grid = QGridLayout()
        self._side = QVBoxLayout()
        self._beside = QWidget()
        self._lay_out()
        self._steps: list[Callable[[], object]] = [
            lambda: self.files,
            lambda: self.metrics,
            lambda: self.norm,
            lambda: self.keys,
            lambda: self.change,
        ]
        self._soon = QTimer(self, interval=PAUSE, singleShot=True)
        self._soon.timeout.connect(self._show_numbers)
        session.opened.connect(self._show_series)
        session.open_failed.connect(self._show_failure)
        session.files_changed.connect(self._show_files)
        session.numbers_changed.connect(self._numbers_came)
        session.measuring_changed.connect(self._measuring_changed)
        self._opening.cancel.clicked.connect(session.cancel_opening)

    def _lay_out(self) -> None:
        head = QVBoxLayout()
        head.setSpacing(2)
        for words in (self._heading, self._facts, self._left_out):
            head.addWidget(words)
        self._left_out.hide()
        top = QHBoxLayout()
        top.addLayout(head, 1)
        top.addWidget(self.subject, 0, Qt.AlignmentFlag.AlignBottom)
        self._grid.setSpacing(10)
        for at in (0, 1):
            self._grid.setColumnStretch(at, 1)
            self._grid.setRowStretch(at, 1)
        self._side.setContentsMargins(0, 0, 0, 0)
        self._beside.setLayout(self._side)
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(self._beside)
        row.addLayout(self._grid, 1)
        whole = QVBoxLayout(self._inside)
        whole.setContentsMargins(14, 10, 14, 12)
        whole.setSpacing(10)
        whole.addLayout(top)
        whole.addLayout(row, 1)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._beside.setFixedWidth(min(max(round(self.width() * SIDE), NARROWEST), WIDEST))

    # The cards, made one after another: all at once would stall the window

    def build(self) -> None:
        """Make the cards, piece by piece; `built` when they are there."""
        if self._steps:
            self._steps.pop(0)()
            QTimer.singleShot(1, self, self.build)
        else:
            self.built.emit()

    @cached_property
    def files(self) -> FilesCard:
        """The list of files."""
        made = FilesCard()
        widgets.polish(made)
        self._side.addWidget(made)
        made.steps_selected.connect(self._selected)
        made.compare_requested.connect(self._compare)
        made.file_chosen.connect(lambda step: self.file_chosen.emit(self.session.step_paths[step]))
        return made

    @cached_property
    def metrics(self) -> MetricCard:
        """What the files state of themselves."""
        made = self._placed(MetricCard(), 0, 0)
        made.metric_chosen.connect(self._choose_metric)
        made.step_chosen.connect(lambda step: self._select([step]))
        return made

    @cached_property
    def norm(self) -> NormCard:
        """The norms of the modules."""
        made = self._placed(NormCard(), 0, 1)
        made.what_chosen.connect(self._choose_what)
        made.step_chosen.connect(lambda step: self._select([step]))
        made.measure_requested.connect(self.session.measure)
        return made

    @cached_property
    def keys(self) -> KeysCard:
        """Which keys are there when."""
        made = self._placed(KeysCard(), 1, 0)
        made.asked.connect(self._ask_keys)
        made.step_chosen.connect(lambda step: self._select([step]))
        return made

    @cached_property
    def change(self) -> ChangeCard:
        """How far the modules moved."""
        made = self._placed(ChangeCard(), 1, 1)
        made.asked.connect(self._ask_matrix)
        made.pair_chosen.connect(lambda a, b: self._select([a, b] if a != b else [b]))
        made.pair_activated.connect(self._compare)
        return made

    def _placed(self, made: AnyCard, row: int, column: int) -> AnyCard:
        """A card in its place; what is pointed at in it is told."""
        widgets.polish(made)
        self._grid.addWidget(made, row, column)
        made.pointed.connect(self.cursor_moved)
        return made

    @cached_property
    def failed(self) -> FailedPage:
        """Why there is no series."""
        made = FailedPage()
        self._stack.addWidget(made)
        made.again.clicked.connect(self.reload)
        made.close_tab.clicked.connect(self.close_requested)
        return made

    # Showing

    def reload(self) -> None:
        """Look for the files again, and read them."""
        self._opening.begin()
        self._stack.setCurrentWidget(self._opening)
        self.session.open()

    def _show_series(self) -> None:
        self._opening.end()
        self._stack.setCurrentWidget(self._inside)
        self._show_files()

    def _show_failure(self) -> None:
        self._opening.end()
        self.failed.show_failure(self.session.name, self.session.path, self.session.failure)
        self._stack.setCurrentWidget(self.failed)

    def _say_head(self) -> None:
        info = self.session.info
        self._heading.setText(self.session.name)
        files, read = int(info["files"]), int(info["read"])
        parts = [text.plural(files, "file"), text.size(int(info["nbytes"]))]
        if read < files:
            parts[1] = f"{read:,} read"
        if info["unit"] and files > 1:
            parts.append(f"{self.session.label(0)} to {info['labels'][-1]}")
        parts.append(f"ordered by {info['by']}")
        if info["state_dict"]:
            parts.append(f"in {info['state_dict']}")
        if self.session.trouble:
            parts.append(self.session.trouble)
        self._facts.setText(" · ".join(parts))
        self._offer_subjects([[str(part) for part in subject] for subject in info["subjects"]])
        self._left_out.setText(str(info["left_out"]))
        self._left_out.setVisible(bool(info["left_out"]))

    def _offer_subjects(self, subjects: list[list[str]]) -> None:
        """The model, and what else there is in the files."""
        if subjects != self._subjects:
            self._subjects = subjects
            self.subject.clear()
            self.subject.addItems(["Model", *[words for _, _, words in subjects]])
        chosen = [subject[:2] for subject in subjects]
        wanted = self.session.subject
        self.subject.setCurrentIndex(chosen.index(wanted) + 1 if wanted in chosen else 0)
        self.subject.setVisible(bool(subjects))

    def _choose_subject(self, at: int) -> None:
        self.session.choose_subject(self._subjects[at - 1][:2] if at > 0 else None)

    def status_words(self) -> str:
        """What the status bar says."""
        info = self.session.info
        if self.session.state != "open":
            return ""
        words = f"Opened without running anything     Series of {text.plural(int(info['files']), 'file')}"
        return f"{words} · {text.size(int(info['nbytes']))}" if info["read"] else words

    def _show_files(self) -> None:
        self._say_head()
        self._ask_metrics()
        if self.session.info["read"] == self.session.info["files"] or time.monotonic() > self._keys_again:
            self._keys_again = time.monotonic() + KEYS_PAUSE
            self._ask_keys()
        self._show_numbers()

    def _ask(self, name: str, params: Mapping[str, Any], show: Callable[[Body, Buffers], object]) -> None:
        """Ask the worker, and show its answer in a turn of its own."""
        self.session.ask(name, params, lambda body, buffers: self._turns.add(lambda: show(body, buffers)))

    def _ask_metrics(self) -> None:
        params = {"metric": self._metric}
        self._ask("metrics", params, lambda body, _: self.metrics.show_metrics(self.session, body))

    def _ask_files(self) -> None:
        self._ask("files", {"metric": self._metric}, lambda body, _: self.files.show_files(self.session, body))

    def _ask_keys(self) -> None:
        self._ask("keys", self.keys.params, lambda body, _: self.keys.show_keys(self.session, body))

    def _numbers_came(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _show_numbers(self) -> None:
        self._ask_lines()
        self._ask_matrix()
        self._ask_files()

    def _ask_lines(self) -> None:
        params = {"what": self.norm.what, "points": POINTS}
        self._ask("lines", params, lambda body, buffers: self.norm.show_lines(self.session, body, buffers))

    def _ask_matrix(self) -> None:
        self._ask(
            "matrix", self.change.params, lambda body, buffers: self.change.show_matrix(self.session, body, buffers)
        )

    def _measuring_changed(self) -> None:
        self.norm.show_measuring(self.session)
        self._show_numbers()

    def _tell_settled(self) -> None:
        """Tell that everything is shown, where nothing is read or measured any more."""
        if not self.session.jobs.busy() and self.session.measuring in ("done", "offered", "stopped"):
            self.settled.emit()

    # Choosing

    def _choose_metric(self, name: str) -> None:
        self._metric = name
        self._ask_metrics()
        self._ask_files()

    def _choose_what(self, what: str) -> None:
        self.session.what = what
        self._ask_lines()

    def _select(self, steps: list[int]) -> None:
        self.files.select(steps)
        self._selected(steps)

    def _selected(self, steps: list[int]) -> None:
        """Mark the steps in all plots, one a turn: each is painted anew for that."""
        self.session.sight = steps
        idle = not self._unmarked
        self._unmarked = [self.metrics.plot, self.norm.plot, self.keys.map, self.change.matrix]
        if idle:
            self._turns.add(self._mark_next)

    def _mark_next(self) -> None:
        self._unmarked.pop(0).select(self.session.sight)
        if self._unmarked:
            self._turns.add(self._mark_next)

    def _compare(self, a: int, b: int) -> None:
        paths = self.session.step_paths
        if a != b:
            self.compare_requested.emit(paths[a], paths[b])
