"""The edit history of a window's recipe, as values: every change gives a new one.

The window holds steps as tables, as the worker gave or takes them: compiling thousands of rules, and writing them as
TOML, is not for a process that paints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from sdviewer.repair.operations import Operation
from sdviewer.repair.recipe import FORMAT, Recipe

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe: its table as a recipe has it, and what it does, for people."""

    table: Table
    label: str

    @classmethod
    def of(cls, operation: Operation) -> Self:
        """The step of an operation."""
        return cls(operation.to_step(), operation.label)

    @property
    def op(self) -> str:
        """The operation's name."""
        return str(self.table["op"])

    @property
    def enabled(self) -> bool:
        """Whether it is switched on."""
        return bool(self.table.get("enabled", True))

    def switched(self) -> Step:
        """The same step, off instead of on or on instead of off."""
        table = {name: value for name, value in self.table.items() if name != "enabled"}
        return replace(self, table={**table, "enabled": False} if self.enabled else table)


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe as the window holds it. `head` are its tables without the steps: `source`, `target`, `save`, `name`."""

    steps: tuple[Step, ...] = ()
    head: Table = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The draft of a recipe."""
        head = {name: value for name, value in recipe.to_table().items() if name not in ("format", "step")}
        return cls(tuple(map(Step.of, recipe.steps)), head)

    @classmethod
    def from_body(cls, body: Table) -> Self:
        """The draft that `to_body` tells of."""
        return cls(tuple(Step(table, str(label)) for table, label in body["steps"]), body["head"])

    def to_body(self) -> dict[str, Any]:
        """Plain values, to be sent from a worker."""
        return {"head": dict(self.head), "steps": [[dict(step.table), step.label] for step in self.steps]}

    @property
    def source(self) -> Table:
        """What the file must look like, as `[source]` has it."""
        found: Table = self.head.get("source") or {}
        return found

    @property
    def is_empty(self) -> bool:
        """Whether it neither does nor asks for anything."""
        return not self.steps and not self.head

    @property
    def is_for_several(self) -> bool:
        """Whether its steps are for several state dicts."""
        return isinstance(self.source.get("state_dict"), list)

    def for_state_dict(self, *names: str) -> Draft:
        """The same recipe, for the state dict at a dotted path, for several, or for the one that can be meant."""
        source = {name: value for name, value in self.source.items() if name != "state_dict"}
        if names:
            source["state_dict"] = list(names) if len(names) > 1 else names[0]
        head = {name: value for name, value in self.head.items() if name != "source"}
        return replace(self, head={**head, "source": source} if source else head)

    def allowing(self, patterns: Sequence[str]) -> Draft:
        """The same recipe, where keys of the target that these patterns mean may be missing besides."""
        target = dict(self.head.get("target") or {})
        target["allow_missing"] = list(dict.fromkeys([*target.get("allow_missing", ()), *patterns]))
        return replace(self, head={**self.head, "target": target})

    def until(self, end: int) -> Draft:
        """The recipe with its first steps only."""
        return replace(self, steps=self.steps[:end])

    def without(self, op: str) -> Draft:
        """The recipe without the steps of an operation."""
        return replace(self, steps=tuple([step for step in self.steps if step.op != op]))

    def and_step(self, step: Step) -> Draft:
        """The recipe with one more step at its end."""
        return replace(self, steps=(*self.steps, step))

    def with_steps(self, steps: Sequence[Step], at: int, instead: int) -> Draft:
        """The recipe with more steps before step number `at`, in the place of `instead` steps."""
        return replace(self, steps=(*self.steps[:at], *steps, *self.steps[at + instead :]))

    def to_text(self) -> str:
        """The recipe as JSON, which `parse_recipe` reads and which is quickly made."""
        return json.dumps({"format": FORMAT, **self.head, "step": [step.table for step in self.steps]})


def place_of_step(steps: Sequence[Step], wanted: Step, at: int) -> int:
    """Where a step stands that stood at `at` before others came, went or moved; -1 where it is gone."""
    return min([i for i, step in enumerate(steps) if step == wanted], key=lambda i: abs(i - at), default=-1)


WRITES = ("edit", "set_value")
"""The operations that put a value at one place."""


def _place(step: Step) -> Table:
    """Where a step writes, and with what notes and conditions."""
    return {name: value for name, value in step.table.items() if name != "value"}


