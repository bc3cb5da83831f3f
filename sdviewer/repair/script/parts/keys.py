"""Steps that give keys other names or leave them out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sdviewer.repair.modules import add_prefix, follow_keys, replace_prefix, strip_components, strip_prefix
from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, check_keys, chosen_keys
from sdviewer.repair.script.parts.failures import RecipeError


def rekey(checkpoint: Checkpoint, new_keys: Mapping[str, str | None], move: Callable[..., Mapping[str, Any]]) -> int:
    """Give keys new ones, None to leave one out; `move` says where the modules of `_metadata` go. How many change."""
    entries, old = checkpoint.entries, checkpoint.keys
    new = [new_keys.get(key, key) for key in old]
    check_keys(old, new)
    present = {now: module for module, now in checkpoint.modules.items() if now is not None}
    for now, after in move(list(present), old, new).items():
        checkpoint.modules[present[now]] = after
    checkpoint.entries = [entry._replace(key=key) for entry, key in zip(entries, new, strict=True) if key is not None]
    return sum(before != after for before, after in zip(old, new, strict=True))


def rename(checkpoint: Checkpoint, *, rules: Sequence[tuple[str, Any]], where: Chosen | None = None) -> Done:
    """Rename each key by the first rule that matches it: a regular expression, and what its match becomes."""
    new, used = {}, set()
    compiled = [(re.compile(pattern), result) for pattern, result in rules]
    for key in chosen_keys(checkpoint, where):
        for number, (pattern, result) in enumerate(compiled):
            renamed, found = pattern.subn(result, key, count=1)
            if found:
                new[key] = renamed
                used.add(number)
                break
    dead = [pattern for number, (pattern, _) in enumerate(rules) if number not in used]
    return Done(len(new), rekey(checkpoint, new, follow_keys), dead)


def rename_in_turn(checkpoint: Checkpoint, *, rules: Sequence[tuple[str, Any]], where: Chosen | None = None) -> Done:
    """Rename each key by all rules that match it, one after the other."""
    new = {key: key for key in chosen_keys(checkpoint, where)}
    touched: set[str] = set()
    dead: list[str] = []
    for pattern, result in rules:
        name = renamer(pattern, result, list(new.values()))
        found = {key: renamed for key, now in new.items() if (renamed := name(now)) is not None}
        dead += [] if found else [pattern]
        touched.update(found)
        new.update(found)
    return Done(len(touched), rekey(checkpoint, new, follow_keys), dead)


def rename_by_number(checkpoint: Checkpoint, *, rules: Sequence[tuple[str, Any]], where: Chosen | None = None) -> Done:
    """Rename each key by the first rule that matches it, where a rule counts what its numbers end at."""
    new, dead = by_first(chosen_keys(checkpoint, where), rules)
    return Done(len(new), rekey(checkpoint, new, follow_keys), dead)


def by_first(keys: Sequence[str], rules: Sequence[tuple[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """What each key becomes by the first rule that matches it, and the rules that are none's first."""
    new: dict[str, str] = {}
    dead = []
    for pattern, result in rules:
        name = renamer(pattern, result, keys)
        found = {key: renamed for key in keys if key not in new and (renamed := name(key)) is not None}
        dead += [] if found else [pattern]
        new.update(found)
    return new, dead


def rename_keys(checkpoint: Checkpoint, *, names: Mapping[str, str], where: Chosen | None = None) -> Done:
    """Rename single keys."""
    keys = set(chosen_keys(checkpoint, where))
    new = {key: name for key, name in names.items() if key in keys}
    return Done(len(new), rekey(checkpoint, new, follow_keys), [key for key in names if key not in keys])


def renamer(pattern: str, result: Any, keys: Iterable[str]) -> Callable[[str], str | None]:
    """A function from a key to its new one, None where the pattern does not match; `keys` are all of the step."""
    regex = re.compile(pattern)
    if isinstance(result, Counting):
        result = result.bound(regex, keys)

    def name(key: str) -> str | None:
        renamed, found = regex.subn(result, key, count=1)
        return renamed if found else None

    return name


class Counting:
    """What a match becomes that needs `n`, one more than the largest number that a group takes."""

    def __init__(self, groups: Sequence[int], result: Callable[..., str]) -> None:
        self.groups, self.result = groups, result

    def bound(self, regex: re.Pattern[str], keys: Iterable[str]) -> Callable[..., str]:
        """The same with its `n`, for each group."""
        matches = list(filter(None, map(regex.search, keys)))
        counts = [1 + max([int(match[group]) for match in matches], default=-1) for group in self.groups]
        return lambda match, *more: self.result(match, *counts, *more)


def index(number: int) -> str:
    """A number in a key."""
    if not 0 <= number < 10**18:
        raise RecipeError(f"{number} is no index")
    return str(number)


