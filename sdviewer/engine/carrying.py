"""Carries a recipe out as far as it goes: a window shows the step that fails in its place, and the file before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.engine.deadline import TooLong
from sdviewer.errors import KeyCollision, OpenError, RepairError, UsageError
from sdviewer.repair.operations import Extract, Unwrap, Wrap
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.wording import quoted


class Failed(NamedTuple):
    """Which step does not go through (an index; -1: a guard, or the state dict that is asked for) and why.

    `collides`: it would give several tensors one key, and can be looked at (engine.fit_collisions).
    """

    step: int
    message: str
    remedy: str
    key: str
    collides: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """What a recipe makes of a file: of the state dict that it names first, and by name of the others that it is for.

    `plan` is None where there is nothing to do, or where not even a guard held.
    """

    plan: Plan | None = None
    failed: Failed | None = None
    also: Mapping[str, Plan] = field(default_factory=dict)


def carry_out(recipe: Recipe, checkpoint: Checkpoint, *, strict: bool, others: Others = no_others) -> Carried:
    """The plan of a recipe; unless `strict`, that of the steps before the first one that fails, and what failed.

    A step has to go through on every state dict that the recipe is for. `others` opens the files that tensors are
    taken from.

    Raises:
        RepairError, UsageError, OpenError: a step or a guard failed, and `strict`.
    """
    if recipe == Recipe(source=replace(recipe.source, require=(), forbid=(), tensors=None)):
        return Carried()
    try:
        return _on_all(recipe, checkpoint, others)
    except (RepairError, UsageError, OpenError) as error:
        if strict:
            raise
        failure = error
    if isinstance(failure, TooLong):
        # (the time to look for the step is over too)
        return Carried(failed=Failed(-1, failure.message, failure.remedy, ""))
    # Every recipe that goes on to the step that fails does fail: halve what is left to look at.
    carried = Carried()
    low, high = -1, len(recipe.steps)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            carried = _on_all(replace(recipe, steps=recipe.steps[:middle]), checkpoint, others)
            low = middle
        except (RepairError, UsageError, OpenError) as error:
            failure, high = error, middle
    collides = high > 0 and isinstance(failure, KeyCollision)
    return replace(carried, failed=Failed(high - 1, failure.message, failure.remedy, failure.key, collides))


def _on_all(recipe: Recipe, checkpoint: Checkpoint, others: Others) -> Carried:
    """A recipe carried out on every state dict that it is for.

    Raises:
        RepairError, UsageError, OpenError: it does not go through on one.
    """
    refuse_one_left(recipe)
    if not recipe.source.also:
        return Carried(make_plan(recipe, checkpoint, others=others))
    plans = {}
    for name in recipe.source.names:
        try:
            plans[name] = make_plan(recipe, checkpoint, state_dict=name, others=others)
        except (RepairError, UsageError, OpenError) as error:
            error.message = f"{error.message} (in {quoted(name)})"
            raise
    return Carried(plans.pop(recipe.source.state_dict), also=plans)


def refuse_one_left(recipe: Recipe) -> None:
    """Refuse a recipe for several state dicts of which a step leaves one.

    Raises:
        UsageError: it has such a step.
    """
    if not recipe.source.also:
        return
    alone = [step for step in recipe.steps if step.enabled and isinstance(step, Unwrap | Extract | Wrap)]
    if alone:
        raise UsageError(
            f"the recipe is for {recipe.source.said}, and its step {alone[0].op} leaves one of them",
            remedy="Take the step out, or name one state dict.",
        )
