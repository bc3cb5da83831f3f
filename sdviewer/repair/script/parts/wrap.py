"""wrap: put the whole file under a key."""

from __future__ import annotations

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done
from sdviewer.repair.script.parts.failures import RecipeError, quoted


def wrap(checkpoint: Checkpoint, *, key: str = "state_dict") -> Done:
    """Ask for the whole to stand under a key, where `put_under` puts it at the end."""
    if checkpoint.metadata is not None:
        raise RecipeError("a safetensors file holds nothing beside its tensors")
    if checkpoint.outer:
        raise RecipeError(f"the file is wrapped in {quoted(checkpoint.outer)} already")
    checkpoint.outer = key
    return Done(1, 1)


def put_under(checkpoint: Checkpoint) -> None:
    """Put the root under the key that a wrap asked for."""
    checkpoint.root = {checkpoint.outer: checkpoint.root}