def _overlap(step: Step, other: Step) -> bool:
    """Whether one writes to what the other one writes to, among other places."""
    if any(step.table.get(name) != other.table.get(name) for name in ("op", "path", "key")):
        return False
    here, there = list(step.table.get("at") or ()), list(other.table.get("at") or ())
    shorter = min(len(here), len(there))
    # An index from the end may be any of those from the start.
    return here[:shorter] == there[:shorter] or any(index < 0 for index in here + there)


class State(NamedTuple):
    """The recipe after one edit, and what the edit was, as undo names it."""

    draft: Draft
    label: str


@dataclass(frozen=True, slots=True)
class History:
    """The states a recipe went through; `index` is the present one, `saved` the recipe that a saved copy has."""

    states: tuple[State, ...] = (State(Draft(), ""),)
    index: int = 0
    saved: Draft = Draft()

    @classmethod
    def of(cls, steps: Sequence[Operation]) -> History:
        """A history that begins with these steps, as they are saved."""
        draft = Draft(tuple(map(Step.of, steps)))
        return cls((State(draft, ""),), 0, draft)

    @property
    def draft(self) -> Draft:
        """The recipe as it is now."""
        return self.states[self.index].draft

    @property
    def steps(self) -> tuple[Step, ...]:
        """The recipe's steps as they are now."""
        return self.draft.steps

    @property
    def is_dirty(self) -> bool:
        """Whether the recipe differs from the one that was saved."""
        return self.draft != self.saved

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self.index > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to make again."""
        return self.index + 1 < len(self.states)

    @property
    def undo_label(self) -> str:
        """What `undo` would take back, "" for nothing."""
        return self.states[self.index].label if self.can_undo else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would make again, "" for nothing."""
        return self.states[self.index + 1].label if self.can_redo else ""

    def undo(self) -> History:
        """The state before; itself where there is none."""
        return replace(self, index=self.index - 1) if self.can_undo else self

    def redo(self) -> History:
        """The state after; itself where there is none."""
        return replace(self, index=self.index + 1) if self.can_redo else self

    def add(self, step: Step, state_dict: str = "") -> History:
        """One more step at the end; `state_dict` names the one that is edited from now on.

        A number or a value that a step writes already gets another there: the same cell is not written twice.
        """
        if (at := self._written_at(step)) >= 0:
            return self._exchange(at, step, step.label)
        draft = self.draft.for_state_dict(state_dict) if state_dict else self.draft
        return self.put(draft.and_step(step), step.label)

    def toggle(self, i: int) -> History:
        """Switch step `i` off or on."""
        step = self.steps[i]
        verb = "Switch off" if step.enabled else "Switch on"
        return self._exchange(i, step.switched(), f"{verb}: {step.label}")

    def remove(self, i: int) -> History:
        """Take step `i` out."""
        return self._with(self.steps[:i] + self.steps[i + 1 :], f"Remove: {self.steps[i].label}")

    def change(self, i: int, step: Step) -> History:
        """Put another step in the place of step `i`."""
        return self._exchange(i, step, f"Change: {step.label}")

    def move(self, i: int, to: int) -> History:
        """Take step `i` out and put it in so that it becomes step `to`."""
        steps = list(self.steps)
        step = steps.pop(i)
        steps.insert(to, step)
        return self._with(tuple(steps), f"Move: {step.label}")

    def put(self, draft: Draft, label: str) -> History:
        """Another recipe in the place of the one there is; what was undone is forgotten."""
        return replace(self, states=(*self.states[: self.index + 1], State(draft, label)), index=self.index + 1)

    def mark_saved(self) -> History:
        """The recipe as it is now is what a saved copy has."""
        return replace(self, saved=self.draft)

    def _written_at(self, step: Step) -> int:
        """The step that writes to the same place and to which nothing happens afterwards; -1 where there is none."""
        if step.op not in WRITES:
            return -1
        for at in reversed(range(len(self.steps))):
            other = self.steps[at]
            if _place(other) == _place(step):
                return at
            if other.op not in WRITES or _overlap(other, step):
                return -1
        return -1

    def _exchange(self, i: int, step: Step, label: str) -> History:
        return self._with((*self.steps[:i], step, *self.steps[i + 1 :]), label)

    def _with(self, steps: tuple[Step, ...], label: str) -> History:
        return self.put(replace(self.draft, steps=steps), label)
