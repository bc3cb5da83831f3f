"""prefix: put a prefix before the keys."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.modules import add_prefix
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places


def prefix(checkpoint: Checkpoint, *, add: str, keys: Sequence[str] = ()) -> Done:
    """Put `add` before the keys."""
    places = chosen_places(checkpoint.keys, keys)
    modules = [module for module in checkpoint.versions.values() if module is not None]
    new = [add + checkpoint.keys[place] for place in places]
    return Done(len(places), change_keys(checkpoint, places, new, None if keys else add_prefix(modules, add)))
