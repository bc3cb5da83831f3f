"""One workbench as the window knows it: a document, what it has to fit, what the program proposes, the selected row.

The only mutable object of its tab. The recipe is that of the document's own session: an act here becomes a step there,
and every change there, an undo too, is followed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from PySide6.QtCore import QTimer, Signal

from sdviewer.core import text
from sdviewer.core.fit_sheet import FitSheet
from sdviewer.engine.client import NumbersPool, Request, Worker, request_alone
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled
from sdviewer.gui.session import Session
from sdviewer.gui.shown_tree import ShownTree
from sdviewer.repair.history import Step

State = Literal["opening", "open", "failed"]
Target = Mapping[str, Any]

BINS: Final = 60
"""Bars of the small histogram."""


class WorkbenchSession(ShownTree):
    """A file to repair in a tab. `info`, `told` and `why` are bodies of the worker's answers (engine.workbench)."""

    opened = Signal()
    open_failed = Signal()
    opening_progressed = Signal(float)
    building = Signal()  # a model is built, which can take long
    printed = Signal(str)  # all that it printed so far; from another thread
    sheet_changed = Signal(object, object, int)  # FitSheet, visible rows, the selected row or -1
    counts_changed = Signal()
    suggestions_changed = Signal()
    selection_changed = Signal(int)
    why_changed = Signal(object)
    numbers_changed = Signal(object, object)  # body, buffers of what is known of the selected tensor's values
    no_more_problems = Signal(bool)  # forwards
    recipe_changed = Signal()  # of which the rows are now
    edited = Signal()  # the document's recipe is another, or was saved
    saved = Signal(object)  # the receipt of a copy of the document
    save_failed = Signal(object)  # the failure, which the document's own page tells
    job_changed = Signal(str, float)
    trouble = Signal(object)
    changed_on_disk = Signal(object)
    files_changed = Signal()  # more is known of what is wrong with file or target, or of what loading it would do
    closed = Signal()

    def __init__(self, document: Session, target: Target, pool: NumbersPool) -> None:
        super().__init__()
        self.document = document
        self.path = document.path
        self.target = target
        """What it has to fit (TARGET of engine.target_check): a path, or text that somebody pasted."""
        self.built: Buffers = {}
        """Its keys where they are known already; the first `open` takes them (engine.workbench)."""
        self.target_scan: Body = {}
        """What its pickles ask for, where it is a checkpoint; empty until that is known."""
        self.pool = pool
        self.state: State = "opening"
        self.failure: Body = {}
        self.info: Body = {}
        self.told: Body = {}
        """Counts, and what of the recipe fails (SHEET)."""
        self.suggestions: list[Body] = []
        self.cautions: list[list[str]] = []
        """What is to be known beside the suggestions (CAUTION)."""
        self.dismissed = 0
        self.looking = False
        """Whether suggestions are still being looked for."""
        self.chosen = -1
        """The suggestion that is previewed, -1 for none."""
        self.choice = -1
        """What is tried of the choices for the selected row (WHY), -1 for none."""
        self.searching = False
        """Whether what is previewed is a step that somebody is making."""
        self.why: Body = {}
        self.front: str | None = None
        """The state dict that is looked at, of several that are alike; None: the only one."""
        self.selected = -1
        self.selection: list[int] = []
        """All rows that are selected, `selected` the one of them with the keyboard."""
        self.tab = "problems"
        self.sheet: FitSheet | None = None
        self.jobs = Jobs(self)
        self._worker = Worker("workbench")
        self._proposer = Worker("proposals")
        self._source = self._target = self._values = memoryview(b"")
        self._plan = 0
        self._planned = ""
        self._sheet_number = 0
        self._opening: Job | None = None
        self._died = False
        self._told_job = ("", -1.0)
        self._connected = False
        self._acting = False

    # What it is called

    @property
    def name(self) -> str:
        """What its tab says."""
        return self.document.name

    @property
    def tip(self) -> str:
        """What is repaired, and to fit what."""
        wanted = str((self.info.get("b") or {}).get("name") or "")
        return f"Repair {self.document.tip}" + (f"\nto fit {wanted}" if wanted else "")

    @property
    def modified(self) -> bool:
        """Whether there are edits that no saved copy has."""
        return self.document.modified

    @property
    def problems(self) -> int:
        """How much stands against a strict load."""
        return int(self.told.get("problems", 0))

    @property
    def collisions(self) -> int:
        """How many keys of the file would have the name of another one: no copy can be saved."""
        return int((self.told.get("before") or self.told.get("counts") or {}).get("collision", 0))

    @property
    def left_beside(self) -> str:
        """How much stands against a load of the other state dicts that the recipe is for, in words; "" for nothing."""
        others = [one for one in self.told.get("alike", ()) if one["covered"] and not one["front"] and one["problems"]]
        return ", ".join([f"{text.plural(int(one['problems']), 'problem')} in {one['name']}" for one in others])

    @property
    def is_done(self) -> bool:
        """Whether nothing stands against a strict load."""
        left = self.problems or self.left_beside or self.told.get("failed")
        return self.state == "open" and not left

    # Opening

    def warm_up(self) -> None:
        """Start the worker, so that it is there when it is asked."""
        self._worker.start()
        self._proposer.start()

    def open(self) -> None:
        """Open the file and the target, or open them again; the document is opened for it too."""
        self.state = "opening"
        self.jobs.drop("scan")
        self.target_scan = {}
        self._follow()
        built, self.built = self.built, {}
        if built or not self.target.get("run"):
            self._open(built)
            return
        # Somebody's model is built by a process of its own, on that person's word.
        self.building.emit()
        asked = {"target": dict(self.target)}
        self._opening = self.jobs.run(
            "open",
            lambda d, f, p: request_alone("building", "build", asked, d, f, p, printed=self.printed.emit),
            lambda body, buffers: self._open({"built": buffers["target"]}),
            self._open_failed,
            self.opening_progressed.emit,
            long=True,
        )

    def _open(self, built: Buffers) -> None:
        self._planned = self._recipe()
        params = {"a": self.path, "recipe": self._planned, "target": dict(self.target), "tab": self.tab}
        self._opening = self.jobs.run(
            "open",
            lambda d, f, p: self._worker.request("open", params, d, f, p, buffers=built),
            self._opened,
            self._open_failed,
            self.opening_progressed.emit,
            long=True,
        )

    def _follow(self) -> None:
        """Hear of what happens to the document."""
        if not self._connected:
            self._connected = True
            for signal, slot in self._links():
                signal.connect(slot)

    def _links(self) -> list[tuple[Any, Any]]:
        """What is heard of the document, which outlives this."""
        document = self.document
        return [
            (document.recipe_changed, self._recipe_changed),
            (document.recipe_changed, self.edited),
            (document.trouble, self._document_trouble),
            (document.changed_on_disk, self.changed_on_disk),
            (document.opened, self._document_opened),
            (document.opened, self.files_changed),
            (document.scanned, self.files_changed),
            (document.contents_changed, self.files_changed),
            (document.saved, self.saved),
            (document.save_failed, self.save_failed),
            (document.job_changed, self.job_changed),
        ]

    def _document_opened(self) -> None:
        """The document was read again: what was paired is another file."""
        known, now = self.identity, dict(self.document.info["identity"])
        if self.state == "open" and known and known != now:
            self.open()

    def _document_trouble(self, failure: Body) -> None:
        """An act of this workbench was refused."""
        if self._acting:
            self._acting = False
            self._trouble(failure)

    @property
    def identity(self) -> Body:
        """Which file it was when it was opened here."""
        return dict((self.info.get("a") or {}).get("identity") or {})

    def cancel_opening(self) -> None:
        """Give up on a file or a target that takes long."""
        if self._opening is not None:
            self._opening.cancel()

    def fit_to(self, target: Target) -> None:
        """Another target for the same file."""
        self.target = target
        self.selected = -1
        self.open()

    def _opened(self, body: Body, buffers: Buffers) -> None:
        self.state = "open"
        self.failure = {}
        self._died = False
        self.info = body
        self.chosen = self.choice = -1
        self.searching = False
        self.document.goal = self.target  # a copy that is saved says whether it fits
        self._target = buffers["target"]
        self._take_plan(body, buffers)
        self.opened.emit()
        self._scan_target()
        if self._recipe() != self._planned:  # it was changed meanwhile
            self._recipe_changed()
            return
        self._look_for_suggestions(choose=True)

    def _scan_target(self) -> None:
        """What loading the target would do; of the file the document finds that out."""
        if self.info["b"]["kind"] != "checkpoint":
            return

        def scanned(body: Body, buffers: Buffers) -> None:
            self.target_scan = body
            self.files_changed.emit()

        params = {"path": self.target["name"]}
        self.jobs.run(
            "scan",
            lambda d, f, p: self.pool.request("scan", params, d, f, p, urgent=False),
            scanned,
            lambda failure: None,
            background=True,
        )

    def _open_failed(self, failure: Body) -> None:
        self.state = "failed"
        self.failure = failure
        self.open_failed.emit()

    def _recipe(self) -> str:
        """The document's recipe as text, "" where it does nothing."""
        draft = self.document.recipe
        says = draft.head.get("target") or draft.is_for_several or any(step.enabled for step in draft.steps)
        return draft.to_text() if says else ""

    def _recipe_changed(self) -> None:
        self._replan(choose=self.chosen >= 0)

    def _replan(self, *, choose: bool) -> None:
        """Ask for the rows as they are now; `choose`: the first sure suggestion is previewed."""
        if self.state != "open":
            return
        self.chosen = self.choice = -1
        self.searching = False
        params = {"recipe": self._recipe(), "selected": self._chosen_rows(), "tab": self.tab, "front": self.front}

        def planned(body: Body, buffers: Buffers) -> None:
            self.info = {**self.info, "a": body["a"]}
            self._take_plan(body, buffers)
            self.recipe_changed.emit()
            self._look_for_suggestions(choose=choose)

        self.jobs.drop("preview")
        self.ask("recipe", params, planned, lane="recipe")

    def _take_plan(self, body: Body, buffers: Buffers) -> None:
        """Another recipe: suggestions of before are over."""
        self._plan, self._source, self._values = int(body["plan"]), buffers["source"], buffers["values"]
        self.suggestions, self.cautions = [], []
        self.front = next((str(one["state_dict"]) for one in body["alike"] if one["front"]), None)
        self._show_sheet(body, buffers)

    def _show_sheet(self, body: Body, buffers: Buffers) -> None:
        """Rows are numbered anew."""
        self._sheet_number = int(body["sheet"])
        self.told = body
        self.sheet = FitSheet.from_buffers(buffers)
        self.jobs.drop("why")
        found = [int(row) for row in body["selected"]]
        self.selected = found[0] if found else -1
        self.selection = []
        self.why = {}
        self.sheet_changed.emit(self.sheet, buffers["visible"], self.selected)
        self.rows_changed.emit(buffers["visible"], buffers["flags"])
        matched = body.get("matched")
        self.filtered.emit(-1 if matched is None else int(matched), "")
        self.counts_changed.emit()
        if self.selected >= 0:
            self._request_why()

    # Suggestions

    def _look_for_suggestions(self, *, choose: bool) -> None:
        if self.told.get("failed"):  # no step can stand behind one that does not go through
            self.looking = False
            self.jobs.drop("suggest")
            self._tell_job("", -1.0)
            self.suggestions_changed.emit()
            return
        self.looking = True
        self.suggestions_changed.emit()

        def taken(body: Body) -> None:
            self.looking = False
            self._tell_job("", -1.0)
            self._take_suggestions(body)
            if choose and (sure := self._first_sure()) >= 0:
                self.preview(sure)
            if len(self._values):
                self._look_at_values()

        def failed(failure: Body) -> None:
            self.looking = False
            self._tell_job("", -1.0)
            self.suggestions_changed.emit()
            self._trouble(failure)

        self._tell_job("Looking for what fits", -1.0)
        self._propose({}, taken, failed)

    def _look_at_values(self) -> None:
        """What names left open may be told by values: what is proposed then takes the place of what is."""

        def taken(body: Body) -> None:
            self._tell_job("", -1.0)
            if (body["suggestions"], body["cautions"]) == (self.suggestions, self.cautions):
                return
            step = self.suggestions[self.chosen]["step"] if self.chosen >= 0 else None
            self._take_suggestions(body)
            if step is not None:
                self.preview(next((at for at, one in enumerate(self.suggestions) if one["step"] == step), -1))

        self._tell_job("Comparing values", -1.0)
        self._propose({"values": self._values}, taken, lambda failure: self._tell_job("", -1.0))

    def _propose(self, more: Buffers, taken: Callable[[Body], None], failed: Callable[[Body], None]) -> None:
        """Ask what is proposed for the rows as they are."""
        plan = self._plan

        def found(body: Body, buffers: Buffers) -> None:
            self.jobs.run(
                "suggest",
                lambda d, f, p: self._worker.request("proposed", {"plan": plan}, d, f, p, buffers=buffers),
                told,
                failed,
            )

        def told(body: Body, buffers: Buffers) -> None:
            taken(body)

        tables = {"source": self._source, "target": self._target, **more}
        self.jobs.run(
            "suggest",
            lambda d, f, p: self._proposer.request("propose", {}, d, f, p, buffers=tables),
            found,
            failed,
            long=True,
        )

    def _first_sure(self) -> int:
        """The first suggestion that is not only one of several that could be meant; -1 for none."""
        return next((at for at, one in enumerate(self.suggestions) if one["evidence"] != "ambiguous"), -1)

    def _take_suggestions(self, body: Body) -> None:
        self.suggestions, self.cautions = list(body["suggestions"]), list(body["cautions"])
        self.dismissed = int(body["dismissed"])
        self.suggestions_changed.emit()
        if self.selected >= 0:
            self._request_why()  # more is known of the row

    def preview(self, at: int) -> None:
        """Show the rows as a suggestion would make them, -1: as they are."""
        if self.state != "open" or at >= len(self.suggestions):
            return
        self.chosen, self.choice, self.searching = at, -1, False
        self.suggestions_changed.emit()
        params = {"at": at, "selected": self._chosen_rows()}
        self.ask("preview", params, self._show_sheet, lane="preview")

    def try_choice(self, about: Body, at: int, others: bool) -> None:
        """Show the rows as a choice for one of them (`about` of WHY) would make them, -1: as they are."""
        if at < 0:
            if self.choice >= 0:
                self.preview(-1)
            return
        if self.state != "open":
            return
        self.chosen, self.choice, self.searching = -1, at, False
        self.suggestions_changed.emit()
        params = {**self._of_choice(about, at, others), "selected": self._chosen_rows()}
        self.ask("try", params, self._show_sheet, lane="preview")

    def try_search(self, step: Body | None, then: Callable[[Body], object] = lambda told: None) -> None:
        """Show the rows as a step would make them that somebody is making, None: as they are.

        `then` is told what it would give (PREVIEW).
        """
        if self.state != "open" or (step is None and not self.searching):
            return
        self.chosen, self.choice, self.searching = -1, -1, step is not None
        self.suggestions_changed.emit()

        def shown(body: Body, buffers: Buffers) -> None:
            self._show_sheet(body, buffers)
            if body["preview"] is not None:
                then(body["preview"])

        self.ask("search", {"step": step, "selected": self._chosen_rows()}, shown, lane="preview")

    def take_choice(self, about: Body, at: int, others: bool) -> None:
        """Put a choice for a row into the recipe."""
        self.ask("choose", self._of_choice(about, at, others), self._apply, lane="act")

    def _of_choice(self, about: Body, at: int, others: bool) -> Body:
        return {"plan": self._plan, **about, "choice": at, "others": others}

    @property
    def previewed(self) -> str:
        """What is previewed, in words."""
        if self.searching:
            return "this search"
        return "this choice" if self.choice >= 0 else f"suggestion {self.chosen + 1}"

    def accept(self, at: int, caution: int = -1) -> None:
        """Put what a suggestion says into the recipe, with what is to be done against the trap of a caution."""
        if 0 <= at < len(self.suggestions):
            self.ask("accept", {"at": at, "caution": caution}, self._apply, lane="act")

    def merge(self) -> None:
        """Put the steps into the recipe that merge the target, an adapter, into the file."""
        self.accept(next((at for at, one in enumerate(self.suggestions) if one["step"]["op"] == "merge_lora"), -1))

    def accept_safe(self) -> None:
        """Put all suggestions into the recipe that are sure and harm nothing."""
        if not any(one["safe"] for one in self.suggestions):
            return
        self.ask("accept", {"safe": True}, self._apply, lane="act")

    def dismiss(self, at: int) -> None:
        """Do not propose one any more."""
        if not 0 <= at < len(self.suggestions):
            return

        def dismissed(body: Body, buffers: Buffers) -> None:
            self._take_suggestions(body)
            self.preview(min(at, len(self.suggestions) - 1))

        self.ask("dismiss", {"at": at}, dismissed, lane="act")

    def bring_back(self) -> None:
        """Propose again what was dismissed."""
        self.ask("dismiss", {"all": True}, lambda body, _: self._take_suggestions(body), lane="act")

    def _apply(self, body: Body, buffers: Buffers) -> None:
        """Put steps into the document's recipe; what is refused there is told here."""
        steps = [Step(table, str(label)) for table, label in body["steps"]]
        self._acting = True

        def there() -> None:
            self._acting = False

        self.document.apply_all(
            steps,
            str(body["label"]),
            str(body["state_dict"]),
            there,
            at=int(body.get("at", -1)),
            instead=int(body.get("instead", 0)),
            allow=body.get("allow", ()),
        )

    # Several state dicts that are alike

    def show_front(self, state_dict: str) -> None:
        """Look at another state dict."""
        if self.state == "open" and state_dict != self.front:
            self.front = state_dict
            self.selected = -1
            self._replan(choose=True)

    def repair_all(self, on: bool) -> None:
        """Let the recipe be for all state dicts that are alike, or for the one in front alone."""
        if self.front is None:
            return
        others = [one for one in self.told["alike"] if not one["front"]]
        names = [str(one["state_dict"]) for one in others] if on else []
        said = ", ".join([str(one["name"]) for one in others])
        self._acting = True

        def there() -> None:
            self._acting = False

        label = f"Repair {said} too" if on else f"Repair {said} no more"
        self.document.name_state_dicts((self.front, *names), label, there)

    # The rows

    def set_tab(self, tab: str) -> None:
        """Problems in groups, all in the model's order, or both trees."""
        if tab != self.tab:
            self.tab = tab
            self.ask("tab", {"tab": tab, "selected": self._chosen_rows()}, self._show_sheet, lane="tab")

    def set_filter(self, wanted: str) -> None:
        """Show only what matches on either side."""
        self._ask_rows(lane="filter", filter=wanted)

    def show_group(self, status: str) -> None:
        """Go to the first row of a kind."""

        def found(body: Body, buffers: Buffers) -> None:
            self._rows_answered(body, buffers)
            if (row := int(body["row"])) >= 0:
                self.reveal_requested.emit(row)
            elif self.chosen >= 0:  # the preview has none of them
                self.preview(-1)
                self.show_group(status)

        self.ask("first", {"status": status}, found, lane="step")

    def step(self, *, forwards: bool) -> None:
        """Go to the next problem, or the one before."""

        def found(body: Body, buffers: Buffers) -> None:
            self._rows_answered(body, buffers)
            if (row := int(body["row"])) >= 0:
                self.reveal_requested.emit(row)
            else:
                self.no_more_problems.emit(forwards)

        self.ask("step", {"row": self.selected, "forwards": forwards}, found, lane="step")

    # The selection

    def select(self, node: int) -> None:
        """Tell everybody what is selected; why it is what it is follows."""
        if node != self.selected:
            self.selected = node
            self.selection_changed.emit(node)
            self._request_why()

    def _chosen_rows(self) -> list[int]:
        return [self.selected] if self.selected >= 0 else []

    def _request_why(self) -> None:
        if self.selected < 0:
            return

        def answered(body: Body, buffers: Buffers) -> None:
            self.why = body
            self.why_changed.emit(body)
            self._request_numbers()

        self.ask("why", {"row": self.selected}, answered, lane="why")

    def _request_numbers(self) -> None:
        source = self.why.get("source")
        if source is None:
            self.jobs.drop("numbers")
            return
        params = {"source": source, "bins": BINS}
        self.jobs.run(
            "numbers",
            lambda d, f, p: self.pool.request("glance", params, d, f, p),
            self.numbers_changed.emit,
            lambda failure: None,
            long=True,
        )

    @property
    def can_drop(self) -> bool:
        """Whether what is selected can be left out."""
        return bool(self.why.get("drops"))

    @property
    def can_edit(self) -> bool:
        """Whether the key in the selected row can be typed."""
        return self.why.get("edits") is not None

    @property
    def can_pair(self) -> bool:
        """Whether what is selected can be paired with another key."""
        return bool(self.why.get("pairs"))

    def drop(self) -> None:
        """Leave the selected rows out."""
        if self.selected >= 0:
            rows = self.selection if self.selected in self.selection else [self.selected]
            self.ask("drop", {"rows": rows}, self._apply, lane="act")

    def take(self, variant: Body) -> None:
        """Put what somebody did by hand into the recipe: steps as `accept` of engine.workbench answers them."""
        self._apply(variant, {})

    def strict(self, done: Callable[[str, str], object]) -> None:
        """What a strict load would say now: as much of it as is looked at, and all of it."""

        def answered(body: Body, buffers: Buffers) -> None:
            done(*(bytes(buffers[name]).decode("utf-8") for name in ("shown", "text")))

        self.ask("strict", {}, answered, lane="strict")

    # Anything else

    @property
    def is_settled(self) -> bool:
        """Whether all is shown that will be by itself."""
        return self.state != "opening" and not self.jobs.busy()

    @property
    def job(self) -> tuple[str, float]:
        """What runs that is worth a word, and how far it is: here, or of the document."""
        return self._told_job if self._told_job[0] else self.document.job[1:]

    def cancel_job(self) -> None:
        """Stop what the status bar tells."""
        if self.state == "opening":
            self.cancel_opening()
        else:
            self.document.cancel_job()

    def _tell_job(self, words: str, fraction: float) -> None:
        self._told_job = (words, fraction)
        self.job_changed.emit(words, fraction)

    def ask(self, name: str, params: Mapping[str, Any], done: Any, failed: Any = None, *, lane: str = "") -> Job:
        """Ask the worker; `params` are about rows of the sheet that is shown."""
        return self.jobs.run(lane, lambda d, f, p: self._request(name, params, d, f, p), done, failed or self._trouble)

    def _request(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, progressed: Any) -> Request:
        return self._worker.request(name, {**params, "sheet": self._sheet_number}, done, failed, progressed)

    def _trouble(self, failure: Body) -> None:
        if is_cancelled(failure) or failure.get("code") == "old_sheet":
            return
        if failure.get("code") in ("worker_died", "not_open") and not self._died:
            self._died = True
            self.open()  # it knew nothing that is not in the files and the recipe
            return
        self.trouble.emit(failure)

    def close(self) -> None:
        """End the worker; nothing is heard of this workbench any more."""
        self.closed.emit()
        if self.document.goal == self.target:
            self.document.goal = None
        self.jobs.close()
        if self._connected:
            for signal, slot in self._links():
                signal.disconnect(slot)
        QTimer.singleShot(0, self.deleteLater)
        self._worker.stop(wait=False)
        self._proposer.stop(wait=False)


def left_words(problems: int, beside: str = "") -> str:
    """How much is left, in words; `beside` in other state dicts."""
    left = ", ".join([*([text.plural(problems, "problem")] if problems else []), *([beside] if beside else [])])
    return f"{left} left" if left else "Nothing left to repair"
