"""The file of a workbench and what it has to fit: its recipe carried out on it, and what more steps would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import dotted
from sdviewer.engine.alike import alike, differences, repairable
from sdviewer.engine.carrying import Carried, Failed, carry_out
from sdviewer.engine.deadline import deadline
from sdviewer.engine.failures import sentence
from sdviewer.engine.fit_collisions import Collisions
from sdviewer.engine.fitted import Fitted, fitted_to
from sdviewer.engine.fitting import Wanted
from sdviewer.errors import OpenError, RepairError, UsageError
from sdviewer.formats.other_files import OtherFiles
from sdviewer.repair.operations import Operation, Unwrap
from sdviewer.repair.plan import Plan
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.state_dicts import AUTO, likely_state_dict
from sdviewer.repair.target import Target

LONGEST_PLAN: Final = 60.0
PATIENCE: Final = 10.0
"""Seconds of computing after which a recipe, and more steps, are given up."""


class Made(NamedTuple):
    """What more steps give, and how many keys the last of them changes."""

    fitted: Fitted
    changed: int
    carried: Carried


class FitFile:
    """One state dict of a file is in front, of those that are alike; the recipe can be for several of them.

    After `open` and `replan`, `fitted` is what the recipe makes of the one in front and `plan` how; `collisions` is
    there where a step gives several tensors one key: then `plan` goes up to that step. `plan_number` counts plans.
    """

    def __init__(self) -> None:
        self.checkpoint: Checkpoint
        self.wanted: Wanted
        self.state_dict = 0
        self.covered: Sequence[int] = ()
        self.plan: Plan | None = None
        self.collisions: Collisions | None = None
        self.fitted: Fitted
        self.plan_number = 0
        self._recipe = Recipe()
        self._alike: Sequence[int] = ()
        self._others_now: Mapping[int, tuple[Fitted, str]] = {}
        self._carried = Carried()
        self._other_files = OtherFiles()

    @property
    def target(self) -> Target:
        """What the file has to fit."""
        return self.wanted.target

    @property
    def failed(self) -> Failed | None:
        """The step that does not go through, and why."""
        return self._carried.failed

    @property
    def place(self) -> str:
        """Where the state dict in front stands in the file, dotted."""
        return self._name_of(self.state_dict)

    @property
    def made(self) -> Made:
        """What the recipe gives without more steps."""
        return Made(self.fitted, 0, self._carried)

    def open(self, checkpoint: Checkpoint, state_dict: int, wanted: Wanted) -> None:
        """Another file and target; `replan` is to follow."""
        self.checkpoint, self.wanted = checkpoint, wanted
        self.state_dict = state_dict
        self._alike = alike(checkpoint, state_dict)

    def replan(self, recipe: Recipe, front: str | None) -> None:
        """Carry out a recipe, with the state dict of this name in front where it can be repaired."""
        self._choose(recipe, front)
        self._recipe = self._named(recipe)
        remedy = "Look for an expression with a repetition inside a repetition."
        with deadline(LONGEST_PLAN, "the recipe takes too long on this file", remedy):
            self._carried = carry_out(self._recipe, self.checkpoint, strict=False, others=self._other_files)
            self.plan = self._in_front(self._carried)
            self.collisions = self._colliding_by(self._recipe, self._carried)
        if self.collisions is not None:
            self.plan = self.collisions.plan  # what cannot be is shown, and what can be done
        if self.plan is not None and self.plan.state_dict is not None:
            self.state_dict = self.plan.state_dict
        if self.state_dict not in self._alike:
            self._alike = alike(self.checkpoint, self.state_dict)
        self.fitted = self._fit_at(self.state_dict, self.plan)
        self._others_now = {at: self._fit_other(at) for at in self._alike if at != self.state_dict}
        self.plan_number += 1

    def with_steps(self, steps: Sequence[Operation], at: int = -1, instead: int = 0, allow: Sequence[str] = ()) -> Made:
        """What more steps give.

        They go before step number `at`, in the place of `instead` steps: then others may still collide. `allow` are
        patterns of keys that may be missing besides.

        Raises:
            RepairError, UsageError, OpenError: one of all the steps does not go through.
        """
        known = self._recipe.steps
        at = len(known) if at < 0 else at
        recipe = replace(self._recipe, steps=(*known[:at], *steps, *known[at + instead :]))
        may_be = (*recipe.target.allow_missing, *allow)
        with deadline(PATIENCE, "this takes too long on these keys", ""):
            carried = carry_out(recipe, self.checkpoint, strict=at == len(known), others=self._other_files)
            collisions = self._colliding_by(recipe, carried)
        plans = [one for one in (carried.plan, *carried.also.values()) if one is not None]
        changed = max([one.steps[-1].changed for one in plans if one.steps], default=0)
        plan = self._in_front(carried) if collisions is None else collisions.plan
        return Made(fitted_to(self.checkpoint, self.state_dict, plan, self.target, may_be), changed, carried)

    def told_alike(self, previewed: Made | None) -> list[dict[str, Any]]:
        """What the recipe makes of each state dict that is alike, or would; none where there is one."""
        if len(self._alike) < 2:
            return []
        told = []
        shown = self.fitted if previewed is None else previewed.fitted
        for at in self._alike:
            front, (fitted, error) = self.fitted, self._others_now.get(at, (shown, ""))
            problems = fitted.problems
            if previewed is not None and at in self.covered and at != self.state_dict:
                front, fitted = shown, self._fit_at(at, self._of_covered(at, previewed.carried))
            name = self._name_of(at)
            one = {"state_dict": name, "name": text.visible(name, 60), "front": at == self.state_dict}
            one |= {"covered": at in self.covered, "keys": len(self.checkpoint.state_dicts[at].keys)}
            one |= {"match": fitted.counts["match"], "problems": problems, "error": error}
            differs = "" if error or one["front"] else differences(front, fitted)
            told.append({**one, "differs": differs})
        return told

    def told_others(self) -> list[list[Any]]:
        """Name, what people call it and number of tensors of each state dict that could be looked at instead.

        There is none while a recipe is for this one.
        """
        if self.covered:
            return []
        others = [at for at in repairable(self.checkpoint) if at not in self._alike]
        names = [(self._name_of(at), self.checkpoint.state_dicts[at].tensors) for at in others]
        return [[name, text.visible(name, 60), tensors] for name, tensors in names]

    def _name_of(self, index: int) -> str:
        return dotted(self.checkpoint.state_dicts[index].path)

    def _choose(self, recipe: Recipe, front: str | None) -> None:
        """Which state dict is looked at: `front` where it can be repaired, of those that the recipe is for."""
        named = {self._name_of(at): at for at in (*self._alike, *repairable(self.checkpoint))}
        wanted = named.get(self.place if front is None else front)
        named[AUTO] = likely_state_dict(self.checkpoint)
        steps = any(step.enabled for step in recipe.steps)
        covered = [named[name] for name in recipe.source.names if name in named]
        self.covered = covered if steps or recipe.source.also else ()
        if wanted is not None and (wanted in self.covered or not self.covered):
            self.state_dict = wanted
        elif self.covered:
            self.state_dict = self.covered[0]

    def _named(self, recipe: Recipe) -> Recipe:
        """The recipe for the state dict that is looked at, where it names none and there are several."""
        if recipe.source.state_dict != AUTO or len(self.checkpoint.state_dicts) < 2:
            return recipe
        return replace(recipe, source=replace(recipe.source, state_dict=self.place))

    def _in_front(self, carried: Carried) -> Plan | None:
        return carried.also.get(self.place, carried.plan)

    def _of_covered(self, at: int, carried: Carried) -> Plan | None:
        name = self._name_of(at)
        return carried.plan if name == self._recipe.source.state_dict else carried.also.get(name)

    def _colliding_by(self, recipe: Recipe, carried: Carried) -> Collisions | None:
        """What collides in the state dict in front."""
        source = replace(recipe.source, state_dict=self.place, also=()) if recipe.source.also else recipe.source
        about = self._in_front(carried), carried.failed
        return Collisions.of(replace(recipe, source=source), about, self.checkpoint, self._other_files)

    def _fit_at(self, at: int, plan: Plan | None) -> Fitted:
        return fitted_to(self.checkpoint, at, plan, self.target, self._recipe.target.allow_missing)

    def _fit_other(self, at: int) -> tuple[Fitted, str]:
        """What the recipe makes of a state dict that is not in front, or would; why it can make nothing of it."""
        if at in self.covered:
            return self._fit_at(at, self._of_covered(at, self._carried)), ""
        plan, error = None, ""
        # (where it is for both, neither is unwrapped)
        steps = tuple([step for step in self._recipe.steps if not isinstance(step, Unwrap)])
        source = replace(self._recipe.source, also=(self._name_of(at),))
        recipe = replace(self._recipe, source=source, steps=steps)
        try:
            with deadline(PATIENCE, "this takes too long on these keys", ""):
                carried = carry_out(recipe, self.checkpoint, strict=True, others=self._other_files)
            plan = carried.also.get(self._name_of(at))
        except (RepairError, UsageError, OpenError) as failed:
            error = sentence(failed)
        return self._fit_at(at, plan), error
