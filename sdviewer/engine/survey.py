"""The statistics of all tensors of a file, a part at a time, in a process of its own that lets all others go first.

Requests (name: parameters -> body of the result, and its buffers):

    begin    {"path", "identity"} -> BODY; buffers: the columns of `stats.table` over all tensors, of those that are
             measured already, and "indices" (int64) of these
    measure  {"first": [index], "seconds", "most"} -> BODY; buffers: the columns over what was measured now, and
             "indices". Tensors of `first` come first, then the others in file order, until so many seconds have passed;
             one of more than `most` bytes is passed over, and the bytes of all together do not pass that

    BODY  {"tensors", "known": how many of them are measured or cannot be, "nbytes": of all, "left": of those that are
          not, "spent": of this answer, "begun": whether it answers `begin`}; bytes are those to be read

Progress is in bytes of the whole file, and that of `begin` in what opening it takes. An index is one into
`Checkpoint.tensors` of the file as it was opened; one that was changed since fails with `file_changed`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.measuring import measure
from sdviewer.engine.watch import Watch, files_of
from sdviewer.errors import CorruptCheckpoint, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.stats.table import NOT_YET, Columns, StatisticsTable

AT_ONCE = 64
"""Tensors that are measured between two looks at the clock ..."""

BYTES_AT_ONCE = 32 << 20
"""... unless they are large: then so many bytes, or one tensor."""

Params = Mapping[str, Any]


class Survey:
    """The service of one file."""

    def __init__(self) -> None:
        self._checkpoint: Checkpoint | None = None
        self._watch = Watch(())
        self._table = StatisticsTable(0)
        self._sizes: Sequence[int] = ()
        self._left = 0
        self._next = 0
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "begin": self.begin,
            "measure": self.measure,
        }

    def begin(self, params: Params, progress: Progress) -> Answer:
        """Open the file, or say again what is known of it."""
        if self._checkpoint is None:
            if hasattr(os, "nice"):
                os.nice(10)
            self._open(params["path"], params["identity"], progress)
        self._look(params["path"])
        indices = np.flatnonzero(self._table["state"] != NOT_YET)
        return self._answer(indices, {name: column[indices] for name, column in self._table.to_buffers().items()})

    def _open(self, path: str, identity: Mapping[str, int], progress: Progress) -> None:
        checkpoint = open_checkpoint(path, progress=progress)
        if asdict(checkpoint.identity) != identity:
            raise _changed(path)
        self._watch = Watch(files_of(checkpoint))
        self._table = StatisticsTable(len(checkpoint.tensors))
        self._sizes = _bytes_to_read(checkpoint)
        self._left = sum(self._sizes)
        self._next = 0
        self._checkpoint = checkpoint

    def measure(self, params: Params, progress: Progress) -> Answer:
        """Measure the next tensors."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise UsageError("no file is open")
        self._look(checkpoint.path)
        whole, before = sum(self._sizes), sum(self._sizes) - self._left
        until = time.monotonic() + params["seconds"]
        measured: list[int] = []
        parts: list[Columns] = []
        spent = 0

        def tell(done: int, total: int) -> None:
            progress(before + spent + done, whole)

        for batch in self._batches(params["first"], params["most"]):
            parts.append(measure(checkpoint, batch, tell))
            measured += batch
            spent += sum(self._sizes[index] for index in batch)
            if time.monotonic() >= until:
                break
        # What was read while somebody wrote to the file is worth nothing.
        self._look(checkpoint.path)
        indices = np.array(measured, np.int64)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
        if parts:
            self._table.put(indices, columns)
        self._left -= spent
        return self._answer(indices, columns, spent)

    def _batches(self, first: Iterable[int], most: int) -> Iterator[list[int]]:
        """What is to be measured, in handfuls that take about as long as one large tensor."""
        batch: list[int] = []
        nbytes = 0
        for index in self._in_order(first):
            size = self._sizes[index]
            if size > most:
                continue
            most -= size
            if batch and nbytes + size > BYTES_AT_ONCE:
                yield batch
                batch, nbytes = [], 0
            batch.append(index)
            nbytes += size
            if len(batch) == AT_ONCE:
                yield batch
                batch, nbytes = [], 0
        if batch:
            yield batch

    def _in_order(self, first: Iterable[int]) -> Iterator[int]:
        state = self._table["state"]
        chosen = {index: None for index in first if 0 <= index < len(state) and state[index] == NOT_YET}
        yield from chosen
        while self._next < len(state) and state[self._next] != NOT_YET:
            self._next += 1
        for index in range(self._next, len(state)):
            if state[index] == NOT_YET and index not in chosen:
                yield index

    def _look(self, path: str) -> None:
        if self._watch.look()["state"] not in ("same", "silent"):
            raise _changed(path)

    def _answer(self, indices: Any, columns: Columns, spent: int = -1) -> Answer:
        body = {
            "tensors": len(self._table),
            "known": int(np.count_nonzero(self._table["state"] != NOT_YET)),
            "nbytes": sum(self._sizes),
            "left": self._left,
            "spent": max(spent, 0),
            "begun": spent < 0,
        }
        return Answer(body, {name: column.tobytes() for name, column in {"indices": indices, **columns}.items()})


def _bytes_to_read(checkpoint: Checkpoint) -> list[int]:
    """For each tensor: an expanded one is read once, however often its elements stand in it."""
    storages = checkpoint.storages
    sizes = []
    for info in checkpoint.tensors:
        storage = None if info.storage is None else storages.get(info.storage)
        sizes.append(info.nbytes if storage is None else min(info.nbytes, storage.nbytes))
    return sizes


def _changed(path: str) -> CorruptCheckpoint:
    return CorruptCheckpoint("the file has changed since it was opened", path=path, code="file_changed")
