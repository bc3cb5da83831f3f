"""The checkpoints of one run: those of a folder, or files that somebody named.

A folder of subfolders, as transformers writes them (`checkpoint-500`), has one checkpoint in each. What stands beside a
model there to go on training is passed over, and so are the shards of one checkpoint, which are no series.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sdviewer.core import text
from sdviewer.core.progress import Progress
from sdviewer.core.series.order import is_shard, natural
from sdviewer.core.series.same_run import Relatives, relatives
from sdviewer.errors import OpenError
from sdviewer.formats.file import opened
from sdviewer.formats.folder import is_checkpoint, is_set

MOST_FILES: Final = 2_000
"""Files of a series; of a folder with more, the first by name."""

MODELS: Final = (
    *("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin", "model.pt"),
    *("model.pth", "diffusion_pytorch_model.safetensors", "pytorch_lora_weights.safetensors", "consolidated.00.pth"),
)
"""What the model is called in a folder of one step, as transformers, peft and diffusers write it."""

COMPANIONS: Final = (
    *("optimizer.", "scheduler.", "scaler.", "training_args.", "rng_state", "random_states_", "trainer_state."),
    *("sampler", "custom_checkpoint_"),
)
"""What names of files begin with that stand beside a model: the state of an optimizer, of random numbers."""

TRAINER_STATE: Final = "trainer_state.json"
MOST_TRAINER_STATE: Final = 64 << 20
"""Bytes of one that is read."""

_DEEPEST: Final = 3
_MOST_ENTRIES: Final = 20_000
"""Entries of a folder and its subfolders that are looked at in search of checkpoints."""
_PYTORCH: Final = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".tar", ".th", ".npz", ".h5", ".onnx", ".gguf")


@dataclass(slots=True)
class RunFiles:
    """`files` are names (below `folder`, for people) and paths; `left_out` says what was passed over and why."""

    folder: str
    files: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0


def run_files(paths: Sequence[str], progress: Progress) -> RunFiles:
    """The checkpoints at these paths, in the natural order of their names.

    Raises:
        OpenError: there are fewer than two (code `not_a_series`), or a folder cannot be read.
        Cancelled: from `progress`.
    """
    alone = len(paths) == 1 and os.path.isdir(paths[0])  # noqa: PTH112
    found = _of_folder(paths[0], progress) if alone else _named(paths, progress)
    found.files.sort(key=lambda file: natural(file[0]))
    found.more = max(len(found.files) - MOST_FILES, 0)
    del found.files[MOST_FILES:]
    if len(found.files) < 2:
        shards = any(why == _SHARD for _, why in found.left_out)
        raise OpenError(
            "the shards in it are of one checkpoint" if shards else "there are not two checkpoints in it",
            path=found.folder,
            code="not_a_series",
            remedy="A series is a folder with several checkpoints of one run, or several files.",
        )
    return found


_SHARD: Final = "a shard of one checkpoint"


def _named(paths: Iterable[str], progress: Progress) -> RunFiles:
    """Files and folders that somebody chose: each is one checkpoint."""
    every = [os.path.abspath(path) for path in dict.fromkeys(paths)]  # noqa: PTH100
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in every])  # noqa: PTH120
    except ValueError:  # of several drives
        folder = ""
    found = RunFiles(folder)
    for path in every:
        progress(0, 0)
        name = os.path.relpath(path, folder) if folder else path
        if is_shard(os.path.basename(path)):  # noqa: PTH119
            found.left_out.append((name, _SHARD))
        elif os.path.isdir(path):  # noqa: PTH112
            inside = _model_of(path, progress)
            if inside is None:
                found.left_out.append((name, "no checkpoint in it"))
            else:
                found.files.append((name, inside))
        else:
            found.files.append((name, path))
    return found


def _of_folder(folder: str, progress: Progress) -> RunFiles:
    """The first folder with two checkpoints, from this one down."""
    best = RunFiles(folder)
    todo, left = [(folder, 0)], _MOST_ENTRIES
    while todo and left > 0:
        at, depth = todo.pop(0)
        progress(0, 0)
        try:
            found, inner, looked = _in(at, folder, left, progress)
            left -= looked
        except OSError as error:
            if at == folder:
                raise OpenError(f"the folder cannot be read: {error.strerror}", path=folder) from None
            continue
        if len(found.files) > 1:
            return found
        if len(found.left_out) + len(found.files) > len(best.left_out) + len(best.files):
            best = found
        if depth < _DEEPEST:
            todo += [(path, depth + 1) for path in inner]
    return best


def _in(at: str, top: str, most: int, progress: Progress) -> tuple[RunFiles, list[str], int]:
    """The checkpoints of one folder (files or subfolders), its subfolders, and how many entries were looked at."""
    found = RunFiles(at)
    with os.scandir(at) as entries:
        names = sorted([(entry.name, entry.is_dir(follow_symlinks=False)) for entry in itertools.islice(entries, most)])
    if at == top and is_set(at, [name for name, _ in names]):
        raise OpenError(
            "the files in it are one checkpoint",
            path=at,
            code="not_a_series",
            remedy="Open the folder as a checkpoint.",
        )
    inner = [os.path.join(at, name) for name, is_dir in names if is_dir and not name.startswith(".")]  # noqa: PTH118
    for name, is_dir in names:
        path = os.path.join(at, name)  # noqa: PTH118
        if is_dir or name.startswith(COMPANIONS):
            continue
        if is_shard(name):
            found.left_out.append((name, _SHARD))
        elif is_checkpoint(path, progress):
            found.files.append((name, path))
    steps = [(os.path.basename(path), model) for path in inner if (model := _model_of(path, progress)) is not None]  # noqa: PTH119
    if len(steps) > 1 and len(found.files) < 2:
        # What stands beside the steps is the last of them once more.
        found.left_out += [(name, "beside the folders of the steps") for name, _ in found.files]
        found.files = steps
    return found, inner, len(names) + 1


def _model_of(folder: str, progress: Progress) -> str | None:
    """The checkpoint that the folder of one step is, or that is in it; None where it is not one alone."""
    progress(0, 0)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return None
    if is_set(folder, names):
        return folder
    for name in MODELS:
        if name in names:
            return os.path.join(folder, name)  # noqa: PTH118
    likely = [name for name in names if name.endswith(_PYTORCH) and not name.startswith(COMPANIONS)]
    if len(likely) != 1 or is_shard(likely[0]):
        return None
    path = os.path.join(folder, likely[0])  # noqa: PTH118
    return path if is_checkpoint(path, progress) else None


@dataclass(frozen=True, slots=True)
class Beside:
    """The checkpoints that are of the run of one, by their names, that one among them, in the natural order of these.

    `files` are names (below `folder`) and paths; `to_open` is what makes a series of them: the folder, where it holds
    nothing else, else their paths. Where the names do not tell that it is a run, what is in the files has to.
    """

    folder: str
    files: tuple[tuple[str, str], ...]
    to_open: tuple[str, ...]
    told_by_names: bool


def run_beside(path: str, progress: Progress) -> Beside | None:
    """The run that a checkpoint (a file, or a folder that is one) is of; None where it stands alone.

    Its siblings are looked at first, then the folders beside its own (`checkpoint-500`) that hold a file of its name.
    Only names are looked at.

    Raises:
        Cancelled: from `progress`.
    """
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    files, folders = _entries_of(folder, progress)
    is_dir = name in folders
    found = relatives(name, folders if is_dir else [other for other in files if _may_be_model(other)])
    if found is not None:
        rest = {other for other in files if other.endswith(_PYTORCH) and _may_be_model(other)}
        return _beside(folder, found, "", is_dir or rest <= set(found.names))
    above, home = os.path.split(folder)
    _, folders = _entries_of(above, progress)
    found = relatives(home, folders) if home in folders else None
    if found is None:
        return None
    there = [other for other in found.names if os.path.exists(os.path.join(above, other, name))]  # noqa: PTH110, PTH118
    found = relatives(home, there)
    return None if found is None else _beside(above, found, name, name in MODELS and set(folders) <= set(found.names))


def _beside(folder: str, found: Relatives, inside: str, whole: bool) -> Beside:
    """These names as files of `folder`, each with what is `inside` of it."""
    names = sorted([os.path.join(name, inside) if inside else name for name in found.names], key=natural)  # noqa: PTH118
    files = tuple([(name, os.path.join(folder, name)) for name in names])  # noqa: PTH118
    return Beside(folder, files, (folder,) if whole else tuple([path for _, path in files]), found.told_by_names)


def _may_be_model(name: str) -> bool:
    """Whether a file is no shard, and none of those that stand beside a model."""
    return not name.startswith(COMPANIONS) and not is_shard(name)


def _entries_of(folder: str, progress: Progress) -> tuple[list[str], list[str]]:
    """The names of the files and of the subfolders of a folder; none where it cannot be read."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, _MOST_ENTRIES):
                progress(0, 0)
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return [], []
    return files, folders


