"""replace_prefix: exchange one prefix of the keys for another."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.modules import replace_prefix
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places
from sdviewer.repair.script.parts.failures import quoted


def exchange_prefix(checkpoint: Checkpoint, *, from_: str, to: str, keys: Sequence[str] = ()) -> Done:
    """Let keys that begin with `from_` begin with `to`."""
    places = chosen_places(checkpoint.keys, keys)
    old = [checkpoint.keys[place] for place in places]
    matched = sum(key.startswith(from_) for key in old)
    new = [to + key[len(from_) :] if key.startswith(from_) else key for key in old]
    modules = [module for module in checkpoint.versions.values() if module is not None]
    moved = None if keys else replace_prefix(modules, from_, to)
    return Done(matched, change_keys(checkpoint, places, new, moved), () if matched else (quoted(from_),))
