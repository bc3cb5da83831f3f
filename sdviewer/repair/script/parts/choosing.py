"""Which state dict of a file is meant, as `repair.planning` chooses it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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


def state_dicts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[Found]:
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
    if "n_averaged" in mapping or any(average.search(str(step).lower()) for step in path):
        return "other" if is_optimizer(mapping) else "ema"
    names = ["model", *(step for step in path if isinstance(step, str))]
    is_model = names[-1] in MODEL_NAMES and len(names) > bool(path) and not is_optimizer(mapping)
    return "model" if is_model else "other"


def choose(checkpoint: Checkpoint, name: str | None, source: str | None = None) -> None:
    """Take the state dict called `name`, else the one the recipe is for, else the only model's."""
    wanted = source if name in (None, "auto") else name
    found = list(state_dicts(checkpoint.root))
    fits = [one for one in found if (role(*one) == "model" if wanted is None else dotted(one[0]) == wanted)]
    take(checkpoint, found, fits, is_other_file=name is None and wanted is not None)


def choose_named(checkpoint: Checkpoint, name: str | None, source: str) -> None:
    """Take the state dict called `name`, else the one the recipe is for."""
    found = list(state_dicts(checkpoint.root))
    fits = [one for one in found if dotted(one[0]) == (source if name in (None, "auto") else name)]
    take(checkpoint, found, fits, is_other_file=name is None)


Found = tuple[tuple[Any, ...], dict[Any, Any]]
"""The path to a state dict, and the dict itself."""


def take(checkpoint: Checkpoint, found: Sequence[Found], fits: Sequence[Found], *, is_other_file: bool) -> None:
    """Take the only one that fits of the state dicts that were found."""
    if len(fits) != 1:
        there = ", ".join(f"{dotted(path)!r}" for path, _ in found) or "none"
        code = 1 if not found or (is_other_file and not fits) else 2
        raise RecipeError(f"which state dict? There are: {there}. Name one with --state-dict.", code)
    ((checkpoint.path, mapping),) = fits
    if is_optimizer(mapping):
        raise RecipeError("the keys of an optimizer's state dict cannot be edited: they number parameters")
    checkpoint.mapping = mapping
    checkpoint.entries = [Entry(key, value, (key,)) for key, value in mapping.items() if isinstance(key, str)]
    checkpoint.modules = {module: module for module in getattr(mapping, "_metadata", ())}
    checkpoint.is_twice = sum(other is mapping for _, other in found) > 1


def choose_if_any(checkpoint: Checkpoint, name: str | None) -> None:
    """Take the state dict called `name` or the only model's, if there is one."""
    if name not in (None, "auto") or [role(*one) for one in state_dicts(checkpoint.root)].count("model") == 1:
        choose(checkpoint, name)


def inside(checkpoint: Checkpoint, name: str | None, unwrapped: Sequence[str]) -> str | None:
    """The name of the state dict that the recipe unwraps, which may be a path below the one called `name`."""
    known = [dotted(path) for path, _ in state_dicts(checkpoint.root)]
    wanted = None if name == "auto" else name
    for path in unwrapped:
        wanted = path if path in known or not wanted else f"{wanted}.{path}"
        if wanted not in known:
            raise RecipeError(f"unwrap: there is no state dict at {path!r}")
    return wanted