def strip(checkpoint: Checkpoint, *, prefix: str, everywhere: bool = True) -> Done:
    """Take a prefix from the start of the keys; `everywhere`: each must have it."""
    old = checkpoint.keys
    new = {key: key[len(prefix) :] for key in old if key.startswith(prefix)}
    if everywhere and len(new) < len(old):
        raise RecipeError(f"{len(old) - len(new)} of {len(old)} keys lack {prefix!r}")
    changed = rekey(checkpoint, new, lambda modules, _, after: strip_prefix(modules, prefix, after))
    return Done(len(new), changed, [] if new else [prefix])


def strip_where(checkpoint: Checkpoint, *, prefix: str, everywhere: bool = True, where: Chosen) -> Done:
    """Take a prefix from the start of some keys; `everywhere`: each of these must have it."""
    old = chosen_keys(checkpoint, where)
    new = {key: key[len(prefix) :] for key in old if key.startswith(prefix)}
    if everywhere and len(new) < len(old):
        raise RecipeError(f"{len(old) - len(new)} of {len(old)} keys lack {prefix!r}")
    return Done(len(new), rekey(checkpoint, new, follow_keys), [] if new else [prefix])


def strip_parts(
    checkpoint: Checkpoint,
    *,
    components: Sequence[str],
    everywhere: bool = False,
    where: Chosen | None = None,
) -> Done:
    """Take path components out of the keys, wherever they stand above a tensor's own name."""
    old = chosen_keys(checkpoint, where)
    new = {}
    for key in old:
        *above, last = key.split(".")
        if not {*components}.isdisjoint(above):
            new[key] = ".".join([*(part for part in above if part not in components), last])
    if everywhere and len(new) < len(old):
        raise RecipeError(f"{len(old) - len(new)} of {len(old)} keys lack {', '.join(components)}")
    move = follow_keys if where else lambda modules, *_: strip_components(modules, components)
    return Done(len(new), rekey(checkpoint, new, move), [] if new else [", ".join(components)])


def prefix(checkpoint: Checkpoint, *, add: str) -> Done:
    """Put a prefix before every key."""
    new = {key: add + key for key in checkpoint.keys}
    return Done(len(new), rekey(checkpoint, new, lambda modules, *_: add_prefix(modules, add)))


def prefix_where(checkpoint: Checkpoint, *, add: str, where: Chosen) -> Done:
    """Put a prefix before some keys."""
    new = {key: add + key for key in chosen_keys(checkpoint, where)}
    return Done(len(new), rekey(checkpoint, new, follow_keys))


def exchange_prefix(checkpoint: Checkpoint, *, old: str, new: str, where: Chosen | None = None) -> Done:
    """Let keys that begin with `old` begin with `new`."""
    keys = {key: new + key[len(old) :] for key in chosen_keys(checkpoint, where) if key.startswith(old)}
    move = follow_keys if where else lambda modules, *_: replace_prefix(modules, old, new)
    return Done(len(keys), rekey(checkpoint, keys, move), [] if keys else [old])


def replace(checkpoint: Checkpoint, *, find: str, new: str, where: Chosen | None = None) -> Done:
    """Exchange a piece of the keys wherever it stands."""
    keys = {key: key.replace(find, new) for key in chosen_keys(checkpoint, where) if find in key}
    return Done(len(keys), rekey(checkpoint, keys, follow_keys), [] if keys else [find])


def drop(checkpoint: Checkpoint, *, names: Collection[str] = (), patterns: Sequence[str] = ()) -> Done:
    """Leave out the keys that are named or that a regular expression matches."""
    gone, dead = meant(checkpoint.keys, names, patterns)
    return Done(len(gone), rekey(checkpoint, dict.fromkeys(gone), lambda *_: {}), dead)


def keep(checkpoint: Checkpoint, *, names: Collection[str] = (), patterns: Sequence[str] = ()) -> Done:
    """Leave out the keys that are neither named nor matched by a regular expression."""
    kept, dead = meant(checkpoint.keys, names, patterns)
    gone = [key for key in checkpoint.keys if key not in kept]
    return Done(len(kept), rekey(checkpoint, dict.fromkeys(gone), lambda *_: {}), dead)


def meant(keys: Sequence[str], names: Collection[str], patterns: Sequence[str]) -> tuple[set[str], list[str]]:
    """The keys that are named or matched, and what names or matches none."""
    known, hits = set(keys), [set(filter(re.compile(pattern).search, keys)) for pattern in patterns]
    dead = [pattern for pattern, found in zip(patterns, hits, strict=True) if not found]
    return known.intersection(names).union(*hits), [*dead, *(name for name in names if name not in known)]
