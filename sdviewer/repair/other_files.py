"""The files besides the source that a recipe names: how they are asked for, and how their paths follow the recipe.

No room below `formats` opens a file: whoever carries a recipe out gives the planner a function that does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import UsageError

Others: TypeAlias = Callable[[str], Checkpoint]
"""Opens the checkpoint at a path of a recipe, header only; raises what opening raises (`OpenError`)."""


def no_others(path: str) -> Checkpoint:
    """For recipes that take nothing from other files.

    Raises:
        UsageError: this one does.
    """
    raise UsageError("no other file can be opened here", path=path)
