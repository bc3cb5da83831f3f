"""The optimizers beside the state dict: their names of parameters follow its keys, and their numbers on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done
from sdviewer.repair.script.parts.choosing import dotted, is_optimizer, role, state_dicts
from sdviewer.repair.script.parts.failures import RecipeError


def follow_names(checkpoint: Checkpoint, now: Mapping[str, str]) -> None:
    """Let the names that optimizers give their parameters follow the keys; `now` are the keys that there still are."""
    for _, optimizer in state_dicts(checkpoint.root):
        groups = optimizer["param_groups"] if is_optimizer(optimizer) else []
        named = [group["param_names"] for group in groups if "param_names" in group]
        count = sum(len(group["params"]) for group in groups)
        if sum(map(len, named)) == count and all(map({*checkpoint.mapping}.issuperset, named)):
            for names in named:
                names[:] = [now.get(name, name) for name in names]


def keys_now(checkpoint: Checkpoint) -> tuple[dict[str, str], set[str]]:
    """What became of the keys of the file of which something is left, and which of them are no longer one tensor."""
    now: dict[str, str] = {}
    parted: set[str] = set()
    for key, value, made_of in checkpoint.entries:
        for old in set(made_of):
            if len(set(made_of)) == 1 and value is checkpoint.mapping[old] and old in now:
                continue  # one tensor under a second key
            if len(set(made_of)) > 1 or old in now:
                parted.add(old)
            now[old] = key
    now.update({old: old for old in parted})
    return now, parted


def renumber_optimizer(checkpoint: Checkpoint) -> Done:
    """Ask for the optimizers' numbers to follow keys that go, which `follow_numbers` does at the end."""
    return Done(0, 0)


def follow_numbers(checkpoint: Checkpoint) -> None:
    """Take the parameters that went out of the optimizers, and give those behind them lower numbers."""
    now, parted = keys_now(checkpoint)
    left_out = [holder.get(key) for holder, key in checkpoint.gone]
    for path, optimizer in state_dicts(checkpoint.root):
        if not is_optimizer(optimizer) or any(optimizer is one for one in left_out):
            continue
        known = parameter_names(checkpoint, optimizer)
        if not known or not set(known.values()) <= checkpoint.mapping.keys():
            raise RecipeError(f"{dotted(path)!r} cannot follow: it is not known which parameters its numbers are")
        if broken := parted.intersection(known.values()):
            raise RecipeError(f"{dotted(path)!r} cannot follow: {min(broken)!r} is no longer one tensor")
        gone = [number for number, key in known.items() if key not in now]
        stay = iter(range(len(known)))
        numbers = {number: next(stay) for number in known if number not in gone} if gone else {n: n for n in known}
        for group in optimizer["param_groups"]:
            places = [place for place, number in enumerate(group["params"]) if number in numbers]
            if "param_names" in group:
                group["param_names"][:] = [now[group["param_names"][place]] for place in places]
            group["params"][:] = [numbers[group["params"][place]] for place in places]
        state = optimizer["state"]
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
    for path, mapping in state_dicts(checkpoint.root):
        for keys in orders(mapping) if role(path, mapping) in ("model", "ema") else ():
            if len(keys) == len(numbers) and all(
                shapes.get(number, mapping[key].shape) == mapping[key].shape
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
