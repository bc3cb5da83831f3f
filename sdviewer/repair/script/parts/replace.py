"""replace: exchange a piece of the keys."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places
from sdviewer.repair.script.parts.failures import quoted
from sdviewer.repair.script.parts.patterns import Rule


def replace(
    checkpoint: Checkpoint, *, find: str, with_: str, syntax: str = "literal", keys: Sequence[str] = ()
) -> Done:
    """Exchange every `find`, or what the regular expression or the template `find` matches, for `with_`."""
    places = chosen_places(checkpoint.keys, keys)
    old = [checkpoint.keys[place] for place in places]
    if syntax == "literal":
        found = [key.replace(find, with_) if find in key else None for key in old]
    else:
        found = list(map(Rule(f"re:{find}" if syntax == "regex" else find, with_).renamer(old), old))
    matched = sum(one is not None for one in found)
    new = [before if after is None else after for before, after in zip(old, found, strict=True)]
    return Done(matched, change_keys(checkpoint, places, new), () if matched else (quoted(find),))
