"""The numbers of the files of a series, a file at a time, in a process that lets all others go first.

It knows no series: what is to be measured, and which module each tensor counts to, `engine.series` says (`todo`); the
window hands that on, and the answer back (`note`).

Requests (name: parameters and buffers -> body and buffers of the result):

    norms    {"file": FILE}, "tensors" i4, "modules" i4 (-1: looked through for NaN only)
             -> {"odd": how many tensors have a NaN or infinity, "first": [at most `NAMED` of these], "unread": n};
             "squares" f8 (a module: of all finite values), "finite" i4 (a module: tensors that have one),
             "odd" i4 (a module: tensors that have a NaN or infinity)
    changes  {"a": FILE, "b": FILE}, "tensors_a" i4, "tensors_b" i4, "modules" i4
             -> {"unread": n}; "squares" f8 (a module: of b - a where both are finite), "pairs" i4 (a module: pairs with
             a value that is finite on both sides)

    FILE  {"path", "identity"}; indices are into `Checkpoint.tensors` of the file as it was opened, and one that was
          changed since fails with `file_changed`. `modules` are counted from 0, and the answer has "number" of them.

Progress is in bytes.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.measuring import measure
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats import open_checkpoint, open_storage, tensor_source
from sdviewer.stats.pairs import PairNumbers, compare

NAMED: Final = 50
"""Tensors with a NaN or infinity whose indices are told of a file."""

KEPT: Final = 3
"""Headers that are kept: the file before, this one, and the first of all."""

AT_ONCE: Final = 256
"""Tensors that are measured between two looks at whether somebody wants no more."""

Params = Mapping[str, Any]


class SeriesSurvey:
    """The service."""

    def __init__(self) -> None:
        self._opened: OrderedDict[str, Checkpoint] = OrderedDict()
        self._nice = False
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "norms": self.norms,
            "changes": self.changes,
        }

    def norms(self, params: Params, progress: Progress) -> Answer:
        """The norm of each module of one file, and what in it is no number."""
        checkpoint = self._open(params["file"], progress)
        tensors, modules = _numbers(params["tensors"]), _numbers(params["modules"])
        squares = np.zeros(int(params["number"]))
        finite, odd = np.zeros(len(squares), np.int32), np.zeros(len(squares), np.int32)
        bad: list[int] = []
        unread, done, total = 0, 0, _bytes(checkpoint, tensors)
        for start in range(0, len(tensors), AT_ONCE):
            some, homes = tensors[start : start + AT_ONCE], modules[start : start + AT_ONCE]
            nbytes = _bytes(checkpoint, some)
            columns = measure(checkpoint, some.tolist(), _within(progress, done, nbytes, total))
            counted = homes >= 0
            with np.errstate(over="ignore", invalid="ignore"):
                np.add.at(squares, homes[counted], np.nan_to_num(columns["l2"][counted]) ** 2)
            np.add.at(finite, homes[counted & ~np.isnan(columns["l2"])], 1)
            is_odd = (columns["nan"] > 0) | (columns["posinf"] > 0) | (columns["neginf"] > 0)
            np.add.at(odd, homes[counted & is_odd], 1)
            bad += some[is_odd].tolist()
            unread += int(np.count_nonzero(np.isnan(columns["l2"]) & ~is_odd & (columns["count"] != 0)))
            done += nbytes
        body = {"odd": len(bad), "first": bad[:NAMED], "unread": unread}
        return Answer(body, {"squares": squares.tobytes(), "finite": finite.tobytes(), "odd": odd.tobytes()})

    def changes(self, params: Params, progress: Progress) -> Answer:
        """How far each module has moved from one file to another."""
        a, b = self._open(params["a"], progress), self._open(params["b"], progress)
        of_a, of_b, modules = (_numbers(params[name]) for name in ("tensors_a", "tensors_b", "modules"))
        squares, pairs = np.zeros(int(params["number"])), np.zeros(int(params["number"]), np.int32)
        unread, done, total = 0, 0, _bytes(a, of_a)
        for index_a, index_b, module in zip(of_a.tolist(), of_b.tolist(), modules.tolist(), strict=True):
            nbytes = a.tensors[index_a].nbytes
            found = _compared(a, index_a, b, index_b, _within(progress, done, nbytes, total))
            done += nbytes
            if found is None:
                unread += 1
            elif found.identical:
                pairs[module] += found.finite
            elif not found.opaque and found.sums.finite:
                squares[module] += _squares(found)
                pairs[module] += 1
        return Answer({"unread": unread}, {"squares": squares.tobytes(), "pairs": pairs.tobytes()})

    def _open(self, file: Mapping[str, Any], progress: Progress) -> Checkpoint:
        if not self._nice and hasattr(os, "nice"):
            os.nice(5)
            self._nice = True
        path = str(file["path"])
        checkpoint = self._opened.pop(path, None)
        if checkpoint is None or asdict(checkpoint.identity) != file["identity"]:
            checkpoint = open_checkpoint(path, progress=progress)
            if asdict(checkpoint.identity) != file["identity"]:
                raise CorruptCheckpoint("the file has changed since it was opened", path=path, code="file_changed")
        self._opened[path] = checkpoint
        while len(self._opened) > KEPT:
            self._opened.popitem(last=False)
        return checkpoint


def _compared(a: Checkpoint, index_a: int, b: Checkpoint, index_b: int, progress: Progress) -> PairNumbers | None:
    """The numbers of one pair, None where a side cannot be read."""
    try:
        source_a, source_b = tensor_source(a, index_a), tensor_source(b, index_b)
        with open_storage(source_a) as storage_a, open_storage(source_b) as storage_b:
            return compare(storage_a, source_a.layout, storage_b, source_b.layout, progress=progress)
    except OpenError as error:
        if error.code == "file_changed":
            raise
        return None


def _squares(found: PairNumbers) -> float:
    """The sum of the squares of b - a; infinite beyond float64."""
    try:
        return float(np.ldexp(found.sums.differences, 2 * found.sums.exponent))
    except OverflowError:
        return float("inf")


def _numbers(buffer: Any) -> NDArray[np.int32]:
    return np.frombuffer(buffer, np.int32)


def _bytes(checkpoint: Checkpoint, tensors: NDArray[np.int32] | Sequence[int]) -> int:
    return sum(checkpoint.tensors[int(index)].nbytes for index in tensors)


def _within(progress: Progress, before: int, nbytes: int, whole: int) -> Progress:
    """How far all is, told by how far a part of it is."""

    def tell(done: int, total: int) -> None:
        progress(before + (nbytes * done // total if total else 0), whole)

    return tell
