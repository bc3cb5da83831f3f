"""What a document's worker process answers. It owns the file, the checkpoint, the plan and the module tree.

Requests (name: parameters -> body of the result, and its buffers). `row` is a row number of the current sheet; rows are
numbered anew by `open` and `edit`, which translate `selected` and tell the number of the sheet, "sheet". Whoever asks
about rows says of which sheet they are: those of the one before, asked about before the answer to an edit was there,
are translated too.

    open      {"path", "recipe"?: text, "selected"?: [row]}  -> {"info": {...}, "dtypes": [...], "rows_total",
              "edit": EDIT, "selected": [row]}; buffers: the sheet's columns (core.sheet.COLUMNS), "text", "visible"
    rows      {"toggle"?: row, "expand"?: [row], "collapse"?: [row], "subtree"?: bool, "all"?: "expand" | "collapse",
              "filter"?: text, "sort"?: "natural" | column, "descending"?: bool, "reveal"?: row,
              "rows"?: [row], to be seen too}
              -> {"matched": n | null, "filter_error": text, "by_numbers": whether filter or order look at numbers};
              buffers: "visible" (int32 rows), "flags" (all rows)
    facts     {"row"} -> FACTS
    children  {"row", "limit"} -> {"rows": [[row, name, shape, dtype, params]], "more": n}
    find      {"text", "limit"} -> {"rows": [[row, key]]}    for "go to tensor"
    statistics {"columns": [name], "refresh"?: bool, "kept"?: bool, "keep"?: bool} and what the survey measured, as
              buffers (engine.survey), with the "identity" (of `info`) of its file: what is of another one is left out;
              `kept`: what is kept of this file from before is taken; `keep`: it is kept
              -> {"known": tensors measured, "tensors", "noted": tensors worth a word among the problems}; buffers: what
              the tree shows of it (engine.tree_numbers), and "measured", for each tensor whether it is; where `refresh`
              and the filter or the order look at numbers, "visible" and "flags" too with "matched" in the body, as
              rows. `edit` answers with what the tree shows as well
    selected  {"rows": [row], "start", "limit"} -> {"rows": [[row, key, shape, dtype, params, bytes, mean, std, norm,
              zeros, min, max]], "total"}   the tensors of a multiple selection, null for a number that is not known
    totals    {"rows": [row]} -> {"tensors", "params", "nbytes", "values", "norm", "zeros", "nan"}   for a multiple
              selection; the last three null while one of its tensors is not measured
    where     {"rows": [row]} -> {"rows": [row]}    in the current sheet, -1: gone
    edit      {"recipe": text, "selected": [row], "strict": bool} -> the same as open, without "info"; not `strict`: the
              steps before one that does not go through are carried out
    save      {"path", "recipe", "out", "overwrite", "identity", "others"? of EDIT, "container"?, "split_names"?,
              "replaces"?, "target"?: TARGET that the result has to fit (engine.target_check)}
              -> {"receipt": {...}, "identity": {...} or null, "place": [step] of its state dict, null where it cannot
              be told in steps, "mappable": whether torch can map its records,
              "left": keys of the target that are not in it, where a load that is not strict takes it}
              (without its lists of keys) in a process of its own, with progress in bytes; opens `path` itself and wants
              `identity` (of `info`); buffers: "json", the receipt with its lists, and "text", as a terminal has it
              Fails with `source_damaged` where what should be copied is not in the file
    lost      {} -> {"state_dict", "patterns": [pattern], "why", "remaining": text}   what to drop after the recipe so
              that a save misses nothing (engine.lost)
    changed   {} -> {"state": "same" | "written" | "replaced" | "gone" | "silent", "young": bool, "file"}   is the file
              on disk still the one that was opened? (engine.watch)
    mark      {"hazards"?: [dotted], "damaged"?: [dotted]} -> as rows: the rows of what would run on loading are marked
              (sheet.HAZARD), and those of tensors whose bytes are not what was written (sheet.PROBLEM)
    structure, records, record_text, storages, metadata, problems, checkable, clean: all that is in the file
              (engine.contents)
    preview, step, cell, keys, common, alike, read_recipe, recipe_text: edits (engine.edits)
    overview, overview_state, overview_depth, overview_equal: the checkpoint as a whole (engine.overview)
    would_save, save_map, script, slim: saves before they happen, and the keys of those that did (engine.save_preview)
    would_export, export: single tensors and selections as files of their own (engine.exports)

    info   {"path", "name", "container", "size", "tensors", "parameters", "state_dicts": [{"dotted", "role", "tensors",
           "parameters", "bytes", "row", "read_only", "module"}], "problems": [[severity, code, message, where]],
           "writer", "byte_order", "files": n, "suffix", "identity": {...}, "young": whether it was changed a moment
           before, "chips": [[label, filter, count]]}
    EDIT   {"steps": [{"op", "text", "enabled", "matched", "changed", "dead_rules"}], "warnings": [[code, message,
           keys]], "written": n, "dropped": n, "renamed": n, "computed": n, "state_dict": dotted | null,
           "metadata": {name: text | null}, what changes in a safetensors file's own text, "failed": FAILED | null,
           "others": {path: [identity]}, the files that tensors are taken from, each of one in several}
    FAILED {"step": index of the one that does not go through, -1 for a guard, "message", "remedy", "key"}
    FACTS  {"row", "kind", "name", "key", "old_key", "dropped", "state_dict": index | -1, "dotted",
           "path": [[text, row]], "class", "note", "tensors", "params", "nbytes", "share": of all parameters,
           "shape": [..] | null, "dtype", "stride", "storage_offset", "requires_grad", "location", "tensor_kind",
           "files": [name of a shard it lies in],
           "storage": {"id", "nbytes", "used_bytes", "byte_offset", "shared_with": [key], "shared_count", "crc"} | null,
           "value": text | null, "value_type", "unreadable", "source": {...} | null (what the numbers pool takes),
           "hazard": whether it would run something, "role": ROLE | null, what a tensor is for (core.roles),
           "changed": what the tree says of a row that the recipe changes, "made": MADE | null of a computed tensor,
           "plain": PLAIN | null of a value that can be edited, "leaves": the pattern with which a leave_out takes it,
           (engine.edits, engine.planned.made_of)
           "editable": "" or why its key cannot be edited, "prefix": "module.path." of a module row}
    ROLE   {"words": "" where only `related` is known, "kind", "parts": [{"axis", "name", "start", "stop"}],
           "over": n, "heads": {"axis", "count", "size", "sure"} | null, "related": [{"words", "row"}]}

Failures arrive as `failed` with {"code", "message", "remedy", "path", "key", "kind": exception class}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdviewer.core import sheet as sheets
from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Identity, StateDict, TensorInfo
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.roles import Roles
from sdviewer.core.shown_rows import ShownRows
from sdviewer.core.tree import ModuleTree, build_tree, value_text
from sdviewer.engine.carrying import Failed, carry_out
from sdviewer.engine.contents import CONTENTS, Contents
from sdviewer.engine.deadline import deadline
from sdviewer.engine.edits import Edits
from sdviewer.engine.exports import Exports
from sdviewer.engine.frames import Answer
from sdviewer.engine.in_turn import in_turn
from sdviewer.engine.naming import before_naming
from sdviewer.engine.overview import OverviewRequests
from sdviewer.engine.planned import Planned, made_of, planned
from sdviewer.engine.problems import told_problems
from sdviewer.engine.row_requests import change_rows
from sdviewer.engine.save_preview import SavePreview
from sdviewer.engine.target_check import goal_of
from sdviewer.engine.tree_numbers import FileNumbers, TreeNumbers
from sdviewer.engine.watch import Watch, files_of, is_young
from sdviewer.engine.written_copy import is_mappable, place_of
from sdviewer.errors import SaveError, SDViewerError, UsageError
from sdviewer.formats import open_checkpoint, tensor_source
from sdviewer.formats.converting import takes_tensors_alone
from sdviewer.formats.file import identity_of
from sdviewer.formats.other_files import OTHER_CHANGED, OtherFiles, identities
from sdviewer.formats.saving import choose_container, save
from sdviewer.repair.operations import Operation
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.plan import Computed, Plan, StepReport, warnings_of_all
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.transforms import Taken

if TYPE_CHECKING:
    from sdviewer.stats.table import StatisticsTable

CHIPS = (
    ("Weights", "*.weight"),
    ("Biases", "*.bias"),
    ("Norms", "/(norm|bn|ln)[^.]*\\.[^.]+$/"),
    ("Shared", "shared"),
    ("Unreadable", "problem"),
)
"""Label and filter text of the chips below the filter field; those that nothing passes are left out."""

SELECTED_NUMBERS = ("bytes", "mean", "std", "norm", "zeros", "min", "max")
"""The numbers that the table of a multiple selection has."""

LONGEST_PLAN = 60.0
"""Seconds of computing after which a recipe is given up."""

ABOUT_ROWS = (
    *("rows", "facts", "children", "totals", "selected", "where"),
    *("preview", "step", "cell", "keys", "common", "alike", "would_export", "row_texts", "row_value"),
)
"""The requests whose parameters are rows."""

Params = Mapping[str, Any]
Handler = Callable[[Params, Progress], Answer]


class Document:
    """The service of one open file; every request but `open` needs an open file."""

    def __init__(self) -> None:
        self._checkpoint: Checkpoint | None = None
        self._result: Checkpoint | None = None
        self._planned: Planned | None = None
        self._recipe = Recipe()
        self._plan: Plan | None = None
        self._plans: Mapping[int, Plan] = {}
        self._failed: Failed | None = None
        self.recipe_text = ""
        self._tree = ModuleTree()
        self._shown: ShownRows | None = None
        self._sheet = 0
        self._sheet_before: ShownRows | None = None
        self._tree_numbers: TreeNumbers
        self._base_flags = b""
        self._contents: Contents | None = None
        self._watch = Watch(())
        self._numbers: FileNumbers | None = None
        self._columns: tuple[str, ...] = ()
        self._hazards: tuple[str, ...] = ()
        self._damaged: tuple[str, ...] = ()
        self._hazard_rows: frozenset[int] = frozenset()
        self._roles: Roles | None = None
        self._row_of: dict[int, int] = {}
        self.others = OtherFiles()
        self._edits = Edits(self)
        requests: Mapping[str, Handler] = {
            "open": self.open,
            "rows": self.rows,
            "facts": self.facts,
            "children": self.children,
            "find": self.find,
            "statistics": self.statistics,
            "selected": self.selected,
            "totals": self.totals,
            "where": lambda params, _: Answer({"rows": params["rows"]}),
            "edit": self.edit,
            "save": self.save,
            "lost": self.lost,
            "changed": self.changed,
            "mark": self.mark,
            **{name: partial(self._of_contents, name) for name in CONTENTS},
            **{name: partial(self._of_edits, handler) for name, handler in self._edits.requests.items()},
            **SavePreview(self).requests,
            **Exports(self).requests,
            **OverviewRequests(self).requests,
        }
        self.requests: Mapping[str, Handler] = {
            name: partial(self._of_rows, handler) if name in ABOUT_ROWS else handler
            for name, handler in requests.items()
        }

    @property
    def checkpoint(self) -> Checkpoint:
        if self._checkpoint is None:
            raise UsageError("no file is open")
        return self._checkpoint

    @property
    def result(self) -> Checkpoint:
        """The checkpoint as the recipe makes it: what the rows of the tree mean."""
        return self._result or self.checkpoint

    def keys_of(self, state_dict: int) -> Sequence[str | None] | None:
        """The keys that the recipe gives to the entries of a state dict, None for one that goes; None: as they are."""
        return self._planned.keys.get(state_dict) if self._planned is not None else None

    @property
    def edited(self) -> int | None:
        """The state dict whose keys the recipe edits, None where it edits none."""
        on_keys = any(step.enabled and not isinstance(step, FileOperation) for step in self._recipe.steps)
        return self._plan.state_dict if self._plan is not None and on_keys else None

    def edits(self, state_dict: int) -> bool:
        """Whether the recipe edits the keys of this one, as one of those that it is for."""
        return self.edited is not None and state_dict in self._plans

    @property
    def shown(self) -> ShownRows:
        if self._shown is None:
            raise UsageError("no file is open")
        return self._shown

    def _of_contents(self, name: str, params: Params, progress: Progress) -> Answer:
        """A question about the file that is open, whatever the recipe."""
        if self._contents is None:
            assert self._numbers is not None
            self._contents = Contents(self.checkpoint, self._numbers.findings)
        return self._contents.requests[name](params, progress)

    def _of_edits(self, handler: Callable[[Params], Answer], params: Params, progress: Progress) -> Answer:
        return handler(params)

    def _of_rows(self, handler: Handler, params: Params, progress: Progress) -> Answer:
        """A question about rows, also one that was asked while an edit was on its way."""
        if params.get("sheet", self._sheet) == self._sheet:
            self._sheet_before = None  # the window has seen this one
        elif self._sheet_before is not None and params["sheet"] == self._sheet - 1:
            params = self._translated(params, self._sheet_before)
        return handler(params, progress)

    def _translated(self, params: Params, before: ShownRows) -> Params:
        """Parameters with the rows of the sheet before as rows of this one."""
        made = dict(params)
        for name in ("row", "to", "toggle", "reveal"):
            if name in made:
                (made[name],) = self.shown.places_of(before, [made[name]])
                if made[name] < 0:
                    raise UsageError("the edit before this one took this row away")
        for name in ("rows", "expand", "collapse"):
            if name in made:
                made[name] = self.shown.places_of(before, made[name])
        if "rows" in (made.get("scope") or {}):
            made["scope"] = {**made["scope"], "rows": self.shown.places_of(before, made["scope"]["rows"])}
        return made

    @property
    def plan(self) -> Plan | None:
        """What the recipe makes of the file, None without one."""
        return self._plan

    def plan_of(self, tensor: int) -> Plan | None:
        """The plan that makes a tensor of `computed`."""
        return None if self._planned is None else self._planned.plans.get(tensor)

    @property
    def computed(self) -> Mapping[int, Computed]:
        """What the recipe makes of each tensor of `result` that is none of the file's, by its index."""
        return {} if self._planned is None else self._planned.computed

    @property
    def table(self) -> StatisticsTable | None:
        """What was measured of the file's tensors, None as long as nothing was."""
        return self._numbers.table if self._numbers is not None and self._numbers.begun else None

    @property
    def file_numbers(self) -> FileNumbers:
        """What was measured of the file's tensors, for somebody who has more of it."""
        assert self._numbers is not None
        return self._numbers

    @property
    def tree(self) -> ModuleTree:
        """All rows."""
        return self._tree

    # Opening and editing

    def open(self, params: Params, progress: Progress) -> Answer:
        """Read the header, build the tree."""
        self._read(params["path"], progress)
        answer = self._replan(params.get("recipe", ""), params.get("selected", ()), strict=False)
        return Answer({**answer.body, "info": self._info()}, answer.buffers)

    def read(self, path: str, recipe: str, progress: Progress) -> None:
        """Read the header and carry a recipe out; there is no tree, for somebody who has one of his own.

        What is open already and unchanged is not read again: `checkpoint` and `file_numbers` stay the same objects.
        """
        known = self._checkpoint
        if known is None or known.path != path or self._watch.look()["state"] != "same":
            self._read(path, progress)
        self._carry_out(recipe, strict=True, whole=False)

    def _read(self, path: str, progress: Progress) -> None:
        try:
            checkpoint = open_checkpoint(path, progress=progress)
        except SDViewerError as error:
            if _was_just_changed(path):
                written = "It was changed a moment ago and may still be being written: try again when that is done."
                error.remedy = f"{error.remedy} {written}".strip()
            raise
        self._checkpoint, self._shown, self._contents = checkpoint, None, None
        self._numbers = FileNumbers(checkpoint)
        self._hazards, self._damaged = (), ()
        self._watch = Watch(files_of(checkpoint))

    def edit(self, params: Params, progress: Progress) -> Answer:
        """Put another recipe in place of the one there is; where `strict`, one that does not go through is refused."""
        return self._replan(params["recipe"], params.get("selected", ()), strict=params.get("strict", True))

    def _replan(self, recipe_text: str, selected: Sequence[int], *, strict: bool) -> Answer:
        self._carry_out(recipe_text, strict=strict)
        made, result = self._planned, self.result
        assert made is not None
        tree = build_tree(result, made.keys, made.changes)
        assert self._numbers is not None
        self._tree_numbers = TreeNumbers(self._numbers, tree, result)
        shown = ShownRows(tree, result, self._tree_numbers)
        rows = shown.adopt(self._shown, selected) if self._shown is not None else []
        self._sheet, self._sheet_before = self._sheet + 1, self._shown
        self._tree, self._shown = tree, shown
        self._roles = None
        buffers, dtypes = sheets.pack(tree)
        self._base_flags = self._marked(buffers["flags"])
        body = {"dtypes": list(dtypes), "rows_total": len(tree), "edit": self._edit_summary(), "selected": rows}
        body["sheet"] = self._sheet
        return Answer(body, {**buffers, **self._visible(), **self._tree_numbers.buffers(self._columns)})

    def _carry_out(self, recipe_text: str, *, strict: bool, whole: bool = True) -> None:
        """Plan a recipe; unless `whole`, only the state dict that it names first is seen as it will be."""
        recipe = parse_recipe(recipe_text) if recipe_text.strip() else Recipe()
        remedy = "Look for an expression with a repetition inside a repetition."
        with deadline(LONGEST_PLAN, "the recipe takes too long on this file", remedy):
            carried = carry_out(recipe, self.checkpoint, strict=strict, others=self.others)
        also = tuple(carried.also.values()) if whole else ()
        made = planned(self.checkpoint, carried.plan, also)
        plans = [plan for plan in (carried.plan, *also) if plan is not None]
        self._plans = {plan.state_dict: plan for plan in plans if plan.state_dict is not None}
        self._recipe, self._plan, self._result = recipe, carried.plan, made.checkpoint
        self._failed, self._planned = carried.failed, made
        # A step is looked at after the steps before it: with one that failed among them there is no plan to look from.
        self.recipe_text = recipe_text if carried.failed is None else ""

    def _visible(self) -> dict[str, Any]:
        return {"visible": self.shown.visible(), "flags": self.shown.flags(self._base_flags)}

    def _info(self) -> dict[str, Any]:
        checkpoint = self.checkpoint
        tops = {self._tree.state_dict[row]: row for row in range(len(self._tree)) if self._tree.entry[row] < 0}
        return {
            "path": checkpoint.path,
            "name": text.visible(Path(checkpoint.path).name),
            "container": checkpoint.container,
            "size": checkpoint.size,
            "byte_order": checkpoint.byte_order,
            "writer": dict(checkpoint.writer),
            "tensors": len(checkpoint.tensors),
            "parameters": _parameters(checkpoint),
            "state_dicts": [
                {
                    "dotted": text.visible(_dotted(state_dict)),
                    "role": state_dict.role,
                    "tensors": state_dict.tensors,
                    "parameters": state_dict.parameters,
                    "bytes": state_dict.nbytes,
                    "read_only": state_dict.read_only,
                    "module": state_dict.is_module,
                    "row": tops.get(index, -1),
                }
                for index, state_dict in enumerate(checkpoint.state_dicts)
            ],
            **told_problems(checkpoint),
            "suffix": Path(checkpoint.path).suffix,
            "identity": asdict(checkpoint.identity),
            "young": any(is_young(identity.mtime_ns) for _, identity in files_of(checkpoint)),
            "chips": self._chips(),
        }

    def _chips(self) -> list[list[Any]]:
        """Filters worth one click: label, filter text, how many rows pass."""
        counts = ShownRows(self._tree, self.result)
        chips: list[list[Any]] = [["All", "", len(self.checkpoint.tensors)]]
        for label, filter_text in CHIPS:
            counts.set_filter(filter_text)
            if counts.matched:
                chips.append([label, filter_text, len(counts.matched)])
        return chips

    def _edit_summary(self) -> dict[str, Any]:
        plan = self._plan
        failed = None if self._failed is None else self._failed._asdict()
        waiting = [_untried(step) for step in self._recipe.steps[0 if plan is None else len(plan.steps) :]]
        if plan is None:
            counts = dict.fromkeys(("written", "dropped", "renamed", "computed"), 0)
            nothing: dict[str, Any] = {"warnings": [], **counts, "state_dict": None, "metadata": {}, "others": {}}
            return {**nothing, "steps": waiting, "failed": failed}
        source = self.checkpoint.state_dicts[plan.state_dict] if plan.state_dict is not None else None
        plans = list(self._plans.values()) or [plan]
        targets = [target for one in plans for target in one.targets]
        renamed = sum(
            target.entry is not None and target.key != self.checkpoint.state_dicts[index].keys[target.entry]
            for index, one in self._plans.items()
            for target in one.targets
        )
        return {
            "steps": [_report(reports) for reports in zip(*[one.steps for one in plans], strict=True)] + waiting,
            "failed": failed,
            "warnings": [
                [warning.code, warning.message, list(warning.keys)]
                for warning in warnings_of_all([one.warnings for one in plans])
            ],
            "written": len(targets),
            "dropped": sum(len(one.dropped) for one in plans),
            "renamed": renamed,
            "computed": sum(target.entry is None for target in targets),
            "state_dict": None if source is None else _dotted(source),
            "metadata": dict(plan.metadata),
            "others": {path: identities(other) for one in plans for path, other in one.others.items()},
        }

    # What is shown

    def mark(self, params: Params, progress: Progress) -> Answer:
        """Mark the rows of what was found since the file was opened; edits keep the marks."""
        self._hazards = tuple(params.get("hazards", self._hazards))
        self._damaged = tuple(params.get("damaged", self._damaged))
        self._base_flags = self._marked(self._base_flags)
        return self.rows({}, progress)

    def _marked(self, flags: bytes) -> bytes:
        """The flags of all rows with the marks set: of a hazard at the deepest row that holds it."""
        marked = bytearray(flags)
        for row in self._damaged_rows():
            marked[row] |= sheets.PROBLEM
        self._hazard_rows = self._rows_of_hazards()
        for row in self._hazard_rows:
            marked[row] |= sheets.HAZARD
        return bytes(marked)

    def _damaged_rows(self) -> list[int]:
        """The rows of the damaged tensors, and of all that look into the same storages."""
        if not self._damaged:
            return []
        damaged, tensors = set(self._damaged), self.result.tensors
        storages = {info.storage for info in tensors if info.storage is not None and dotted(info.path) in damaged}
        return [row for row, at in enumerate(self._tree.tensor) if at >= 0 and tensors[at].storage in storages]

    def _rows_of_hazards(self) -> frozenset[int]:
        if not self._hazards:
            return frozenset()
        tree, checkpoint = self._tree, self.checkpoint
        places: dict[str, int] = {}
        for row in range(len(tree)):
            if tree.object[row] >= 0:
                places[dotted(checkpoint.objects[tree.object[row]].path)] = row
            elif tree.value[row] >= 0:
                places.setdefault(dotted(checkpoint.values[tree.value[row]].path), row)
        found = set()
        for path in self._hazards:
            while path and path not in places:
                path = path.rpartition(".")[0]
            if path:
                found.add(places[path])
        return frozenset(found)

    def rows(self, params: Params, progress: Progress) -> Answer:
        """Expand, collapse, filter, sort; which rows are shown after it."""
        shown = self.shown
        error = change_rows(shown, params)
        shown.reveal(*(row for row in params.get("rows", ()) if row >= 0))
        matched = None if shown.matched is None else len(shown.matched)
        body = {"matched": matched, "filter_error": error, "filter": shown.filter, "by_numbers": shown.by_numbers}
        return Answer(body, self._visible())

    def statistics(self, params: Params, progress: Progress) -> Answer:
        """Take more of what was measured, say what the tree shows of it."""
        file = self._numbers
        if file is None:
            raise UsageError("no file is open")
        self._columns = tuple(params["columns"])
        if params.get("kept"):
            file.take_kept()
        # A worker that had to be started anew may have opened another file than the one that was measured.
        if "indices" in params and params["identity"] == asdict(file.checkpoint.identity):
            file.put(params)
        if params.get("keep"):
            file.keep()
        body: dict[str, Any] = {"known": file.known, "tensors": len(file.checkpoint.tensors), "noted": file.noted}
        buffers = {**self._tree_numbers.buffers(self._columns), "measured": file.measured()}
        shown = self.shown
        if params.get("refresh") and shown.by_numbers:
            shown.refresh()
            body["matched"] = None if shown.matched is None else len(shown.matched)
            buffers |= self._visible()
        return Answer(body, buffers)

    def find(self, params: Params, progress: Progress) -> Answer:
        """Tensors whose key holds the words, shortest key first."""
        words = params["text"].lower().split()
        tree = self._tree
        hits = [
            (len(key), row)
            for row, key in enumerate(tree.path_text)
            if tree.tensor[row] >= 0 and all(word in key.lower() for word in words)
        ]
        hits.sort()
        return Answer({"rows": [[row, text.visible(tree.path_text[row])] for _, row in hits[: params["limit"]]]})

    def children(self, params: Params, progress: Progress) -> Answer:
        """What stands directly below a row."""
        tree = self._tree
        row, limit = params["row"], params["limit"]
        children = []
        at = row + 1
        while at < tree.end[row]:
            children.append(at)
            at = tree.end[at]
        rows = [
            [child, text.visible(tree.name[child]), tree.shape[child], tree.dtype[child], tree.params[child]]
            for child in children[:limit]
        ]
        return Answer({"rows": rows, "more": max(0, len(children) - limit)})

    def totals(self, params: Params, progress: Progress) -> Answer:
        """Sums over a selection; what stands below another selected row counts once."""
        tree = self._tree
        counted = 0
        outermost: list[int] = []
        sums = {"tensors": 0, "params": 0, "nbytes": 0, "values": 0}
        for row in sorted(params["rows"]):
            if row < counted:
                continue
            counted = tree.end[row]
            sums["tensors"] += tree.tensors[row]
            sums["params"] += tree.params[row]
            sums["nbytes"] += tree.nbytes[row]
            sums["values"] += sum(1 for at in range(row, counted) if tree.value[at] >= 0)
            outermost.append(row)
        return Answer({**sums, **self._tree_numbers.sums_of(outermost)})

    def selected(self, params: Params, progress: Progress) -> Answer:
        """A page of the tensors at and below some rows, with what is known of their numbers."""
        tree = self._tree
        start, limit = params["start"], params["limit"]
        tensors: list[int] = []
        counted = 0
        for row in sorted(row for row in params["rows"] if row >= 0):
            tensors += [at for at in range(max(row, counted), tree.end[row]) if tree.tensor[at] >= 0]
            counted = max(counted, tree.end[row])
        page = tensors[start : start + limit]
        numbers = self._tree_numbers.of_rows(page, SELECTED_NUMBERS)
        rows = [
            [
                row,
                text.visible(self.key(row), 300),
                tree.shape[row],
                text.visible(tree.dtype[row], 60),
                tree.params[row],
                *found,
            ]
            for row, found in zip(page, numbers, strict=True)
        ]
        return Answer({"rows": rows, "total": len(tensors)})

    def facts(self, params: Params, progress: Progress) -> Answer:
        """Everything the header tells about one row."""
        tree, row = self._tree, params["row"]
        everything = _parameters(self.checkpoint)
        facts: dict[str, Any] = {
            "row": row,
            "kind": tree.kind[row],
            "name": text.visible(tree.name[row]),
            "dropped": tree.dropped[row],
            "old_key": tree.old_key[row],
            "state_dict": self._state_dict_of(row),
            "path": [
                [text.visible(tree.name[at]), at] for at in [*tree.ancestors(row), row] if tree.kind[at] != "fold"
            ],
            "note": tree.note[row],
            "tensors": tree.tensors[row],
            "params": tree.params[row],
            "nbytes": tree.nbytes[row],
            "share": tree.params[row] / everything if everything else 0.0,
            "key": None,
            "prefix": self.prefix(row),
            "dotted": tree.path_text[row],
            "class": "",
            "shape": None,
            "dtype": "",
            "storage": None,
            "value": None,
            "value_type": "",
            "unreadable": "",
            "source": None,
            "editable": self._editable(row),
            "hazard": row in self._hazard_rows,
            "changed": tree.note[row] if tree.changed[row] else "",
            "made": None,
            "role": self._role(tree.tensor[row]) if tree.tensor[row] >= 0 else None,
            "plain": None,
            "leaves": "" if tree.dropped[row] else self._edits.leaves(row),
        }
        if tree.tensor[row] >= 0:
            facts.update(self.tensor_facts(tree.tensor[row]))
        if tree.entry[row] >= 0:
            facts["key"] = self.key(row)
        if tree.value[row] >= 0:
            value = self.result.values[tree.value[row]]
            facts["value"], facts["value_type"] = value_text(value.value, 20_000), value.type
            facts["plain"] = None if tree.dropped[row] else self._edits.plain(value)
        if tree.object[row] >= 0:
            found = self.checkpoint.objects[tree.object[row]]
            facts["class"] = text.visible(found.cls)
            if facts["value"] is None and tree.end[row] == row + 1:
                # An object with nothing in it is told by one value beside it: the call that would make it.
                said = next((value.value for value in self.checkpoint.values if value.path == found.path), None)
                facts["value"] = None if said is None else value_text(said, 20_000)
        return Answer(facts)

    def tensor_facts(self, index: int) -> dict[str, Any]:
        """What the header tells of a tensor of `result`, by its index, and where its bytes lie."""
        info = self.result.tensors[index]
        facts: dict[str, Any] = {
            "class": info.cls,
            "shape": list(info.shape),
            "dtype": info.dtype,
            "stride": None if info.stride is None else list(info.stride),
            "storage_offset": info.storage_offset,
            "requires_grad": info.requires_grad,
            "location": text.visible(info.location or ""),
            "tensor_kind": info.kind,
            "unreadable": info.unreadable,
            "storage": self._storage_facts(index, info),
        }
        facts["files"] = [text.visible(info.shard, 200)] if info.shard else []
        computed = self._planned.computed.get(index) if self._planned is not None else None
        if computed is not None and self._planned is not None:
            plan = self._planned.plans[index]
            made = facts["made"] = made_of(computed, self.checkpoint, plan)
            if isinstance(computed.transform, Taken):
                other = plan.others[computed.transform.file]
                facts["source"] = tensor_source(other, computed.transform.tensor).to_json()
                return facts
            if made["source"] is None:
                return facts
            # Numbers are written into a tensor of the file: the others are those of the file.
            index = made["source"]
            info = self.checkpoint.tensors[index]
        if not info.unreadable:
            try:
                source = tensor_source(self.checkpoint, index)
                facts["source"] = source.to_json()
                if source.assembly is not None:
                    facts["files"] = [text.visible(name, 200) for name, _, _ in source.assembly.files]
            except SDViewerError as error:
                facts["unreadable"] = error.message
        return facts

    def _role(self, tensor: int) -> dict[str, Any] | None:
        """What a tensor is for, under the keys that the recipe gives; what that takes is put together once."""
        if self._roles is None:
            self._roles = Roles(self.result, self._planned.keys if self._planned is not None else None)
            self._row_of = {index: row for row, index in enumerate(self._tree.tensor) if index >= 0}
        role = self._roles.of(tensor)
        return None if role is None else role.to_json(self._row_of)

    def _storage_facts(self, index: int, info: TensorInfo) -> dict[str, Any] | None:
        if info.storage is None or info.storage not in self.checkpoint.storages:
            return None
        storage = self.checkpoint.storages[info.storage]
        others: list[str] = []
        if storage.tensors > 1:
            others = [
                text.visible(other.key if other.key is not None else "")
                for at, other in enumerate(self.checkpoint.tensors)
                if other.storage == info.storage and at != index
            ]
        return {
            "id": text.visible(storage.id),
            "nbytes": storage.nbytes,
            "used_bytes": storage.used_bytes,
            "shared_with": others[:20],
            "shared_count": len(others),
            "crc": storage.crc,
        }

    def key(self, row: int) -> str:
        """The key, as it is after the edits, of a row that has one; else where it stands in the file."""
        if self._tree.entry[row] >= 0 and self._tree.tensor[row] < 0:
            return self._entry_key(row)
        return self._tree.path_text[row]

    def _entry_key(self, row: int) -> str:
        """The key, as it is after the edits, of an entry that is no tensor."""
        index, entry = self._tree.state_dict[row], self._tree.entry[row]
        key = self.result.state_dicts[index].keys[entry]
        if index in self._plans:
            old = self.checkpoint.state_dicts[index].keys
            return next((t.key for t in self._plans[index].targets if t.entry is not None and old[t.entry] == key), key)
        return key

    def prefix(self, row: int) -> str:
        """The key prefix that a module row stands for, with its final dot; "" for every other row."""
        tree = self._tree
        if tree.kind[row] not in ("module", "dict") or tree.state_dict[row] >= 0:
            return ""
        names = [tree.name[row]]
        while (row := tree.parent[row]) >= 0 and tree.state_dict[row] < 0:
            if tree.kind[row] != "fold":
                names.append(tree.name[row])
        if row < 0 or tree.kind[row] != "module":
            return ""
        return ".".join(reversed(names)) + "."

    def _state_dict_of(self, row: int) -> int:
        """The index of the state dict that a row is, or stands in; -1 for none."""
        tree = self._tree
        while row >= 0 and tree.state_dict[row] < 0:
            row = tree.parent[row]
        return tree.state_dict[row] if row >= 0 else -1

    def _editable(self, row: int) -> str:
        """Why the keys at or below a row cannot be edited, "" where they can."""
        index = self._state_dict_of(row)
        if index < 0:
            return "Only the keys of a state dict can be edited."
        state_dict = self.checkpoint.state_dicts[index]
        extracted = self._plan is not None and self._plan.extract and self._plan.state_dict == index
        if state_dict.read_only and not extracted:
            return state_dict.read_only
        if state_dict.role == "optimizer":
            return "An optimizer's entries are numbered, not named: there is no key to edit."
        if self.edited is not None and not self.edits(index):
            return "The recipe edits another state dict of this file; save that first."
        return ""

    # Previewing and saving

    def save(self, params: Params, progress: Progress) -> Answer:
        """Write the repaired copy, read it back, check it, put it in its place."""
        checkpoint = _opened_again(params["path"], params["identity"])
        recipe = parse_recipe(params["recipe"]) if params["recipe"].strip() else Recipe()
        container = choose_container(checkpoint, params["out"], params.get("container") or None, recipe.save_format)
        alone = takes_tensors_alone(checkpoint, container)
        asked = (checkpoint, recipe, None, params["out"], container, self.others)
        with ExitStack() as ending, in_turn(*asked, progress=progress) as turn:
            plan = make_plan(
                *(turn.recipe, turn.checkpoint), state_dict=turn.name, tensors_alone=alone, others=self.others
            )
            _refuse_changed(plan, params.get("others") or {})
            goal = goal_of(params.get("target"), turn.checkpoint, plan, recipe.target)
            if goal is not None:
                ending.callback(goal.close)
            receipt = save(
                turn.checkpoint,
                plan,
                params["out"],
                overwrite=params["overwrite"],
                # A window asks about a file with hard links, and about one that it did not write there last itself.
                split_names=params.get("split_names", False),
                replaces=Identity(**params["replaces"]) if params.get("replaces") else None,
                container=container,
                shared=recipe.save.shared,
                max_shard_bytes=recipe.save.max_shard_bytes,
                inputs=(*turn.inputs, *(goal.inputs if goal else ())),
                progress=progress,
                before_naming=before_naming(progress),
            )
            receipt, _, left = turn.finished(receipt, plan, goal, progress)
        # The lists of keys only as bytes that the window can write to a file: parsing 100,000 of them would stall it.
        whole = receipt.to_json()
        told = {name: value for name, value in whole.items() if name not in ("map", "dropped")}
        identity = None if receipt.identity is None else asdict(receipt.identity)
        lines = "".join([f"{line}\n" for line in receipt.lines()])
        buffers = {"json": json.dumps(whole, indent=2).encode(), "text": lines.encode()}
        first = turn.done[0][1] if turn.done else plan
        loading = {
            "place": place_of(checkpoint, first, container),
            "mappable": is_mappable(checkpoint, container),
            "left": left,
        }
        return Answer({"receipt": told, "identity": identity, **loading}, buffers)

    def lost(self, params: Params, progress: Progress) -> Answer:
        """What a save would miss in the file."""
        from sdviewer.engine.lost import find_lost

        return Answer(find_lost(self.checkpoint, self._recipe, progress, self.others).to_json())

    def changed(self, params: Params, progress: Progress = no_progress) -> Answer:
        """How the file on disk, or the worst of a checkpoint of several, stands to the one that was opened."""
        if self._checkpoint is None:
            raise UsageError("no file is open")
        return Answer(self._watch.look())


