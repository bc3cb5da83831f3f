"""What every plot has in common: a card that asks for its numbers, waits for them, and draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.engine.client import NumbersPool
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers, Failed, Job, Jobs, is_cancelled
from sdviewer.gui.panels.wording import failure_words
from sdviewer.gui.plots.copying import MOST_COPIED
from sdviewer.gui.plots.picture import Column, as_text
from sdviewer.gui.plots.picture_card import PictureCard
from sdviewer.gui.plots.place import Index as Index
from sdviewer.gui.plots.place import Place

Facts = Mapping[str, Any]
Remark = Callable[[Body], str]

PAUSE = 40
"""Milliseconds that a slider, a wheel or a pointer rests before numbers are asked for."""


class Asker(Protocol):
    """Who asks the numbers pool for a plot: the session of a document, or a comparison."""

    jobs: Jobs
    pool: NumbersPool
    path: str

    def ask_numbers(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, *, lane: str) -> Job:
        """Ask; an older question in the same lane is dropped."""


class SlicePart(NamedTuple):
    """Something that the heatmap can show: dimensions along rows and columns, the place in all, and which of the slice.

    `rows` and `columns` are the first one and the one behind the last.
    """

    axes: tuple[int, int]
    place: Index
    rows: tuple[int, int]
    columns: tuple[int, int]


class Plot(PictureCard):
    """One kind of plot. `name` is its id, `title` what the view is called, `order` its place in the overview.

    `finished` fires when what was asked for last is drawn or cannot be drawn. `cell_moved` fires with the Index that a
    person points at or moves to, () when at none any more: the other plots then `mark` it. `slice_wanted` fires when
    somebody chooses a part of a picture that the heatmap shows larger.
    """

    heading: ClassVar[str]
    icon: ClassVar[str]
    uses_slice: ClassVar[bool] = False
    """Whether it shows the slice of the tensor that its place says, so that another slice is asked for."""

    finished = Signal()
    cursor_moved = Signal(str)
    cell_moved = Signal(object)  # an Index
    slice_wanted = Signal(object)  # a SlicePart

    def __init__(self) -> None:
        super().__init__(self.heading)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self._session: Asker | None = None
        self._facts: Facts = {}
        self._answer: tuple[Body, Buffers] | None = None
        self._drawn_of: Facts | None = None
        self._note = widgets.label("", "note")
        self._note.setWordWrap(True)
        self._note.hide()
        self.column.addWidget(self._note)
        self.pending = False
        self.place = Place()
        self._soon = QTimer(self, interval=PAUSE, singleShot=True)
        self._soon.timeout.connect(self.ask)
        self._hint = QTimer(self, interval=500, singleShot=True)
        self._hint.timeout.connect(self._say_waiting)

    @property
    def _lane(self) -> str:
        """Its own: of two plots of a kind one may be pinned."""
        return f"plot {self.name} {id(self)}"

    @staticmethod
    def score(facts: Facts) -> int:
        """How well this suits a tensor: 0 not at all, 100 best."""
        raise NotImplementedError

    @staticmethod
    def sources(facts: Facts) -> dict[str, Any]:
        """Where the bytes lie that a request is about."""
        return {"source": facts["source"]}

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        """What to ask the numbers pool."""
        raise NotImplementedError

    def draw(self, body: Body, buffers: Buffers) -> None:
        """Show an answer."""
        raise NotImplementedError

    def clear(self) -> None:
        """Take what is drawn off."""
        raise NotImplementedError

    def share(self, place: Place) -> None:
        """Look where the other plots of the page look."""
        self.place = place
        if self.uses_slice:
            place.slice_changed.connect(self._slice_changed)

    def _slice_changed(self) -> None:
        """Another slice is wanted, at once where somebody sees it."""
        self._answer = None
        self._ask_soon()

    def _ask_soon(self) -> None:
        """Ask once nothing about the question changes any more; what was asked before is not drawn."""
        if self._session is None:
            return
        self._session.jobs.drop(self._lane)
        self._hint.stop()
        if self.isVisible():
            self.pending = True
            self._soon.start()
            return
        self._answer = None
        if self.pending:
            self.pending = False
            self.finished.emit()

    def begin(self, facts: Facts) -> None:
        """Get ready for another tensor, before its numbers are asked for."""

    def show_summary(self, summary: Facts) -> None:
        """Take the sums of the same tensor (`stats.Summary`), which come before or after the plot's own numbers."""

    def mark(self, cell: Index) -> None:
        """Show where an element stands that somebody points at in another plot; () for none."""

    def tell_value(self, cell: Index, words: str) -> None:
        """Take the exact value of the element that is pointed at, as it is shown."""

    def point_out(self, statistic: str, value: float | None) -> None:
        """Show where a number of the statistics column stands ("max", "mean" ...); "" for none."""

    # Taking it out: a picture, and what it is drawn from

    columns: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """What is drawn: heading, buffer of the answer, type of its numbers ("d" or "q"); none where it is a picture."""

    def data(self) -> list[Column]:
        """What is drawn, as columns with their headings."""
        if self._answer is None:
            return []
        buffers = self._answer[1]
        known = [(heading, memoryview(buffers[name]).cast("B"), code) for heading, name, code in self.columns]
        return [(heading, list(view.cast("d" if code == "d" else "q"))) for heading, view, code in known]

    def remark(self) -> str:
        """What must be known of what is drawn to read its numbers right; the line above the columns."""
        return ""

    def wanted_table(self) -> tuple[str, dict[str, Any]] | None:
        """What to ask the numbers pool for to have what a picture shows as a table; None where `data` has it.

        It is asked for at most `copying.MOST_COPIED` numbers.
        """
        return None

    def table_remark(self) -> Remark:
        """What says the line above such a table of its answer; it knows what is drawn now, not when that comes."""
        raise NotImplementedError

    def can_be_copied(self) -> bool:
        return self._answer is not None and (self.wanted_table() is not None or bool(self.data()))

    def copy_data(self) -> None:
        if not self.can_be_copied():
            return
        wanted = self.wanted_table()
        key = self.key
        if wanted is None:
            self._copied(key, as_text(self.data()), self.remark())
            return
        remark = self.table_remark()

        def answered(body: Body, buffers: Buffers) -> None:
            self._copied(key, str(buffers["lines"], "ascii"), remark(body))

        # What was drawn then, also where somebody goes on to another tensor before it comes.
        name, params = wanted[0], {**wanted[1], "most": MOST_COPIED}
        self.ask_aside(f"copy {self._lane}", name, params, answered, self._not_copied, whatever_is_shown=True)

    def _copied(self, key: str, lines: str, remark: str) -> None:
        above = f"# {text.visible(key, 500)}: {remark}\n" if remark else ""
        widgets.copy_text(f"{above}{lines}")
        self.cursor_moved.emit(f"Copied the data of {self.title}{f': {remark}' if remark else ''}")

    def _not_copied(self, failure: Body) -> None:
        if not is_cancelled(failure):
            self.cursor_moved.emit(f"Not copied: {text.visible(str(failure.get('message', '')), 300)}")

    @property
    def key(self) -> str:
        """The key of the tensor, or where it stands."""
        return str(self._facts.get("key") or self._facts.get("dotted") or "tensor")

    @property
    def folder(self) -> str:
        return "" if self._session is None else str(Path(self._session.path).parent)

    def taken(self, *but: QWidget) -> int:
        """Pixels across that the head takes beside these widgets and its margins."""
        items = [self.head.itemAt(i) for i in range(self.head.count())]
        others = [item.widget() for item in items if item is not None]
        shown = [other for other in others if other is not None and other not in but and not other.isHidden()]
        return sum(other.sizeHint().width() + self.head.spacing() for other in shown)

    def taken_by_margins(self) -> int:
        """Pixels across that no widget of the plot has."""
        margins = self.column.contentsMargins()
        return margins.left() + margins.right()

    def shows(self, facts: Facts) -> bool:
        """Whether this tensor is what is drawn, or asked for."""
        return self._facts is facts and (self.pending or self._answer is not None)

    def show_tensor(self, session: Asker, facts: Facts) -> None:
        """Ask for the numbers of a tensor and draw them when they come; what is drawn stays until then."""
        self._session, self._facts = session, facts
        self._answer = None
        self.begin(facts)
        self.ask()

    def ask(self) -> None:
        """Ask again, after something about the question changed."""
        if self._session is None:
            return
        if not self._facts.get("source"):
            return
        name, params = self.request(self._facts)
        self.pending = True
        self._hint.start()
        self._session.ask_numbers(
            name, {**self.sources(self._facts), **params}, self._answered, self._failed, lane=self._lane
        )

    def ask_aside(
        self,
        lane: str,
        name: str,
        params: dict[str, Any],
        done: Any,
        failed: Failed = lambda failure: None,
        *,
        whatever_is_shown: bool = False,
    ) -> Job | None:
        """Ask for something small beside the plot itself.

        An answer that comes when another tensor is shown is not heard of, unless that does not matter.
        """
        if self._session is None:
            return None
        facts = self._facts

        def answered(body: Body, buffers: Buffers) -> None:
            if whatever_is_shown or self._facts is facts:
                done(body, buffers)

        return self._session.ask_numbers(name, {**self.sources(facts), **params}, answered, failed, lane=lane)

    def forget(self) -> None:
        """The tensor is gone: ask nothing more about it."""
        if self._session is not None:
            self._session.jobs.drop(self._lane)
        self._soon.stop()
        self._hint.stop()
        self.pending = False

    def take(self, body: Body, buffers: Buffers) -> None:
        """Draw an answer."""
        self._hint.stop()
        self._answer = (body, buffers)
        self._draw_answer()

    def fail(self, failure: Body) -> None:
        """Say in the plot's place why there is none."""
        self._failed(failure)

    def _answered(self, body: Body, buffers: Buffers) -> None:
        self.take(body, buffers)

    def _draw_answer(self) -> None:
        if self._answer is None:
            return
        self.say("")
        self._drawn_of = self._facts
        self.draw(*self._answer)
        if self.pending:
            self.pending = False
            self.finished.emit()

    def _failed(self, failure: Body) -> None:
        self._hint.stop()
        if is_cancelled(failure):
            return
        self._answer = None
        self._take_off()
        self.say(" ".join(failure_words(failure)).rstrip())
        self.pending = False
        self.finished.emit()

    def _take_off(self) -> None:
        """Take off what is drawn and what is said of it."""
        self._drawn_of = None
        self.subtitle.setText("")
        self.clear()

    def _say_waiting(self) -> None:
        """What takes a while to come must not be taken for what is drawn of the tensor before."""
        if self._drawn_of is not self._facts:
            self._take_off()
        self.say("Reading numbers…")

    def say(self, words: str) -> None:
        """A line above the plot, "" for none."""
        self._note.setText(words)
        self._note.setVisible(bool(words))
