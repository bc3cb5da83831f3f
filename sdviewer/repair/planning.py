"""Makes the plan of a recipe on a checkpoint, on names, shapes and dtypes alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StateDict
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.optimizer_names import parameter_names
from sdviewer.core.paths import KeyPath, dotted, to_json
from sdviewer.errors import KeyCollision, NoMatch, OpenError, RepairError, UsageError
from sdviewer.repair.collisions import check_new_keys, find_collisions
from sdviewer.repair.extraction import extraction_warnings, lost_tensors, module_classes
from sdviewer.repair.operations import DropObjects, Extract, KeyChanges, Operation, Unwrap
from sdviewer.repair.operations.file_operation import FileChanges, FileOperation
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, TensorOperation, opaque, tied
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.plan import (
    Computed,
    Expression,
    Kept,
    OptimizerChange,
    Plan,
    PlanWarning,
    StepReport,
    Target,
    sources,
)
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.state_dicts import AUTO, choose_state_dict, said_state_dict
from sdviewer.repair.transforms import Narrow
from sdviewer.repair.wording import listed, quoted

NAMED = 10
"""Keys that a warning carries."""

LARGEST = (1 << 63) - 1
"""Bytes of a tensor."""


def make_plan(
    recipe: Recipe,
    checkpoint: Checkpoint,
    *,
    state_dict: str | None = None,
    tensors_alone: bool = False,
    others: Others = no_others,
    colliding: bool = False,
) -> Plan:
    """Carry a recipe out on the names of a checkpoint.

    `state_dict` is the dotted path of the one to repair and goes before what the recipe says. `tensors_alone`: the
    result goes into another container and takes nothing but tensors along, so keys are not bound to their file.
    `others` opens the files that steps take tensors from. `colliding`: the last step may give several tensors one key,
    which the plan then tells; it is to be looked at, and not to be saved.

    Raises:
        UsageError: it is not clear which state dict is meant.
        RepairError: a guard, a collision or an expectation failed, or these keys cannot be edited.
        OpenError: a file that a step takes tensors from cannot be read.
    """
    planner = _Planner.begin(recipe, checkpoint, state_dict, tensors_alone)
    if planner is None:
        return _without_state_dict(recipe, checkpoint)
    planner.opener = others
    if recipe.source.also and state_dict is None:
        message = f"its steps are for {listed(recipe.source.also)} too: a save carries them out on each"
        planner.warn("other_state_dicts", (), message)
    planner.check_guards()
    for number, step in enumerate(recipe.steps, 1):
        planner.colliding = colliding and number == len(recipe.steps)
        planner.carry_out(step, number)
    return planner.finish()


def key_map(plan: Plan, checkpoint: Checkpoint) -> dict[str, str | dict[str, Any]]:
    """Source key -> its key in the result, or what was made of it: the `map` of `docs/cli.md`."""
    if plan.state_dict is None:
        return {}
    keys = checkpoint.state_dicts[plan.state_dict].keys
    result: dict[str, str | dict[str, Any]] = dict.fromkeys(keys, "")
    for entry in plan.dropped:
        reason = plan.reasons.get(entry)
        result[keys[entry]] = {"op": "drop", "reason": reason} if reason else {"op": "drop"}
    if not plan.computes:
        for target in plan.targets:
            result[keys[next(sources(target.value))]] = target.key
        return result
    made: dict[int, dict[int, tuple[int, ...]]] = {}
    for number, target in enumerate(plan.targets):
        for entry, place in _inputs(_settled(target.value)):
            made.setdefault(entry, {}).setdefault(number, place)
    for entry, places in made.items():
        result[keys[entry]] = _made_of([(plan.targets[number], place) for number, place in places.items()])
    return result


def _settled(value: Expression) -> Expression:
    """An expression without what only changes its numbers one by one."""
    while isinstance(value, Computed) and value.transform.elementwise:
        (value,) = value.inputs
    return value


def _inputs(value: Expression, depth: int = 2) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The source entries of an expression, each with the numbers of the inputs that it is in, from the outside."""
    if isinstance(value, Kept) or not depth:
        yield from [(entry, ()) for entry in sources(value)]
        return
    for number, one in enumerate(value.inputs):
        yield from [(entry, (number, *place)) for entry, place in _inputs(_settled(one), depth - 1)]


def _made_of(targets: Sequence[tuple[Target, tuple[int, ...]]]) -> str | dict[str, Any]:
    """What became of one source entry; the targets that are made of it, each with its place among their inputs."""
    names = [target.key for target, _ in targets]
    computed = [(value, place) for target, place in targets if isinstance(value := _settled(target.value), Computed)]
    if not computed:
        return names[0] if len(names) == 1 else {"op": "tie", "to": names}
    value, place = computed[0]
    op = value.transform.op
    many = len(names) > 1 or op in ("split", "unstack")
    told: dict[str, Any] = {"op": op, "to": names if many else names[0], **value.transform.details()}
    if op == "split":
        parts = [(one.transform, one.shape) for one, _ in computed]
        told["sizes"] = [shape[part.dim] for part, shape in parts if isinstance(part, Narrow)]
    elif op == "stack":
        told["index"] = place[0]
    elif op == "concat":
        told |= {"index": place[0], "of": len(value.inputs)}
    if op in ("stack", "concat"):
        inner = _settled(value.inputs[place[0]])
        if isinstance(inner, Computed) and {op, inner.transform.op} == {"stack", "concat"}:
            return _stack_concat(told, inner.transform.details(), place) or told
    return told


