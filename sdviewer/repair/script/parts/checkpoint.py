"""The checkpoint on its way through the steps, and what every step does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sdviewer.repair.script.parts.failures import RecipeError

Chosen = Callable[[str], Any]
"""Whether a step is for a key."""


class Entry(NamedTuple):
    """One entry of the state dict: its key, its value, and the keys of the file that the value is made of."""

    key: str
    value: Any
    made_of: tuple[str, ...]


class Done(NamedTuple):
    """What a step did: how many keys it matched and changed, and what of it matches nothing."""

    matched: int
    changed: int
    dead: Sequence[str] = ()


class Checkpoint:
    """A file, and the `entries` of the state dict in it that the steps change.

    `metadata` is the text of a safetensors file. `modules` says where the paths of `_metadata` go, None for nowhere.
    `others` are the files that tensors are taken from.
    """

    def __init__(self, root: Any, metadata: dict[str, str] | None = None) -> None:
        self.root, self.metadata = root, metadata
        self.path: tuple[Any, ...] | None = None
        self.mapping: dict[Any, Any] = {}
        self.entries: list[Entry] = []
        self.modules: dict[str, str | None] = {}
        self.is_twice = False
        self.made: dict[Any, torch.Tensor] = {}
        self.others: dict[Path, Checkpoint] = {}
        self.gone: list[tuple[dict[Any, Any], Any]] = []

    @property
    def keys(self) -> list[str]:
        """The keys as they are now."""
        return [entry.key for entry in self.entries]


def step(checkpoint: Checkpoint, label: str, operation: Callable[..., Done], **fields: Any) -> Done:
    """Carry out one step of the recipe."""
    try:
        done = operation(checkpoint, **fields)
    except (ArithmeticError, NotImplementedError, RecipeError, RuntimeError) as error:
        raise RecipeError(f"{label}: {error}", getattr(error, "exit_code", 1)) from error
    if done.dead:
        warn(f"{label}: matches nothing: {', '.join(map(repr, done.dead))}")
    return done


def expected_step(
    checkpoint: Checkpoint, label: str, expect: Mapping[str, int], operation: Callable[..., Done], **fields: Any
) -> None:
    """Carry out one step, and stop where it does something else than it is expected to do."""
    done = step(checkpoint, label, operation, **fields)
    found = {"matched": done.matched, "changed": done.changed, "dead_rules": len(done.dead)}
    for name, wanted in expect.items():
        if found[name] != wanted:
            raise RecipeError(f"{label}: expected {name} = {wanted}, found {found[name]}")


def require(checkpoint: Checkpoint, pattern: str, means: Callable[[str], Any]) -> None:
    """Stop where a pattern means no key."""
    if not any(map(means, checkpoint.keys)):
        raise RecipeError(f"the recipe requires {pattern!r}, and no key matches it")


def forbid(checkpoint: Checkpoint, pattern: str, means: Callable[[str], Any]) -> None:
    """Stop where a pattern means a key."""
    for key in filter(means, checkpoint.keys):
        raise RecipeError(f"the recipe forbids {pattern!r}, and {key!r} matches it")


def expect_tensors(checkpoint: Checkpoint, tensors: int) -> None:
    """Warn where there is another number of tensors."""
    found = sum(isinstance(entry.value, torch.Tensor) for entry in checkpoint.entries)
    if found != tensors:
        warn(f"the recipe was written for {tensors} tensors, here are {found}")


def warn(message: str) -> None:
    """Say something that a person should know."""
    print(f"warning: {message}", file=sys.stderr)


def chosen_keys(checkpoint: Checkpoint, where: Chosen | None) -> list[str]:
    """The keys that a step is for."""
    return list(filter(where, checkpoint.keys)) if where else checkpoint.keys


def chosen_places(checkpoint: Checkpoint, where: Chosen | None) -> dict[str, int]:
    """The keys that a step is for, with their places."""
    return {key: place for place, key in enumerate(checkpoint.keys) if where is None or where(key)}


def check_keys(old: Sequence[str], new: Sequence[str | None]) -> None:
    """Stop where a key would be empty or stand twice, or would stand under another as if that were a module."""
    owner: dict[str, str] = {}
    for before, after in zip(old, new, strict=True):
        if after == "" and before:
            raise RecipeError(f"{before!r} would become an empty key")
        if after in owner:
            raise RecipeError(f"{owner[after]!r} and {before!r} would both become {after!r}")
        if after is not None:
            owner[after] = before
    for after, before in owner.items() if list(old) != list(new) else ():
        above = after.rpartition(".")[0]
        while above:
            if above in owner and not before.startswith(owner[above] + "."):
                raise RecipeError(f"{owner[above]!r} would become {above!r}, under which {after!r} stands")
            above = above.rpartition(".")[0]


def put_back(checkpoint: Checkpoint, *, unwrapped: bool = False) -> None:
    """Write the entries and their `_metadata` back into the state dict, which stays the object it was."""
    mapping = checkpoint.mapping
    before = [(key, id(value)) for key, value in mapping.items() if isinstance(key, str)]
    if before != [(entry.key, id(entry.value)) for entry in checkpoint.entries]:
        if checkpoint.is_twice and not unwrapped:
            raise RecipeError("this state dict stands in the file under two names as one object: unwrap it")
        others = [(key, value) for key, value in mapping.items() if not isinstance(key, str)]
        mapping.clear()
        mapping.update([*((entry.key, entry.value) for entry in checkpoint.entries), *others])
    if versions := getattr(mapping, "_metadata", None):
        moved = [(checkpoint.modules.get(module, module), version) for module, version in versions.items()]
        versions.clear()
        versions.update([(module, version) for module, version in moved if module is not None])
