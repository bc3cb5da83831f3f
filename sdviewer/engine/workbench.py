"""What the worker of a workbench answers. It owns the file to repair, what it has to fit, and the pairs between them.

The recipe is that of the file's own document in the window: an act here answers the steps that it means, the window
puts them there, and asks for the rows that follow. A *row* is a row number of the current sheet; rows are numbered anew
by what answers a SHEET, which translates `selected`. A question about rows of another sheet is not answered.

    open      {"a": path, "recipe", "target": TARGET of engine.target_check, "tab": "problems" | "all" | "tree"} ->
              SHEET and {"a": CARD_A, "b": CARD_B}; buffer "built": the target, where it was built (engine.building)
    recipe    {"recipe", "selected", "tab", "front"?: dotted} -> SHEET and {"a"}: the same file and target with another
              recipe, or with another state dict in front
    tab       {"tab", "selected"} -> SHEET
    proposed  {"plan"}, buffer "proposal" (engine.proposing) -> {"suggestions": [SUGGESTION], "dismissed": n}    what
              the program proposes for the rows as they are; of another plan it is not taken
    preview   {"at": place of a suggestion | -1, "selected"} -> SHEET of what it would give, and {"preview": PREVIEW |
              null}
    try       {"plan", "entry": that of WHY, "choice": place in its "choices", "others": for all?, "selected"} -> as
              preview
    choose    {"plan", "entry", "choice", "others"} -> as accept: the steps of a choice
    search    {"step": {op table} | null, "selected"} -> as preview: what a step would give that somebody is making
    effects   {"keys"} -> {"effects": [what is at each key of the target in what is previewed: "match", "shape", ""]}
    keys      {"rows"} or {"status": "unexpected"} -> {"keys": those of the file, as they are now | null: all of them,
              "common": the longest part that all have}
    dismiss   {"at"} or {"all": true}, which brings all of them back -> as proposed
    accept    {"at", "caution"?: place in its "cautions", to take its remedy as well} or {"safe": true} ->
              {"steps": [[table, label]], "label", "state_dict": dotted, "at"?: before which step of the recipe they go,
              and not at its end, "instead"?: how many steps go there}
    rows      as those of a comparison -> {"matched": n shown | null, "filter_error"}; buffers "visible", "flags"
    step      {"row": row | -1, "forwards"} -> as rows and {"row": the next problem, -1: there is none}
    first     {"status"} -> as step: the first row of a status
    find      {"text", "limit"} -> {"rows": [[row, key]]}    for "go to"
    why       {"row"} -> WHY
    partners  {"row", "text", "limit"} -> {"rows": [[place, key, shape, whether the shape fits, what it has now]]}
    lesson    {"row", "partner": a place of `partners`} or {"row", "onto": row} -> {"key_a", "key_b",
              "shapes": [of the file, of the target], "variants": [VARIANT of engine.lessons]}: what pairing the two can
              mean
    rename    {"row", "key"} -> as accept, and {"problem": what stands against it}: the step that gives what the file
              has in a row another key; where it has nothing, the step that makes its `key` be what is missing
    drop      {"rows"} -> as accept: the step that leaves them out
    strict    {} -> {"problems"}; buffers "text": what a strict load would say (without what is previewed), and "shown":
              the same cut where it is long
    changed   {} -> as that of a document

    SHEET     {"sheet", "rows_total", "selected": [row | -1], "counts": COUNTS, "before": COUNTS | null, "problems",
              "total": rows at the bottom, "failed": FAILED of a document | null, "keys": n of the target, "allowed": n
              that are missing and may be, "alike": [ALIKE], empty where the file has one state dict of the kind};
              buffers: the columns of `core.fit_sheet.COLUMNS`, "text", "visible",
              "flags"; of `open` and `recipe` also {"plan"} and the buffers "source" and "values", of `open` also
              "target": what `engine.proposing` takes
    COUNTS    {"collision", "match", "shape", "missing", "unexpected", "dropped"}
    CARD_A    {"path", "name", "tensors", "state_dict": dotted, "begins": what all keys begin with, "identity"}
    CARD_B    {"name", "kind", "keys", "notes": [sentence], "incomplete", "approximate", "adapter": where one of the two
              is an adapter for the other {"text": sentence, "merged": whether the target is}, else null}
    ALIKE     {"state_dict": dotted, "name", "front": whether it is the one that is looked at, "covered": whether the
              recipe is for it, "match": target keys that it has after the recipe, "problems": n of it without what is
              previewed, "keys": n of its own,
              "differs": what it has and the one in front has not, in words, "error": why the recipe cannot be for it}
    SUGGESTION {"verb", "lines": [text], "text", "n", "evidence", "reasons": [text],
              "cautions": [[code, message, its remedy in words | ""]], "asks": [text]: what of the step is a guess,
              "examples": [[old, new]], "safe", "step": {op table}, "label"}
    PREVIEW   {"at": -1 for a choice, "gain": target keys, "unknown": those of them whose shape is not known, "drops",
              "worse": shapes that differ then, "lost": target keys that are missing only then, "astray": new keys that
              the target has not, "first": how many suggestions go with it because it needs them, "error"}
    WHY       {"row", "status", "key_a", "now", "key_b", "reasons": [[kind, text]] with the kinds "ok", "info" and
              "warn", "source": what the numbers pool takes | null, "drops": whether it can be dropped, "pairs",
              "entry": place of what the file has, as it is without a preview | -1, "edits": the key of it that can be
              edited | null, "choices": [[text, how many others it can be for]], for shapes that differ and for what
              collides, also while one is tried}

Failures arrive as those of a document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from sdviewer.core import text
from sdviewer.core.aligned_rows import AlignedRows
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.fit_sheet import CODES, PROBLEMS, pack
from sdviewer.core.key_table import SORTED_CONTAINERS, KeyTable, checkpoint_of_table, key_table_of_checkpoint
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.engine.alike import alike, differences
from sdviewer.engine.carrying import Carried, Failed, carry_out
from sdviewer.engine.deadline import deadline
from sdviewer.engine.fit_choices import RowChoice, choices_at
from sdviewer.engine.fit_collisions import Collisions
from sdviewer.engine.fit_reasons import Reasons
from sdviewer.engine.fit_rows import Laid, Pair, lay
from sdviewer.engine.fitted import Fitted, fitted_to
from sdviewer.engine.fitting import Wanted, merging_into, read_wanted, with_adapter
from sdviewer.engine.frames import Answer
from sdviewer.engine.lessons import variants_of
from sdviewer.engine.packing import packed, unpacked
from sdviewer.engine.proposing import Proposal, packed_values
from sdviewer.engine.row_requests import change_rows
from sdviewer.engine.watch import Watch, files_of
from sdviewer.errors import OpenError, RepairError, SDViewerError, UsageError
from sdviewer.formats import open_checkpoint, tensor_source
from sdviewer.formats.other_files import OtherFiles
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.operations import Drop, Extract, Operation, Rename, Strip, Unwrap, operation_from_step
from sdviewer.repair.patterns import literal_pattern, literal_rule
from sdviewer.repair.plan import Plan
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.rules.shape_choices import OtherTensor
from sdviewer.repair.scope import MOST_KEYS, common_part
from sdviewer.repair.state_dicts import AUTO, likely_state_dict
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.target import Target

LONGEST_PLAN: Final = 60.0
PATIENCE: Final = 10.0
"""Seconds of computing after which a recipe, and a preview, are given up."""
MOST_BY_VALUES: Final = 20_000
"""Entries up to which values are compared for matching."""
MOST_REASONS: Final = 6
MOST_LINES: Final = 3
"""Rules of a suggestion that its card shows."""
MOST_NAMED: Final = 200
"""Keys of a kind that the text of a strict load shows; all of them are copied."""
FEW: Final = 3
"""Keys that a sentence names one by one."""
SURE: Final = ("proved", "likely")
NO_EFFECT: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("gain", "unknown", "drops", "worse", "lost", "astray", "first"), 0),
    "at": -1,
    "error": "",
}

VERBS: Final = {
    "strip": "Strip",
    "prefix": "Add prefix",
    "replace_prefix": "Replace prefix",
    "weight_norm": "Weight norm",
    "spectral_norm": "Spectral norm",
    "merge_lora": "Merge adapter",
}
"""What an operation is called on a card, where its own name is not enough."""

Params = Mapping[str, Any]
Handler = Callable[[Params, Progress], Answer]
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")


class _Made(NamedTuple):
    """What more steps give, and how many keys the last of them changes."""

    fitted: Fitted
    changed: int
    carried: Carried


class Workbench:
    """The service of one workbench; every request but `open` needs an open one."""

    def __init__(self) -> None:
        self._checkpoint: Checkpoint | None = None
        self._target: Target
        self._wanted: Wanted
        self._state_dict = 0
        self._recipe = Recipe()
        self._alike: Sequence[int] = ()
        self._covered: Sequence[int] = ()
        self._others_now: Mapping[int, tuple[Fitted, str]] = {}
        self._carried = Carried()
        self._plan: Plan | None = None
        self._failed: Failed | None = None
        self._collisions: Collisions | None = None
        self._fitted: Fitted
        self._previewed: tuple[Fitted, dict[str, Any], Carried] | None = None
        self._matching: Matching | None = None
        self._suggestions: Sequence[Suggestion] = ()
        self._merging: Sequence[Suggestion] = ()
        self._dismissed: set[str] = set()
        self._others = OtherFiles()
        self._watch = Watch(())
        self._laid: Laid
        self._shown: AlignedRows | None = None
        self._base_flags = b""
        self._sheet = 0
        self._plans = 0
        self._tab = "problems"
        requests: Mapping[str, Handler] = {
            "recipe": self.recipe,
            "tab": self.tab,
            "proposed": self.proposed,
            "preview": self.preview,
            "try": self.try_choice,
            "choose": self.choose,
            "search": self.search,
            "effects": self.effects,
            "keys": self.keys,
            "dismiss": self.dismiss,
            "accept": self.accept,
            "rows": self.rows,
            "step": self.step,
            "first": self.first,
            "find": self.find,
            "why": self.why,
            "partners": self.partners,
            "lesson": self.lesson,
            "rename": self.rename,
            "drop": self.drop,
            "strict": self.strict,
            "changed": self.changed,
        }
        of_open = {name: partial(self._of_open, handler) for name, handler in requests.items()}
        self.requests: Mapping[str, Handler] = {"open": self.open, **of_open}

    def _of_open(self, handler: Handler, params: Params, progress: Progress) -> Answer:
        """A question that wants an open file: this process may have taken the place of one that died."""
        if self._shown is None:
            raise UsageError("no file is open", code="not_open")
        return handler(params, progress)

    @property
    def checkpoint(self) -> Checkpoint:
        assert self._checkpoint is not None
        return self._checkpoint

    @property
    def shown(self) -> AlignedRows:
        assert self._shown is not None
        return self._shown

    # What is fitted

    def open(self, params: Params, progress: Progress) -> Answer:
        """Read the header of the file, and the target."""
        self._checkpoint = self._shown = None
        checkpoint = open_checkpoint(params["a"], progress=progress)
        self._state_dict = likely_state_dict(checkpoint)
        self._alike = alike(checkpoint, self._state_dict)
        source = key_table_of_checkpoint(checkpoint, self._state_dict)
        built = unpacked(Target, params["built"]) if "built" in params else None
        # A checkpoint is opened again: its values are wanted, and not only its keys.
        if built is None or built.kind == "checkpoint":
            self._wanted = _read(params["target"], source, progress)
        else:
            self._wanted = with_adapter(Wanted(built), source)
        self._target = self._wanted.target
        self._checkpoint = checkpoint
        self._watch = Watch(files_of(checkpoint))
        self._dismissed.clear()
        answer = self._replan(params)
        target = self._target
        card = {
            "name": text.visible(target.model or target.title, 120),
            "kind": target.kind,
            "keys": self._fitted.asked,
            "notes": [text.visible(note, 400) for note in target.notes],
            "incomplete": target.incomplete,
            "approximate": target.approximate,
            "adapter": self._told_adapter(),
        }
        return Answer({**answer.body, "b": card}, {**answer.buffers, "target": packed(self._target)})

    def recipe(self, params: Params, progress: Progress) -> Answer:
        """Another recipe, or another state dict of it in front."""
        return self._replan(params)

    def _told_adapter(self) -> dict[str, Any] | None:
        wanted = self._wanted
        if wanted.adapter is None:
            return None
        return {"text": text.visible(wanted.target.notes[0], 600), "merged": wanted.merged}

    def _card(self) -> dict[str, Any]:
        """What the head tells of the file."""
        checkpoint, state_dict = self.checkpoint, self.checkpoint.state_dicts[self._state_dict]
        return {
            "path": checkpoint.path,
            "identity": asdict(checkpoint.identity),
            "name": text.visible(Path(checkpoint.path).name, 120),
            "tensors": state_dict.tensors,
            "state_dict": self._place(60),
            "begins": text.visible(_common_start(state_dict.keys), 60),
        }

    def tab(self, params: Params, progress: Progress) -> Answer:
        """The same pairs in other rows."""
        return self._lay(params)

    def _replan(self, params: Params) -> Answer:
        recipe = parse_recipe(params["recipe"]) if params["recipe"].strip() else Recipe()
        self._choose(recipe, params.get("front"))
        self._recipe = self._named(recipe)
        checkpoint = self.checkpoint
        remedy = "Look for an expression with a repetition inside a repetition."
        with deadline(LONGEST_PLAN, "the recipe takes too long on this file", remedy):
            self._carried = carry_out(self._recipe, checkpoint, strict=False, others=self._others)
            self._failed = self._carried.failed
            self._plan = self._in_front(self._carried)
            self._collisions = self._colliding_by(self._recipe, self._carried)
        if self._collisions is not None:
            self._plan = self._collisions.plan  # what cannot be is shown, and what can be done
        if self._plan is not None and self._plan.state_dict is not None:
            self._state_dict = self._plan.state_dict
        if self._state_dict not in self._alike:
            self._alike = alike(checkpoint, self._state_dict)
        self._fitted = self._fit_at(self._state_dict, self._plan)
        self._previewed = self._matching = None
        self._others_now = {at: self._fit_other(at) for at in self._alike if at != self._state_dict}
        self._suggestions = ()
        self._plans += 1
        answer = self._lay(params)
        source = self._fitted.table(ordered=checkpoint.container not in SORTED_CONTAINERS)
        buffers = {**answer.buffers, "source": packed(source), "values": self._values()}
        return Answer({**answer.body, "plan": self._plans, "a": self._card()}, buffers)

    def _values(self) -> bytes:
        """What finds equal values on both sides, where the target holds values and matching them takes no age."""
        other = self._wanted.values
        entries = self._fitted.entries
        if other is None or not self._fitted.problems or len(entries) > MOST_BY_VALUES:
            return b""
        of_a = [-1 if entry.made else entry.tensor for entry in entries]
        return packed_values(self.checkpoint, of_a, other, other.state_dicts[self._wanted.state_dict].tensor_of)

    def _named(self, recipe: Recipe) -> Recipe:
        """The recipe for the state dict that is looked at, where it names none and there are several."""
        path = self.checkpoint.state_dicts[self._state_dict].path
        if recipe.source.state_dict != AUTO or len(self.checkpoint.state_dicts) < 2:
            return recipe
        return replace(recipe, source=replace(recipe.source, state_dict=dotted(path)))

    def _place(self, limit: int = 0) -> str:
        """Where the state dict stands in the file, dotted."""
        place = self._name_of(self._state_dict)
        return text.visible(place, limit) if limit else place

    # Several state dicts that are alike

    def _name_of(self, index: int) -> str:
        return dotted(self.checkpoint.state_dicts[index].path)

    def _choose(self, recipe: Recipe, front: str | None) -> None:
        """Which state dict is looked at: `front` where it can be repaired, of those that the recipe is for."""
        named = {self._name_of(at): at for at in self._alike}
        wanted = named.get(self._place() if front is None else front)
        named[AUTO] = likely_state_dict(self.checkpoint)
        steps = any(step.enabled for step in recipe.steps)
        covered = [named[name] for name in recipe.source.names if name in named]
        self._covered = covered if steps or recipe.source.also else ()
        if wanted is not None and (wanted in self._covered or not self._covered):
            self._state_dict = wanted
        elif self._covered:
            self._state_dict = self._covered[0]

    def _in_front(self, carried: Carried) -> Plan | None:
        return carried.also.get(self._place(), carried.plan)

    def _fit_at(self, at: int, plan: Plan | None) -> Fitted:
        return fitted_to(self.checkpoint, at, plan, self._target, self._recipe.target.allow_missing)

    def _told_alike(self) -> list[dict[str, Any]]:
        """What the recipe makes of each state dict that is alike, or would; none where there is one."""
        if len(self._alike) < 2:
            return []
        told = []
        for at in self._alike:
            front, (fitted, error) = self._fitted, self._others_now.get(at, (self._shown_fit, ""))
            problems = fitted.problems
            if self._previewed is not None and at in self._covered and at != self._state_dict:
                front, fitted = self._shown_fit, self._fit_at(at, self._of_covered(at, self._previewed[2]))
            name = self._name_of(at)
            one = {"state_dict": name, "name": text.visible(name, 60), "front": at == self._state_dict}
            one |= {"covered": at in self._covered, "keys": len(self.checkpoint.state_dicts[at].keys)}
            one |= {"match": fitted.counts["match"], "problems": problems, "error": error}
            differs = "" if error or one["front"] else differences(front, fitted)
            told.append({**one, "differs": differs})
        return told

    def _fit_other(self, at: int) -> tuple[Fitted, str]:
        """What the recipe makes of a state dict that is not in front, or would; why it can make nothing of it."""
        if at in self._covered:
            return self._fit_at(at, self._of_covered(at, self._carried)), ""
        plan, error = None, ""
        # (where it is for both, neither is unwrapped)
        steps = tuple([step for step in self._recipe.steps if not isinstance(step, Unwrap)])
        source = replace(self._recipe.source, also=(self._name_of(at),))
        try:
            with deadline(PATIENCE, "this takes too long on these keys", ""):
                carried = carry_out(
                    *(replace(self._recipe, source=source, steps=steps), self.checkpoint),
                    strict=True,
                    others=self._others,
                )
            plan = carried.also.get(self._name_of(at))
        except (RepairError, UsageError, OpenError) as failed:
            error = _said(failed)
        return self._fit_at(at, plan), error

    def _of_covered(self, at: int, carried: Carried) -> Plan | None:
        name = self._name_of(at)
        return carried.plan if name == self._recipe.source.state_dict else carried.also.get(name)

    def _going_through(self, found: Sequence[Suggestion]) -> Iterator[Suggestion]:
        """Suggestions, each with a caution where it does not go through on all state dicts that the recipe is for."""
        for at, suggestion in enumerate(found):
            error = self._try(found, at)[2] if len(self._covered) > 1 else ""
            if error and suggestion.step["op"] == Strip.op:
                # (an average counts in a key that has no prefix)
                wider = replace(suggestion, step={**suggestion.step, "when": "any"})
                if not self._try([*found[:at], wider], at)[2]:
                    yield wider
                    continue
            caution = (Caution(code="other_state_dict", keys=(), message=error),) if error else ()
            yield replace(suggestion, cautions=(*suggestion.cautions, *caution))

    # What is shown

    def _lay(self, params: Params) -> Answer:
        """Rows of what is shown, with what was open, filtered and selected before."""
        self.__dict__.pop("_reasons", None)
        kept = self._kept(params)
        before, laid_before = self._shown, getattr(self, "_laid", None)
        same_tab = params.get("tab", self._tab) == self._tab
        self._tab = params.get("tab", self._tab)
        fitted = self._fitted if self._previewed is None else self._previewed[0]
        against = None if self._previewed is None else self._fitted
        laid = self._laid = lay(self._tab, fitted, against, self.checkpoint, self._state_dict)
        shown = AlignedRows(laid.tree, self.checkpoint, checkpoint_of_table(self._target.table))
        shown.set_statuses(bytes(laid.statuses))
        if self._tab == "problems":
            shown.expanded = bytearray(len(laid.tree))
            opened = [row for name, row in laid.groups.items() if row in laid.opened]
            if before is not None and laid_before is not None and same_tab:
                was = {name for name, row in laid_before.groups.items() if before.expanded[row]}
                opened = [
                    row
                    for name, row in laid.groups.items()
                    if name in was or (row in laid.opened and name not in laid_before.groups)
                ]
            shown.set_expanded(opened, True)
        if before is not None:
            shown.set_filter(before.filter)
        selected = [self._row_of(pair) for pair in kept]
        if self._tab == "tree":
            shown.reveal(*[row for row in selected if row >= 0])
        self._shown = shown
        self._sheet += 1
        buffers = pack(laid.tree, bytes(laid.statuses), laid.now)
        self._base_flags = buffers["flags"]
        body = {
            "sheet": self._sheet,
            "rows_total": len(laid.tree),
            "selected": selected,
            "counts": dict(fitted.counts),
            "before": None if against is None else dict(against.counts),
            "problems": fitted.problems if against is None else against.problems,
            "total": len(laid.pairs),
            "keys": fitted.asked,
            "allowed": len(fitted.allowed),
            "failed": None if self._failed is None else self._failed._asdict(),
            "preview": None if self._previewed is None else self._previewed[1],
            "matched": shown.matched,
            "alike": self._told_alike(),
        }
        return Answer(body, {**buffers, **self._visible()})

    def _kept(self, params: Params) -> list[Pair]:
        """The pairs of the selected rows, which are to be found among other rows."""
        if self._shown is None or params.get("sheet", self._sheet) != self._sheet:
            return []
        leaf = self._laid.tree.leaf
        return [self._laid.pairs[leaf[row]] for row in params.get("selected", ()) if row >= 0 and leaf[row] >= 0]

    def _row_of(self, pair: Pair) -> int:
        """The row that shows the same key of the target, or the same entry of the file."""
        by_target = by_source = -1
        pairs = self._laid.pairs
        for row, leaf in enumerate(self._laid.tree.leaf):
            if leaf < 0:
                continue
            if pair.wanted >= 0 and pairs[leaf].wanted == pair.wanted:
                by_target = row if by_target < 0 else by_target
                if pairs[leaf].source == pair.source:
                    return row
            elif pair.source >= 0 and pairs[leaf].source == pair.source:
                by_source = row
        return by_target if by_target >= 0 else by_source

    def _visible(self) -> dict[str, Any]:
        return {"visible": self.shown.visible(), "flags": self.shown.flags(self._base_flags)}

    def rows(self, params: Params, progress: Progress) -> Answer:
        """Expand, collapse, filter; which rows are shown after it."""
        self._check(params)
        if "chips" in params:
            self.shown.set_chips([CODES[word] for word in params["chips"]])
        error = change_rows(self.shown, params)
        return Answer({"matched": self.shown.matched, "filter_error": error}, self._visible())

    def step(self, params: Params, progress: Progress) -> Answer:
        """Go on to the next problem."""
        self._check(params)
        row = self.shown.next_of(params["row"], PROBLEMS, forwards=params["forwards"])
        if row >= 0:
            self.shown.reveal(row)
        return Answer({"matched": self.shown.matched, "filter_error": "", "row": row}, self._visible())

    def first(self, params: Params, progress: Progress) -> Answer:
        """Go to the first row of a kind."""
        row = self.shown.next_of(-1, {CODES[params["status"]]}, forwards=True)
        if row >= 0:
            self.shown.reveal(row)
        return Answer({"matched": self.shown.matched, "filter_error": "", "row": row}, self._visible())

    def find(self, params: Params, progress: Progress) -> Answer:
        """Rows whose key on either side holds all words, for "go to"."""
        words = params["text"].lower().split()
        tree = self._laid.tree
        found: list[list[Any]] = []
        for row, leaf in enumerate(tree.leaf):
            key = tree.key_a[row] or tree.key_b[row]
            both = f"{tree.key_a[row]} {tree.key_b[row]}".lower()
            if leaf >= 0 and all(word in both for word in words):
                found.append([row, text.visible(key, 200)])
                if len(found) >= params["limit"]:
                    break
        return Answer({"rows": found})

    def _check(self, params: Params) -> None:
        if params.get("sheet", self._sheet) != self._sheet:
            raise UsageError("the rows were numbered anew", code="old_sheet")

    # What the program proposes

    def proposed(self, params: Params, progress: Progress) -> Answer:
        """What another process found for this plan; what was dismissed before stays away."""
        if params["plan"] != self._plans:
            raise UsageError("it is about another recipe", code="old_sheet")
        proposal = unpacked(Proposal, params["proposal"])
        self._matching = proposal.matching
        self.__dict__.pop("_reasons", None)
        self._merging = merging_into(self._wanted) if self._plan is None or not self._plan.others else []
        self._suggestions = list(self._going_through([*self._unwrapping(), *self._merging, *proposal.suggestions]))
        return self._told_suggestions()

    def _unwrapping(self) -> Iterator[Suggestion]:
        """The step that makes the state dict the whole file, where the model is given the whole file."""
        source = self.checkpoint.state_dicts[self._state_dict]
        plan = self._plan
        if len(self._covered) > 1:
            return  # it would leave one of them
        if source.is_module and not (plan is not None and plan.extract):
            yield _of_operation(Extract(), len(source.keys))
        elif source.path and not self._target.nested and not (plan is not None and plan.unwrap):
            yield _of_operation(Unwrap(path=dotted(source.path)), len(source.keys))

    def _told_suggestions(self) -> Answer:
        told = [self._told(suggestion) for suggestion in self._offered()]
        return Answer({"suggestions": told, "dismissed": len(self._suggestions) - len(told)})

    def _offered(self) -> list[Suggestion]:
        return [suggestion for suggestion in self._suggestions if _sign(suggestion) not in self._dismissed]

    def _told(self, suggestion: Suggestion) -> dict[str, Any]:
        operation = operation_from_step(suggestion.step)
        return {
            "verb": VERBS.get(operation.op, operation.op.replace("_", " ").capitalize()),
            "lines": [text.visible(line, 300) for line in _lines(suggestion.step, suggestion.text)],
            "text": text.visible(suggestion.text, 400),
            "n": suggestion.n_keys,
            "evidence": suggestion.evidence,
            "reasons": [text.visible(reason, 300) for reason in suggestion.reasons],
            "cautions": [
                [caution.code, text.visible(caution.message, 400), _remedy(caution)] for caution in suggestion.cautions
            ],
            "asks": [f"{name} = {suggestion.step.get(name)} is a guess" for name in suggestion.asks],
            "examples": [[text.visible(key, 200) for key in pair] for pair in suggestion.examples[:MOST_LINES]],
            "safe": _is_safe(suggestion),
            "step": dict(suggestion.step),
            "label": operation.label,
        }

    def preview(self, params: Params, progress: Progress) -> Answer:
        """The rows as a suggestion would make them."""
        at = params["at"]
        offered = self._offered()
        self._previewed = None
        if 0 <= at < len(offered):
            chosen, made, error = self._try(offered, at)
            told: dict[str, Any] = {**NO_EFFECT, "at": at, "first": len(chosen) - 1, "error": error}
            if made is not None:
                told |= self._effect(made.fitted)
            self._previewed = (self._fitted, told, self._carried) if made is None else (made.fitted, told, made.carried)
        return self._lay(params)

    def _effect(self, fitted: Fitted) -> dict[str, int]:
        """What becomes better and worse by a preview."""
        now, then = self._fitted.counts, fitted.counts
        known = {entry.key for entry in self._fitted.entries}
        gained = [
            at
            for at, status in enumerate(fitted.status)
            if status == "match" and self._fitted.status[at] != "match"
        ]  # fmt: skip
        return {
            "gain": then["match"] - now["match"],
            "drops": then["dropped"] - now["dropped"],
            "worse": max(then["shape"] - now["shape"], 0),
            "lost": max(then["missing"] - now["missing"], 0),
            "unknown": sum(self._target.table.shapes[at] is None for at in gained),
            "astray": sum(fitted.entries[at].key not in known for at in fitted.unexpected),
        }

    def _try(self, offered: Sequence[Suggestion], at: int) -> tuple[list[Suggestion], _Made | None, str]:
        """A suggestion carried out: alone where that does anything, else behind those before it. Why not, in words."""
        error = ""
        alone, all_before = [offered[at]], list(offered[: at + 1])
        for chosen in (alone, all_before) if at else (alone,):
            try:
                made = self._carried_out(chosen)
            except (RepairError, UsageError, OpenError) as failed:
                error = _said(failed)
                continue
            if made.changed or chosen is all_before or not at:
                return chosen, made, ""
        return alone, None, error

    def _carried_out(self, chosen: Iterable[Suggestion]) -> _Made:
        """What suggestions give."""
        return self._with_steps([operation_from_step(suggestion.step) for suggestion in chosen])

    def _with_steps(self, steps: Sequence[Operation], at: int = -1, instead: int = 0) -> _Made:
        """What more steps give.

        They go before step number `at`, in the place of `instead` steps: then others may still collide.
        """
        known = self._recipe.steps
        at = len(known) if at < 0 else at
        recipe = replace(self._recipe, steps=(*known[:at], *steps, *known[at + instead :]))
        with deadline(PATIENCE, "this takes too long on these keys", ""):
            carried = carry_out(recipe, self.checkpoint, strict=at == len(known), others=self._others)
            collisions = self._colliding_by(recipe, carried)
        plans = [one for one in (carried.plan, *carried.also.values()) if one is not None]
        changed = max([one.steps[-1].changed for one in plans if one.steps], default=0)
        plan = self._in_front(carried) if collisions is None else collisions.plan
        return _Made(self._fit_at(self._state_dict, plan), changed, carried)

    def _colliding_by(self, recipe: Recipe, carried: Carried) -> Collisions | None:
        """What collides in the state dict in front."""
        source = replace(recipe.source, state_dict=self._place(), also=()) if recipe.source.also else recipe.source
        about = self._in_front(carried), carried.failed
        return Collisions.of(replace(recipe, source=source), about, self.checkpoint, self._others)

    def dismiss(self, params: Params, progress: Progress) -> Answer:
        """Do not propose one any more, or bring all back."""
        if params.get("all"):
            self._dismissed.clear()
        else:
            offered = self._offered()
            if 0 <= params["at"] < len(offered):
                self._dismissed.add(_sign(offered[params["at"]]))
        return self._told_suggestions()

    def accept(self, params: Params, progress: Progress) -> Answer:
        """The steps of one suggestion, or of all that are safe."""
        offered = self._offered()
        if not params.get("safe"):
            if not 0 <= params["at"] < len(offered):
                raise UsageError("the suggestions have changed", code="old_sheet")
            chosen, _, error = self._try(offered, params["at"])
            if error:
                raise UsageError(error.rstrip("."))
            if (caution := params.get("caution", -1)) >= 0:
                return self._steps(self._mended(offered, params["at"], offered[params["at"]].cautions[caution]), "")
            return self._steps([operation_from_step(one.step) for one in chosen], "")
        taken = self._safe(offered)
        if not taken:
            raise UsageError("no suggestion is safe", remedy="Look at each and accept it by itself.")
        steps = [operation_from_step(one.step) for one in taken]
        return self._steps(steps, f"Accept {text.plural(len(steps), 'suggestion')}" if len(steps) > 1 else "")

    def _mended(self, offered: Sequence[Suggestion], at: int, caution: Caution) -> list[Operation]:
        """A suggestion with the steps against its trap, which look at keys that those after it may have to make first.

        Raises:
            UsageError: the keys are not there.
        """
        against = list(map(operation_from_step, caution.steps))
        for chosen in ([offered[at]], offered[: at + 1], offered):
            steps = [*[operation_from_step(one.step) for one in chosen], *against]
            with suppress(RepairError, UsageError, OpenError):
                if self._with_steps(steps)[1]:
                    return steps
        raise UsageError("no keys are there that it is for", remedy="Accept the other suggestions first.")

    def _safe(self, offered: Sequence[Suggestion]) -> list[Suggestion]:
        """Those that are sure and go through one behind the other, and after which nothing fits worse."""
        taken: list[Suggestion] = []
        now = self._fitted
        safe = list(filter(_is_safe, offered))
        # (what takes an adapter and what merges it are one thing)
        merging = list(self._merging) if all(one in safe for one in self._merging) else []
        for together in [*([merging] if merging else []), *[[one] for one in safe if one not in self._merging]]:
            try:
                then = self._carried_out([*taken, *together]).fitted
            except (RepairError, UsageError, OpenError):
                continue
            # A key of another shape wants a decision: what leaves it out is not accepted unseen.
            lost = then.counts["missing"] - now.counts["missing"]
            if then.counts["match"] >= now.counts["match"] and then.problems <= now.problems and lost <= 0:
                taken.extend(together)
                now = then
        return taken

    def _steps(self, steps: Sequence[Operation], label: str, at: int = -1, instead: int = 0) -> Answer:
        told = {"steps": [[step.to_step(), step.label] for step in steps], "label": label or steps[-1].label}
        place = {} if at < 0 else {"at": at, "instead": instead}
        return Answer({**told, "state_dict": self._place(), **place})

    # Shapes that differ, keys that collide

    def try_choice(self, params: Params, progress: Progress) -> Answer:
        """The rows as a choice for one of them would make them."""
        return self._show_steps(params, *self._chosen_steps(params))

    def _show_steps(self, params: Params, steps: Sequence[Operation], at: int = -1, instead: int = 0) -> Answer:
        """The rows as more steps would make them."""
        self._previewed = None
        try:
            made = self._with_steps(steps, at, instead)
        except (RepairError, UsageError, OpenError) as failed:
            self._previewed = self._fitted, {**NO_EFFECT, "error": _said(failed)}, self._carried
        else:
            self._previewed = made.fitted, {**NO_EFFECT, **self._effect(made.fitted)}, made.carried
        return self._lay(params)

    def choose(self, params: Params, progress: Progress) -> Answer:
        """The steps of a choice."""
        steps, at, instead = self._chosen_steps(params)
        return self._steps(steps, "", at, instead)

    def _chosen_steps(self, params: Params) -> tuple[list[Operation], int, int]:
        found = self._choices(params["entry"]) if params["plan"] == self._plans else ()
        if not 0 <= params["choice"] < len(found):
            raise UsageError("the rows have changed", code="old_sheet")
        chosen = found[params["choice"]]
        steps = chosen.steps_for_all if params["others"] else chosen.steps
        return [operation_from_step(step) for step in steps], chosen.at, chosen.instead

    def _choices(self, entry: int) -> tuple[RowChoice, ...]:
        """What can be done about an entry that collides, or whose shape differs, without what is previewed."""
        fitted = self._fitted
        if entry < 0:
            return ()
        if (collisions := self._colliding(entry)) is not None:
            try:
                with deadline(PATIENCE, "this takes too long on these keys", ""):
                    return collisions.ways_out(fitted.entries[entry].key)
            except UsageError:
                return ()
        wanted = next((at for at, there in enumerate(fitted.filled) if there == entry), -1)
        return choices_at(fitted, wanted, self._in_target) if wanted >= 0 else ()

    def _colliding(self, entry: int) -> Collisions | None:
        """What an entry collides by, without what is previewed; None where it does not."""
        found = self._collisions
        return found if found is not None and self._fitted.entries[entry].key in found.olds else None

    def _in_target(self, wanted: int) -> OtherTensor | None:
        """Where the tensor of a target that is a checkpoint can be taken from."""
        other = self._wanted.values
        if other is None:
            return None
        state_dict = other.state_dicts[self._wanted.state_dict]
        named = dotted(state_dict.path) if len(other.state_dicts) > 1 else AUTO
        return OtherTensor(other.path, self._target.table.keys[wanted], named)

    # A step that somebody is making

    def search(self, params: Params, progress: Progress) -> Answer:
        """The rows as a step would make them that is not in the recipe yet."""
        if params["step"] is None:
            self._previewed = None
            return self._lay(params)
        return self._show_steps(params, [operation_from_step(params["step"])])

    def effects(self, params: Params, progress: Progress) -> Answer:
        """What keys are to the target, in what is shown."""
        fitted = self._shown_fit
        known = dict(zip(self._target.table.keys, fitted.status, strict=True))
        found = [known.get(key, "") for key in params["keys"]]
        return Answer({"effects": [status if status in ("match", "shape") else "" for status in found]})

    def keys(self, params: Params, progress: Progress) -> Answer:
        """The keys that a step can be restricted to."""
        fitted = self._fitted
        places = self._entries_at(params) if "rows" in params else fitted.unexpected
        if len(places) == len(fitted.entries):
            return Answer({"keys": None, "common": ""})
        if len(places) > MOST_KEYS:
            raise UsageError(f"these are more than {MOST_KEYS:,} keys", remedy="Choose the whole state dict.")
        keys = [fitted.entries[at].key for at in places]
        return Answer({"keys": keys, "common": common_part(keys)})

    def _entries_at(self, params: Params) -> list[int]:
        """What the file has in rows and below them, without what is previewed."""
        self._check(params)
        tree = self._laid.tree
        inside = [at for row in params["rows"] for at in range(row, tree.end[row]) if tree.leaf[at] >= 0]
        pairs = [self._without_preview(self._laid.pairs[tree.leaf[at]]) for at in dict.fromkeys(inside)]
        return [pair.entry for pair in pairs if pair.entry >= 0]

    # One row

    def why(self, params: Params, progress: Progress) -> Answer:
        """Why a row is what it is."""
        self._check(params)
        tree, row = self._laid.tree, params["row"]
        leaf = tree.leaf[row]
        if leaf < 0:
            empty: dict[str, Any] = {"status": "", "key_a": "", "now": "", "key_b": "", "reasons": [], "source": None}
            more: dict[str, Any] = {"drops": False, "pairs": False, "entry": -1, "edits": None, "choices": []}
            return Answer({"row": row, **empty, **more})
        pair = self._laid.pairs[leaf]
        bare = self._without_preview(pair)
        edits = self._fitted.entries[bare.entry].key if bare.entry >= 0 else "" if pair.status == "missing" else None
        body = {
            "row": row,
            "status": pair.status,
            "key_a": text.visible(tree.key_a[row], 300),
            "now": text.visible(self._laid.now[row], 300),
            "key_b": text.visible(tree.key_b[row], 300),
            "reasons": self._reasons.of(pair)[:MOST_REASONS],
            "source": self._numbers_of(tree.tensor_a[row]),
            "drops": pair.source >= 0 and pair.status not in ("will_drop", "dropped"),
            "pairs": pair.status not in ("match", "will_drop", "dropped") and self._failed is None,
            "choices": [[text.visible(one.text, 300), one.others] for one in self._choices(bare.entry)],
            "entry": bare.entry,
            "edits": edits,
        }
        return Answer(body)

    def _numbers_of(self, tensor: int) -> dict[str, Any] | None:
        if tensor < 0 or self.checkpoint.tensors[tensor].unreadable:
            return None
        try:
            return tensor_source(self.checkpoint, tensor).to_json()
        except SDViewerError:
            return None

    @cached_property
    def _reasons(self) -> Reasons:
        """Forgotten when anything that it looks at changes."""
        about = (self.checkpoint, self._state_dict, self._shown_fit, self._fitted)
        return Reasons(*about, self._plan, self._matching, self._collisions)

    @property
    def _shown_fit(self) -> Fitted:
        return self._fitted if self._previewed is None else self._previewed[0]

    # By hand

    def partners(self, params: Params, progress: Progress) -> Answer:
        """What a row could be paired with; what is alone and fits comes first, then what is named alike."""
        self._check(params)
        pair = self._pair_at(params["row"])
        fitted, wanted = self._fitted, self._target.table
        words = params["text"].lower().split()
        found: list[tuple[bool, bool, int, bool, int, str, str, str]] = []

        def offer(place: int, key: str, other: str, shape: object, own: object, now: str) -> None:
            if all(word in key.lower() for word in words):
                unlike = shape != own and None not in (shape, own)
                said = "?" if shape is None else text.shape(shape)  # type: ignore[arg-type]
                numbers = zip(_NUMBER.findall(key), _NUMBER.findall(other), strict=False)
                numbered = any(one != two for one, two in numbers)
                found.append((unlike, bool(now), -_common_end(key, other), numbered, place, key, said, now))

        if pair.entry >= 0:
            entry = fitted.entries[pair.entry]
            for at, key in enumerate(wanted.keys):
                if at != pair.wanted:
                    taken = fitted.filled[at]
                    now = fitted.entries[taken].key if taken >= 0 else ""
                    offer(at, key, entry.key, wanted.shapes[at], entry.shape, now)
        else:
            filled = {at: place for place, at in enumerate(fitted.filled) if at >= 0}
            for at, entry in enumerate(fitted.entries):
                if entry.shape is not None:
                    now = wanted.keys[filled[at]] if at in filled else ""
                    offer(at, entry.key, wanted.keys[pair.wanted], entry.shape, wanted.shapes[pair.wanted], now)
        found.sort(key=lambda one: one[:5])
        rows = [
            [place, text.visible(key, 200), shape, not unlike, text.visible(now, 200)]
            for unlike, _, _, _, place, key, shape, now in found[: params["limit"]]
        ]
        return Answer({"rows": rows})

    def lesson(self, params: Params, progress: Progress) -> Answer:
        """What pairing two keys can mean: them alone, or all that are named like them."""
        self._check(params)
        if self._failed is not None:
            raise UsageError("a step of the recipe does not go through", remedy="Settle that first.")
        pair = self._pair_at(params["row"])
        entry, wanted = pair.entry, pair.wanted
        if "onto" in params:
            onto = self._pair_at(params["onto"])
            entry, wanted = (entry, onto.wanted) if entry >= 0 and onto.wanted >= 0 else (onto.entry, wanted)
        else:
            entry, wanted = (entry, params["partner"]) if entry >= 0 else (params["partner"], wanted)
        if entry < 0 or wanted < 0 or self._fitted.filled[wanted] == entry:
            raise UsageError("these two cannot be paired", remedy="Pair a key of the file with a key of the target.")
        shapes = (self._fitted.entries[entry].shape, self._target.table.shapes[wanted])
        body = {
            "key_a": text.visible(self._fitted.entries[entry].key, 300),
            "key_b": text.visible(self._target.table.keys[wanted], 300),
            "shapes": ["?" if shape is None else text.shape(shape) for shape in shapes],
            "variants": variants_of(self._fitted, entry, wanted, self._place()),
        }
        return Answer(body)

    def drop(self, params: Params, progress: Progress) -> Answer:
        """The step that leaves rows out."""
        found = self._entries_at(params)
        if not found:
            raise UsageError("there is nothing of the file in it that could be dropped")
        keys, at = self._keys_now(found)
        return self._steps([Drop(keys=tuple(dict.fromkeys(map(literal_pattern, keys))))], "", at)

    def _keys_now(self, entries: Sequence[int]) -> tuple[list[str], int]:
        """Keys by which a step can mean entries, and before which step of the recipe: of those that collide none has
        a key of its own behind the step that they collide by."""
        if (found := self._collisions) is not None:
            return [found.old(entry) for entry in entries], found.step
        return [self._fitted.entries[entry].key for entry in entries], -1

    def rename(self, params: Params, progress: Progress) -> Answer:
        """The step that gives what a row has another key, tried while somebody types."""
        self._check(params)
        pair, typed = self._pair_at(params["row"]), params["key"]
        entry, new = pair.entry, typed
        if entry < 0:
            entry = next((at for at, known in enumerate(self._fitted.entries) if known.key == typed), -1)
            new = self._target.table.keys[pair.wanted]
        if entry < 0 or not typed:
            return self._refused("The file has no key of this name." if typed else "A key cannot be empty.")
        (old,), at = self._keys_now([entry])
        step = Rename(rules=(literal_rule(old, new),))
        try:
            fitted = self._with_steps([step], at).fitted
        except (RepairError, UsageError, OpenError) as failed:
            said = failed.message.partition(f"({step.label}): ")[2] or failed.message
            return self._refused(f"{said[:1].upper()}{said[1:]}. {failed.remedy}".strip())
        if new in fitted.collided:
            return self._refused(f"{text.visible(new, 200)} is a key already. Rename or drop one of the two first.")
        answer = self._steps([step], "", at)
        return Answer({**answer.body, "problem": ""})

    def _refused(self, problem: str) -> Answer:
        return Answer({"steps": [], "problem": text.visible(problem, 400)})

    def _pair_at(self, row: int) -> Pair:
        """The pair of a row as it is without what is previewed."""
        leaf = self._laid.tree.leaf[row]
        if leaf < 0:
            raise UsageError("this row is no key")
        return self._without_preview(self._laid.pairs[leaf])

    def _without_preview(self, pair: Pair) -> Pair:
        if self._previewed is None:
            return pair
        if pair.source < 0:
            return pair._replace(entry=self._fitted.filled[pair.wanted] if pair.wanted >= 0 else -1)
        entries = self._fitted.entries
        own = self._shown_fit.entries[pair.entry].key if pair.entry >= 0 else ""
        of_source = [at for at, entry in enumerate(entries) if entry.source == pair.source]
        entry = next((at for at in of_source if entries[at].key == own), of_source[0] if of_source else -1)
        wanted = next((place for place, at in enumerate(self._fitted.filled) if at == entry), -1) if entry >= 0 else -1
        return pair._replace(entry=entry, wanted=wanted)

    # The load

    def strict(self, params: Params, progress: Progress) -> Answer:
        """What `load_state_dict` would say now."""
        whole, shown = (self._strict_words(most) for most in (None, MOST_NAMED))
        buffers = {name: _visible(words).encode("utf-8") for name, words in (("text", whole), ("shown", shown))}
        return Answer({"problems": self._fitted.problems}, buffers)

    def _strict_words(self, most: int | None) -> str:
        """What torch would say; before that, in our own words, what lets no file come about."""
        words = self._fitted.strict_words(most)
        if self._collisions is None:
            return words
        olds = list(self._collisions.olds.items())
        lines = [
            f"{text.plural(len(keys), 'key')} would be called {key}: {', '.join(keys)}" for key, keys in olds[:most]
        ]
        if len(lines) < len(olds):
            lines.append(f"\N{HORIZONTAL ELLIPSIS} and {len(olds) - len(lines):,} more")
        return "\n\t".join(["No file can be written:", *lines]) + f"\n\n{words}"

    def changed(self, params: Params, progress: Progress = no_progress) -> Answer:
        """How the file on disk stands to the one that was opened."""
        return Answer(self._watch.look())


def _read(wanted: Params, source: KeyTable, progress: Progress) -> Wanted:
    """A target that is there to be read; one that is built was built elsewhere (`engine.building`)."""
    state_dict = wanted.get("state_dict")
    return read_wanted(wanted["name"], wanted.get("text"), source, state_dict=state_dict, progress=progress)


def _common_start(keys: Sequence[str]) -> str:
    """The modules that all keys stand in, with a dot; "" for none."""
    first, last = min(keys, default=""), max(keys, default="")
    alike = next((at for at, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), min(len(first), len(last)))
    return first[: first.rfind(".", 0, alike) + 1]


def _common_end(key: str, other: str) -> int:
    """How many components both end with."""
    count = 0
    for one, two in zip(reversed(key.split(".")), reversed(other.split(".")), strict=False):
        if one != two:
            break
        count += 1
    return count


def _of_operation(operation: Operation, n_keys: int) -> Suggestion:
    return Suggestion(operation.to_step(), operation.label, n_keys, "proved")


def _said(error: SDViewerError) -> str:
    """An error as a sentence of its own."""
    said = text.visible(f"{error.message}. {error.remedy}".strip(), 400)
    return said[:1].upper() + said[1:]


def _sign(suggestion: Suggestion) -> str:
    return json.dumps(suggestion.step, sort_keys=True)


def _is_safe(suggestion: Suggestion) -> bool:
    return suggestion.evidence in SURE and not suggestion.cautions


def _remedy(caution: Caution) -> str:
    """What the steps against a trap do."""
    return text.visible("; ".join([operation_from_step(step).label for step in caution.steps]), 200)


def _lines(step: Mapping[str, Any], said: str) -> list[str]:
    """A step on a card, as what is found and what it becomes."""
    lines: list[str] = []
    if rules := step.get("rules"):
        for old, new in rules[:MOST_LINES]:
            lines += [str(old), f"\N{RIGHTWARDS ARROW} {new}"]
        if len(rules) > MOST_LINES:
            lines.append(f"and {len(rules) - MOST_LINES:,} more rules")
        return lines
    for name in ("prefix", "path"):
        if isinstance(step.get(name), str):
            return [str(step[name])]
    for name in ("components", "keys"):
        if found := step.get(name):
            more = f" and {len(found) - MOST_LINES:,} more" if len(found) > MOST_LINES else ""
            return [", ".join(map(str, found[:MOST_LINES])) + more]
    return [said]


def _visible(words: str) -> str:
    """A text as it can be shown, its lines and tabs kept."""
    lines = []
    for line in words.split("\n"):
        said = line.lstrip("\t")
        lines.append("\t" * (len(line) - len(said)) + text.visible(said, 10 * len(said) + 10))
    return "\n".join(lines)