def _stack_concat(outer: Mapping[str, Any], inner: Mapping[str, Any], place: tuple[int, ...]) -> dict[str, Any] | None:
    """What became of a part of tensors that were joined and stacked, in either order, told as if joined first."""
    told = {"op": "stack_concat", "to": outer["to"]}
    if outer["op"] == "stack":
        return told | {"index": place[0], "part": place[1], "concat_dim": inner["dim"], "stack_dim": outer["dim"]}
    if outer["dim"] == inner["dim"]:
        return None
    joined = outer["dim"] - (outer["dim"] > inner["dim"])
    return told | {"index": place[1], "part": place[0], "concat_dim": joined, "stack_dim": inner["dim"]}


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One key that a step would change: its new one, None where it is dropped; `problem` says what is in the way."""

    old: str
    new: str | None
    shape: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What one more step would do: its rows, those with a problem first, and all problems as sentences."""

    rows: tuple[PreviewRow, ...] = ()
    changed: int = 0
    dropped: int = 0
    problems: tuple[str, ...] = ()
    dead_rules: tuple[str, ...] = ()
    keys: int = 0
    warnings: tuple[str, ...] = ()


def preview(keys: Sequence[str], operation: Operation, shapes: Sequence[str] = ()) -> Preview:
    """What an operation would make of these keys; it never raises for what the keys are."""
    changes = operation.plan(keys)
    collisions = find_collisions(keys, changes.new_keys)
    in_the_way = {place: str(collision) for collision in collisions for place in (collision.first, collision.second)}
    problems = [str(changes.refusal)] if changes.refusal else []
    problems += list(dict.fromkeys(map(str, collisions)))
    rows: list[PreviewRow] = []
    troubled: list[PreviewRow] = []
    dropped = changed = 0
    for i, (old, new) in enumerate(zip(keys, changes.new_keys, strict=True)):
        problem = in_the_way.get(i, "") if in_the_way else ""
        if old == new and not problem:
            continue
        dropped += new is None
        changed += new is not None and new != old
        if new == "" and old:
            problem = "would become an empty key"
            problems.append(f"{quoted(old)} {problem}.")
        row = PreviewRow(old, new, shapes[i] if shapes else "", problem)
        (troubled if problem else rows).append(row)
    return Preview(tuple(troubled + rows), changed, dropped, tuple(problems), changes.dead_rules, len(keys))


def preview_operation(
    recipe: Recipe,
    operation: Operation,
    checkpoint: Checkpoint,
    *,
    state_dict: str | None = None,
    plan: Plan | None = None,
    others: Others = no_others,
) -> Preview:
    """What an operation would do after a recipe, with the shapes of its keys; `plan` is the recipe's where it is known.

    Raises:
        UsageError, RepairError: the recipe itself does not go through, or these keys cannot be edited.
        OpenError: a file that tensors are taken from cannot be read.
    """
    plan = plan or make_plan(recipe, checkpoint, state_dict=state_dict, others=others)
    index = plan.state_dict if plan.state_dict is not None else choose_state_dict(checkpoint, state_dict)
    source = checkpoint.state_dicts[index]
    if not plan.extract:
        check_editable(source, checkpoint)
    targets = plan.targets
    if plan.state_dict is None:
        targets = tuple([Target(key, Kept(i)) for i, key in enumerate(source.keys)])
    if isinstance(operation, TensorOperation):
        return _preview_entries(entries_of(targets, source, checkpoint), operation, others)
    shown: dict[tuple[int, ...] | None, str] = {None: ""}
    shapes = []
    for target in targets:
        size = _shape(target, source, checkpoint)
        if size not in shown:
            shown[size] = text.shape(size or ())
        shapes.append(shown[size])
    return preview([target.key for target in targets], operation, shapes)


def entries_of(targets: Sequence[Target], source: StateDict, checkpoint: Checkpoint) -> list[Entry]:
    """Targets with what is known of their values."""
    entries = []
    for target in targets:
        value = target.value
        if isinstance(value, Computed):
            same = _identity(value, source, checkpoint)
            entries.append(Entry(target.key, value, value.shape, value.dtype, tied=same))
            continue
        tensor = source.tensor_of[value.entry]
        if tensor < 0:
            entries.append(Entry(target.key, value, None))
            continue
        info = checkpoint.tensors[tensor]
        entries.append(Entry(target.key, value, info.shape, info.dtype, opaque(info), tied(info)))
    return entries


