"""What of a damaged file cannot be copied, as the drop step that lets the rest be saved.

The writers say it: a save is laid out, without a byte written, until none of them misses anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StateDict, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, dotted
from sdviewer.core.progress import Progress
from sdviewer.errors import RepairError, SDViewerError, SourceDamaged, UsageError
from sdviewer.formats.saving import save
from sdviewer.repair.operations import Drop
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.patterns import literal_pattern
from sdviewer.repair.plan import sources
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.state_dicts import AUTO, choose_state_dict

WHY = "cannot be read from the file"
_MOST_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Lost:
    """`patterns` mean the lost entries of the state dict of that (dotted) name, as the recipe so far calls them.

    `remaining` says what still stands against a save when they are dropped, "" where nothing does.
    """

    state_dict: str
    patterns: tuple[str, ...]
    remaining: str

    def to_json(self) -> dict[str, Any]:
        """As the window gets it."""
        return {
            "state_dict": self.state_dict,
            "patterns": list(self.patterns),
            "why": WHY,
            "remaining": text.visible(self.remaining, 600),
        }


def find_lost(checkpoint: Checkpoint, recipe: Recipe, progress: Progress, others: Others = no_others) -> Lost:
    """What to drop after `recipe`, so that what is left can be saved; `others` opens what tensors are taken from.

    Raises:
        UsageError, RepairError: the recipe does not go through.
    """
    lost = {at for at, info in enumerate(checkpoint.tensors) if _is_lost(info)}
    chosen = _chosen(checkpoint, recipe, lost, others)
    if chosen is None:
        return Lost(AUTO, (), _refusal(checkpoint, recipe, progress, others) or "Nothing in it is lost")
    name = _name(checkpoint, chosen)
    recipe = replace(recipe, source=replace(recipe.source, state_dict=name))
    plan = make_plan(recipe, checkpoint, others=others)
    keys: dict[int, list[str]] = {}
    for target in plan.targets:
        for entry in sources(target.value, read=True):
            keys.setdefault(entry, []).append(target.key)
    state_dict = checkpoint.state_dicts[chosen]
    entries = _entries(checkpoint, state_dict)
    dropped: dict[str, None] = {}
    remaining = ""
    for turn in range(_MOST_ROUNDS):
        progress(turn, _MOST_ROUNDS)
        goes = {entry for at in lost if (entry := _entry(entries, checkpoint.tensors[at].path, state_dict)) in keys}
        before = len(dropped)
        dropped.update(dict.fromkeys(literal_pattern(key) for entry in sorted(goes) for key in keys[entry]))
        steps = (*recipe.steps, Drop(keys=tuple(dropped), why=WHY)) if dropped else recipe.steps
        try:
            _lay_out(checkpoint, replace(recipe, steps=steps), others)
            remaining = ""
            break
        except SourceDamaged as error:
            remaining = error.message
            more = {at for at, info in enumerate(checkpoint.tensors) if _storages(info) & error.storages}
            if more <= lost and turn and len(dropped) == before:
                break
            lost |= more
        except SDViewerError as error:
            remaining = error.message
            break
    return Lost(name, tuple(dropped), remaining)


def _is_lost(info: TensorInfo) -> bool:
    """Of a type that nobody knows yet the bytes can be there: then the writer says whether they are."""
    return bool(info.unreadable) and (not info.dtype or info.dtype in DTYPES)


def _storages(info: TensorInfo) -> set[str]:
    parts = [part.get("storage") for part in (info.quant or {}).values() if isinstance(part, dict)]
    return {storage for storage in (info.storage, *parts) if storage is not None}


def _chosen(checkpoint: Checkpoint, recipe: Recipe, lost: Iterable[int], others: Others) -> int | None:
    """The state dict that the recipe edits; where it edits none yet, the first that has lost what can be dropped."""
    try:
        index: int | None = make_plan(recipe, checkpoint, others=others).state_dict if recipe.steps else None
    except (RepairError, UsageError):
        if recipe.steps:
            raise
        index = None
    if index is not None:
        return index
    editable = [
        at for at, found in enumerate(checkpoint.state_dicts) if not found.read_only and found.role != "optimizer"
    ]
    held = {checkpoint.tensors[at].state_dict for at in lost}
    return next((at for at in editable if at in held), next(iter(editable), None))


def _name(checkpoint: Checkpoint, index: int) -> str:
    """As a recipe names a state dict: "auto" where that is the one."""
    try:
        if choose_state_dict(checkpoint) == index:
            return AUTO
    except SDViewerError:
        pass
    return dotted(checkpoint.state_dicts[index].path)


def _entries(checkpoint: Checkpoint, state_dict: StateDict) -> dict[KeyPath, list[int]]:
    """The entries of a state dict by their path; two of one name have one."""
    found: dict[KeyPath, list[int]] = {}
    for entry, (key, tensor) in enumerate(zip(state_dict.keys, state_dict.tensor_of, strict=True)):
        path = checkpoint.tensors[tensor].path if tensor >= 0 else (*state_dict.path, key)
        found.setdefault(path, []).append(entry)
    return found


def _entry(entries: dict[KeyPath, list[int]], path: KeyPath, state_dict: StateDict) -> int:
    """The entry in which the tensor at `path` lies, -1 where it stands outside."""
    for length in range(len(state_dict.path) + 1, len(path) + 1):
        if path[:length] in entries:
            return entries[path[:length]][0]
    return -1


def _refusal(checkpoint: Checkpoint, recipe: Recipe, progress: Progress, others: Others) -> str:
    progress(0, 1)
    try:
        _lay_out(checkpoint, recipe, others)
    except SDViewerError as error:
        return error.message
    return ""


def _lay_out(checkpoint: Checkpoint, recipe: Recipe, others: Others) -> None:
    """All that a save does before it writes."""
    out = f"{checkpoint.path}.copy"  # nothing is written there
    plan = make_plan(recipe, checkpoint, others=others)
    save(checkpoint, plan, out, container=checkpoint.container, overwrite=True, dry_run=True)
