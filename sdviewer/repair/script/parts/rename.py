"""rename: new keys by rules."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places
from sdviewer.repair.script.parts.patterns import Rule


def rename(
    checkpoint: Checkpoint, *, rules: Sequence[tuple[str, str]], mode: str = "first", keys: Sequence[str] = ()
) -> Done:
    """Rename each key by the first rule that matches it, or with mode "chain" by all rules, one after the other."""
    places = chosen_places(checkpoint.keys, keys)
    old = [checkpoint.keys[place] for place in places]
    new, matched, used = list(old), set(), set()
    for number, rule in enumerate([Rule(*rule) for rule in rules]):
        rename_key = rule.renamer(list(new) if mode == "chain" else old)
        for i, key in enumerate(new):
            renamed = rename_key(key) if mode == "chain" or i not in matched else None
            if renamed is not None:
                new[i] = renamed
                matched.add(i)
                used.add(number)
    dead = [" -> ".join(rule) for number, rule in enumerate(rules) if number not in used]
    return Done(len(matched), change_keys(checkpoint, places, new), dead)
