"""The Overview of one document: it asks the worker, and gives each card its part of the answer.

Header, tiles and bytes come from names and shapes; lines, colours and findings follow, and follow again while the
statistics of all tensors come in. Cards are made and filled a piece a turn of the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QKeyEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.file_view import scrolled
from sdviewer.gui.panels.overview.bytes_card import BytesCard
from sdviewer.gui.panels.overview.depth_card import DepthCard
from sdviewer.gui.panels.overview.findings_card import FindingsCard, Shown, shown_of
from sdviewer.gui.panels.overview.head_card import HeadCard
from sdviewer.gui.panels.overview.kinds_card import KindsCard
from sdviewer.gui.panels.overview.run_card import RunCard
from sdviewer.gui.panels.overview.tiles_card import TilesCard
from sdviewer.gui.panels.security_words import dangerous_calls
from sdviewer.gui.session import Session
from sdviewer.gui.turns import Turns

SIDE: Final = 346
"""Pixels of the right column."""
NARROW: Final = 1000
NARROW_SIDE: Final = 296
"""Its pixels where the page is not as wide as this, on a small screen."""
FOLD: Final = 22
"""Pixels of the margins around the cards that fill the window."""
PAUSE: Final = 700
"""Milliseconds at least between two looks at statistics that come in."""
SHARE: Final = 6
"""How many times as long as the worker took for the last look it is left to others before the next."""


class OverviewPage(QWidget):
    """All of the Overview. `settled` fires when everything that was asked for is shown."""

    rows_chosen = Signal(object)
    view_chosen = Signal(str)
    slim_copy_requested = Signal()
    file_chosen = Signal(str)
    compare_requested = Signal(str, str)
    run_requested = Signal(object)  # paths of one run, to be opened as a series
    pointed = Signal(str)
    first_painted = Signal()
    settled = Signal()
    colour_chosen = Signal(str)
    measure_chosen = Signal(str)

    def __init__(self, session: Session, colour: str, measure: str) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName("Overview")
        self.session = session
        self._turns = Turns(self)
        self._painted = self._stale = self._due = False
        self._found: list[Shown] = []
        # What is to be read once more, the next one last; what of it was read; all that ever was.
        self._to_compare: list[tuple[int, Any]] = []
        self._digests: dict[str, str] = {}
        self._compared: set[int] = set()
        self._measured = (0, 0)
        self._wanted = self._marked = -1
        self._banded: dict[int, Body | None] = {}
        self._banded_of: Any = None
        self._band_wanted: dict[str, Any] = {}
        self._band_again = False
        self._colour, self._measure = colour, measure
        self._inside = QWidget()
        self._left, self._right = QVBoxLayout(), QVBoxLayout()
        self._pause = QTimer(self, interval=PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask_numbers)
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        for column in (self._left, self._right):
            column.setSpacing(10)
        self._side = QWidget()
        self._side.setFixedWidth(SIDE)
        self._right.setContentsMargins(0, 0, 0, 0)
        self._side.setLayout(self._right)
        self._above = QWidget()
        row = self._cards = QHBoxLayout(self._above)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addLayout(self._left, 1)
        row.addWidget(self._side)
        self._whole = QVBoxLayout(self._inside)
        self._whole.setContentsMargins(14, 0, 14, 12)
        self._whole.setSpacing(10)
        self._whole.addWidget(self._above, 1)
        self._scroll = scrolled(self._inside)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._scroll)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._side.setFixedWidth(SIDE if self.width() >= NARROW else NARROW_SIDE)
        self._fill_window()

    def _fill_window(self) -> None:
        """The tables of kinds stand below what is seen at first."""
        room = self.height() - FOLD
        if "head" in self.__dict__:
            room -= self.head.sizeHint().height()
        self._above.setMinimumHeight(max(room, self._cards.minimumSize().height()))

    def _connect(self) -> None:
        session = self.session
        session.numbers_changed.connect(self._numbers_came)
        session.survey_changed.connect(self._say_progress)
        session.scanned.connect(lambda scan: self._show_found())
        session.contents_changed.connect(self._show_found)
        session.recipe_changed.connect(self._changed)
        session.same_run.changed.connect(self._show_run)

    # The cards, made one after another: all at once would stall the window

    def steps(self) -> list[Callable[[], object]]:
        """What makes the cards that are seen first; the others follow behind the first answer."""
        return [lambda: self.head, lambda: self.tiles, lambda: self.findings]

    def begin(self) -> None:
        """Make the cards and ask for what they show."""
        self._turns.add(*self.steps(), self.show_now, self.take_focus)

    def take_focus(self) -> None:
        """Have the keyboard among the tiles, unless the tab of this file is behind another one."""
        if self.isVisible():
            self.tiles.map.setFocus()

    @cached_property
    def head(self) -> HeadCard:
        """The numbers in a row."""
        made = HeadCard()
        widgets.polish(made)
        self._whole.insertWidget(0, made)
        return made

    @cached_property
    def tiles(self) -> TilesCard:
        """The modules."""
        made = TilesCard(self._colour)
        widgets.polish(made)
        made.setMinimumHeight(250)
        made.row_chosen.connect(lambda row: self.rows_chosen.emit([row]))
        made.pointed.connect(self.pointed)
        made.map.first_painted.connect(self._tell_painted)
        made.colour_chosen.connect(self.colour_chosen)
        self._left.insertWidget(0, made, 11)
        return made

    @cached_property
    def findings(self) -> FindingsCard:
        """What is worth a look."""
        made = FindingsCard()
        widgets.polish(made)
        made.rows_chosen.connect(self.rows_chosen)
        made.view_chosen.connect(self.view_chosen)
        made.measure_requested.connect(lambda: self.session.survey.measure())
        self._right.insertWidget(0, made, 1)
        return made

    @cached_property
    def bytes_card(self) -> BytesCard:
        """Where the bytes are."""
        made = BytesCard()
        widgets.polish(made)
        made.slim_copy_requested.connect(self.slim_copy_requested)
        self._right.addWidget(made)
        return made

    @cached_property
    def run_card(self) -> RunCard:
        """Other checkpoints of the same run, where there are any."""
        made = RunCard()
        widgets.polish(made)
        made.series_requested.connect(self.run_requested)
        made.file_chosen.connect(self.file_chosen)
        made.compare_requested.connect(self.compare_requested)
        made.pointed.connect(self.pointed)
        self._right.insertWidget(self._right.indexOf(self.bytes_card), made)
        return made

    @cached_property
    def kinds_card(self) -> KindsCard:
        """What the tensors are."""
        made = KindsCard()
        widgets.polish(made)
        self._whole.addWidget(made)
        return made

    @cached_property
    def depth_card(self) -> DepthCard:
        """The lines across depth."""
        made = DepthCard(self._measure)
        widgets.polish(made)
        made.setMinimumHeight(210)
        made.row_chosen.connect(lambda row: self.rows_chosen.emit([row]))
        made.pointed.connect(self.pointed)
        made.measure_chosen.connect(self.measure_chosen)
        made.asked.connect(self._ask_depth)
        made.band_asked.connect(self._ask_band)
        self._left.addWidget(made, 9)
        return made

    # Asking

    def show_now(self) -> None:
        """Ask for everything; called when it comes to the front, and when the file was read again."""
        self._stale = False
        self._compared.clear()
        self._to_compare.clear()
        self._digests.clear()
        self.session.jobs.drop("overview digest")
        self._measured = (0, int(self.session.info["tensors"]))
        self._say_progress()
        self.session.ask("overview", {}, self._answered, lane="file overview")

    def _answered(self, body: Body, buffers: Buffers) -> None:
        self.head.show_head(body["head"], self.session.path)
        self.tiles.show_groups(body)
        if not self.tiles.map.tiles:
            QTimer.singleShot(1, self, self._tell_painted)
        self._turns.add(
            lambda: self.bytes_card,
            lambda: self.bytes_card.show_bytes(body["bytes"]),
            lambda: self.kinds_card,
            lambda: self.kinds_card.show_kinds(body),
            lambda: self.depth_card,
            lambda: self.depth_card.plot,
            self._fill_window,
            self._ask_place,
            self._ask_numbers,
        )

    def _ask_numbers(self) -> None:
        if self._stale or not self.isVisible():
            self._stale = True
            return
        # One behind the other, so that the worker answers in between what somebody else wants to know.
        self._due = True
        self._ask_depth()

    def _ask_depth(self) -> None:
        depth = self.depth_card
        wanted = {"series": depth.number, "measure": depth.measure, "kind": depth.kind}

        def answered(body: Body, buffers: Buffers) -> None:
            depth.show_depth(body)
            if self._due:
                self._due = False
                self.session.ask("overview_state", {}, self._numbers, lane="overview numbers")
            else:
                self._ask_band()

        self.session.ask("overview_depth", wanted, answered, lane="overview depth")

    def _numbers(self, body: Body, buffers: Buffers) -> None:
        # The worker has also keystrokes to answer.
        self._pause.setInterval(max(PAUSE, round(1000 * float(body["seconds"]) * SHARE)))
        self.tiles.show_numbers(body)
        self._found = [shown_of(finding) for finding in body["findings"]]
        self._measured = (int(body["known"]) + int(body["unreadable"]), int(body["total"]))
        self._say_progress()
        self._show_found()
        self._compare(body["candidates"])
        self._ask_band()
        self.session.same_run.begin()
        self.settled.emit()

    # What somebody wants to see from the tree

    def mark(self, row: int) -> None:
        """Mark the tile and the point across depth of a row of the tree; Escape goes back to it."""
        self._wanted = row
        if not self._stale and not self._turns.busy and not self.session.jobs.busy("file overview"):
            self._ask_place()

    def _ask_place(self) -> None:
        if self._wanted >= 0 and "depth_card" in self.__dict__:
            self._marked, self._wanted = self._wanted, -1
            self.session.ask("overview_place", {"row": self._marked}, self._show_place, lane="overview place")

    def _show_place(self, body: Body, buffers: Buffers) -> None:
        tiles = self.tiles.map
        tiles.mark(int(body["tile"]))
        self.depth_card.mark(body["depth"])
        words = str(body["words"]) or tiles.describe(tiles.marked)
        self.pointed.emit(f"{words} · Esc goes back to it")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self._marked >= 0:
            self.rows_chosen.emit([self._marked])
        else:
            super().keyPressEvent(event)

    # The band of one line

    def _ask_band(self) -> None:
        """Find out which tensors the chosen line runs through, and look at the rows of those not looked at before."""
        depth = self.depth_card
        if depth.line < 0:
            return
        if self._banded_of != self.session.info["identity"]:
            self._banded, self._banded_of = {}, self.session.info["identity"]
        wanted = {"series": depth.number, "kind": depth.kind, "line": depth.line}
        if wanted == self._band_wanted and self.session.jobs.busy("overview rows"):
            self._band_again = True
            return
        self._band_wanted, self._band_again = wanted, False
        self.session.jobs.drop("overview rows")

        def answered(body: Body, buffers: Buffers) -> None:
            self._look_at_rows({int(place): (int(at), source) for place, at, source in body["points"]})

        self.session.ask("overview_band", wanted, answered, lane="overview band")

    def _look_at_rows(self, points: Mapping[int, tuple[int, Any]]) -> None:
        """One tensor after another, so that who selects one has it in between; then show the band."""
        banded = self._banded
        missing = [(at, source) for at, source in points.values() if at not in banded]

        def take(at: int, band: Body | None) -> None:
            banded[at] = band
            look()

        def look() -> None:
            if not missing:
                self.depth_card.show_band({place: banded[at] for place, (at, _) in points.items()})
                if self._band_again:
                    self._ask_band()
                return
            at, source = missing.pop(0)
            self.session.ask_numbers(
                "row_band",
                {"source": source},
                lambda body, _: take(at, body["band"]),
                lambda failure: take(at, None),
                lane="overview rows",
            )

        look()

    def _show_run(self) -> None:
        state = self.session.same_run.state
        if len(state["points"]) > 1:
            self._turns.add(lambda: self.run_card, lambda: self.run_card.show_run(state), self._fill_window)
        elif "run_card" in self.__dict__:
            self.run_card.hide()  # it was none after all

    def _say_progress(self) -> None:
        self.findings.say(*self._measured, self.session.survey.known.offer()[1])

    def _numbers_came(self) -> None:
        """More is measured: look again, not at once where somebody just looked."""
        if not self.isVisible():
            self._stale = True
        elif "depth_card" in self.__dict__ and not self._pause.isActive():
            self._pause.start()

    def _changed(self) -> None:
        """The rows are others now."""
        self._wanted = self._marked = -1
        if "depth_card" in self.__dict__:
            self.depth_card.forget_mark()
        if self.isVisible():
            self.show_now()
        else:
            self._stale = True

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._stale and self.session.state == "open":
            self.show_now()
        else:
            self._compare_next()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        # Nobody looks: a tensor that is half read is read again when somebody does.
        self.session.jobs.drop("overview digest")
        self.pointed.emit("")

    # What was found

    def _show_found(self) -> None:
        """The findings of the worker behind what the window knows by itself."""
        own: list[Shown] = []
        session = self.session
        harmful = dangerous_calls(session.scan) if session.scan else []
        if harmful:
            title = "Loading it would run something"
            names = ", ".join(text.visible(str(use["name"]), 60) for use in harmful[:3])
            own.append(Shown("error", "hazard", title, names, (), "security"))
        errors = [problem for problem in session.problems if problem[0] == "error"]
        if errors:
            title = f"{text.plural(len(errors), 'problem')} in the file itself"
            own.append(Shown("error", "problem", title, text.visible(str(errors[0][2]), 200), (), "problems"))
        self.findings.show_findings([*own, *self._found])

    def _compare(self, candidates: Any) -> None:
        """Read what looks equal once more, one after another, to know whether it is."""
        wanted = [(int(at), source) for at, source in candidates if int(at) not in self._compared]
        self._compared.update(at for at, _ in wanted)
        self._to_compare[:0] = reversed(wanted)
        self._compare_next()

    def _compare_next(self) -> None:
        if not self.isVisible() or self.session.jobs.busy("overview digest"):
            return
        if self._to_compare:
            self._read_once_more(*self._to_compare[-1])
        elif self._digests:
            answer = {"digests": self._digests, "identity": self.session.info["identity"]}
            self._digests = {}
            self.session.ask("overview_equal", answer, self._compared_all, lane="overview equal")

    def _read_once_more(self, at: int, source: Any) -> None:
        def done(sha256: str) -> None:
            self._to_compare.pop()
            self._digests[str(at)] = sha256
            self._compare_next()

        self.session.ask_numbers(
            "digest",
            {"source": source},
            lambda body, _: done(str(body["sha256"] or "")),
            lambda failure: done(""),
            lane="overview digest",
        )

    def _compared_all(self, body: Body, buffers: Buffers) -> None:
        self._numbers_came()

    def _tell_painted(self) -> None:
        if not self._painted:
            self._painted = True
            self.first_painted.emit()
