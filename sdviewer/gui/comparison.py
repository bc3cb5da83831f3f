"""One comparison as the window knows it: what the worker said of both files, the selected row, how pairs are made.

The only mutable object of its tab, as `session` is of a document's. Nothing of it is edited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from PySide6.QtCore import QTimer, Signal

from sdviewer.core import text
from sdviewer.core.aligned import AlignedSheet
from sdviewer.engine.client import NumbersPool, Request, Worker
from sdviewer.gui.compare_watch import CompareWatch, NormWatch
from sdviewer.gui.disk_watch import DiskWatch
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled
from sdviewer.gui.shown_tree import ShownTree

State = Literal["opening", "open", "failed"]

QUICK: Final = 700
"""Milliseconds between two times that the matrix and the map are asked for while numbers come."""

ARROW: Final = "\N{LEFT RIGHT ARROW}"


@dataclass(frozen=True, slots=True)
class Matching:
    """How pairs are made: `match` is "" for what seems right, state dicts are indexes or None, pairs are of tensors."""

    match: str = ""
    state_dict_a: int | None = None
    state_dict_b: int | None = None
    hand: tuple[tuple[int, int], ...] = ()
    broken: tuple[tuple[int, int], ...] = ()

    def params(self) -> dict[str, Any]:
        """As the worker wants it."""
        return {
            "match": self.match,
            "state_dict_a": self.state_dict_a,
            "state_dict_b": self.state_dict_b,
            "hand": [list(pair) for pair in self.hand],
            "broken": [list(pair) for pair in self.broken],
        }


@dataclass(frozen=True, slots=True)
class Ignoring:
    """Differences that are not looked at (`engine.comparison`)."""

    dtype: bool = False
    most: float = 0.0
    optimizer: bool = False
    keys: str = ""

    def params(self) -> dict[str, Any]:
        """As the worker wants it."""
        return {"dtype": self.dtype, "most": self.most, "optimizer": self.optimizer, "keys": self.keys}


class ComparisonSession(ShownTree):
    """Two files in a tab. `info`, `facts` and `told` are bodies of the worker's answers (engine.comparison)."""

    opened = Signal()
    open_failed = Signal()
    opening_progressed = Signal(float)
    sheet_changed = Signal(object, object, int)  # AlignedSheet, visible rows, the selected row or -1
    selection_changed = Signal(int)
    facts_changed = Signal(object)
    numbers_changed = Signal()
    survey_changed = Signal()
    where_changed = Signal(object, object)  # body, buffers
    map_changed = Signal(object)  # buffers
    no_more_differences = Signal(bool)  # forwards
    job_changed = Signal(str, float)
    trouble = Signal(object)
    changed_on_disk = Signal(object)
    scanned = Signal(str, object)  # "a" or "b", what its pickles ask for
    closed = Signal()

    def __init__(self, a: str, b: str, pool: NumbersPool, recipe: str = "") -> None:
        super().__init__()
        self.a, self.b = a, b
        self.path = a
        """Of which file a plot is when it is kept as a file."""
        self.recipe = recipe
        """What is carried out on A first, as text."""
        self.pool = pool
        self.state: State = "opening"
        self.failure: Body = {}
        self.info: Body = {}
        self.told: Body = {}
        """What is known of all pairs (NUMBERS)."""
        self.facts: Body = {}
        self.selected = -1
        self.sheet: AlignedSheet | None = None
        self.numbers: Buffers = {}
        self.matching = Matching()
        self.ignoring = Ignoring()
        self.map_height = 0
        self.jobs = Jobs(self)
        self._worker = Worker("comparison")
        self._sheet_number = 0
        self._opening: Job | None = None
        self._pairing: Job | None = None
        self._died = False
        self._told_job = ("", -1.0)
        self.took = ""
        """How long all pairs took, in words."""
        self._began = 0.0
        self.watch = CompareWatch(self.jobs, self._take_numbers, self)
        self.watch.changed.connect(self._surveyed)
        self.watch.job_changed.connect(self._tell_job)
        self.norms = NormWatch(self.jobs, self._take_norms, self)
        self.norms.job_changed.connect(self._tell_job)
        self._ask_whole = QTimer(self, interval=QUICK, singleShot=True)
        self._ask_whole.timeout.connect(self._request_whole)
        self.disk = DiskWatch(self.jobs, self._worker.request, self)
        self.disk.changed.connect(self.changed_on_disk)

    # What it is called

    @property
    def names(self) -> tuple[str, str]:
        """Both files in short, printable: without what their names begin with alike."""
        return short_names(self.a, self.b)

    @property
    def name(self) -> str:
        """What its tab says."""
        return f" {ARROW} ".join(self.names)

    @property
    def tip(self) -> str:
        """Both paths, printable."""
        return f"A: {text.visible(self.a, 400)}\nB: {text.visible(self.b, 400)}"

    # Opening

    def warm_up(self) -> None:
        """Start the worker, so that it is there when it is asked."""
        self._worker.start()

    def open(self) -> None:
        """Open both files, or open them again."""
        self.state = "opening"
        self.disk.stop()
        self.watch.forget()
        self.norms.forget()
        params: dict[str, Any] = {"a": self.a, "b": self.b, "recipe": self.recipe, "ignored": self.ignoring.params()}
        params |= {**self.matching.params(), "selected": self._chosen(), "sheet": self._sheet_number}
        self._opening = self.jobs.run(
            "open",
            lambda done, failed, progressed: self._worker.request("open", params, done, failed, progressed),
            self._opened,
            self._open_failed,
            self._progressed,
            long=True,
        )

    def _progressed(self, fraction: float) -> None:
        self.opening_progressed.emit(fraction)
        if self.info:  # what was read before is still shown
            self._tell_job("Opening both files", fraction)

    def cancel_opening(self) -> None:
        """Give up on files that take long."""
        if self._opening is not None:
            self._opening.cancel()

    def _opened(self, body: Body, buffers: Buffers) -> None:
        self.state = "open"
        self.failure = {}
        self._died = False
        self._tell_job("", -1.0)
        self._take_pairs(body, buffers)
        self.disk.begin()
        self.opened.emit()
        self._show_sheet(body, buffers)
        self._request_scans()

    def _request_scans(self) -> None:
        """What loading the files would do: somebody may compare them because one is not trusted."""
        for side, path in (("a", self.a), ("b", self.b)):
            self._request_scan(side, path)

    def _request_scan(self, side: str, path: str) -> None:
        self.jobs.run(
            f"scan {side}",
            lambda d, f, p: self.pool.request("scan", {"path": path}, d, f, p, urgent=False),
            lambda body, _: self.scanned.emit(side, body),
            lambda failure: None,
            background=True,
        )

    def _open_failed(self, failure: Body) -> None:
        self.state = "failed"
        self.failure = failure
        self._tell_job("", -1.0)
        self.open_failed.emit()

    def _take_pairs(self, body: Body, buffers: Buffers) -> None:
        """The pairs are there: measure them."""
        self.info = body
        self._began, self.took = time.monotonic(), ""
        a, b = ({name: card[name] for name in ("path", "identity")} for card in (body["a"], body["b"]))
        if self.recipe:
            a["recipe"] = self.recipe
        if int(body["to_measure"]):
            pairs = {name: buffers[name] for name in ("pairs", "measured")}
            self.watch.compare(a, b, pairs, int(body["a"]["size"]) + int(body["b"]["size"]))
        else:
            self.watch.stop()
            self._ask_norms()

    def _show_sheet(self, body: Body, buffers: Buffers) -> None:
        """Rows are numbered anew."""
        self._sheet_number = int(body["sheet"])
        self.sheet = AlignedSheet.from_buffers(buffers)
        self.jobs.drop("facts")
        chosen = [int(row) for row in body["selected"]]
        self.selected = chosen[0] if chosen else -1
        self.facts = {}
        self._keep_numbers(body, buffers)
        self.sheet_changed.emit(self.sheet, buffers["visible"], self.selected)
        self.rows_changed.emit(buffers["visible"], buffers["flags"])
        if "kept" in body:  # other pairs: a fold hides none
            matched = body["matched"]
            self.filtered.emit(-1 if matched is None else int(matched), "")
        self.numbers_changed.emit()
        self._ask_whole.start(0)
        if self.selected >= 0:
            self._request_facts()

    # Which is paired with which

    def swap(self) -> None:
        """A is B and B is A."""
        turned = self.matching
        self.a, self.b = self.b, self.a
        self.path = self.a
        self.recipe = ""
        self.matching = replace(
            turned,
            state_dict_a=turned.state_dict_b,
            state_dict_b=turned.state_dict_a,
            hand=tuple((b, a) for a, b in turned.hand),
            broken=tuple((b, a) for a, b in turned.broken),
        )
        self.open()

    def match(self, matching: Matching) -> None:
        """Make pairs in another way."""
        if self.state != "open":
            return
        before, self.matching = self.matching, matching

        def paired(body: Body, buffers: Buffers) -> None:
            self._tell_job("", -1.0)
            self._take_pairs(body, buffers)
            self._show_sheet(body, buffers)

        def over(failure: Body) -> None:
            """As it was before: the worker may have been ended with its pairs half made."""
            self.matching = before
            self._tell_job("", -1.0)
            self._trouble(failure)
            self.open()

        params = {**matching.params(), "selected": self._chosen(), "sheet": self._sheet_number}
        self.watch.stop()
        self.norms.forget()
        self._pairing = self.jobs.run(
            "match",
            lambda done, failed, progressed: self._worker.request("match", params, done, failed, progressed),
            paired,
            over,
            lambda fraction: self._tell_job("Looking for equal tensors", fraction) if fraction >= 0 else None,
            long=True,
        )

    def ignore(self, ignoring: Ignoring) -> None:
        """Look at other differences."""
        before, self.ignoring = self.ignoring, ignoring

        def refused(failure: Body) -> None:
            self.ignoring = before
            self._trouble(failure)

        if self.state == "open":
            self.ask("ignore", ignoring.params(), self._ignored, refused)

    def _ignored(self, body: Body, buffers: Buffers) -> None:
        self._take_answer(body, buffers)
        self._ask_whole.start(0)
        self._request_facts()

    # The tree

    def set_filter(self, wanted: str) -> None:
        """Show only what matches on either side, and what is above it."""
        self._ask_rows(lane="filter", filter=wanted)

    def set_chips(self, statuses: list[str]) -> None:
        """Show only pairs of some statuses; none: all."""
        self._ask_rows(lane="chips", chips=statuses)

    def hide_alike(self, on: bool) -> None:
        """Hide what is alike, or show it again."""
        self._ask_rows(lane="hide", hide=on)

    def step(self, *, forwards: bool) -> None:
        """Go to the next difference, or the one before."""

        def found(body: Body, buffers: Buffers) -> None:
            self._rows_answered(body, buffers)
            row = int(body["row"])
            if row >= 0:
                self.reveal_requested.emit(row)
            else:
                self.no_more_differences.emit(forwards)

        self.ask("step", {"row": self.selected, "forwards": forwards}, found, lane="step")

    def _rows_answered(self, body: Body, buffers: Buffers) -> None:
        super()._rows_answered(body, buffers)
        self.request_map()

    # The numbers of all pairs

    def _take_numbers(self, measured: Buffers, how: Mapping[str, bool], told: Callable[[int], object]) -> None:
        """Let the worker have what was measured, and see what the tree shows of it."""
        identities = [self.info["a"]["identity"], self.info["b"]["identity"]]
        params = {"identities": identities, "refresh": bool(how.get("refresh"))}
        self._hand_on("numbers", params, measured, told)

    def _hand_on(self, name: str, params: Mapping[str, Any], measured: Buffers, told: Callable[[int], object]) -> None:
        def failed(failure: Body) -> None:
            told(0)

        def answered(body: Body, buffers: Buffers) -> None:
            self._take_answer(body, buffers)
            if self.facts.get("pair") and not self.facts["pair"]["numbers"]:
                self._request_facts()
            told(int(body["known"]))

        self.jobs.run(
            "",
            lambda done, failed, progressed: self._worker.request(
                name, params, done, failed, progressed, buffers=measured
            ),
            answered,
            failed,
            background=True,
        )

    def _take_answer(self, body: Body, buffers: Buffers) -> None:
        self._keep_numbers(body, buffers)
        if "visible" in buffers:
            self.rows_changed.emit(buffers["visible"], buffers["flags"])
            matched = body.get("matched")
            self.filtered.emit(-1 if matched is None else int(matched), "")
        self.numbers_changed.emit()
        if not self._ask_whole.isActive():
            self._ask_whole.start()

    def _keep_numbers(self, body: Body, buffers: Buffers) -> None:
        self.told = {**self.told, **{name: body[name] for name in TOLD}}
        self.numbers = {name: buffers[name] for name in ("status", "change", "cosine", "bounds")}

    def _surveyed(self) -> None:
        if self.watch.known.state == "done":
            self.took = f" in {text.seconds(time.monotonic() - self._began)}"
        self.survey_changed.emit()
        if self.watch.known.state in ("done", "offered"):
            self.ask("fold", {"selected": self._chosen()}, self._folded, lane="fold")

    def _folded(self, body: Body, buffers: Buffers) -> None:
        if int(body["sheet"]) != self._sheet_number:
            self._show_sheet(body, buffers)
        else:
            self._take_answer(body, buffers)
        if self.is_over:
            self._ask_norms()

    def _ask_norms(self) -> None:
        """All pairs are compared: see whether norms of identical ones are missing in a module that changed."""

        def answered(body: Body, buffers: Buffers) -> None:
            if int(body["n"]):
                asked_for = self.watch.was_asked_for
                self.norms.begin(self.info["b"], buffers, int(body["nbytes"]), asked_for=asked_for)
            else:
                self._take_norms({}, {}, lambda known: None)

        self.ask("unknown", {}, answered, lane="unknown")

    def _take_norms(self, measured: Buffers, how: Mapping[str, bool], told: Callable[[int], object]) -> None:
        """Let the worker have norms of identical pairs."""
        params = {"identity": self.info["b"]["identity"], "refresh": bool(how.get("refresh")), "keep": how.get("keep")}
        self._hand_on("norms", params, measured, told)

    def _chosen(self) -> list[int]:
        return [self.selected] if self.selected >= 0 else []

    def measure(self) -> None:
        """Compare all that is not compared, because somebody asked for it."""
        self.watch.measure()

    def _request_whole(self) -> None:
        """The matrix and the map, which look at all pairs."""
        if self.state == "open":
            self.ask("where", {}, self.where_changed.emit, lane="where")
            self.request_map()
            if self.facts.get("kind") == "module":  # it is told in sums, of which there are more now
                self._request_facts()

    def request_map(self) -> None:
        """The differences of the rows that are visible, in as many parts as there are pixels."""
        if self.state == "open" and self.map_height > 0:
            self.ask("map", {"height": self.map_height}, lambda _, buffers: self.map_changed.emit(buffers), lane="map")

    # The selection

    def select(self, node: int) -> None:
        """Tell everybody what is selected; the facts follow."""
        if node != self.selected:
            self.selected = node
            self.selection_changed.emit(node)
            self._request_facts()

    def _request_facts(self) -> None:
        if self.selected < 0:
            return

        def answered(body: Body, buffers: Buffers) -> None:
            self.facts = body
            self.facts_changed.emit(body)

        self.ask("facts", {"row": self.selected}, answered, lane="facts")

    # Anything else

    @property
    def is_over(self) -> bool:
        """Whether all pairs are compared that can be."""
        return self.state == "open" and not self.told.get("to_measure", 1)

    @property
    def is_settled(self) -> bool:
        """Whether all that will be compared by itself is."""
        measuring = "measuring" in (self.watch.known.state, self.norms.known.state)
        measuring = measuring or self.jobs.busy("fold") or self.jobs.busy("unknown")
        return self.state == "open" and not measuring

    @property
    def has_pair(self) -> bool:
        """Whether what is selected is a pair of two tensors."""
        return bool(self.facts.get("tensors")) and min(self.facts["tensors"]) >= 0

    @property
    def can_take(self) -> bool:
        """Whether what is selected has something in B that can be taken."""
        facts = self.facts
        return bool(facts.get("key_b")) and facts.get("kind") != "value"

    @property
    def can_pair(self) -> bool:
        """Whether what is selected is a tensor, of one side or both."""
        return bool(self.facts.get("tensors"))

    @property
    def job(self) -> tuple[str, float]:
        """What runs that is worth a word, and how far it is."""
        return self._told_job

    def cancel_job(self) -> None:
        """Stop what the status bar tells."""
        if self.state == "opening":
            self.cancel_opening()
        elif self._pairing is not None and self.jobs.busy("match"):
            self._pairing.cancel()
        else:
            self.watch.cancel()
            self.norms.cancel()

    def report(self, form: str, done: Callable[[bytes], object]) -> None:
        """What was found so far, in one of the forms of `engine.comparison`."""
        self.ask("report", {"form": form}, lambda _, buffers: done(bytes(buffers["text"])), lane="report")

    def _tell_job(self, words: str, fraction: float) -> None:
        self._told_job = (words, fraction)
        self.job_changed.emit(words, fraction)

    def ask(self, name: str, params: Mapping[str, Any], done: Any, failed: Any = None, *, lane: str = "") -> Job:
        """Ask the worker; `params` are about rows of the sheet that is shown."""
        return self.jobs.run(lane, lambda d, f, p: self._request(name, params, d, f, p), done, failed or self._trouble)

    def _request(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, progressed: Any) -> Request:
        return self._worker.request(name, {**params, "sheet": self._sheet_number}, done, failed, progressed)

    def ask_numbers(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, *, lane: str) -> Job:
        """Ask the pool for numbers of a pair."""
        return self.jobs.run(lane, lambda d, f, p: self.pool.request(name, params, d, f, p), done, failed, long=True)

    def _trouble(self, failure: Body) -> None:
        if is_cancelled(failure) or failure.get("code") == "old_sheet":
            return
        if failure.get("code") in ("worker_died", "not_open") and not self._died:
            self._died = True
            self.open()  # it knew nothing that is not in the files
            return
        self.trouble.emit(failure)

    def carry_out(self, recipe: str) -> None:
        """Compare A as a recipe makes it; what is shown and selected stays."""
        if recipe != self.recipe:
            self.recipe = recipe
            self.open()

    def close(self) -> None:
        """End the worker; nothing is heard of this comparison any more."""
        self.closed.emit()
        self.disk.stop()
        self._ask_whole.stop()
        self.watch.stop()
        self.norms.stop()
        self.jobs.close()
        QTimer.singleShot(0, self.deleteLater)
        self._worker.stop(wait=False)


TOLD: Final = ("known", "to_measure", "pairs", "counts", "values", "limit")


def short_names(a: str, b: str) -> tuple[str, str]:
    """The names of two files, printable, without the words that both begin with; of files of one name the folders."""
    one, other = Path(a), Path(b)
    if one.name == other.name and one.parent != other.parent:
        names = [one.parent.name or a, other.parent.name or b]
    elif one.stem == other.stem:
        names = [one.name, other.name]
    else:
        names = [one.stem or a, other.stem or b]
        alike = next((at for at, (x, y) in enumerate(zip(*names, strict=False)) if x != y), min(map(len, names)))
        cut = max(names[0].rfind(mark, 0, alike) for mark in "_-. ") + 1
        names = [name[cut:] or name for name in names]
    return text.visible(names[0], 60), text.visible(names[1], 60)
