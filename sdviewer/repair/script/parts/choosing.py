"""Which state dict of a file is meant, as `repair.planning` chooses it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Loaded
from sdviewer.repair.script.parts.failures import RecipeError, UsageError, quoted

MODEL_NAMES = frozenset((
    "model", "state_dict", "module", "model_state_dict", "model_state", "module_state_dict", "params",
    "params_dict", "net", "network", "weights", "best_state", "best_model", "classy_state_dict", "base_model",
    "trunk", "encoder", "target_encoder", "generator", "discriminator", "backbone", "Downstream", "Featurizer",
    "net_state_dict", "network_state_dict", "model_dict", "model_weights", "models", "student", "teacher",
))  # fmt: skip


class Found(NamedTuple):
    """One state dict of a file: the path to it, what it is, and the dict itself."""

    path: tuple[Any, ...]
    role: str
    mapping: dict[Any, Any]

    @property
    def name(self) -> str:
        """Its path as people write it."""
        return dotted(self.path)


def dotted(path: Sequence[Any]) -> str:
    """A path as people write it."""
    return ".".join(map(str, path))


def find_state_dicts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[Found]:
    """Every dict that holds a tensor under a text, and every optimizer's."""
    if isinstance(value, dict):
        if "state" in value and "param_groups" in value:
            yield Found(path, "optimizer", value)
            return
        if any(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in value.items()):
            yield Found(path, role_of(path, value), value)
        for key, item in value.items():
            yield from find_state_dicts(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from find_state_dicts(item, (*path, number))


def role_of(path: Sequence[Any], mapping: dict[Any, Any]) -> str:
    """Whether a state dict is a model's, its average's, or something else, by where it stands."""
    average = re.compile(r"(?:^|[^a-z])(?:ema|shadow|averaged)(?:[^a-z]|$)")
    if "n_averaged" in mapping or any(average.search(str(step).lower()) for step in path):
        return "ema"
    names = [step for step in path if isinstance(step, str)]
    return "model" if not path or (names and names[-1] in MODEL_NAMES) else "other"


def choose(
    loaded: Loaded, name: str | None, source: str = "auto", unwrapped: Sequence[str] = (), *, needed: bool = True
) -> Checkpoint:
    """The checkpoint with the state dict called `name`, else the one the recipe is for, else the only model's.

    `unwrapped` are the paths that the recipe unwraps. Where none is `needed`, there may be none.
    """
    found = list(find_state_dicts(loaded.root))
    known = [one.name for one in found]
    wanted = name if name not in (None, "auto") else source if source != "auto" else None
    for path in unwrapped:
        wanted = path if path in known or not wanted else f"{wanted}.{path}"
        if wanted not in known:
            raise RecipeError(f"unwrap: there is no state dict at {quoted(path)}")
    fits = [one for one in found if (one.role == "model" if wanted is None else one.name == wanted)]
    if len(fits) == 1:
        (one,) = fits
        if one.role == "optimizer":
            raise RecipeError("the keys of an optimizer's state dict cannot be edited: they number parameters")
        twice = sum(other.mapping is one.mapping for other in found) > 1
        return Checkpoint(loaded, one.path, one.mapping, twice=twice)
    if not needed and wanted is None:
        return Checkpoint(loaded, None, {})
    if not found:
        raise RecipeError("there is no state dict in it")
    if name is None and wanted is not None and not fits:
        raise RecipeError(f"the recipe is for the state dict {quoted(wanted)}, and there is none")
    there = ", ".join(f"{quoted(one.name)} ({one.role})" for one in found) or "none"
    raise UsageError(f"it is not clear which state dict is meant; there are: {there}. Name one with --state-dict.")
