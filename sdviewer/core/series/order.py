"""In which order the files of a run are: by the step in their names, or in the files, or by their times.

A name can hold several numbers (`resnet50_epoch_12.pth`, `epoch=3-step=1200.ckpt`): the one that counts is behind the
same word in most names and is another one in each. The words are those that trainers write: torch's own examples
(`epoch`, `best_acc1`), Lightning (`epoch`, `global_step`), transformers (`checkpoint-500`), mmengine (`iter`), fairseq
(`num_updates`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.paths import dotted

STEP_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("epoch", "epochs", "ep", "e"), "epoch"),
    **dict.fromkeys(("step", "steps", "globalstep", "s"), "step"),
    **dict.fromkeys(("checkpoint", "ckpt", "chkpt", "cp", "save", "snapshot"), "step"),
    **dict.fromkeys(("iter", "iters", "iteration", "iterations", "it", "i"), "iteration"),
    **dict.fromkeys(("update", "updates", "numupdates"), "update"),
    **dict.fromkeys(("round", "rounds"), "round"),
}
"""Words before a number in a name -> what the number counts."""

STEP_VALUES: Final = (
    *("epoch", "global_step", "step", "iteration", "iter", "num_updates", "current_epoch", "global_iteration"),
    *("n_iter", "iter_num", "current_step", "train_step", "epochs", "steps", "it", "last_epoch", "round"),
)
"""Names of values in a file that count its steps, the surest first."""

MULTIPLES: Final = {"k": 1_000, "m": 1_000_000}

LONGEST: Final = 1e12
"""Steps from which a number is written short."""

_NUMBER = re.compile(r"([^\W\d_]*)[_=.\- ]*(\d{1,18})(?:([kKmM])(?![^\W_]))?")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,11}$")
_SHARD = re.compile(r"(?:^|[-_.])\d{2,6}[-_]of[-_]\d{2,6}(?=\.)|^consolidated\.\d+\.", re.IGNORECASE)


class Dated(NamedTuple):
    """One file: its name below the folder, when it was written, and the counts of steps that it states."""

    name: str
    mtime_ns: int = 0
    steps: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Order:
    """`places` are the indexes of the files from the first on, `labels` what each is called along an axis.

    `unit` is what the labels count ("epoch"), "" where they are names; `by` says how the order was found, in words.
    """

    places: tuple[int, ...]
    labels: tuple[str, ...]
    unit: str
    by: str


def is_shard(name: str) -> bool:
    """Whether a file is one part of a checkpoint of several, by its name: `model-00001-of-00003.safetensors`."""
    return _SHARD.search(name) is not None


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts `epoch2` before `epoch10`."""
    return tuple([(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name)])


def as_number(value: Any) -> float | None:
    """A value of a file as a number; None where it is none, or an integer beyond float64."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def steps_in(values: Iterable[ValueInfo]) -> dict[str, float]:
    """The counts of steps that a file states, by their names; of two of one name the one nearer to the root."""
    found: dict[str, tuple[int, float]] = {}
    for info in values:
        name = dotted(info.path[-1:]).lower()
        value = as_number(info.value) if name in STEP_VALUES else None
        if value is not None and math.isfinite(value) and (name not in found or len(info.path) < found[name][0]):
            found[name] = len(info.path), value
    return {name: number for name, (_, number) in found.items()}


def order(files: Sequence[Dated]) -> Order:
    """The order of files: by the step in all names, else by one in all files, else by that in most names, else by time.

    Files without a step stand behind those that have one, in the order of their times.
    """
    named = _named_steps([file.name for file in files])
    stated = _stated_steps(files)
    if named is not None and len(named[1]) == len(files):
        return _by_steps(files, *named, "in the names")
    if stated is not None:
        return _by_steps(files, *stated, "that each file states")
    if named is not None:
        return _by_steps(files, *named, "in the names")
    times = [file.mtime_ns for file in files]
    if len(set(times)) == len(files):
        places = sorted(range(len(files)), key=times.__getitem__)
        return _unnumbered(files, places, "the time each was written: neither names nor files tell a step")
    places = sorted(range(len(files)), key=lambda at: natural(files[at].name))
    return _unnumbered(files, places, "name: neither names nor files tell a step")


def _by_steps(files: Sequence[Dated], unit: str, steps: Mapping[int, float], where: str) -> Order:
    rest = [at for at in range(len(files)) if at not in steps]

    def key(at: int) -> tuple[float, int, tuple[tuple[int, int | str], ...]]:
        return steps.get(at, math.inf), files[at].mtime_ns, natural(files[at].name)

    words = f"the {unit or 'number'} {where}"
    if rest:
        words += f"; {text.plural(len(rest), 'file')} without one behind the others"
    if len(set(steps.values())) < len(steps):
        words += "; of several with the same the older first"
    places = sorted(range(len(files)), key=key)
    stems = [_stem(file.name) for file in files]
    labels = [_whole(steps[at]) if at in steps else text.visible(stems[at], 60) for at in places]
    return Order(tuple(places), tuple(labels), unit, words)


def _unnumbered(files: Sequence[Dated], places: Sequence[int], by: str) -> Order:
    return Order(tuple(places), tuple([text.visible(_stem(files[at].name), 60) for at in places]), "", by)


def _whole(number: float) -> str:
    return f"{int(number)}" if abs(number) < LONGEST and number == int(number) else text.value(number)


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name.rsplit("/", 1)[-1]) or name


def _named_steps(names: Sequence[str]) -> tuple[str, dict[int, float]] | None:
    """What counts the steps in the names, and the step of each file that has one; None where nothing does."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    for at, name in enumerate(names):
        seen: dict[str, int] = {}
        for hit in _NUMBER.finditer(_SUFFIX.sub("", name)):
            word = hit[1].lower()
            nth = seen[word] = seen.get(word, -1) + 1
            found.setdefault((word, nth), {})[at] = int(hit[2]) * MULTIPLES.get((hit[3] or "").lower(), 1)
    best: tuple[int, bool, int] = (0, False, 0)
    chosen: tuple[str, dict[int, float]] | None = None
    for (word, nth), steps in found.items():
        # Several files of one step, or one number in most names: then that is not what tells them apart.
        if len(steps) < max(2, len(names) / 2) or len(set(steps.values())) < len(steps):
            continue
        score = len(steps), word in STEP_WORDS, -nth
        if score > best:
            best, chosen = score, (STEP_WORDS.get(word, ""), steps)
    return chosen


def _stated_steps(files: Sequence[Dated]) -> tuple[str, dict[int, float]] | None:
    """The count that every file states and that tells most of them apart; None where there is none."""
    best, chosen = 1, None
    for name in STEP_VALUES:
        steps = {at: file.steps[name] for at, file in enumerate(files) if name in file.steps}
        different = len(set(steps.values()))
        if len(steps) == len(files) and different > best:
            best, chosen = different, (name.replace("_", " "), steps)
    return chosen
