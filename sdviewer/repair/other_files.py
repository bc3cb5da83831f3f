"""The files besides the source that a recipe names: how they are asked for, and how their paths follow the recipe.

No room below `formats` opens a file: whoever carries a recipe out gives the planner a function that does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import UsageError

if TYPE_CHECKING:
    from sdviewer.repair.recipe import Recipe

Others: TypeAlias = Callable[[str], Checkpoint]
"""Opens the checkpoint at a path of a recipe, header only; raises what opening raises (`OpenError`)."""


def no_others(path: str) -> Checkpoint:
    """For recipes that take nothing from other files.

    Raises:
        UsageError: this one does.
    """
    raise UsageError("no other file can be opened here", path=path)


def placed(path: str, folder: str) -> str:
    """A path that means the same everywhere, of one that is relative to a folder ("": the current one)."""
    # (a Path would change what the user wrote)
    return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118


def anchored(recipe: Recipe, folder: str) -> Recipe:
    """A recipe that lies in a folder, with paths that mean the same wherever it is carried out."""
    return _with_paths(recipe, lambda path: placed(path, folder))


def beside(recipe: Recipe, folder: str) -> Recipe:
    """A recipe as it is written into a folder: what lies in or below that has a path from there.

    So a folder of checkpoints and recipes can be moved as a whole.
    """
    inside = os.path.join(placed(folder, ""), "")  # noqa: PTH118

    def shorter(path: str) -> str:
        return path[len(inside) :].replace(os.sep, "/") if path.startswith(inside) and path != inside else path

    return _with_paths(recipe, shorter)


def _with_paths(recipe: Recipe, moved: Callable[[str], str]) -> Recipe:
    goal = recipe.target
    return replace(
        recipe,
        steps=tuple([step.with_paths(moved) for step in recipe.steps]),
        target=replace(goal, keys=moved(goal.keys)) if goal.keys else goal,
    )
