"""take: put tensors of another checkpoint into the state dict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry, warn
from sdviewer.repair.script.parts.choosing import choose, is_model
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.files import load
from sdviewer.repair.script.parts.keys import by_first, meant
from sdviewer.repair.script.parts.tensors import (
    as_before,
    as_bits,
    impossible,
    made,
    needs_elements,
    needs_numbers,
    own,
    put_entries,
)


def take(
    checkpoint: Checkpoint,
    *,
    from_: str,
    state_dict: str = "auto",
    rows: str = "all",
    names: Sequence[str] = (),
    patterns: Sequence[str] = (),
    rules: Sequence[tuple[str, Any]] = (),
) -> Done:
    """Put in tensors of the file `from_`, which is sought beside this program.

    `names` and `patterns` say which keys there; without them it is all tensors. `rules` are regular expressions for
    keys that are other ones here, and what these become. A tensor that is here already is replaced, or gets the `rows`
    that are "missing" here.
    """
    other = open_other(checkpoint, Path(sys.argv[0]).parent / from_, state_dict)
    chosen, dead = meant(other.keys, names, patterns)
    new, dead_rules = by_first(other.keys, rules)
    found: dict[str, torch.Tensor] = {}
    before, last = {}, ""
    for entry in other.entries:
        key = new.get(entry.key, entry.key)
        before[key], last = last, key
        if isinstance(entry.value, torch.Tensor) and (entry.key in chosen or not (names or patterns)):
            needs_numbers(entry, "cannot take")
            if key in found:
                raise RecipeError(f"cannot take {entry.key!r}: two of them are {key!r} here")
            found[key] = made(checkpoint, "take", [entry.value], partial(own, entry.value))
    if not found:
        raise RecipeError("nothing to take: no tensor there is meant")
    put_in(checkpoint, found, before, missing=rows == "missing")
    return Done(len(found), len(found), [*dead, *dead_rules])


def put_in(checkpoint: Checkpoint, found: dict[str, torch.Tensor], before: dict[str, str], *, missing: bool) -> None:
    """Put tensors in the places of their keys, or behind the key `before` theirs, else at the end."""
    if not checkpoint.entries:
        raise RecipeError("there is nothing left to put it into")
    outputs = [[entry] for entry in checkpoint.entries]
    homes = {entry.key: output for entry, output in zip(checkpoint.entries, outputs, strict=True)}
    here, last = dict(homes), list[Entry]()
    for key, tensor in found.items():
        if missing:
            add_rows(checkpoint, here, key, tensor)
            continue
        if key not in here:
            home = homes[key] = homes.get(before[key], last)
            home.append(Entry(key, tensor.detach(), ()))
            continue
        old = here[key][0]
        if not isinstance(old.value, torch.Tensor):
            raise RecipeError(f"cannot take {key!r}: here it is no tensor")
        if old.value.shape != tensor.shape:
            warn(f"{key!r} becomes {tuple(tensor.shape)}, and was {tuple(old.value.shape)}")
        here[key][0] = old._replace(value=as_before(tensor, old.value))
    outputs[-1] += last
    put_entries(checkpoint, outputs)


def add_rows(checkpoint: Checkpoint, here: dict[str, list[Entry]], key: str, tensor: torch.Tensor) -> None:
    """Put the rows of a tensor that the one under its key lacks behind that one's own."""
    if key not in here:
        raise RecipeError(f"cannot take {key!r}: it is not here, so that there are no rows to add to")
    old = here[key][0]
    had = needs_elements(old, "cannot take")
    if not had.dim() or had.shape[1:] != tensor.shape[1:] or len(had) > len(tensor) or had.dtype != tensor.dtype:
        raise impossible("cannot take", old, f"it does not become {tuple(tensor.shape)} by more rows")
    if len(had) < len(tensor):
        whole = made(
            checkpoint, "rows", [had, tensor], lambda: torch.cat([as_bits(own(had)), as_bits(tensor)[len(had) :]])
        )
        here[key][0] = old._replace(value=as_before(whole.view(had.dtype), old.value))


def open_other(checkpoint: Checkpoint, path: Path, state_dict: str) -> Checkpoint:
    """Another file, with the entries of one of its state dicts."""
    try:
        if path not in checkpoint.others:
            checkpoint.others[path] = load(path)
        choose(checkpoint.others[path], state_dict, is_model)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}", error.exit_code) from error
    return checkpoint.others[path]
