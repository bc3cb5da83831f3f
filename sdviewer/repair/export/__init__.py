"""A recipe in the words of a loader that renames keys itself: one file a loader, and one line in `EXPORTS`.

Each is carried out as the loader would before it is handed out, and refused where it says something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import UsageError
from sdviewer.repair.export.key_mapping import key_mapping, key_mapping_text
from sdviewer.repair.export.pre_hook import pre_hook
from sdviewer.repair.export.revise_keys import revise_keys, revise_keys_text
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.state_dicts import AUTO, choose_state_dict
from sdviewer.repair.wording import quoted

__all__ = ["EXPORTS", "Export", "export_text", "key_mapping", "keys_for", "pre_hook", "revise_keys"]


class Export(NamedTuple):
    """A loader's words: their name, whose they are, and the function that gives them as text."""

    name: str
    says: str
    text: Callable[[Recipe, Sequence[str] | None], str]


EXPORTS: tuple[Export, ...] = (
    Export("key_mapping", "the argument of from_pretrained in transformers", key_mapping_text),
    Export("revise_keys", "the argument of load_checkpoint in mmengine", revise_keys_text),
    Export("pre_hook", "a function for register_load_state_dict_pre_hook of torch", pre_hook),
)


def export_text(name: str, recipe: Recipe, keys: Sequence[str] | None = None) -> str:
    """A recipe in the words of the loader `name`, as Python text; `keys` are those that it is for, if they are known.

    Raises:
        UsageError: there is no such export, or a step cannot be said so.
    """
    for export in EXPORTS:
        if export.name == name:
            return export.text(recipe, keys)
    known = ", ".join(export.name for export in EXPORTS)
    raise UsageError(f"no loader is called {quoted(name)}", remedy=f"Known: {known}.")


def keys_for(recipe: Recipe, checkpoint: Checkpoint, state_dict: str | None = None) -> Sequence[str]:
    """The keys that a recipe is for: those of the state dict at this dotted path, else of the one that it names.

    Raises:
        UsageError: it is not clear which state dict is meant.
    """
    named = recipe.source.state_dict
    wanted = state_dict or (None if named == AUTO else named)
    return checkpoint.state_dicts[choose_state_dict(checkpoint, wanted)].keys