def _identity(value: Kept | Computed, source: StateDict, checkpoint: Checkpoint) -> Hashable:
    """Equal for expressions that give one tensor, as a save would write it."""
    if isinstance(value, Computed):
        inputs = tuple([_identity(one, source, checkpoint) for one in value.inputs if value.transform.reads])
        return (value.transform, inputs, value.shape, value.dtype)
    tensor = source.tensor_of[value.entry]
    return (tied(checkpoint.tensors[tensor]) if tensor >= 0 else None) or value


def _shape(target: Target, source: StateDict, checkpoint: Checkpoint) -> tuple[int, ...] | None:
    if isinstance(target.value, Computed):
        return target.value.shape
    tensor = source.tensor_of[target.value.entry]
    return checkpoint.tensors[tensor].shape if tensor >= 0 else None


def _preview_entries(entries: Sequence[Entry], operation: TensorOperation, others: Others) -> Preview:
    """What an operation on tensors would do: a row for each entry that it changes, with shapes and dtypes after it."""
    changes = operation.plan_entries(entries, others)
    problems = [str(changes.refusal)] if changes.refusal else []
    collisions = find_collisions(*_old_and_new(entries, changes))
    problems += dict.fromkeys(map(str, collisions))
    in_the_way = {key: str(one) for one in collisions for key in one.new_keys}
    rows: list[PreviewRow] = []
    troubled: list[PreviewRow] = []
    changed = dropped = 0
    homes = {id(entry.value): entry for entry in entries}
    # What a tensor of several is made of goes into it, and is not dropped.
    joins = {
        id(value): new
        for output in changes.outputs
        for new in output
        if isinstance(new.value, Computed)
        for value in new.value.inputs
    }
    for entry, output in zip(entries, changes.outputs, strict=True):
        if len(output) == 1 and output[0] == entry:
            continue
        joined = joins.get(id(entry.value))
        dropped += not output and joined is None
        made = [new for new in output if new != entry]
        changed += len(made) or joined is not None
        if not output:
            told = _said_entry(entry) if joined is None else _both(entry, joined)
            rows.append(PreviewRow(entry.key, joined.key if joined else None, told))
        for new in made:
            problem = in_the_way.get(new.key, "")
            old = _made_from(new, entry, homes)
            told = _said_entry(new) if old is None or _said_entry(new) == _said_entry(old) else _both(old, new)
            row = PreviewRow("" if old is None else old.key, new.key, told, problem)
            (troubled if problem else rows).append(row)
    warnings = tuple([warning.message for warning in changes.warnings])
    return Preview(
        tuple(troubled + rows), changed, dropped, tuple(problems), changes.dead_rules, len(entries), warnings
    )


def _made_from(new: Entry, entry: Entry, homes: Mapping[int, Entry]) -> Entry | None:
    """What a new entry is made from: the one in whose place it stands, else any other; None for a new tensor."""
    parts = (new.value, *(new.value.inputs if isinstance(new.value, Computed) else ()))
    if any(part is entry.value for part in parts):
        return entry
    return next((homes[id(part)] for part in parts if id(part) in homes), None)


def _said_entry(entry: Entry) -> str:
    return "" if entry.shape is None else f"{text.shape(entry.shape)} {entry.dtype}"


def _both(old: Entry, new: Entry) -> str:
    """What changes of shape and dtype, before and after."""
    if old.shape == new.shape:
        return f"{text.shape(new.shape or ())} {old.dtype} \N{RIGHTWARDS ARROW} {new.dtype}"
    return f"{_said_entry(old)} \N{RIGHTWARDS ARROW} {_said_entry(new)}"


def _old_and_new(entries: Sequence[Entry], changes: EntryChanges) -> tuple[list[str], list[str | None]]:
    """Old and new key of everything that a step gives out, and of what it drops."""
    old: list[str] = []
    new: list[str | None] = []
    for entry, output in zip(entries, changes.outputs, strict=True):
        old += [entry.key] * max(1, len(output))
        new += [one.key for one in output] or [None]
    return old, new