def stated_beside(folder: str) -> dict[str, float]:
    """The numbers that transformers keeps in the folder of a checkpoint: the last of each in `trainer_state.json`.

    Source: transformers 4, `TrainerState`: `log_history` is a list of {"step", "epoch", "loss", "eval_loss" ...}, and
    `best_metric`, `epoch`, `global_step` stand beside it. {} where there is no such file, or it cannot be read.
    """
    try:
        with opened(os.path.join(folder, TRAINER_STATE)) as file:  # noqa: PTH118
            if file.size > MOST_TRAINER_STATE:
                return {}
            state = json.loads(file.read(0, file.size))
    except (OpenError, ValueError, RecursionError):
        return {}
    if not isinstance(state, dict):
        return {}
    history = state.get("log_history")
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    found: dict[str, float] = {}
    for entry in [*entries, state]:
        for name, value in entry.items():
            # An integer beyond float64 is left out, and NaN is not.
            if isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) >= 1e300:
                found[str(name)] = float(value)
    return found


def words_left_out(left_out: Sequence[tuple[str, str]], more: int) -> str:
    """What was passed over, in a sentence; "" where nothing was."""
    parts = []
    for why in dict.fromkeys(why for _, why in left_out):
        names = [name for name, other in left_out if other == why]
        shown = ", ".join(text.visible(name, 60) for name in names[:3])
        parts.append(f"{shown}{f' and {len(names) - 3:,} more' if len(names) > 3 else ''} ({why})")
    if more:
        parts.append(f"{more:,} files beyond the first {MOST_FILES:,}")
    return f"Left out: {'; '.join(parts)}" if parts else ""
