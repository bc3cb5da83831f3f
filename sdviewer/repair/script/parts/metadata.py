"""metadata: set and remove entries of the text that a safetensors file carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, warn
from sdviewer.repair.script.parts.failures import RecipeError


def metadata(
    checkpoint: Checkpoint, *, set_: Mapping[str, str] | Iterable[tuple[str, str]] = (), remove: Sequence[str] = ()
) -> Done:
    """Give entries of a safetensors file's text these values, and take others out."""
    if checkpoint.metadata is None:
        raise RecipeError("files of torch carry no text metadata that could be edited")
    entries = checkpoint.metadata
    changed = {name: text for name, text in dict(set_).items() if entries.get(name) != text}
    entries.update(changed)
    missing = [name for name in remove if entries.pop(name, None) is None]
    if missing:
        warn(f"there is no metadata entry {', '.join(missing)}")
    count = len(changed) + len(remove) - len(missing)
    return Done(count, count)
