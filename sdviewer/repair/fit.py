"""Makes a checkpoint fit its model: what matches, which steps bring it there, what is left.

Everything here is about names, shapes and dtypes; files are opened by who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KEY_LIST, KeyTable
from sdviewer.core.paths import dotted
from sdviewer.errors import RepairError
from sdviewer.repair.execution import plannable
from sdviewer.repair.key_check import KeyCheck, check_keys
from sdviewer.repair.matching.contents import Contents
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.matching.matching import match
from sdviewer.repair.operations import Extract, Operation, Unwrap, operation_from_step
from sdviewer.repair.operations.tensor_operation import Entry
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.plan import Kept, Plan, PlanWarning, sources
from sdviewer.repair.planning import check_editable, entries_of, key_map, make_plan
from sdviewer.repair.recipe import Recipe, Source
from sdviewer.repair.rules import propose
from sdviewer.repair.rules.shape_choices import cards
from sdviewer.repair.state_dicts import AUTO
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.target import Target

AMBIGUOUS: Literal["ambiguous"] = "ambiguous"

NAMED = 10
"""Keys that a warning carries, of those that are as many as the model has."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found out about a checkpoint and a model that asks for other keys.

    `state_dict` is the index of what is repaired. `suggestions` are all steps in their order, `accepted` says by
    position which of them `recipe` has; `plan` is what that makes of the checkpoint, `after` what torch says of that.
    `cautions` are those that belong to none of the suggestions.
    """

    target: Target
    state_dict: int
    source: KeyTable
    before: KeyCheck
    after: KeyCheck
    matching: Matching
    suggestions: tuple[Suggestion, ...]
    accepted: tuple[bool, ...]
    recipe: Recipe
    plan: Plan
    map: dict[str, str | dict[str, Any] | None] = field(default_factory=dict)
    warnings: tuple[PlanWarning, ...] = ()
    cautions: tuple[Caution, ...] = ()

    @property
    def left_out(self) -> list[Suggestion]:
        """The steps that nobody accepted."""
        return [one for one, taken in zip(self.suggestions, self.accepted, strict=True) if not taken]

    def to_json(self) -> dict[str, Any]:
        """The document of `fit --json`."""
        table = self.target.table
        return {
            "target": {"kind": self.target.kind, "n_keys": len(table), "shapes_known": table.shapes_known},
            "before": self.before.counts(),
            "after": self.after.counts(),
            "before_keys": self.before.keys(),
            "after_keys": self.after.keys(),
            "recipe": self.recipe.to_text(),
            "steps": [_step(one) for one in self.suggestions],
            "map": self.map,
            "warnings": [{"code": w.code, "keys": list(w.keys), "message": w.message} for w in self.warnings],
        }


def _step(suggestion: Suggestion) -> dict[str, Any]:
    return {
        "op": suggestion.step["op"],
        "text": suggestion.text,
        "n_keys": suggestion.n_keys,
        "evidence": suggestion.evidence,
        "examples": [list(pair) for pair in suggestion.examples],
        "asks": list(suggestion.asks),
        "cautions": [{"code": one.code, "steps": list(map(dict, one.steps))} for one in suggestion.cautions],
    }


def fit_to(
    checkpoint: Checkpoint,
    state_dict: int,
    source: KeyTable,
    target: Target,
    *,
    to_root: bool = False,
    accept_ambiguous: bool = False,
    contents: Contents | None = None,
    name: str = "",
    ahead: Sequence[Suggestion] = (),
    others: Others = no_others,
) -> Fit:
    """Find the steps that make a state dict of a checkpoint load into a target.

    `source` is that state dict as a table. `to_root`: the model is given the whole file, so the state dict becomes its
    root. `contents` tells equal tensors where both sides hold values. `ahead` are steps that come before those that are
    found, and of which none is taken without the others; `others` opens the files that they take tensors from.

    Raises:
        RepairError: the keys of this state dict cannot be edited.
    """
    if checkpoint.container == KEY_LIST:
        checkpoint = replace(plannable(source), path=checkpoint.path)
    if checkpoint.state_dicts[state_dict].role == "optimizer":
        check_editable(checkpoint.state_dicts[state_dict], checkpoint)
    before = check_keys(source, target.table, target.unreported)
    matching = match(source, target.table, contents=contents)
    maker = _Maker(checkpoint, state_dict, source, name, others)
    first = [*_unwrapping(checkpoint, state_dict, to_root), *ahead]
    if not matching.found:
        # Of a checkpoint of another model nothing is left, and that is no way to make it fit.
        matching = replace(matching, drops={})
    matching = _undecided(matching, target.table, maker, first)
    proposal = propose(source, target.table, matching, head_dim=target.head_dim)
    found = [*first, *proposal.suggestions]
    # What has another shape is seen where all steps are taken, so that each has its place.
    together = range(len(first) - len(ahead), len(first))
    accepted = _taken(maker, found, [True] * len(found), together)
    after = maker.checked(target)
    if differing := {one.key: one.target_shape for one in after.mismatched}:
        found += cards(maker.entries(), differing)
    wanted = [accept_ambiguous or one.evidence != AMBIGUOUS for one in found]
    if differing or not all(wanted):
        accepted = _taken(maker, found, wanted, together)
        after = maker.checked(target)
    with_steps = _cautions(found)
    return Fit(
        target,
        state_dict,
        source,
        before,
        after,
        matching,
        tuple(found),
        tuple(accepted),
        maker.recipe,
        maker.plan,
        _map(maker.plan, checkpoint, source, target.table, matching),
        tuple(dict.fromkeys(_warnings(target, [*proposal.cautions, *with_steps], maker.plan))),
        tuple([caution for caution in proposal.cautions if caution not in with_steps]),
    )


@dataclass(slots=True)
class _Maker:
    """A recipe on its way, with the plan that it makes."""

    checkpoint: Checkpoint
    state_dict: int
    source: KeyTable
    name: str
    others: Others
    recipe: Recipe = field(default_factory=Recipe)
    plan: Plan = field(default_factory=lambda: Plan(None))

    def make(self, suggestions: Sequence[Suggestion], wanted: Sequence[bool]) -> list[bool]:
        """Take up the steps that are wanted; which of them went through.

        A step may be made for keys that one gives it which is not wanted: then it goes without, too.

        Raises:
            RepairError: these keys cannot be edited.
        """
        steps = [operation_from_step(one.step) for one in suggestions]
        try:
            self._plan([step for step, taken in zip(steps, wanted, strict=True) if taken])
            return list(wanted)
        except RepairError:
            self._plan([])
        went = []
        for step, taken in zip(steps, wanted, strict=True):
            went.append(taken)
            if taken:
                try:
                    self._plan([*self.recipe.steps, step])
                except RepairError:
                    went[-1] = False
        return went

    def _plan(self, steps: Sequence[Operation]) -> None:
        found = self.checkpoint.state_dicts[self.state_dict]
        named = dotted(found.path)
        unwrapped = any(isinstance(step, Unwrap) for step in steps)
        recipe = Recipe(self.name, Source(named if named and not unwrapped else AUTO), tuple(steps))
        alone = bool(found.read_only)
        self.plan = make_plan(recipe, self.checkpoint, state_dict=named, tensors_alone=alone, others=self.others)
        self.recipe = recipe

    def entries(self) -> list[Entry]:
        """The state dict as the recipe makes it."""
        assert self.plan.state_dict is not None
        return entries_of(self.plan.targets, self.checkpoint.state_dicts[self.plan.state_dict], self.checkpoint)

    def checked(self, target: Target) -> KeyCheck:
        """What a strict load would say of the state dict as the recipe makes it."""
        return check_keys(table_of_plan(self.plan, self.checkpoint, self.source), target.table, target.unreported)


def _taken(maker: _Maker, found: Sequence[Suggestion], wanted: Sequence[bool], together: range) -> list[bool]:
    """Take up the steps that are wanted, those `together` only if all of them go through; which of them are taken."""
    accepted = maker.make(found, wanted)
    if len({accepted[at] for at in together}) < 2:
        return accepted
    return maker.make(found, [taken and at not in together for at, taken in enumerate(wanted)])


def table_of_plan(plan: Plan, checkpoint: Checkpoint, source: KeyTable) -> KeyTable:
    """The state dict that a plan makes of `source`, as it will be written."""
    if plan.state_dict is None:
        return source
    entries = entries_of(plan.targets, checkpoint.state_dicts[plan.state_dict], checkpoint)
    # (a checkpoint of a list of keys has shapes that the list does not state)
    unknown = {at for at, shape in enumerate(source.shapes) if shape is None}
    return KeyTable(
        tuple([entry.key for entry in entries]),
        [entry.shape if unknown.isdisjoint(sources(entry.value)) else None for entry in entries],
        [entry.dtype for entry in entries],
        not_tensors=frozenset([at for at, entry in enumerate(entries) if entry.shape is None]),
    )


def _undecided(matching: Matching, target: KeyTable, maker: _Maker, first: Sequence[Suggestion]) -> Matching:
    """The matching without the drops of what has a place in the target and only another shape: a person decides that.

    Where each key comes to is seen by carrying out the other steps.
    """
    unasked = [at for at, reason in matching.drops.items() if not reason]
    if not unasked:
        return matching
    reasoned = {at: reason for at, reason in matching.drops.items() if reason}
    steps = [*first, *propose(maker.source, target, replace(matching, drops=reasoned)).suggestions]
    maker.make(steps, [one.evidence != AMBIGUOUS for one in steps])
    wanted = set(target.keys)
    placed = {one.value.entry for one in maker.plan.targets if isinstance(one.value, Kept) and one.key in wanted}
    return replace(matching, drops={at: why for at, why in matching.drops.items() if why or at not in placed})


def _unwrapping(checkpoint: Checkpoint, state_dict: int, to_root: bool) -> Iterable[Suggestion]:
    """The step that makes the state dict the whole file, where the model is given the whole file."""
    source = checkpoint.state_dicts[state_dict]
    if source.is_module:
        yield _of_operation(Extract(), len(source.keys))
    elif to_root and source.path:
        found = _of_operation(Unwrap(path=dotted(source.path)), len(source.keys))
        yield replace(found, text=f"{found.text}: the rest of the file is left out")


def _of_operation(operation: Operation, n_keys: int) -> Suggestion:
    return Suggestion(operation.to_step(), operation.label, n_keys, "proved")


def _map(
    plan: Plan, checkpoint: Checkpoint, source: KeyTable, target: KeyTable, matching: Matching
) -> dict[str, str | dict[str, Any] | None]:
    """What becomes of every key of the source: `map` of `docs/cli.md`."""
    wanted = set(target.keys)
    told = key_map(plan, checkpoint)
    unsure = {source.keys[at]: one for one in matching.found if one.evidence == AMBIGUOUS for at in one.sources}
    result: dict[str, str | dict[str, Any] | None] = {}
    for key in source.keys:
        made = told.get(key)
        if isinstance(made, str) and made not in wanted:
            made = None
        if made is None and key in unsure:
            made = {"op": AMBIGUOUS, "candidates": _candidates(unsure[key], target)}
        result[key] = made
    return result


def _candidates(found: Found, target: KeyTable) -> list[str]:
    return [target.keys[at] for at in dict.fromkeys((*found.targets, *found.candidates))]


def _cautions(suggestions: Iterable[Suggestion]) -> list[Caution]:
    return [caution for one in suggestions for caution in one.cautions]


def _warnings(target: Target, cautions: Iterable[Caution], plan: Plan) -> Iterable[PlanWarning]:
    """What a person should know before trusting the answer."""
    table = target.table
    unknown = [key for at, key in enumerate(table.keys) if table.shapes[at] is None and at not in table.not_tensors]
    if unknown:
        message = f"the shapes of {text.plural(len(unknown), 'key')} of the model are not known: names alone decide"
        yield PlanWarning("unknown_shapes", tuple(unknown[:NAMED]), message)
    if target.incomplete:
        yield PlanWarning("incomplete_target", (), "the text does not name all keys that the model asks for")
    if target.approximate:
        yield PlanWarning("approximate_target", (), "the report folds its keys: some of them had to be guessed")
    for note in target.notes:
        yield PlanWarning("target_note", (), note)
    for caution in cautions:
        yield PlanWarning(caution.code, caution.keys, caution.message)
    yield from plan.warnings
