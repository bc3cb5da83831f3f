"""What is read of the header of one file of a run: the tensors that are followed, and the numbers that it states."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.paths import dotted
from sdviewer.core.series.metrics import numbers_of, scalar_metrics
from sdviewer.core.series.subjects import Subject, entries_of, model_of
from sdviewer.engine.measuring import measure
from sdviewer.formats.run_files import stated_beside

LARGEST: Final = 1e150
"""Metrics beyond this are not drawn: an axis cannot hold them beside others."""


class Chosen(NamedTuple):
    """The state dict that is followed, and of its entries those that are, with their keys."""

    state_dict: str
    entries: Sequence[tuple[str, int]]


def chosen_of(checkpoint: Checkpoint, subject: Subject | None) -> Chosen | None:
    """What is followed of a file; None where it has not what somebody chose."""
    if subject is not None:
        entries = entries_of(checkpoint, subject)
        return None if entries is None else Chosen(subject.state_dict, entries)
    model = model_of(checkpoint)
    if model is None:
        return Chosen("", ())
    name = dotted(checkpoint.state_dicts[model].path)
    return Chosen(name, entries_of(checkpoint, Subject(name)) or ())


def followed(
    checkpoint: Checkpoint, chosen: Chosen, left_out: Iterable[int]
) -> tuple[list[tuple[str, int, TensorInfo]], int]:
    """The tensors that are followed, as (key, index, info): those of the subject by their keys, of which there are so
    many, then others by their dotted names; not those of an optimizer."""
    skipped = set(left_out)
    own = [(key, at, checkpoint.tensors[at]) for key, at in chosen.entries if at not in skipped]
    optimizers = {at for at, one in enumerate(checkpoint.state_dicts) if one.role == "optimizer"}
    homes = [one.path for one in checkpoint.state_dicts if one.role == "optimizer"]
    mine = {at for _, at, _ in own}
    rest = []
    for at in sorted(set(range(len(checkpoint.tensors))) - mine - skipped):
        info = checkpoint.tensors[at]
        if info.state_dict not in optimizers and not any(info.path[: len(home)] == home for home in homes if home):
            rest.append((dotted(info.path), at, info))
    # A key can stand twice in a file; and one of another state dict can be called like one of the model's.
    every = {key: (key, at, info) for key, at, info in reversed([*own, *rest])}
    unique = [entry for entry in [*own, *rest] if every.pop(entry[0], None) is not None]
    number = sum(at in mine for _, at, _ in unique)
    return unique, number if own else len(unique)


class StatedNumbers:
    """The numbers that files state; what a trainer logged in a folder is read once for the files in it."""

    def __init__(self) -> None:
        self._folder = ""
        self._beside: dict[str, float] = {}

    def of(self, checkpoint: Checkpoint, path: str) -> tuple[dict[str, float], set[int]]:
        """The numbers by their dotted names, and which tensors are such numbers: these are read, and no others."""
        folder = path if os.path.isdir(path) else os.path.dirname(path)  # noqa: PTH112, PTH120
        if self._folder != folder:
            self._folder, self._beside = folder, stated_beside(folder)
        scalars = scalar_metrics(checkpoint.tensors)
        stated = {**self._beside, **numbers_of(checkpoint), **_scalars(checkpoint, scalars)}
        return stated, {index for index, _ in scalars}


def _scalars(checkpoint: Checkpoint, scalars: Sequence[tuple[int, str]]) -> dict[str, float]:
    """The numbers that a file keeps as tensors."""
    if not scalars:
        return {}
    means = measure(checkpoint, [index for index, _ in scalars])["mean"].tolist()
    return {name: mean for (_, name), mean in zip(scalars, means, strict=True) if mean == mean}


def evenly(number: int, most: int) -> list[int]:
    """At most so many of so many steps, evenly, the first and the last among them."""
    if number <= most:
        return list(range(number))
    return sorted({round(at * (number - 1) / (most - 1)) for at in range(most)})