def _opened_again(path: str, identity: Mapping[str, int]) -> Checkpoint:
    """The file that was opened before.

    Raises:
        SaveError: it is another now, whether that can be read or not.
    """
    changed = SaveError(
        "the file on disk is not the one that was opened",
        path=path,
        remedy="Reload it (F5); the recipe is kept.",
        code="file_changed",
    )
    try:
        checkpoint = open_checkpoint(path)
    except SDViewerError as error:
        if _is_another(path, identity):
            raise changed from error
        raise
    if asdict(checkpoint.identity) != identity:
        raise changed
    return checkpoint


def _refuse_changed(plan: Plan, others: Mapping[str, Any]) -> None:
    """Refuse where a file that tensors are taken from is not any more what it was when that was shown.

    Raises:
        SaveError: it is not (code `other_changed`).
    """
    for path, other in plan.others.items():
        if path in others and identities(other) != others[path]:
            raise SaveError(
                "it was changed on disk after its tensors were taken",
                path=path,
                remedy="Reload (F5) and look at what is taken now; the recipe is kept.",
                code=OTHER_CHANGED,
            )


def _is_another(path: str, identity: Mapping[str, int]) -> bool:
    try:
        return asdict(identity_of(Path(path).stat())) != identity
    except (OSError, ValueError):
        return False


