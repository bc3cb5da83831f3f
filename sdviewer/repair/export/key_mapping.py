"""A recipe as the `key_mapping` of transformers' `from_pretrained`: {regular expression: replacement}.

transformers 4 tries the expressions in their order with `re.subn` and stops at the first that is found; transformers
5 makes a renaming of each, applied one after the other, each to its first match. What is handed out says the same to
both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdviewer.errors import UsageError
from sdviewer.repair.export.renamings import Renaming, as_python, renamings, title
from sdviewer.repair.recipe import Recipe

_WHAT = "a key_mapping"


def key_mapping(recipe: Recipe, keys: Sequence[str] | None = None) -> dict[str, str]:
    """The mapping; `keys` are those that it is for, where they are known.

    Raises:
        UsageError: a step cannot be said so.
    """
    pairs = renamings(recipe, keys, (first_that_matches, one_after_the_other), _WHAT)
    if len({pattern for pattern, _ in pairs}) < len(pairs):
        raise UsageError(f"the recipe cannot be said as {_WHAT}: two of its patterns are the same")
    return dict(pairs)


def key_mapping_text(recipe: Recipe, keys: Sequence[str] | None = None) -> str:
    """The mapping as Python text.

    Raises:
        UsageError: a step cannot be said so.
    """
    pairs = [Renaming(*pair) for pair in key_mapping(recipe, keys).items()]
    return (
        f"# Made by sdviewer of {title(recipe)}: model = Model.from_pretrained(..., key_mapping=key_mapping)\n"
        f"key_mapping = {{\n{as_python(pairs, '', ':', '')}}}\n"
    )


def first_that_matches(pairs: Sequence[Renaming], key: str) -> str:
    """What transformers 4 makes of a key."""
    for pattern, result in pairs:
        new, found = re.subn(pattern, result, key)
        if found:
            return new
    return key


def one_after_the_other(pairs: Sequence[Renaming], key: str) -> str:
    """What transformers 5 makes of a key."""
    for pattern, result in pairs:
        key = re.sub(pattern, result, key, count=1)
    return key