@dataclass(slots=True)
class _Planner:
    """The state dict on its way through the steps.

    `values[i]` is what stands under `keys[i]`: an entry of the source by its number, or what is computed. `gone` are
    the keys of entries that were dropped, which the steps after it go on changing.
    """

    recipe: Recipe
    checkpoint: Checkpoint
    index: int
    keys: list[str]
    values: Sequence[int | Computed]
    paths: list[str]
    modules: dict[str, str | None]
    file: FileChanges
    unwrap: Unwrap | None = None
    steps: list[StepReport] = field(default_factory=list)
    warnings: list[PlanWarning] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    gone: dict[int, str] = field(default_factory=dict)
    drop_objects: bool = False
    extract: bool = False
    tensors_alone: bool = False
    opener: Others = no_others
    others: dict[str, Checkpoint] = field(default_factory=dict)
    colliding: bool = False
    before: Sequence[str] = ()

    @classmethod
    def begin(
        cls, recipe: Recipe, checkpoint: Checkpoint, name: str | None, tensors_alone: bool = False
    ) -> _Planner | None:
        """Choose the state dict; None where there is nothing to do and it is not clear to which."""
        active = [step for step in recipe.steps if step.enabled and not isinstance(step, DropObjects | FileOperation)]
        idle = not active and not recipe.source.require and not recipe.source.forbid
        try:
            index = _chosen(recipe, active, checkpoint, name)
        except (NoMatch, UsageError):
            if idle and (name is None or name == AUTO) and recipe.source.state_dict == AUTO:
                return None
            raise
        source = checkpoint.state_dicts[index]
        if active and not tensors_alone:
            check_editable(source, checkpoint)
        keys = list(source.keys)
        extract = any(isinstance(step, Extract) for step in active)
        paths = list(module_classes(checkpoint, source)) if extract else _metadata_paths(checkpoint, source.path)
        modules: dict[str, str | None] = {path: path for path in paths}
        file = FileChanges(checkpoint, source.path)
        planner = cls(recipe, checkpoint, index, keys, range(len(keys)), paths, modules, file)
        planner.extract, planner.tensors_alone = extract, tensors_alone
        return planner

    @property
    def source(self) -> StateDict:
        return self.checkpoint.state_dicts[self.index]

    def check_guards(self) -> None:
        """Raise where `require` is unmet or `forbid` met; warn of another number of tensors."""
        guards = self.recipe.source
        path = self.checkpoint.path
        for pattern in guards.require:
            if not any(map(compile_pattern(pattern).matches, self.keys)):
                raise NoMatch(
                    f"the recipe requires {quoted(pattern)}, and no key matches it",
                    path=path,
                    remedy="It was written for another model.",
                )
        for pattern in guards.forbid:
            met = next(filter(compile_pattern(pattern).matches, self.keys), None)
            if met is not None:
                raise RepairError(
                    f"the recipe forbids {quoted(pattern)}, and {quoted(met)} matches it",
                    path=path,
                    key=met,
                    remedy="The file may have been converted already.",
                )
        tensors = self.source.tensors
        if guards.tensors is not None and guards.tensors != tensors:
            message = f"the recipe was written for {text.plural(guards.tensors, 'tensor')}, here are {tensors:,}"
            self.warn("tensor_count", (), message)

    def carry_out(self, step: Operation, number: int) -> None:
        """One step: new keys, what becomes of `_metadata`, what it matched."""
        if not step.enabled:
            self.steps.append(_idle(step))
            return
        if isinstance(step, DropObjects):
            self.steps.append(_objects_report(step, number, self.checkpoint))
            self.drop_objects = True
            return
        where = f"step {number} ({step.label})"
        if isinstance(step, FileOperation):
            self.steps.append(_file_report(step, where, self.file))
            return
        if isinstance(step, TensorOperation):
            self._carry_out_on_tensors(step, where)
            return
        changes = step.plan(self.keys)
        self._check(changes.refusal, self.keys, changes.new_keys, where)
        if isinstance(step, Unwrap):
            self._begin_unwrap(step, where)
        changed = sum([old != new for old, new in zip(self.keys, changes.new_keys, strict=True)])
        self._report(step, where, changes.matched, changed, changes.dead_rules)
        self._move_modules(step, changes)
        if self.gone:
            self._follow(step)
        if changed:
            self._take(step, changes)

    def _carry_out_on_tensors(self, step: TensorOperation, where: str) -> None:
        """One step on entries: what stands under the keys changes too."""
        targets = tuple(map(Target, self.keys, map(_expression, self.values)))
        entries = entries_of(targets, self.source, self.checkpoint)
        try:
            changes = step.plan_entries(entries, self._open)
        except (OpenError, RepairError, UsageError) as error:
            error.message = f"{where}: {error.message}"
            raise
        self._check(changes.refusal, *_old_and_new(entries, changes), where)
        results = list(chain.from_iterable(changes.outputs))
        twice = _twice(results)
        if twice is not None and not self.colliding and _twice(entries) is None:
            raise KeyCollision(
                f"{where}: two tensors would be called {quoted(twice)}",
                path=self.checkpoint.path,
                key=twice,
                remedy="Give each its own name.",
            )
        self._refuse_too_large(results, where)
        changed = sum([output != (entry,) for entry, output in zip(entries, changes.outputs, strict=True)])
        counted = changed if changes.changed is None else changes.changed
        self._report(step, where, changes.matched, counted, changes.dead_rules)
        for warning in changes.warnings:
            self.warnings.append(warning._replace(message=f"{where}: {warning.message}"))
        if changed:
            if step.why:
                self._give_reasons(step.why, entries, results)
            if self.colliding:
                self.before = [old.key for old, output in zip(entries, changes.outputs, strict=True) for _ in output]
            self.keys = [new.key for new in results]
            self.values = [new.value.entry if isinstance(new.value, Kept) else new.value for new in results]

    def _open(self, path: str) -> Checkpoint:
        """A file that a step takes tensors from."""
        other = self.opener(path)
        return self.others.setdefault(other.path, other)

    def _refuse_too_large(self, results: Sequence[Entry], where: str) -> None:
        for entry in results:
            value = entry.value
            if isinstance(value, Computed) and math.prod(value.shape) * DTYPES[value.dtype].itemsize > LARGEST:
                raise RepairError(
                    f"{where}: {quoted(entry.key)} would be larger than a file can be ({text.shape(value.shape)})",
                    path=self.checkpoint.path,
                    key=entry.key,
                )

    def _give_reasons(self, why: str, entries: Sequence[Entry], results: Sequence[Entry]) -> None:
        used = {entry for new in results for entry in sources(new.value)}
        gone = {entry for old in entries for entry in sources(old.value)} - used
        self.reasons.update(dict.fromkeys(gone, why))

    def _check(self, refusal: RepairError | None, old: Sequence[str], new: Sequence[str | None], where: str) -> None:
        """Raise what a step refuses, and collisions, with the step's name."""
        try:
            if refusal is not None:
                raise refusal
            check_new_keys(old, new, colliding=self.colliding)
        except RepairError as error:
            raise type(error)(
                f"{where}: {error.message}",
                path=self.checkpoint.path,
                remedy=error.remedy,
                code=error.code,
                key=error.key,
            ) from None

    def _report(self, step: Operation, where: str, matched: int, changed: int, dead_rules: tuple[str, ...]) -> None:
        report = StepReport(step.op, step.label, True, matched, changed, dead_rules)
        _check_expectation(step, report, where, self.checkpoint.path)
        if dead_rules:
            rules = ", ".join(text.visible(rule, 200) for rule in dead_rules[:5])
            more = f" and {len(dead_rules) - 5:,} more" if len(dead_rules) > 5 else ""
            self.warn("dead_rule", (), f"{where}: matches nothing: {rules}{more}")
        self.steps.append(report)

    def _begin_unwrap(self, step: Unwrap, where: str) -> None:
        if not self.source.path:
            self.warn("nothing_to_unwrap", (), f"{where}: the state dict is the root already")
        else:
            self.unwrap = step

    def _move_modules(self, step: Operation, changes: KeyChanges) -> None:
        present = {path: old for old, path in self.modules.items() if path is not None}
        moved = step.move_modules(list(present), self.keys, changes.new_keys)
        for path, new in moved.items():
            self.modules[present[path]] = new

    def _take(self, step: Operation, changes: KeyChanges) -> None:
        keys, new_keys, values = self.keys, changes.new_keys, self.values
        if self.colliding:
            self.before = [old for old, new in zip(keys, new_keys, strict=True) if new is not None]
        self.keys = [new for new in new_keys if new is not None]
        if len(self.keys) == len(new_keys):
            return
        self.values = [value for new, value in zip(new_keys, values, strict=True) if new is not None]
        for key, new, value in zip(keys, new_keys, values, strict=True):
            if new is None:
                gone = list(sources(_expression(value)))
                self.gone.update(dict.fromkeys(gone, key))
                if step.why:
                    self.reasons.update(dict.fromkeys(gone, step.why))

    def _follow(self, step: Operation) -> None:
        """What the step would make of the keys that were dropped before it."""
        new_keys = step.plan(list(self.gone.values())).new_keys
        self.gone.update({entry: new for entry, new in zip(self.gone, new_keys, strict=True) if new is not None})

    def finish(self) -> Plan:
        """The plan, after what can only be seen at the end."""
        kept = self.used()
        dropped = tuple([i for i in range(len(self.source.keys)) if i not in kept])
        keep_rest = self.unwrap is not None and self.unwrap.keep_rest and not self.extract
        unwrap = self.unwrap is not None or self.extract
        left_out = _left_out(self.checkpoint, self.source.path, keep_rest) if unwrap else ()
        if keep_rest:
            self._check_rest()
        if self.extract:
            lost = lost_tensors(self.checkpoint, self.index)
            left_out = (*left_out, *lost)
            self.warnings += extraction_warnings(self.checkpoint, self.index, lost)
        else:
            self._check_module()
        self._warn_of_drops(dropped)
        optimizers = () if unwrap and not keep_rest else self._optimizers()
        self._warn_of_optimizer(dropped, unwrap and not keep_rest, optimizers)
        self.warnings += self.file.warnings
        return Plan(
            self.index,
            targets=tuple(map(Target, self.keys, map(_expression, self.values))),
            dropped=dropped,
            would_be={entry: key for entry, key in self.gone.items() if entry not in kept},
            unwrap=unwrap,
            keep_rest=keep_rest,
            left_out=(*left_out, *map(dotted, self.file.removed)),
            modules={old: new for old, new in self.modules.items() if old != new},
            steps=tuple(self.steps),
            warnings=tuple(self.warnings),
            reasons=self.reasons,
            drop_objects=self.drop_objects,
            values=self.file.values,
            removed=tuple(self.file.removed),
            wrap=self.file.wrap,
            optimizers=optimizers,
            metadata=self.file.metadata,
            extract=self.extract,
            others=self.others,
            collisions=tuple(self._collisions()),
            before=tuple(self.before),
        )

    def _collisions(self) -> list[str]:
        """The keys that the last step gave to what had different ones."""
        before: dict[str, set[str]] = {}
        for key, old in zip(self.keys if self.before else (), self.before, strict=True):
            before.setdefault(key, set()).add(old)
        return [key for key, olds in before.items() if len(olds) > 1]

    def used(self) -> set[int]:
        """The source entries that something of the result is made of."""
        return set(
            chain.from_iterable([(value,) if isinstance(value, int) else sources(value) for value in self.values])
        )

    def renamed(self) -> Iterator[tuple[str, str]]:
        """Old and new key of every entry that has another one."""
        source = self.source.keys
        for key, value in zip(self.keys, self.values, strict=True):
            entry = value if isinstance(value, int) else next(sources(value), -1)
            if entry >= 0 and key != source[entry]:
                yield source[entry], key

    def warn(self, code: str, keys: Sequence[str], message: str) -> None:
        self.warnings.append(PlanWarning(code, tuple(keys[:NAMED]), message))

    def _check_rest(self) -> None:
        """With `keep_rest`: no key may meet one of the root's other entries."""
        first = self.source.path[0]
        rest = {path[0] for path in _all_paths(self.checkpoint) if path and path[0] != first}
        for key in self.keys:
            if key in rest:
                raise KeyCollision(
                    f"{quoted(key)} of the unwrapped state dict is an entry of the root already",
                    path=self.checkpoint.path,
                    key=key,
                    remedy="Unwrap without keep_rest, or rename it.",
                )

    def _check_module(self) -> None:
        """In a pickled module only a tensor's own name can change."""
        if not self.source.is_module or self.tensors_alone:
            return
        changed = list(self.renamed())
        for old, new in changed:
            if old.rpartition(".")[0] != new.rpartition(".")[0]:
                raise RepairError(
                    f"{quoted(old)} cannot become {quoted(new)}: this is a pickled module, in which only a tensor's "
                    "own name can change",
                    path=self.checkpoint.path,
                    key=old,
                    remedy="Extract its state dict with a step `extract`; then any key can be changed.",
                )
        gone = [self.source.keys[i] for i in sorted(set(range(len(self.source.keys))) - self.used())]
        touched = [old for old, _ in changed] + gone
        if touched:
            self.warn(
                "pickled_module",
                touched,
                f"this is a pickled module: its class's code must know the new names ({listed(touched)})",
            )

    def _warn_of_drops(self, dropped: Sequence[int]) -> None:
        """Say where one of several tensors on one storage goes or is computed anew and another stays."""
        source = self.source
        gone = [(entry, source.keys[entry], "is dropped") for entry in dropped]
        for key, value in zip(self.keys, self.values, strict=True):
            if not isinstance(value, int):
                gone += [(entry, key, "gets new values") for entry in sources(value)]
        storages: dict[str, tuple[str, str]] = {}
        for entry, key, what in gone:
            storage = self._storage(entry)
            if storage is not None:
                storages.setdefault(storage, (key, what))
        if not storages:
            return
        partners: dict[tuple[str, str], str] = {}
        for key, value in zip(self.keys, self.values, strict=True):
            storage = self._storage(value) if isinstance(value, int) else None
            if storage is not None and storage in storages:
                partners.setdefault(storages[storage], key)
        if partners:
            (old, what), stays = next(iter(partners.items()))
            more = f" (and {len(partners) - 1:,} more such pairs)" if len(partners) > 1 else ""
            message = f"{quoted(old)} {what} and {quoted(stays)}, which shares its storage, stays{more}"
            self.warn("tie_split", [key for key, _ in partners], message)

    def _storage(self, entry: int) -> str | None:
        tensor = self.source.tensor_of[entry]
        return self.checkpoint.tensors[tensor].storage if tensor >= 0 else None

    def _optimizers(self) -> tuple[OptimizerChange, ...]:
        """What the optimizers of this state dict do with its keys: `param_names` follow, numbers where it is asked for.

        Raises:
            RepairError: the numbers shall follow, and it is not known which parameter each one is.
        """
        if not any(found.role == "optimizer" for found in self.checkpoint.state_dicts):
            return ()
        now: dict[str, str | None] = dict.fromkeys(self.source.keys)
        parted: set[str] = set()
        for key, value in zip(self.keys, self.values, strict=True):
            made_of = {value} if isinstance(value, int) else set(sources(value))
            for old in [self.source.keys[entry] for entry in made_of]:
                if isinstance(value, int) and now[old] is not None:
                    continue  # one tensor under a second key
                if len(made_of) > 1 or now[old] is not None:
                    parted.add(old)
                now[old] = key
        # What became several, or one of several, has no new name; under its old one it is at least not another's.
        now.update({old: old for old in parted})
        if not self.file.renumber and all(old == new for old, new in now.items()):
            return ()
        changes = []
        for index, found in enumerate(self.checkpoint.state_dicts):
            if found.role != "optimizer" or found.path in self.file.removed:
                continue
            known = parameter_names(self.checkpoint, index)
            if not known or not set(known.values()) <= now.keys():
                if self.file.renumber:
                    raise RepairError(
                        f"{quoted(dotted(found.path))} cannot follow: it is not known which parameters its numbers are",
                        path=self.checkpoint.path,
                        remedy="Leave it out, or take renumber_optimizer away.",
                    )
                continue
            broken = parted.intersection(known.values())
            if self.file.renumber and broken:
                key = min(broken)
                raise RepairError(
                    f"{quoted(dotted(found.path))} cannot follow: {quoted(key)} is no longer one tensor",
                    path=self.checkpoint.path,
                    key=key,
                    remedy="Leave it out, or take renumber_optimizer away.",
                )
            names = {old: new for old in known.values() if (new := now[old]) is not None and new != old}
            numbers: dict[int, int | None] = {}
            if self.file.renumber and any(now[key] is None for key in known.values()):
                stay = iter(range(len(known)))
                for number, key in known.items():
                    numbers[int(number)] = None if now[key] is None else next(stay)
            if names or numbers:
                changes.append(OptimizerChange(index, numbers, names))
        return tuple(changes)

    def _warn_of_optimizer(self, dropped: Sequence[int], left_out: bool, changes: Sequence[OptimizerChange]) -> None:
        """An optimizer counts parameters by number, which does not follow dropped keys by itself.

        Where its names of them are not the keys, they cannot follow either.
        """
        optimizers = [
            (index, found.path)
            for index, found in enumerate(self.checkpoint.state_dicts)
            if found.role == "optimizer" and found.path not in self.file.removed
        ]
        if left_out or self.tensors_alone or not optimizers:
            return
        numbered = {change.optimizer for change in changes if change.numbers}
        left = [path for index, path in optimizers if index not in numbered]
        if left and any(self.source.tensor_of[entry] >= 0 for entry in dropped):
            where = ", ".join([quoted(dotted(path)) for path in left[:3]])
            message = f"the optimizer state in {where} is numbered by parameter and does not follow dropped keys"
            self.warn("optimizer_index", [self.source.keys[i] for i in dropped[:NAMED]], message)
        elif reshaped := self._reshaped():
            where = ", ".join([quoted(dotted(path)) for _, path in optimizers[:3]])
            message = (
                f"the optimizer state in {where} is for the parameters as they were and does not follow new shapes"
            )
            self.warn("optimizer_index", reshaped[:NAMED], message)
        named = {change.optimizer for change in changes if change.names}
        left = [path for index, path in optimizers if index not in named and self._has_names(path)]
        if left and any(self.renamed()):
            where = ", ".join([quoted(dotted(path)) for path in left[:3]])
            self.warn("optimizer_names", (), f"the parameter names in {where} keep their old form")

    def _has_names(self, optimizer: KeyPath) -> bool:
        above = len(optimizer)
        return any("param_names" in info.path and info.path[:above] == optimizer for info in self.checkpoint.values)

    def _reshaped(self) -> list[str]:
        """Keys of tensors that are new, or made of several, or not shaped as what they are made of."""
        found = []
        for key, value in zip(self.keys, self.values, strict=True):
            if isinstance(value, int):
                continue
            made_of = set(sources(value))
            tensors = [self.source.tensor_of[entry] for entry in made_of]
            if len(tensors) != 1 or self.checkpoint.tensors[tensors[0]].shape != value.shape:
                found.append(key)
        return found


