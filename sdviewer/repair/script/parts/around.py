"""What stands around the state dict: the root, plain values, entries to leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, warn
from sdviewer.repair.script.parts.choosing import dotted
from sdviewer.repair.script.parts.failures import RecipeError


def unwrap(checkpoint: Checkpoint) -> Done:
    """Ask for the state dict to be the root, which it becomes at the end."""
    if not checkpoint.path:
        warn("the state dict is the root already, there is nothing to unwrap")
    return Done(len(checkpoint.entries), 0)


def take_out(checkpoint: Checkpoint) -> None:
    """Put the entries of the state dict into the root, where it stood in it."""
    root, path = checkpoint.root, checkpoint.path
    if not path:
        return
    if not isinstance(root, dict):
        raise RecipeError("the rest cannot be kept: the file's root is no dict")
    for key in checkpoint.keys:
        if key in root and key != path[0]:
            raise RecipeError(f"{key!r} of the unwrapped state dict is an entry of the root already")
    holder: Any = root
    for one in path[:-1]:
        holder = holder[one]
    if holder is not root:
        del holder[path[-1]]
    items: list[tuple[Any, Any]] = []
    for key, value in root.items():
        if key != path[0] or holder is not root:
            items.append((key, value))
        if key == path[0]:
            items += checkpoint.mapping.items()
    root.clear()
    root.update(items)


def wrap(checkpoint: Checkpoint, *, again: bool = False) -> Done:
    """Ask for the whole to stand under a key, where it is put at the end."""
    if checkpoint.metadata is not None or again:
        raise RecipeError("it is wrapped already" if again else "a safetensors file holds nothing beside its tensors")
    return Done(1, 1)


def everything_below(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """The path of everything in dicts, lists and tuples, what holds it, and the thing itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield (*path, key), value, item
        yield from everything_below(item, (*path, key))


def set_value(checkpoint: Checkpoint, *, path: str, value: Any) -> Done:
    """Put another value in the place of a plain one."""
    below = [(where, item) for where, _, item in everything_below(checkpoint.root) if dotted(where) == path]
    found = [(where, item) for where, item in below if not isinstance(item, (dict, list, tuple))]
    if len(found) != 1:
        raise RecipeError(f"{len(found) or 'no'} values stand at {path!r}")
    ((where, old),) = found
    if not isinstance(old, (bool, int, float, str, type(None))):
        raise RecipeError(f"{path!r} is no plain value")
    if type(old) is not type(value):
        warn(f"{path!r} was of type {type(old).__name__} and becomes {type(value).__name__}")
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


def leave_out(checkpoint: Checkpoint, *, paths: Mapping[str, Callable[[str], Any]]) -> Done:
    """Leave out what stands at paths outside the state dict, with all below it."""
    kept = checkpoint.path
    places = {
        where: holder
        for where, holder, _ in everything_below(checkpoint.root)
        if kept is None or (kept[: len(where)] != where and where[: len(kept)] != kept)
    }
    found: dict[tuple[Any, ...], Any] = {}
    for pattern, means in paths.items():
        hits = {where: holder for where, holder in places.items() if means(dotted(where))}
        if not hits:
            raise RecipeError(f"nothing outside the state dict stands at {pattern!r}")
        found.update(hits)
    topmost = [where for where in found if not any(where[:n] in found for n in range(1, len(where)))]
    for where in topmost:
        if not isinstance(found[where], dict):
            raise RecipeError(f"{dotted(where)!r} is a part of a list, and cannot be left out by itself")
    checkpoint.gone += [(found[where], where[-1]) for where in topmost]
    return Done(len(topmost), len(topmost))


def take_away(checkpoint: Checkpoint) -> None:
    """Take out of their dicts what is left out."""
    for holder, key in checkpoint.gone:
        holder.pop(key, None)
