"""What stands around the state dict: paths to it, plain values, entries to leave out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, warn
from sdviewer.repair.script.parts.choosing import dotted
from sdviewer.repair.script.parts.failures import RecipeError, quoted
from sdviewer.repair.script.parts.patterns import Pattern


def everything_below(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """The path of everything in dicts, lists and tuples, what holds it, and the thing itself."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key), value, item
        if isinstance(item, (dict, list, tuple)):
            yield from everything_below(item, (*path, key))


def set_value(checkpoint: Checkpoint, *, path: str, value: Any) -> Done:
    """Put another value in the place of a plain one."""
    below = everything_below(checkpoint.root) if isinstance(checkpoint.root, (dict, list, tuple)) else ()
    found = [
        (where, item) for where, _, item in below if dotted(where) == path and not isinstance(item, (dict, list, tuple))
    ]
    if len(found) != 1:
        raise RecipeError(f"{len(found) or 'no'} values stand at {quoted(path)}")
    ((where, old),) = found
    if not isinstance(old, (bool, int, float, str, type(None))):
        raise RecipeError(f"{quoted(path)} is no plain value")
    if type(old) is not type(value):
        warn(f"{quoted(path)} was of type {type(old).__name__} and becomes {type(value).__name__}")
    if checkpoint.path is not None and where[:-1] == checkpoint.path:
        for place, entry in enumerate(checkpoint.entries):
            if entry.made_of == (where[-1],):
                checkpoint.entries[place] = entry._replace(value=value)
    checkpoint.root = with_value(checkpoint.root, where, value)
    return Done(1, 1)


def with_value(holder: Any, path: Sequence[Any], value: Any) -> Any:
    """A dict or list with a value in it at a path; a tuple that holds it is made anew."""
    if not path:
        return value
    new = with_value(holder[path[0]], path[1:], value)
    if isinstance(holder, tuple):
        return (*holder[: path[0]], new, *holder[path[0] + 1 :])
    holder[path[0]] = new
    return holder


def leave_out(checkpoint: Checkpoint, *, paths: Sequence[str]) -> Done:
    """Leave out what stands at paths outside the state dict, with all below it."""
    kept = checkpoint.path
    places = {
        where: holder
        for where, holder, _ in everything_below(checkpoint.root)
        if kept is None or (kept[: len(where)] != where and where[: len(kept)] != kept)
    }
    found: dict[tuple[Any, ...], Any] = {}
    for pattern in paths:
        match = Pattern(pattern).match
        hits = {where: holder for where, holder in places.items() if match(dotted(where))}
        if not hits:
            raise RecipeError(f"nothing outside the state dict stands at {quoted(pattern)}")
        found.update(hits)
    topmost = [where for where in found if not any(where[:n] in found for n in range(1, len(where)))]
    for where in topmost:
        if not isinstance(found[where], dict):
            raise RecipeError(f"{quoted(dotted(where))} is a part of a list, and cannot be left out by itself")
    checkpoint.gone += [(found[where], where[-1]) for where in topmost]
    return Done(len(topmost), len(topmost))