def _twice(entries: Sequence[Entry]) -> str | None:
    """The first key that stands twice."""
    seen: set[str] = set()
    for entry in entries:
        if entry.key in seen:
            return entry.key
        seen.add(entry.key)
    return None


def _expression(value: int | Computed) -> Kept | Computed:
    return Kept(value) if isinstance(value, int) else value


def _without_state_dict(recipe: Recipe, checkpoint: Checkpoint) -> Plan:
    """The plan of a recipe that edits no state dict: nothing, or a clean copy of the whole file."""
    steps, drops, file = [], False, FileChanges(checkpoint)
    for number, step in enumerate(recipe.steps, 1):
        if not step.enabled:
            steps.append(_idle(step))
        elif isinstance(step, DropObjects):
            steps.append(_objects_report(step, number, checkpoint))
            drops = True
        elif isinstance(step, FileOperation):
            steps.append(_file_report(step, f"step {number} ({step.label})", file))
    if file.renumber:
        raise UsageError("it is not clear which state dict the optimizer shall follow", remedy="Name one.")
    return Plan(
        None,
        steps=tuple(steps),
        drop_objects=drops,
        left_out=tuple(map(dotted, file.removed)),
        values=file.values,
        removed=tuple(file.removed),
        wrap=file.wrap,
        metadata=file.metadata,
        warnings=tuple(file.warnings),
    )


