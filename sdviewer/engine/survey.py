"""The statistics of all tensors of a file, a part at a time, in a process that lets all others go first.

Requests (name: parameters -> body of the result, and its buffers):

    begin    {"path", "identity", "share", "shares"}, buffer "measured": for each tensor whether somebody knows it
             already -> BODY
    measure  {"first": [index], "seconds", "most"} -> BODY; buffers: the columns of `stats.table` over what was measured
             now, and "indices" (int64). Tensors of `first` come first, then the others in file order, until so many
             seconds have passed; one of more than `most` bytes is passed over, and the bytes of all together do not
             pass that

    BODY  {"tensors": in this share, "known": how many of them are measured or cannot be, "nbytes": of all of them,
          "left": of those that are not, "spent": of this answer, "begun": whether it answers `begin`}; bytes are those
          to be read

Progress is in bytes of the whole share, and that of `begin` in what opening it takes. An index is one into
`Checkpoint.tensors` of the file as it was opened; one that was changed since fails with `file_changed`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.measuring import measure
from sdviewer.engine.survey_queue import SurveyQueue
from sdviewer.engine.watch import Watch, files_of
from sdviewer.errors import CorruptCheckpoint, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.sparse import MOST_DENSE, MOST_TIMES
from sdviewer.stats.table import KNOWN, Columns, StatisticsTable

Params = Mapping[str, Any]

BEHIND = 5
"""How much further this stands back than other workers do."""


class Survey:
    """The service of one file."""

    def __init__(self) -> None:
        self._checkpoint: Checkpoint | None = None
        self._watch = Watch(())
        self._table = StatisticsTable(0)
        self._queue = SurveyQueue((), self._table["state"])
        self._stand_back = StandingBack()
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "begin": self.begin,
            "measure": self.measure,
        }

    def begin(self, params: Params, progress: Progress) -> Answer:
        """Open the file."""
        checkpoint = open_again(params, progress)
        self._watch = Watch(files_of(checkpoint))
        self._table = StatisticsTable(len(checkpoint.tensors))
        measured = np.frombuffer(params.get("measured", b""), np.uint8)
        if len(measured) == len(self._table):
            self._table["state"][measured != 0] = KNOWN
        sizes = bytes_to_read(checkpoint)
        self._queue = SurveyQueue(sizes, self._table["state"], params.get("share", 0), params.get("shares", 1))
        self._checkpoint = checkpoint
        return Answer(self._queue.body(begun=True))

    def measure(self, params: Params, progress: Progress) -> Answer:
        """Measure the next tensors."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise UsageError("no file is open")
        look(self._watch, checkpoint.path)

        def measured(batch: list[int], tell: Progress) -> Columns:
            return measure(checkpoint, batch, tell)

        indices, columns = self._queue.measure(params, measured, progress)
        # What was read while somebody wrote to the file is worth nothing.
        look(self._watch, checkpoint.path)
        self._stand_back()
        return self._queue.answer(indices, columns, self._table.put)


class StandingBack:
    """Lets the selected tensor's numbers go first; not so far that a busy machine would never come to this process.

    Only once the first numbers are there, which are few: to start, to open and to measure these takes each time as long
    again as there are others who go first.
    """

    def __init__(self) -> None:
        self._done = False

    def __call__(self) -> None:
        """Stand back, if that was not done yet."""
        if hasattr(os, "nice") and not self._done:
            self._done = True
            os.nice(BEHIND)


def open_again(which: Mapping[str, Any], progress: Progress) -> Checkpoint:
    """The checkpoint at {"path", "identity"}.

    Raises:
        CorruptCheckpoint: it is another one now (code `file_changed`).
    """
    checkpoint = open_checkpoint(which["path"], progress=progress)
    if asdict(checkpoint.identity) != which["identity"]:
        raise _changed(which["path"])
    return checkpoint


def look(watch: Watch, path: str) -> None:
    """Make sure that a file is what it was when it was opened.

    Raises:
        CorruptCheckpoint: it is not (code `file_changed`).
    """
    if watch.look()["state"] not in ("same", "silent"):
        raise _changed(path)


def bytes_to_read(checkpoint: Checkpoint) -> list[int]:
    """For each tensor: an expanded one is read once, however often its elements stand in it, and one without bytes, or
    that is refused, not at all."""
    storages = checkpoint.storages
    most = max(MOST_DENSE, MOST_TIMES * checkpoint.size)
    sizes = []
    for info in checkpoint.tensors:
        storage = None if info.storage is None else storages.get(info.storage)
        size = info.nbytes if storage is None else min(info.nbytes, storage.nbytes)
        refused = info.unreadable or info.kind == "meta" or (storage is None and size > most)
        sizes.append(0 if refused else size)
    return sizes


def _changed(path: str) -> CorruptCheckpoint:
    return CorruptCheckpoint("the file has changed since it was opened", path=path, code="file_changed")
