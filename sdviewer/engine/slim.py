"""What stands beside the weights of a training checkpoint, and what a copy without it would save.

{"state_dict": dotted path of what stays, "kept": bytes of its storages, "size": of the file, "why": why there is
nothing to leave out, "" where there is, "parts": [PART], the largest first}

PART    {"path": dotted, "pattern": for a `leave_out` step, "kind": KINDS, "what": in words, "tensors", "values",
        "bytes": of the storages that nothing else needs, "goes": whether it is proposed to leave it out, "stays":
        "" or why it cannot be left out}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.errors import SDViewerError
from sdviewer.formats.torch_source import TorchSource
from sdviewer.repair.operations.file_operation import all_paths
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.patterns import literal_pattern
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.state_dicts import choose_state_dict

Kind = Literal["optimizer", "ema", "scheduler", "scaler", "random", "weights", "other"]

KINDS: dict[Kind, str] = {
    "optimizer": "optimizer state: only needed to go on training",
    "ema": "averaged weights: a second set, often the better one",
    "scheduler": "learning rate schedule: only needed to go on training",
    "scaler": "loss scaling: only needed to go on training",
    "random": "states of random generators: only needed to repeat the training",
    "weights": "another set of weights",
    "other": "",
}
"""What a part is, for people."""

NEEDED_TO_TRAIN = ("optimizer", "scheduler", "scaler", "random")
"""Kinds that it is proposed to leave out: what is a second set of weights is for a person to decide."""

_NAMES: dict[Kind, re.Pattern[str]] = {
    "optimizer": re.compile("optim"),
    "scheduler": re.compile("sched"),
    "scaler": re.compile("scaler|grad_scal"),
    "random": re.compile("rng|random_state"),
    "ema": re.compile("(?<![a-z])ema(?![a-z])|shadow|averaged"),
}
"""Parts of names that say what something is where its content does not."""

_STUCK = ("index", "attribute", "module", "parameter", "buffer")


@dataclass(slots=True)
class _Part:
    path: KeyPath
    tensors: list[int] = field(default_factory=list)
    values: int = 0


def slim_parts(checkpoint: Checkpoint, recipe: Recipe, others: Others = no_others) -> dict[str, Any]:
    """What stands beside the state dict that the recipe edits, or beside the largest model's."""
    nothing = {"state_dict": "", "kept": 0, "size": checkpoint.size, "parts": []}
    if not isinstance(checkpoint.source, TorchSource):
        return {**nothing, "why": f"{checkpoint.container} files hold nothing beside their tensors"}
    try:
        plan = make_plan(recipe, checkpoint, others=others)
        index = _largest_model(checkpoint) if plan.state_dict is None else plan.state_dict
    except SDViewerError as error:
        remedy = f" {text.visible(error.remedy)}" if error.remedy else ""
        return {**nothing, "why": f"{text.visible(error.message)}.{remedy}"}
    state_dict = checkpoint.state_dicts[index]
    parts = _parts(checkpoint, state_dict.path)
    sizes = _bytes_of(checkpoint, parts)
    told = [_told(checkpoint, part, nbytes) for part, nbytes in zip(parts, sizes, strict=True)]
    told.sort(key=lambda part: -int(part["bytes"]))
    why = "" if told else "there is nothing in the file but the state dict"
    return {**nothing, "state_dict": dotted(state_dict.path), "kept": state_dict.nbytes, "parts": told, "why": why}


def _largest_model(checkpoint: Checkpoint) -> int:
    """The index of the model's state dict; of several the one with the most parameters.

    Raises:
        UsageError, NoMatch: there is none.
    """
    models = [at for at, found in enumerate(checkpoint.state_dicts) if found.role == "model"]
    if len(models) > 1:
        return max(models, key=lambda at: checkpoint.state_dicts[at].parameters)
    return choose_state_dict(checkpoint)


def _parts(checkpoint: Checkpoint, kept: KeyPath) -> list[_Part]:
    """The topmost things that are neither in nor above the state dict, in file order."""
    parts: dict[KeyPath, _Part] = {}

    def part_of(path: KeyPath) -> _Part | None:
        if path[: len(kept)] == kept:
            return None
        common = 0
        while common < min(len(path), len(kept)) and path[common] == kept[common]:
            common += 1
        if common == len(path):
            return None
        return parts.setdefault(path[: common + 1], _Part(path[: common + 1]))

    for path in all_paths(checkpoint):
        part_of(path)
    for index, info in enumerate(checkpoint.tensors):
        if (part := part_of(info.path)) is not None:
            part.tensors.append(index)
    for value in checkpoint.values:
        if (part := part_of(value.path)) is not None:
            part.values += 1
    return list(parts.values())


def _bytes_of(checkpoint: Checkpoint, parts: Sequence[_Part]) -> list[int]:
    """Bytes of the storages that only the tensors of each part look into."""
    users = Counter(info.storage for info in checkpoint.tensors if info.storage is not None)
    sizes = []
    for part in parts:
        own = Counter(storage for at in part.tensors if (storage := checkpoint.tensors[at].storage) is not None)
        sizes.append(
            sum(
                checkpoint.storages[storage].nbytes
                for storage, n in own.items()
                if n == users[storage] and storage in checkpoint.storages
            )
        )
    return sizes


def _told(checkpoint: Checkpoint, part: _Part, nbytes: int) -> dict[str, Any]:
    kind = _kind(checkpoint, part)
    last = part.path[-1]
    stuck = isinstance(last, TypedStep) and last.type in _STUCK
    return {
        "path": text.visible(dotted(part.path), 200),
        "pattern": literal_pattern(dotted(part.path)),
        "kind": kind,
        "what": KINDS[kind],
        "tensors": len(part.tensors),
        "values": part.values,
        "bytes": nbytes,
        "goes": kind in NEEDED_TO_TRAIN and not stuck,
        "stays": "it is a part of a list or of an object" if stuck else "",
    }


def _kind(checkpoint: Checkpoint, part: _Part) -> Kind:
    """What a part is: by the role of a state dict in it, else by its name."""
    depth = len(part.path)
    roles = {found.role for found in checkpoint.state_dicts if found.path[:depth] == part.path}
    if "optimizer" in roles:
        return "optimizer"
    if "ema" in roles:
        return "ema"
    name = dotted(part.path[-1:]).lower()
    for kind, mark in _NAMES.items():
        if mark.search(name) and (kind != "ema" or part.tensors):
            return kind
    return "weights" if "model" in roles else "other"
