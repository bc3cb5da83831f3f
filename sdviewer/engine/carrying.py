"""Carries a recipe out as far as it goes: a window shows the step that fails in its place, and the file before it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.engine.deadline import TooLong
from sdviewer.errors import KeyCollision, OpenError, RepairError, UsageError
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe


class Failed(NamedTuple):
    """Which step does not go through (an index; -1: a guard, or the state dict that is asked for) and why.

    `collides`: it would give several tensors one key, and can be looked at (engine.fit_collisions).
    """

    step: int
    message: str
    remedy: str
    key: str
    collides: bool = False


def carry_out(
    recipe: Recipe, checkpoint: Checkpoint, *, strict: bool, others: Others = no_others
) -> tuple[Plan | None, Failed | None]:
    """The plan of a recipe; unless `strict`, that of the steps before the first one that fails, and what failed.

    `others` opens the files that tensors are taken from.

    Raises:
        RepairError, UsageError, OpenError: a step or a guard failed, and `strict`.
    """
    if recipe == Recipe(source=replace(recipe.source, require=(), forbid=(), tensors=None)):
        return None, None
    try:
        return make_plan(recipe, checkpoint, others=others), None
    except (RepairError, UsageError, OpenError) as error:
        if strict:
            raise
        failure = error
    if isinstance(failure, TooLong):
        return None, Failed(-1, failure.message, failure.remedy, "")  # the time to look for the step is over too
    # Every recipe that goes on to the step that fails does fail: halve what is left to look at.
    plan: Plan | None = None
    low, high = -1, len(recipe.steps)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan = make_plan(replace(recipe, steps=recipe.steps[:middle]), checkpoint, others=others)
            low = middle
        except (RepairError, UsageError, OpenError) as error:
            failure, high = error, middle
    collides = high > 0 and isinstance(failure, KeyCollision)
    return plan, Failed(high - 1, failure.message, failure.remedy, failure.key, collides)
