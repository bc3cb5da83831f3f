"""The checkpoint on its way through the steps, what a step does to keys, and the checks on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from sdviewer.repair.modules import follow_keys
from sdviewer.repair.script.parts.failures import RecipeError, quoted
from sdviewer.repair.script.parts.patterns import matching


class Entry(NamedTuple):
    """One entry of the state dict: its key, its value, and the keys of the file that the value is made of."""

    key: str
    value: Any
    made_of: tuple[str, ...]


class Done(NamedTuple):
    """What a step did: how many keys it matched and changed, and the rules that match nothing."""

    matched: int
    changed: int
    dead: Sequence[str] = ()


class Loaded(NamedTuple):
    """What a file holds; `metadata` is the text that a safetensors file carries, None for a file of torch."""

    root: Any
    metadata: dict[str, str] | None


class Checkpoint:
    """What the file holds, and the state dict in it that the steps see.

    `twice`: it stands in the file under two names. `versions` says where the entries of its `_metadata` go, None where
    one is left out. `made` are the tensors made so far, so that what was tied stays tied. The rest is done at the end:
    `gone` are items to take out of their dicts, `rest` whether an unwrap keeps what stands beside the state dict,
    `outer` the key to wrap the whole in.
    """

    def __init__(
        self, loaded: Loaded, path: tuple[Any, ...] | None, mapping: dict[Any, Any], *, twice: bool = False
    ) -> None:
        self.root, self.metadata = loaded
        self.path = path
        self.mapping = mapping
        self.twice = twice
        self.entries = [Entry(key, value, (key,)) for key, value in mapping.items() if isinstance(key, str)]
        metadata = getattr(mapping, "_metadata", {})
        self.versions: dict[str, str | None] = {module: module for module in metadata if isinstance(module, str)}
        self.made: dict[Any, torch.Tensor] = {}
        self.gone: list[tuple[dict[Any, Any], Any]] = []
        self.rest: bool | None = None
        self.outer = ""

    @property
    def keys(self) -> list[str]:
        """The keys as they are now."""
        return [entry.key for entry in self.entries]


def require(checkpoint: Checkpoint, patterns: Iterable[str]) -> None:
    """Stop where a pattern matches no key."""
    for pattern in patterns:
        if not any(map(matching([pattern]), checkpoint.keys)):
            raise RecipeError(f"the recipe requires {quoted(pattern)}, and no key matches it")


def forbid(checkpoint: Checkpoint, patterns: Iterable[str]) -> None:
    """Stop where a pattern matches a key."""
    for pattern in patterns:
        met = next(filter(matching([pattern]), checkpoint.keys), None)
        if met is not None:
            raise RecipeError(f"the recipe forbids {quoted(pattern)}, and {quoted(met)} matches it")


def expect_tensors(checkpoint: Checkpoint, tensors: int) -> None:
    """Warn where there is another number of tensors."""
    found = sum(isinstance(entry.value, torch.Tensor) for entry in checkpoint.entries)
    if found != tensors:
        warn(f"the recipe was written for {tensors} tensors, here are {found}")


def step(
    checkpoint: Checkpoint,
    label: str,
    operation: Callable[..., Done],
    *,
    expect: Mapping[str, int] | None = None,
    **fields: Any,
) -> None:
    """Carry out one step of the recipe, and stop where it does something else than it is expected to."""
    try:
        done = operation(checkpoint, **fields)
    except RecipeError as error:
        raise type(error)(f"{label}: {error}") from None
    except (NotImplementedError, RuntimeError) as error:
        raise RecipeError(f"{label}: torch cannot do that: {error}") from error
    counts = {"matched": done.matched, "changed": done.changed, "dead_rules": len(done.dead)}
    for name, wanted in (expect or {}).items():
        if counts[name] != wanted:
            raise RecipeError(f"{label}: expected {name} = {wanted}, found {counts[name]}")
    if done.dead:
        warn(f"{label}: matches nothing: {', '.join(done.dead)}")


def warn(message: str) -> None:
    """Say something that a person should know."""
    print(f"warning: {message}", file=sys.stderr)


def chosen_places(keys: Sequence[str], patterns: Sequence[str]) -> list[int]:
    """The places of the keys that a step is for: those that a pattern matches, all where there is none."""
    chosen = matching(patterns)
    return [place for place, key in enumerate(keys) if not patterns or chosen(key)]


def change_keys(
    checkpoint: Checkpoint,
    places: Sequence[int],
    new_keys: Sequence[str | None],
    moved: Mapping[str, str | None] | None = None,
) -> int:
    """Give the entries at these places other keys, None to leave one out; how many change.

    `moved` is where the entries of `_metadata` go that do not stay; None lets them follow the keys.
    """
    entries, old = checkpoint.entries, checkpoint.keys
    new: list[str | None] = list(old)
    for place, key in zip(places, new_keys, strict=True):
        new[place] = key
    check_keys(old, new)
    present = {now: module for module, now in checkpoint.versions.items() if now is not None}
    for now, place_after in (follow_keys(list(present), old, new) if moved is None else moved).items():
        checkpoint.versions[present[now]] = place_after
    kept = zip(entries, new, strict=True)
    checkpoint.entries = [entry._replace(key=key) for entry, key in kept if key is not None]
    return sum(before != after for before, after in zip(old, new, strict=True))


def check_keys(old: Sequence[str], new: Sequence[str | None]) -> None:
    """Stop where a key would be empty or stand twice, or would stand under another as if that were a module."""
    pairs = [(before, after) for before, after in zip(old, new, strict=True) if after is not None]
    if all(before == after for before, after in pairs):
        return
    owner: dict[str, str] = {}
    for before, after in pairs:
        if not after and before:
            raise RecipeError(f"{quoted(before)} would become an empty key")
        if after in owner:
            raise RecipeError(f"{quoted(owner[after])} and {quoted(before)} would both become {quoted(after)}")
        owner[after] = before
    for before, after in pairs:
        above = after.rpartition(".")[0]
        while above:
            if above in owner and not before.startswith(owner[above] + "."):
                became = f"{quoted(owner[above])} would become {quoted(above)}"
                raise RecipeError(f"{became}, under which {quoted(after)} stands")
            above = above.rpartition(".")[0]


def dead_patterns(keys: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The patterns that match no key."""
    return [quoted(pattern) for pattern in patterns if not any(map(matching([pattern]), keys))]


def put_back(checkpoint: Checkpoint) -> None:
    """Write the entries and their `_metadata` back into the state dict, which stays the object it was."""
    mapping = checkpoint.mapping
    named = [(key, value) for key, value in mapping.items() if isinstance(key, str)]
    others = [(key, value) for key, value in mapping.items() if not isinstance(key, str)]
    entries = [(entry.key, entry.value) for entry in checkpoint.entries]
    if list(map(_identity, named)) != list(map(_identity, entries)):
        if checkpoint.twice and checkpoint.rest is None:
            raise RecipeError("this state dict stands in the file under two names as one object: unwrap it")
        mapping.clear()
        mapping.update(entries + others)
    metadata = getattr(mapping, "_metadata", None)
    if metadata:
        places = [(checkpoint.versions.get(module, module), version) for module, version in metadata.items()]
        metadata.clear()
        metadata.update([(module, version) for module, version in places if module is not None])
    for holder, key in checkpoint.gone:
        holder.pop(key, None)


def _identity(entry: tuple[str, Any]) -> tuple[str, int]:
    return entry[0], id(entry[1])
