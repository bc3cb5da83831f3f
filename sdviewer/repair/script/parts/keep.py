"""keep: leave all other keys out."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places, dead_patterns


def keep(checkpoint: Checkpoint, *, keys: Sequence[str]) -> Done:
    """Leave out the keys that no pattern matches."""
    dead = dead_patterns(checkpoint.keys, keys)
    kept = set(chosen_places(checkpoint.keys, keys))
    gone = [place for place in range(len(checkpoint.entries)) if place not in kept]
    return Done(len(kept), change_keys(checkpoint, gone, [None] * len(gone), {}), dead)
