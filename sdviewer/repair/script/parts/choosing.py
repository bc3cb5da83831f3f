"""Which state dict of a file is meant, as `repair.planning` chooses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Entry
from sdviewer.repair.script.parts.failures import RecipeError

MODEL_NAMES = frozenset((
    "model", "state_dict", "module", "model_state_dict", "model_state", "module_state_dict", "params",
    "params_dict", "net", "network", "weights", "best_state", "best_model", "classy_state_dict", "base_model",
    "trunk", "encoder", "target_encoder", "generator", "discriminator", "backbone", "Downstream", "Featurizer",
    "net_state_dict", "network_state_dict", "model_dict", "model_weights", "models", "student", "teacher",
))  # fmt: skip


def dotted(path: Sequence[Any]) -> str:
    """A path as people write it."""
    return ".".join(map(str, path))


def state_dicts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every dict that holds a tensor under a text, and every optimizer's, with the path to it."""
    if isinstance(value, dict):
        if is_optimizer(value):
            yield path, value
            return
        if any(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in value.items()):
            yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield from state_dicts(item, (*path, key))


def is_optimizer(mapping: dict[Any, Any]) -> bool:
    """Whether it is the state dict of an optimizer."""
    return "state" in mapping and "param_groups" in mapping


def role(path: Sequence[Any], mapping: dict[Any, Any]) -> str:
    """Whether a state dict is a model's, its average's ("ema") or something else, by where it stands."""
    average = re.compile(r"(?:^|[^a-z])(?:ema|shadow|averaged)(?:[^a-z]|$)")
    if is_optimizer(mapping):
        return "optimizer"
    if "n_averaged" in mapping or any(average.search(str(step).lower()) for step in path):
        return "ema"
    names = [step for step in path if isinstance(step, str)]
    return "model" if not path or (names and names[-1] in MODEL_NAMES) else "other"


def is_model(path: Sequence[Any], mapping: dict[Any, Any]) -> bool:
    """Whether a state dict is a model's."""
    return role(path, mapping) == "model"


def called(name: str) -> Callable[..., bool]:
    """Whether a state dict has this path."""
    return lambda path, _: dotted(path) == name


def choose(checkpoint: Checkpoint, name: str | None, fits: Callable[..., bool], missing: int = 2) -> None:
    """Take the state dict called `name`, else the only one that fits; `missing` is the exit code where none does."""
    found = list(state_dicts(checkpoint.root))
    is_named = name not in (None, "auto")
    fitting = [one for one in found if (dotted(one[0]) == name if is_named else fits(*one))]
    if len(fitting) != 1:
        there = ", ".join(f"{dotted(path)!r}" for path, _ in found) or "none"
        code = 1 if not found else 2 if is_named or fitting else missing
        raise RecipeError(f"which state dict? There are: {there}. Name one with --state-dict.", code)
    ((checkpoint.path, mapping),) = fitting
    if is_optimizer(mapping):
        raise RecipeError("the keys of an optimizer's state dict cannot be edited: they number parameters")
    checkpoint.mapping = mapping
    checkpoint.entries = [Entry(key, value, (key,)) for key, value in mapping.items() if isinstance(key, str)]
    checkpoint.modules = {module: module for module in getattr(mapping, "_metadata", ())}
    checkpoint.is_twice = sum(other is mapping for _, other in found) > 1


def choose_if_any(checkpoint: Checkpoint, name: str | None) -> None:
    """Take the state dict called `name` or the only model's, if there is one."""
    if name not in (None, "auto") or sum(is_model(*one) for one in state_dicts(checkpoint.root)) == 1:
        choose(checkpoint, name, is_model)


def inside(checkpoint: Checkpoint, name: str | None, unwrapped: Sequence[str]) -> str | None:
    """The name of the state dict that the recipe unwraps, which may be a path below the one called `name`."""
    known = [dotted(path) for path, _ in state_dicts(checkpoint.root)]
    wanted = None if name == "auto" else name
    for path in unwrapped:
        wanted = path if path in known or not wanted else f"{wanted}.{path}"
        if wanted not in known:
            raise RecipeError(f"unwrap: there is no state dict at {path!r}")
    return wanted
