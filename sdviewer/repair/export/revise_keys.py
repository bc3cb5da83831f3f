"""A recipe as the `revise_keys` of mmengine's `load_checkpoint`: [(regular expression, replacement)].

mmengine puts all pairs one after the other through `re.sub`, on every key. It unwraps `state_dict` itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdviewer.repair.export.renamings import Renaming, as_python, renamings, title
from sdviewer.repair.recipe import Recipe

_WHAT = "revise_keys"


def revise_keys(recipe: Recipe, keys: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """The pairs; `keys` are those that they are for, where they are known.

    Raises:
        UsageError: a step cannot be said so.
    """
    pairs = renamings(recipe, keys, (all_of_them,), _WHAT, unwraps=("state_dict",))
    return [(pattern, result) for pattern, result in pairs]


def revise_keys_text(recipe: Recipe, keys: Sequence[str] | None = None) -> str:
    """The pairs as Python text.

    Raises:
        UsageError: a step cannot be said so.
    """
    pairs = [Renaming(*pair) for pair in revise_keys(recipe, keys)]
    return (
        f"# Made by sdviewer of {title(recipe)}: load_checkpoint(model, filename, revise_keys=revise_keys)\n"
        f"revise_keys = [\n{as_python(pairs, '(', ',', ')')}]\n"
    )


def all_of_them(pairs: Sequence[Renaming], key: str) -> str:
    """What mmengine makes of a key."""
    for pattern, result in pairs:
        key = re.sub(pattern, result, key)
    return key
