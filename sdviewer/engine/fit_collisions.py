"""Keys that a step of a recipe gives to several tensors: what that looks like, and what can be done about it.

Such a recipe makes no file. A person sees what the step would do, and chooses; each way out was carried out before it
is offered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.engine.carrying import Failed
from sdviewer.engine.fit_choices import RowChoice
from sdviewer.errors import OpenError, RepairError, UsageError
from sdviewer.repair.operations import Drop, Operation
from sdviewer.repair.operations.tensor_operation import TensorOperation
from sdviewer.repair.other_files import Others
from sdviewer.repair.patterns import literal_pattern
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.scope import can_be_restricted, without
from sdviewer.repair.wording import quoted

MOST: Final = 3
"""Tensors with one key of which each is offered to be kept."""


@dataclass(slots=True)
class Collisions:
    """What step number `step` of a recipe gives one key. `plan` goes up to that step and is never saved; `olds` are the
    keys before the step, by the one that they would all have; `before` are all keys before it."""

    recipe: Recipe
    step: int
    plan: Plan
    olds: Mapping[str, Sequence[str]]
    before: Sequence[str]
    checkpoint: Checkpoint
    others: Others
    _known: dict[str, tuple[RowChoice, ...]] = field(default_factory=dict)
    _for_all: dict[tuple[object, ...], tuple[int, list[Operation] | None]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, recipe: Recipe, carried: tuple[Plan | None, Failed | None], checkpoint: Checkpoint, others: Others
    ) -> Collisions | None:
        """Those of a step that fails because of them; None where something else is wrong, or nothing.

        `carried` is what `engine.carrying` gives: the plan of the steps before it, and why it fails.
        """
        sooner, failed = carried
        if failed is None or not failed.collides:
            return None
        try:
            steps = recipe.steps[: failed.step + 1]
            plan = make_plan(replace(recipe, steps=steps), checkpoint, others=others, colliding=True)
        except (RepairError, UsageError, OpenError):
            return None  # what would be under one name is a tensor and a module
        olds: dict[str, list[str]] = {key: [] for key in plan.collisions}
        for target, old in zip(plan.targets, plan.before, strict=True) if olds else ():
            if target.key in olds:
                olds[target.key].append(old)
        if not olds or plan.state_dict is None:
            return None
        source = checkpoint.state_dicts[plan.state_dict].keys
        before = source if sooner is None or sooner.state_dict is None else [target.key for target in sooner.targets]
        return cls(recipe, failed.step, plan, olds, before, checkpoint, others)

    def old(self, entry: int) -> str:
        """The key of an entry before the step."""
        return self.plan.before[entry]

    def words(self, most: int | None) -> str:
        """What lets no file come about, in lines; `most`: how many keys they tell of."""
        olds = list(self.olds.items())
        lines = [
            f"{text.plural(len(keys), 'key')} would be called {key}: {', '.join(keys)}" for key, keys in olds[:most]
        ]
        if len(lines) < len(olds):
            lines.append(f"\N{HORIZONTAL ELLIPSIS} and {len(olds) - len(lines):,} more")
        return "\n\t".join(["No file can be written:", *lines])

    def ways_out(self, key: str) -> tuple[RowChoice, ...]:
        """What leaves a key to one tensor, for it alone and for others that came about alike; the harmless first."""
        if key not in self._known:
            self._known[key] = (*self._leaving(key), *self._dropping(key))
        return self._known[key]

    def _leaving(self, key: str) -> Iterator[RowChoice]:
        """The step does not touch one of them."""
        step = self.recipe.steps[self.step]
        for place, old in enumerate(self.olds[key]):
            if old != key and can_be_restricted(step):
                yield from self._way(f"Leave {quoted(old)} as it is called", key, place, drops=False)

    def _dropping(self, key: str) -> Iterator[RowChoice]:
        """Only one of them stays."""
        olds = self.olds[key]
        for place, old in enumerate(olds[:MOST]):
            gone = "the other" if len(olds) == 2 else f"the {len(olds) - 1:,} others"
            yield from self._way(f"Keep {quoted(old)}, drop {gone}", key, place, drops=True)

    def _way(self, words: str, key: str, place: int, *, drops: bool) -> Iterator[RowChoice]:
        alone = self._steps([key], place, drops=drops)
        if alone is None:
            return
        sign = self._sign(key)
        if (sign, place, drops) not in self._for_all:
            alike = [other for other in self.olds if self._sign(other) == sign]
            steps = self._steps(alike, place, drops=drops) if len(alike) > 1 else None
            self._for_all[sign, place, drops] = len(alike) - 1, steps
        others, for_all = self._for_all[sign, place, drops]
        tables = [tuple([step.to_step() for step in steps]) for steps in (alone, for_all or alone)]
        count = others if for_all is not None else 0
        yield RowChoice(words, tables[0], count, tables[1], self.step, 0 if drops else 1)

    def _sign(self, key: str) -> tuple[bool, ...]:
        """Which of the tensors had the key before, by which collisions are alike."""
        return tuple([old == key for old in self.olds[key]])

    def _steps(self, keys: Sequence[str], place: int, *, drops: bool) -> list[Operation] | None:
        """The steps that settle some keys, None where they do not."""
        step = self.recipe.steps[self.step]
        chosen = {self.olds[key][place] for key in keys}
        if not drops:
            try:
                changed = without(step, chosen)
            except UsageError:
                return None
            return [changed] if self._settle(keys, (), changed) else None
        gone = [old for key in keys for old in self.olds[key] if old not in chosen]
        return [Drop(keys=tuple(map(literal_pattern, gone)))] if self._settle(keys, gone, step) else None

    def _settle(self, keys: Sequence[str], gone: Collection[str], step: Operation) -> bool:
        """Whether a step gives each of some keys to one tensor, where others are gone before."""
        if isinstance(step, TensorOperation) or step.expect is not None:
            drops = (Drop(keys=tuple(map(literal_pattern, gone))),) if gone else ()
            tried = replace(self.recipe, steps=(*self.recipe.steps[: self.step], *drops, step))
            try:
                plan = make_plan(tried, self.checkpoint, others=self.others, colliding=True)
            except (RepairError, UsageError, OpenError):
                return False
            return not set(plan.collisions).intersection(keys)
        left = set(gone)
        changes = step.plan([key for key in self.before if key not in left])
        given = Counter(changes.new_keys)
        return changes.refusal is None and all(given[key] < 2 for key in keys)
