"""What of the files a series can be about: the model, another state dict as an EMA, or one moment of an optimizer.

A moment (`exp_avg`, `momentum_buffer`) is followed by the names of the parameters that it is of, so that it stands
under the modules of the model; what an optimizer counts beside them (`step`) is none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.pairing import side_of_state_dict
from sdviewer.core.paths import dotted

MOST: Final = 30
"""Subjects beside the model that are offered."""


class Subject(NamedTuple):
    """A state dict by its dotted path, or of an optimizer's the entries of one last name."""

    state_dict: str
    moment: str = ""

    def words(self, role: str) -> str:
        """What it is called, printable."""
        name = text.visible(self.state_dict, 60) or "the root"
        if self.moment:
            return f"{text.visible(self.moment, 40)} of {name}"
        return f"{name} (EMA)" if role == "ema" else name


def model_of(checkpoint: Checkpoint) -> int | None:
    """The state dict that a series is about by itself: the largest model, else the largest that is no optimizer."""
    best: int | None = None
    score: tuple[bool, int] = (False, -1)
    for index, state_dict in enumerate(checkpoint.state_dicts):
        if state_dict.role != "optimizer" and (state_dict.role == "model", state_dict.parameters) > score:
            best, score = index, (state_dict.role == "model", state_dict.parameters)
    return best


def subjects_of(checkpoint: Checkpoint) -> dict[Subject, str]:
    """What a file has beside its model, and what each is called."""
    found: dict[Subject, str] = {}
    model = model_of(checkpoint)
    for index, state_dict in enumerate(checkpoint.state_dicts):
        name = dotted(state_dict.path)
        if index == model:
            continue
        if state_dict.role != "optimizer":
            subjects = [Subject(name)]
        else:
            there = zip(state_dict.keys, state_dict.tensor_of, strict=True)
            moments = dict.fromkeys(key.rpartition(".")[2] for key, at in there if _is_moment(checkpoint, at))
            subjects = [Subject(name, moment) for moment in moments]
        for subject in subjects[: MOST - len(found)]:
            found[subject] = subject.words(state_dict.role)
    return found


def entries_of(checkpoint: Checkpoint, subject: Subject) -> list[tuple[str, int]] | None:
    """The tensors of a subject, each with its key (or that of its parameter); None where a file has no such thing."""
    index = next((at for at, one in enumerate(checkpoint.state_dicts) if dotted(one.path) == subject.state_dict), None)
    if index is None:
        return None
    state_dict = checkpoint.state_dicts[index]
    if not subject.moment:
        return [(key, at) for key, at in zip(state_dict.keys, state_dict.tensor_of, strict=True) if at >= 0]
    side = side_of_state_dict(checkpoint, index)
    ending = f".{subject.moment}"
    found = []
    for position, (key, at) in enumerate(zip(side.keys, side.tensors, strict=True)):
        name = side.names.get(position, key)
        if name.endswith(ending) and _is_moment(checkpoint, at):
            found.append((name.removesuffix(ending).removeprefix("state."), at))
    return found or None


def _is_moment(checkpoint: Checkpoint, tensor: int) -> bool:
    """Whether an entry of an optimizer is as large as its parameter, as far as one entry tells: no count of steps."""
    return tensor >= 0 and len(checkpoint.tensors[tensor].shape) > 0