def _files(checkpoint: Checkpoint) -> list[tuple[str, Identity]]:
    files = [(shard.path, shard.identity) for shard in checkpoint.shards.values()]
    return files or [(checkpoint.path, checkpoint.identity)]


def _was_just_changed(path: str) -> bool:
    try:
        return is_young(Path(path).stat().st_mtime_ns)
    except (OSError, ValueError):
        return False


def _report(reports: Sequence[StepReport]) -> dict[str, Any]:
    """What one step did, to all state dicts that the recipe is for."""
    step = reports[0]
    return {
        "op": step.op,
        "text": step.text,
        "enabled": step.enabled,
        "matched": sum(one.matched for one in reports),
        "changed": sum(one.changed for one in reports),
        "dead_rules": [rule for rule in step.dead_rules if all(rule in one.dead_rules for one in reports)],
    }


def _untried(step: Operation) -> dict[str, Any]:
    """A step that was not carried out because of one before it."""
    told = {"op": step.op, "text": step.label, "enabled": step.enabled, "matched": 0, "changed": 0}
    return {**told, "dead_rules": []}


def _parameters(checkpoint: Checkpoint) -> int:
    """Elements of the model state dicts; where there is none, of all tensors."""
    models = [state_dict.parameters for state_dict in checkpoint.state_dicts if state_dict.role == "model"]
    return sum(models) if models else sum(info.elements for info in checkpoint.tensors)


def _dotted(state_dict: StateDict) -> str:
    return dotted(state_dict.path)