def _file_report(step: FileOperation, where: str, file: FileChanges) -> StepReport:
    try:
        found = step.change_file(file)
    except RepairError as error:
        raise type(error)(
            f"{where}: {error.message}", path=file.checkpoint.path, remedy=error.remedy, code=error.code, key=error.key
        ) from None
    report = StepReport(step.op, step.label, True, found, found)
    _check_expectation(step, report, where, file.checkpoint.path)
    return report


def _objects_report(step: DropObjects, number: int, checkpoint: Checkpoint) -> StepReport:
    """Matched are the objects that the file lists; what hides elsewhere in a pickle is found when it is written."""
    matched = sum(1 for found in checkpoint.objects if not found.known)
    report = StepReport(step.op, step.label, True, matched, 0)
    _check_expectation(step, report, f"step {number} ({step.label})", checkpoint.path)
    return report


def _chosen(recipe: Recipe, active: Sequence[Operation], checkpoint: Checkpoint, name: str | None) -> int:
    """The state dict that the steps see: the one named, else the one the recipe unwraps, else the only model."""
    wanted = name if name is not None and name != AUTO else None
    if wanted is None and recipe.source.state_dict != AUTO:
        wanted = recipe.source.state_dict
    known = [dotted(state_dict.path) for state_dict in checkpoint.state_dicts]
    there = f"There are: {', '.join(map(said_state_dict, checkpoint.state_dicts[:10]))}." if known else ""
    edited = False
    for step in active:
        if not isinstance(step, Unwrap):
            edited = True
        elif step.path != AUTO:
            # An absolute path, else one inside the state dict that is chosen so far.
            inside = f"{wanted}.{step.path}" if wanted else step.path
            found = step.path if step.path in known else inside
            if found not in known:
                raise NoMatch(
                    f"unwrap: there is no state dict at {quoted(step.path)}", path=checkpoint.path, remedy=there
                )
            if edited and found != known[choose_state_dict(checkpoint, wanted)]:
                remedy = "Put the unwrap step before the steps that change keys."
                raise UsageError(f"unwrap: the steps before it saw other keys than {quoted(found)}'s", remedy=remedy)
            wanted = found
    if name is None and wanted is not None and known and wanted not in known:
        raise NoMatch(f"the recipe is for the state dict {quoted(wanted)}", path=checkpoint.path, remedy=there)
    return choose_state_dict(checkpoint, wanted)


