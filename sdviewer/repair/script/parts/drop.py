"""drop: leave keys out."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places, dead_patterns


def drop(checkpoint: Checkpoint, *, keys: Sequence[str]) -> Done:
    """Leave out the keys that a pattern matches."""
    dead = dead_patterns(checkpoint.keys, keys)
    gone = chosen_places(checkpoint.keys, keys)
    return Done(len(gone), change_keys(checkpoint, gone, [None] * len(gone), {}), dead)
