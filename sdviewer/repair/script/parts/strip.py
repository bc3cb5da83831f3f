"""strip: take a prefix or components out of the keys."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.repair.modules import strip_components, strip_prefix
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, change_keys, chosen_places
from sdviewer.repair.script.parts.failures import RecipeError, quoted


def strip(
    checkpoint: Checkpoint,
    *,
    prefix: str = "",
    components: Sequence[str] = (),
    when: str = "",
    keys: Sequence[str] = (),
) -> Done:
    """Take `prefix` from the start of the keys, or `components` from where they stand above a tensor's own name."""
    places = chosen_places(checkpoint.keys, keys)
    old = [checkpoint.keys[place] for place in places]
    if prefix:
        new = [key.removeprefix(prefix) for key in old]
    else:
        above = [key.split(".") for key in old]
        new = [".".join([*[part for part in parts[:-1] if part not in components], parts[-1]]) for parts in above]
    lacking = [before for before, after in zip(old, new, strict=True) if before == after]
    what = ", ".join(map(quoted, [prefix] if prefix else components))
    if lacking and (when or ("all" if prefix else "any")) == "all":
        raise RecipeError(f"{len(lacking)} of {len(old)} keys lack {what}, the first is {quoted(lacking[0])}")
    modules = [module for module in checkpoint.versions.values() if module is not None]
    moved = strip_prefix(modules, prefix, new) if prefix else strip_components(modules, components)
    matched = len(old) - len(lacking)
    return Done(matched, change_keys(checkpoint, places, new, None if keys else moved), () if matched else (what,))
