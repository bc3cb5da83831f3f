"""One open document as the window knows it: what the worker said, the selection, the recipe and its history.

The only mutable object of a tab. Panels read it and call its verbs; it tells them with signals in the past tense.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PySide6.QtCore import QTime, QTimer, Signal

from sdviewer.core import text
from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import DocumentWorker, NumbersPool, Request
from sdviewer.gui.contents_watch import ContentsWatch
from sdviewer.gui.disk_watch import DiskWatch
from sdviewer.gui.exporting import Exporting, ExportOrder, params_of
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled
from sdviewer.gui.same_run import SameRun
from sdviewer.gui.saving import Saved, SaveOrder, Saving
from sdviewer.gui.shown_tree import ShownTree
from sdviewer.gui.survey_watch import SurveyWatch
from sdviewer.repair.extraction import only_model_is_module
from sdviewer.repair.history import Draft, History, Step, place_of_step
from sdviewer.repair.operations import OPERATIONS, DropObjects, Extract, Operation, Unwrap
from sdviewer.repair.operations.file_operation import FileOperation

State = Literal["opening", "open", "failed"]

CLEANABLE = ("torch-zip", "torch-legacy", "safetensors")
"""Containers that can be written; a safetensors file has nothing to be cleaned, which is said when it is scanned."""

WARM_FROM = 4 << 20
"""Elements of all tensors from which one is likely that takes the compiled loops."""

FOR_FILE = frozenset(operation.op for operation in OPERATIONS if issubclass(operation, FileOperation))
"""The operations that look at no keys, so that it does not matter whose these would be."""


class Session(ShownTree):
    """A document in a tab. `info`, `facts` and `edit` are bodies of the worker's answers (engine.document)."""

    opened = Signal()
    open_failed = Signal()
    opening_progressed = Signal(float)
    sheet_changed = Signal(object, object, object, int)  # Sheet, visible rows, nodes to select, node at the top
    several_requested = Signal(object)  # nodes to select, wherever they were folded away
    selection_changed = Signal(object)  # nodes; a list that Qt is not to copy
    facts_changed = Signal(object)
    totals_changed = Signal(object)
    job_changed = Signal(str, float)  # text ("" when nothing runs), fraction or -1
    trouble = Signal(object)  # a failure to tell in the banner
    changed_on_disk = Signal(object)  # how (engine.watch), each time that changes
    contents_changed = Signal()
    numbers_changed = Signal()  # more is measured, or other columns of it are shown
    survey_changed = Signal()  # how far the measuring of all tensors is
    recipe_changed = Signal()
    scanned = Signal(object)  # what its pickles ask for
    scan_failed = Signal(object)
    saved = Signal(object)  # the receipt
    save_failed = Signal(object)
    save_stopped = Signal(str)  # the place where nothing was written

    def __init__(self, path: str, pool: NumbersPool, worker: DocumentWorker | None = None) -> None:
        """`worker`: one of this path whose process was started before."""
        super().__init__()
        self.path = path
        self.pool = pool
        self.state: State = "opening"
        self.info: Body = {}
        self.failure: Body = {}
        self.edit: Body = {}
        self.scan: Body = {}
        self.order_again: SaveOrder | None = None
        self.goal: Mapping[str, Any] | None = None
        """What a repaired copy has to fit (TARGET of engine.target_check), None for nothing."""
        self.facts: Body = {}
        self.selection: list[int] = []
        self.top_node = -1
        self.sheet: Sheet | None = None
        # Which sheet the row numbers are of: a worker that has answered an edit meanwhile translates them.
        self._sheet_number = 0
        self.filter_text = ""
        self._filter_error = ""
        self.by_numbers = False
        self.numbers: Buffers = {}
        """What the tree shows of the numbers (engine.tree_numbers)."""
        self.columns: tuple[str, ...] = ()
        """The columns that the tree has beside its own."""
        self.noted = 0
        self.jobs = Jobs(self)
        self._worker = worker or DocumentWorker(path)
        self.history = History()
        # What reads or changes the recipe, one after another: each builds on what the one before it left.
        self._turns: deque[Callable[[], None]] = deque()
        self._opening: Job | None = None
        self.saving = Saving(self.jobs, self._worker, self)
        self.saving.saved.connect(self._saved)
        self.saving.failed.connect(self.save_failed)
        self.saving.stopped.connect(self.save_stopped)
        self._told_jobs: dict[str, tuple[str, float]] = {}
        self.saving.job_changed.connect(partial(self._tell_job, "save"))
        self.exporting = Exporting(self.jobs, self._worker, self)
        self.exporting.job_changed.connect(partial(self._tell_job, "export"))
        self._saved_recipe = Draft()
        self.contents = ContentsWatch(self.jobs, self.ask, self._worker.check_contents, self)
        self.contents.changed.connect(self.contents_changed)
        self.contents.changed.connect(self._mark_damaged)
        self.contents.job_changed.connect(partial(self._tell_job, "contents"))
        self.survey = SurveyWatch(self.jobs, self._ask_numbers, path, self)
        self.survey.changed.connect(self.survey_changed)
        self.survey.measured = lambda: {"measured": self._measured}
        self._measured = memoryview(b"")
        self.survey.job_changed.connect(partial(self._tell_job, "survey"))
        self.same_run = SameRun(self.jobs, path, self)
        self.opened_at = QTime()
        self.young = False
        self._began_opening = 0.0
        self.disk = DiskWatch(self.jobs, self._worker.request, self)
        self.disk.looked.connect(self._looked)
        self.disk.changed.connect(self.changed_on_disk)

    @property
    def name(self) -> str:
        """The file's own name, printable."""
        return text.visible(Path(self.path).name or self.path, 120)

    @property
    def tip(self) -> str:
        """Where the file lies, printable."""
        return text.visible(self.path, 400)

    # Opening

    def open(self) -> None:
        """Open the file, or open it again with the recipe."""
        self._in_turn(self._open)

    def _open(self) -> None:
        self.state = "opening"
        self.disk.stop()
        self._began_opening = time.monotonic()
        self.contents.forget()
        self.survey.forget()
        recipe = self._worker.recipe
        self._opening = self.jobs.run(
            "open",
            lambda done, failed, progressed: self._worker.open(done, failed, progressed, recipe=recipe),
            self._opened,
            self._open_failed,
            self.opening_progressed.emit,
        )

    def cancel_opening(self) -> None:
        """Give up on a file that takes long."""
        if self._opening is not None:
            self._opening.cancel()

    def _opened(self, body: Body, buffers: Buffers) -> None:
        self.state = "open"
        self.info = body["info"]
        self.edit = body["edit"]
        self.failure = {}
        self.sheet = Sheet.from_buffers(buffers, tuple(body["dtypes"]))
        self._sheet_number = int(body["sheet"])
        self.selection, self.top_node = [], -1
        self.opened_at = QTime.currentTime()
        self.young = bool(self.info["young"])
        took = time.monotonic() - self._began_opening
        self.contents.opened(self.info["identity"], took)
        self.numbers, self.noted, self.by_numbers = {}, 0, False
        self._measured = memoryview(b"")
        self.survey.opened(self.info["identity"], int(self.info["tensors"]), int(self.info["size"]), took)
        self.disk.begin()
        self.opened.emit()
        self.sheet_changed.emit(self.sheet, buffers["visible"], [], -1)
        if not self.recipe.is_empty:
            self.recipe_changed.emit()  # read again: the steps may do something else to this file
        if self.columns:
            self.show_columns(self.columns)
        self.scan = {}
        self.request_scan()
        if int(self.info["parameters"]) >= WARM_FROM:
            self.pool.warm_up()
        self._end_turn()

    def request_scan(self) -> None:
        """Find out what the file's pickles ask for, in a process of the pool, behind what is urgent there."""
        self.jobs.run(
            "scan",
            lambda d, f, p: self.pool.request("scan", {"path": self.path}, d, f, p, urgent=False),
            self._scanned,
            lambda failure: None if is_cancelled(failure) else self.scan_failed.emit(failure),
            long=True,
        )

    def _scanned(self, body: Body, buffers: Buffers) -> None:
        self.scan = body
        self.scanned.emit(body)
        self.contents.scanned()
        harmful = [use for use in body["globals"] if use["class"] == "dangerous" and use["called"]]
        if paths := [path for use in harmful for path in use["paths"] if path]:
            self.ask("mark", {"hazards": paths}, self._rows_answered)

    def _mark_damaged(self) -> None:
        """Let the tree show which tensors are not what was written."""
        known = self.contents.known
        if known.state == "done" and known.wrong:
            damaged = [where for severity, _, _, where in known.problems if severity == "error"]
            self.ask("mark", {"damaged": damaged}, self._rows_answered)

    def _open_failed(self, failure: Body) -> None:
        self.state = "failed"
        self.failure = failure
        self.open_failed.emit()
        self._end_turn()

    @property
    def problems(self) -> list[list[str]]:
        """What was odd or damaged when it was opened, and what was found since."""
        return [*(self.info.get("problems") or []), *map(list, self.contents.known.problems)]

    @property
    def notes(self) -> list[str]:
        """What the status bar says beside the facts."""
        return ["may still be being written" if self.young else "", self.contents.known.words()]

    # The tree

    def set_filter(self, wanted: str) -> None:
        """Show only what matches, and what is above it."""
        self.filter_text = wanted
        self._ask_rows(lane="filter", filter=wanted)

    def _rows_answered(self, body: Body, buffers: Buffers) -> None:
        error = self._filter_error = body.get("filter_error") or ""
        if not error:
            self.rows_changed.emit(buffers["visible"], buffers["flags"])
        self.by_numbers = bool(body.get("by_numbers"))
        self._tell_matches(body)

    def _tell_matches(self, body: Body) -> None:
        matched = body.get("matched")
        self.filtered.emit(-1 if matched is None else min(matched, 2**31 - 1), self._filter_error)

    def reveal_several(self, nodes: list[int]) -> None:
        """Show nodes wherever they are folded away, and select them."""

        def shown(body: Body, buffers: Buffers) -> None:
            self._rows_answered(body, buffers)
            self.several_requested.emit(nodes)

        self.ask("rows", {"rows": nodes}, shown)

    # The numbers of all tensors

    def show_columns(self, columns: tuple[str, ...]) -> None:
        """Have the tree show other columns beside its own."""
        self.columns = columns
        if self.state == "open":
            self._ask_numbers({}, {}, lambda known: None)

    def _ask_numbers(self, measured: Buffers, how: Mapping[str, bool], told: Callable[[int], None]) -> None:
        """Let the document's worker have what was measured, and see what the tree shows of it."""
        params = {"columns": list(self.columns), "identity": self.info["identity"], **how}

        def answered(body: Body, buffers: Buffers) -> None:
            self.numbers, self.noted, self._measured = buffers, int(body["noted"]), buffers["measured"]
            if "visible" in buffers:
                # What is wrong with a filter that is being typed stays so, while the one before it finds more.
                self.rows_changed.emit(buffers["visible"], buffers["flags"])
                self._tell_matches(body)
            self.numbers_changed.emit()
            told(int(body["known"]))

        self.jobs.run(
            "",
            lambda done, failed, progressed: self._worker.request(
                "statistics", params, done, failed, progressed, buffers=measured
            ),
            answered,
            lambda failure: told(0),
            background=True,
        )

    # The selection

    def select(self, nodes: list[int]) -> None:
        """Tell everybody what is selected, the current row first; the facts follow."""
        if nodes == self.selection:
            return
        chosen = self.selection = nodes
        self.selection_changed.emit(chosen)
        if len(chosen) == 1:
            self._request_facts(chosen[0])
        elif chosen:
            self.request_totals()

    def request_totals(self) -> None:
        """Sum up what is selected."""
        if len(self.selection) > 1:
            rows = {"rows": self.selection}
            self.ask("totals", rows, lambda body, _: self.totals_changed.emit(body), lane="facts")

    def subtree_of(self, node: int) -> int:
        """The node itself where something is below it, else the one above."""
        assert self.sheet is not None
        columns = self.sheet.columns
        return node if columns["end"][node] > node + 1 else int(columns["parent"][node])

    def outermost(self) -> list[int]:
        """The selected nodes that are not below another selected one, from the top of the file."""
        assert self.sheet is not None
        ends = self.sheet.columns["end"]
        found: list[int] = []
        covered = 0
        for node in sorted(self.selection):
            if node >= covered:
                found.append(node)
                covered = ends[node]
        return found

    def _request_facts(self, node: int) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            self.facts = body
            self.facts_changed.emit(body)

        self.ask("facts", {"row": node}, answered, lane="facts")

    # Editing: the recipe is the document, undo is moving in its history

    @property
    def recipe(self) -> Draft:
        """The recipe as it is now."""
        return self.history.draft

    @property
    def modified(self) -> bool:
        """Whether there are edits that no saved copy and no saved recipe has."""
        return self.history.is_dirty

    @property
    def failed_step(self) -> Body | None:
        """What of the recipe does not go through: `step` (-1: a guard), `message`, `remedy`; None where all does."""
        found: Body | None = self.edit.get("failed")
        return found

    @property
    def editable(self) -> str:
        """Why the key of the selected row cannot be edited, "" where it can."""
        if self.state != "open" or not self.facts:
            return "Select a row first."
        return str(self.facts.get("editable") or "")

    @property
    def not_clean(self) -> str:
        """Why no clean copy can be saved, "" where one can."""
        if self.scan and not self.scan["pickles"]:
            return "There is no pickle in it."
        return "" if self.info.get("container") in CLEANABLE else "Files of this kind can be read and not written."

    def apply(self, step: Operation | Step, state_dict: str = "", then: Callable[[], object] | None = None) -> None:
        """Put one more step at the end of the recipe; one that does not go through is refused.

        The first step on keys says which state dict is edited where there are several: `state_dict`, or that of the
        selection.
        `then` is called when the step is there.
        """
        made = step if isinstance(step, Step) else Step.of(step)
        self._change(lambda history: history.add(made, self._named_by(made, state_dict)), then, strict=True)

    def apply_all(
        self,
        steps: Sequence[Step],
        label: str,
        state_dict: str,
        then: Callable[[], object],
        *,
        at: int = -1,
        instead: int = 0,
        allow: Sequence[str] = (),
    ) -> None:
        """Put steps at the end of the recipe as one edit; refused as a whole where one does not go through.

        Before step number `at`, in the place of `instead` steps, they are not refused: the next step did not go through
        before, and may still not. Keys that the patterns of `allow` mean may be missing from then on.
        """

        def change(history: History) -> History:
            named = self._named_by(steps[0], state_dict) if steps else ""
            draft = history.draft.for_state_dict(named) if named else history.draft
            place = len(draft.steps) if at < 0 else at
            draft = draft.with_steps(steps, place, instead)
            return history.put(draft.allowing(allow) if allow else draft, label)

        self._change(change, then, strict=at < 0)

    def name_state_dicts(self, names: Sequence[str], label: str, then: Callable[[], object]) -> None:
        """Let the recipe be for these state dicts, as one edit; refused where a step does not go through on one.

        Of several none is unwrapped: the steps that do go.
        """

        def change(history: History) -> History:
            if len(names) > 1:
                return history.put(history.draft.without(Unwrap.op).for_state_dict(*names), label)
            # (without steps it is said by the first one)
            return history.put(history.draft.for_state_dict(*(names if history.steps else ())), label)

        self._change(change, then, strict=True)

    def change_step(self, at: int, was: Step, step: Operation | Step) -> None:
        """Put another step in the place of one, `was`, that stood at `at` when somebody began to change it."""
        made = step if isinstance(step, Step) else Step.of(step)

        def change(history: History) -> History:
            now = place_of_step(history.steps, was, at)
            if now < 0:
                gone = "The step was not changed: it is not in the recipe any more"
                self.trouble.emit({"message": gone, "remedy": ""})
                return history
            return history.change(now, made)

        self._change(change)

    def toggle_step(self, step: int) -> None:
        """Switch one step off or on again."""
        self._change_at(step, lambda history: history.toggle(step))

    def remove_step(self, step: int) -> None:
        """Take one step out."""
        self._change_at(step, lambda history: history.remove(step))

    def move_step(self, step: int, to: int) -> None:
        """Put a step at another place, so that it becomes number `to`."""
        if step != to:
            self._change_at(max(step, to), lambda history: history.move(step, to))

    def put_recipe(self, draft: Draft, label: str) -> None:
        """Another recipe in the place of the one there is, as one edit."""
        self._change(lambda history: history if draft == history.draft else history.put(draft, label))

    def bring_back(self, history: History, then: Callable[[], object]) -> None:
        """The edits of a window that ended: with all their undo where nothing was edited since, else as one edit."""
        label = "Bring back what was not saved"
        self._change(lambda now: now.put(history.draft, label) if now.states[1:] else history, then)

    def undo(self) -> None:
        """Back to the recipe before the last change."""
        self._change(History.undo)

    def redo(self) -> None:
        """Forward again."""
        self._change(History.redo)

    def _change_at(self, last: int, change: Callable[[History], History]) -> None:
        """A change that is about steps up to number `last`, which another change may have taken out meanwhile."""
        self._change(lambda history: change(history) if 0 <= last < len(history.steps) else history)

    def step_of(self, act: str, done: Callable[[Step], None], failed: Any = None, **params: Any) -> None:
        """The one step that an act in the tree means (`engine.edits`)."""
        self.ask(
            "step",
            {"act": act, **params},
            lambda body, _: done(Step(body["step"], str(body["label"]))),
            failed,
        )

    def read_recipe(self, path: str, label: str) -> None:
        """Carry a recipe out that lies in a file, in the place of the one there is."""
        self.ask("read_recipe", {"path": path}, lambda body, _: self.put_recipe(Draft.from_body(body["draft"]), label))

    def recipe_text(self, draft: Draft, done: Callable[[str], object], lane: str = "", path: str = "") -> None:
        """A recipe as people read it; `path` is where it will be written."""
        params = {"recipe": draft.to_text(), "path": path}
        self.ask("recipe_text", params, lambda body, _: done(str(body["text"])), lane=lane)

    def mark_recipe_saved(self, draft: Draft) -> None:
        """A file holds this recipe now."""
        if self.recipe == draft:
            self.history = self.history.mark_saved()
            self.recipe_changed.emit()

    def state_dict_of_selection(self) -> str:
        """The dotted path of the state dict that the selection is in, "" for the root and for none."""
        dicts = self.info.get("state_dicts") or ()
        index = int(self.facts.get("state_dict", -1))
        return str(dicts[index]["dotted"]) if 0 <= index < len(dicts) else ""

    def _named_by(self, step: Step, state_dict: str) -> str:
        """The state dict that the recipe is for from this step on, "" where that does not change."""
        named = self.recipe.is_for_several or (bool(self.recipe.steps) and "state_dict" in self.recipe.source)
        if named or any(known.op not in FOR_FILE for known in self.recipe.steps):
            return ""
        return state_dict or ("" if step.op in FOR_FILE else self._chosen_state_dict())

    def _chosen_state_dict(self) -> str:
        """The state dict that the selection is in, as a recipe names it; "" where there is nothing to choose."""
        return self.state_dict_of_selection() if len(self.info.get("state_dicts") or ()) > 1 else ""

    def _in_turn(self, begin: Callable[[], None]) -> None:
        """Begin something as soon as all that was asked for before it is answered; it calls `_end_turn`."""
        self._turns.append(begin)
        if len(self._turns) == 1:
            begin()

    def _end_turn(self) -> None:
        self._turns.popleft()
        if self._turns:
            self._turns[0]()

    def _change(
        self,
        change: Callable[[History], History],
        then: Callable[[], object] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Change the history in its turn; two keys that are pressed quickly are two changes, one on top of the other.

        The worker is asked for the document after it: only what it accepts is kept.
        """
        self._in_turn(lambda: self._move(change(self.history), then, strict=strict))

    def _move(self, history: History, then: Callable[[], object] | None, *, strict: bool) -> None:
        if history is self.history:
            self._end_turn()
            return
        wanted = "" if history.draft.is_empty else history.draft.to_text()
        chosen = list(self.selection)
        top = [self.top_node] if self.top_node >= 0 else []
        asked = [*chosen, *top]

        def accepted(body: Body, buffers: Buffers) -> None:
            nonlocal chosen
            if self.selection != chosen:  # somebody chose other rows meanwhile: where are those now?
                chosen = list(self.selection)
                last = body["selected"][-1:] if top else []
                self.ask(
                    "where",
                    {"rows": chosen},
                    lambda now, _: accepted({**body, "selected": [*now["rows"], *last]}, buffers),
                    lambda failure: finish({**body, "selected": []}, buffers),
                )
                return
            finish(body, buffers)

        def finish(body: Body, buffers: Buffers) -> None:
            try:
                self.history = history
                self._edited(body, buffers, len(chosen))
                if then is not None:
                    then()
            finally:
                self._end_turn()

        def refused(failure: Body) -> None:
            self._trouble(failure)
            self._end_turn()

        self.jobs.run(
            "",
            lambda done, failed, progressed: self._worker.edit(wanted, asked, done, failed, strict=strict),
            accepted,
            refused,
        )

    def _edited(self, body: Body, buffers: Buffers, chosen: int) -> None:
        """Show the document after an edit: of the rows that were asked about, the first `chosen` are the selection."""
        self.edit = body["edit"]
        self._sheet_number = int(body["sheet"])
        self.jobs.drop("facts")  # of what was selected before
        self.sheet = Sheet.from_buffers(buffers, tuple(body["dtypes"]))
        self.numbers = {name: buffers[name] for name in buffers if name == "health" or " " in name}
        rows = [int(row) for row in body["selected"]]
        self.selection = [row for row in rows[:chosen] if row >= 0]
        top = self.top_node = rows[chosen] if len(rows) > chosen else -1
        self.sheet_changed.emit(self.sheet, buffers["visible"], list(self.selection), top)
        self.recipe_changed.emit()
        if "health" not in self.numbers:
            self._measured = memoryview(b"")
            self.survey.again()  # the worker had to be started anew
        if len(self.selection) == 1:
            self._request_facts(self.selection[0])
        else:
            self.selection_changed.emit(self.selection)

    def preview(
        self,
        step: Operation | Step,
        limit: int,
        done: Callable[[Body], None],
        *,
        at: int = -1,
        scope: Body | None = None,
        skip: bool = False,
        state_dict: str = "",
        lane: str = "preview",
    ) -> None:
        """What one more step would change, or another in the place of step `at`; a newer question replaces an older.

        `scope` and `skip` are those of `engine.edits`; `state_dict` is as in `apply`.
        """
        made = step if isinstance(step, Step) else Step.of(step)
        draft = self.recipe if at < 0 else self.recipe.until(at)
        if at < 0 and (chosen := self._named_by(made, state_dict)):
            draft = draft.for_state_dict(chosen)
        recipe = "" if draft.is_empty else draft.to_text()
        params = {"recipe": recipe, "step": made.table, "limit": limit, "scope": scope, "skip": skip}
        params["for"] = lane
        self.ask("preview", params, lambda body, _: done(body), lane=lane)

    # Saving

    def clean_order(self, out: str) -> SaveOrder:
        """A clean copy: without what torch's own list lacks; of a file whose model is a module, its state dict."""
        dicts = [(str(found["role"]), bool(found["module"])) for found in self.info.get("state_dicts") or ()]
        extracts = any(step.op == Extract.op and step.enabled for step in self.recipe.steps)
        first = (Step.of(Extract()),) if only_model_is_module(dicts) and not extracts else ()
        return SaveOrder(out, first=first, steps=(Step.of(DropObjects()),), kind="clean")

    def save(self, out: str, *, overwrite: bool, clean: bool = False, sure: bool = False) -> None:
        """Write a repaired copy; the file itself is never touched. `clean`: without what torch's own list lacks.

        `sure`: a file at `out` may go also if it has hard links, or is not the one that was saved there last.
        """
        order = self.clean_order(out) if clean else SaveOrder(out)
        self.carry_out(replace(order, overwrite=overwrite, sure=sure))

    def carry_out(self, order: SaveOrder) -> None:
        """Write the copy that was ordered, with every change that was asked for before."""

        def begin() -> None:
            try:
                if self.saving.begin(order, self.recipe, self.info, self.edit.get("others"), self.goal):
                    self._saved_recipe = self.recipe
            finally:
                self._end_turn()

        self._in_turn(begin)

    def save_again(self, *, sure: bool = False) -> None:
        """Try once more what was not saved; `sure`: the file that would go may go, that was asked about."""
        order = self.saving.last
        if order is not None:
            self.carry_out(replace(order, overwrite=True, sure=True) if sure else order)

    def _saved(self, saved: Saved) -> None:
        if self.recipe == self._saved_recipe:
            self.history = self.history.mark_saved()
        if saved.order.kind == "repaired":
            self.order_again = replace(saved.order, overwrite=True, sure=False)
        self.recipe_changed.emit()
        self.saved.emit(saved.receipt)

    def export(self, order: ExportOrder) -> None:
        """Take tensors out into a file of their own, as the recipe makes them."""
        self.exporting.begin(order, self.recipe, self.info)

    def export_aside(self, order: ExportOrder, done: Any, failed: Any) -> Job:
        """The same without telling it: for a file that somebody else takes."""
        params = params_of(order, self.recipe, self.info)
        return self.jobs.run("drag", lambda d, f, p: self._worker.export(params, d, f, p), done, failed)

    @property
    def job(self) -> tuple[str, str, float]:
        """What runs that is worth a word: which, its words ("" for nothing) and how far it is; a save goes first."""
        for which in ("save", "export", "contents", "survey"):
            if which in self._told_jobs:
                return (which, *self._told_jobs[which])
        return "", "", -1.0

    def cancel_job(self) -> None:
        """Stop what the status bar tells; of a running save or export nothing is left."""
        if not self.saving.cancel() and not self.exporting.cancel():
            (self.survey if self.job[0] == "survey" else self.contents).cancel()

    def _tell_job(self, which: str, words: str, fraction: float) -> None:
        if words:
            self._told_jobs[which] = (words, fraction)
        else:
            self._told_jobs.pop(which, None)
        self.job_changed.emit(*self.job[1:])

    # Anything else a panel wants to know

    def ask(
        self,
        name: str,
        params: Mapping[str, Any],
        done: Any,
        failed: Any = None,
        *,
        lane: str = "",
    ) -> Job:
        """Ask the document's worker."""
        return self.jobs.run(
            lane,
            lambda d, f, p: self._request(name, params, d, f, p),
            done,
            failed or self._trouble,
        )

    def _request(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, progressed: Any) -> Request:
        """A request that says of which sheet its rows are."""
        return self._worker.request(name, {**params, "sheet": self._sheet_number}, done, failed, progressed)

    def ask_numbers(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, *, lane: str) -> Job:
        """Ask the pool for numbers of a tensor."""
        return self.jobs.run(lane, lambda d, f, p: self.pool.request(name, params, d, f, p), done, failed, long=True)

    def _trouble(self, failure: Body) -> None:
        if not is_cancelled(failure):
            self.trouble.emit(failure)

    # The file on disk

    def _looked(self, body: Body) -> None:
        state, young = str(body["state"]), bool(body["young"])
        if young:
            self.contents.postpone()
        if self.young and state == "same" and not young:
            self.young = False
            self.contents_changed.emit()

    def check_contents(self) -> None:
        """Compare all bytes of the file with the checksums that it states."""
        self.contents.check()

    def close(self) -> None:
        """End the worker; nothing is heard of this document any more."""
        self.disk.stop()
        self.contents.stop()
        self.survey.stop()
        self.same_run.stop()
        self.jobs.close()
        QTimer.singleShot(0, self.deleteLater)
        self._worker.stop(wait=False)
