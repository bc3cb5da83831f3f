"""The optimizers beside the state dict: their names of parameters follow its keys, and their numbers on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done
from sdviewer.repair.script.parts.choosing import Found, find_state_dicts
from sdviewer.repair.script.parts.failures import RecipeError, quoted


def keys_now(checkpoint: Checkpoint) -> tuple[dict[str, str | None], set[str]]:
    """What became of each key of the file, None where nothing is left of it, and which are no longer one tensor."""
    now: dict[str, str | None] = {key: None for key in checkpoint.mapping if isinstance(key, str)}
    parted: set[str] = set()
    for key, value, made_of in checkpoint.entries:
        for old in set(made_of):
            if len(set(made_of)) == 1 and value is checkpoint.mapping[old] and now[old] is not None:
                continue  # one tensor under a second key
            if len(set(made_of)) > 1 or now[old] is not None:
                parted.add(old)
            now[old] = key
    now.update({old: old for old in parted})
    return now, parted


def optimizers(checkpoint: Checkpoint) -> list[Found]:
    """The state dicts of optimizers that stay in the file."""
    gone = [holder.get(key) for holder, key in checkpoint.gone]
    found = [one for one in find_state_dicts(checkpoint.root) if one.role == "optimizer"]
    return [one for one in found if not any(one.mapping is other for other in gone)]


def follow_names(checkpoint: Checkpoint) -> None:
    """Let the names that optimizers give their parameters follow the keys."""
    now, _ = keys_now(checkpoint)
    for optimizer in optimizers(checkpoint):
        groups = [group for group in optimizer.mapping["param_groups"] if "param_names" in group]
        names = [name for group in groups for name in group["param_names"]]
        numbers = [number for group in optimizer.mapping["param_groups"] for number in group["params"]]
        if len(names) == len(numbers) and set(names) <= now.keys():
            for group in groups:
                group["param_names"][:] = [now[name] or name for name in group["param_names"]]


def renumber_optimizer(checkpoint: Checkpoint) -> Done:
    """Ask for the optimizers' numbers to follow keys that go, which `follow_numbers` does at the end."""
    return Done(0, 0)


def follow_numbers(checkpoint: Checkpoint) -> None:
    """Take the parameters that went out of the optimizers, and give those behind them lower numbers."""
    if checkpoint.rest is False:
        return
    now, parted = keys_now(checkpoint)
    for optimizer in optimizers(checkpoint):
        known = parameter_names(checkpoint, optimizer.mapping)
        if not known or not set(known.values()) <= now.keys():
            raise RecipeError(
                f"{quoted(optimizer.name)} cannot follow: it is not known which parameters its numbers are"
            )
        if broken := parted.intersection(known.values()):
            raise RecipeError(f"{quoted(optimizer.name)} cannot follow: {quoted(min(broken))} is no longer one tensor")
        gone = [number for number, key in known.items() if now[key] is None]
        stay = iter(range(len(known)))
        numbers = {number: next(stay) for number in known if number not in gone} if gone else {n: n for n in known}
        for group in optimizer.mapping["param_groups"]:
            places = [place for place, number in enumerate(group["params"]) if number in numbers]
            if "param_names" in group:
                group["param_names"][:] = [now[group["param_names"][place]] for place in places]
            group["params"][:] = [numbers[group["params"][place]] for place in places]
        state = optimizer.mapping["state"]
        moments = [(numbers.get(number, number), moment) for number, moment in state.items() if number not in gone]
        state.clear()
        state.update(moments)


def parameter_names(checkpoint: Checkpoint, optimizer: Mapping[str, Any]) -> dict[int, str]:
    """The key of each number: as the file says, else by the order of the keys where counts and shapes agree."""
    groups = optimizer["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    stated = [name for group in groups for name in group.get("param_names", ())]
    if stated and len(stated) == len(numbers):
        return dict(zip(numbers, stated, strict=True))
    shapes: dict[Any, Any] = {}
    for number, moments in optimizer["state"].items():
        shaped = [item.shape for item in moments.values() if isinstance(item, torch.Tensor) and item.dim()]
        if shaped:
            shapes[number] = shaped[0]
    for found in find_state_dicts(checkpoint.root):
        for keys in orders(found.mapping) if found.role in ("model", "ema") else ():
            if len(keys) == len(numbers) and all(
                shapes.get(number, found.mapping[key].shape) == found.mapping[key].shape
                for number, key in zip(numbers, keys, strict=True)
            ):
                return dict(zip(numbers, keys, strict=True))
    return {}


def orders(mapping: Mapping[Any, Any]) -> list[list[str]]:
    """The parameters of a model in order: all of them, and each storage once, as `parameters()` gives them."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    every = [
        key
        for key, value in mapping.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor) and key.rpartition(".")[2] not in buffers
    ]
    once = {(mapping[key].data_ptr(), mapping[key].shape): key for key in reversed(every)}
    return [every, [key for key in every if key in once.values()]]