def check_editable(source: StateDict, checkpoint: Checkpoint) -> None:
    """Refuse a state dict whose keys cannot be edited.

    Raises:
        RepairError: it is an optimizer's, or its container is only read.
    """
    where = f"the state dict {quoted(dotted(source.path))}" if source.path else "the state dict"
    if source.read_only:
        raise RepairError(f"the keys of {where} cannot be edited: {source.read_only}", path=checkpoint.path)
    if source.role == "optimizer":
        raise RepairError(
            f"the keys of {where} cannot be edited: it is an optimizer's, which numbers parameters",
            path=checkpoint.path,
            remedy="Choose the model's state dict.",
        )


def _check_expectation(step: Operation, report: StepReport, where: str, path: str) -> None:
    if step.expect is None:
        return
    for name, wanted, found in (
        ("matched", step.expect.matched, report.matched),
        ("changed", step.expect.changed, report.changed),
        ("dead_rules", step.expect.dead_rules, len(report.dead_rules)),
    ):
        if wanted is not None and wanted != found:
            raise RepairError(
                f"{where}: expected {name} = {wanted}, found {found}",
                path=path,
                remedy="The file is not the one the recipe was written for.",
                code="expectation",
            )


def _idle(step: Operation) -> StepReport:
    return StepReport(step.op, step.label, step.enabled, 0, 0)


def _metadata_paths(checkpoint: Checkpoint, path: KeyPath) -> list[str]:
    """The module paths in the `_metadata` of the state dict at `path`."""
    wanted = to_json(path)
    found: Sequence[Mapping[str, Any]] = checkpoint.metadata.get("state_dict", ())
    for entry in found:
        if entry["path"] == wanted:
            return [name for name in entry["keys"] if isinstance(name, str)]
    return []


def _all_paths(checkpoint: Checkpoint) -> Iterator[KeyPath]:
    for things in (checkpoint.values, checkpoint.objects, checkpoint.tensors):
        for thing in things:
            yield thing.path


def _left_out(checkpoint: Checkpoint, path: KeyPath, keep_rest: bool) -> tuple[str, ...]:
    """Dotted paths of what stands outside `path`, each as short as it can be."""
    found: dict[KeyPath, None] = {}
    for other in _all_paths(checkpoint):
        if other[: len(path)] == path:
            continue
        depth = 0
        while depth < min(len(path), len(other)) and other[depth] == path[depth]:
            depth += 1
        # (what holds the state dict is not outside it)
        if depth < len(other) and (depth or not keep_rest):
            found[other[: depth + 1]] = None
    return tuple([dotted(one) for one in found])
