"""unwrap: the state dict becomes the file's root."""

from __future__ import annotations

from typing import Any

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, warn
from sdviewer.repair.script.parts.failures import RecipeError, quoted


def unwrap(checkpoint: Checkpoint, *, path: str = "auto", keep_rest: bool = False) -> Done:
    """Ask for the state dict to be the root, which `take_out` does at the end; it was chosen by `path`."""
    if checkpoint.path:
        checkpoint.rest = keep_rest
    else:
        warn("the state dict is the root already, there is nothing to unwrap")
    return Done(len(checkpoint.entries), 0)


def take_out(checkpoint: Checkpoint) -> None:
    """Make the state dict the root, or put its entries where it stood in the root."""
    if checkpoint.rest is None or not checkpoint.path:
        return
    if not checkpoint.rest:
        checkpoint.root = checkpoint.mapping
        return
    root, first = checkpoint.root, checkpoint.path[0]
    if not isinstance(root, dict):
        raise RecipeError("the rest cannot be kept: the file's root is no dict")
    met = next((key for key in checkpoint.keys if key in root and key != first), None)
    if met is not None:
        raise RecipeError(f"{quoted(met)} of the unwrapped state dict is an entry of the root already")
    holder: Any = root
    for one in checkpoint.path[:-1]:
        holder = holder[one]
    if holder is not root:
        del holder[checkpoint.path[-1]]
    items: list[tuple[Any, Any]] = []
    for key, value in root.items():
        if key != first or holder is not root:
            items.append((key, value))
        if key == first:
            items += checkpoint.mapping.items()
    root.clear()
    root.update(items)
