"""The statistics of all tensors of a file, a part at a time, in a process that lets all others go first.

Two of them share a large file: tensors of a few MiB are measured by one core each. Which tensors are whose goes by
bytes in file order, so that both know it without a word.

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
import time
from bisect import bisect_left
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
from sdviewer.formats.sparse import MOST_DENSE, MOST_TIMES
from sdviewer.stats.table import KNOWN, NOT_YET, Columns, StatisticsTable

AT_ONCE = 64
"""Tensors that are measured between two looks at the clock ..."""

BYTES_AT_ONCE = 32 << 20
"""... unless they are large: then so many bytes, or one tensor."""

BEHIND = 5
"""How much further this stands back than other workers do."""

LEAST_WORK = 1 << 16
"""Bytes that could be measured in the time that any tensor takes."""

Params = Mapping[str, Any]


class Survey:
    """The service of one file."""

    def __init__(self) -> None:
        self._checkpoint: Checkpoint | None = None
        self._watch = Watch(())
        self._table = StatisticsTable(0)
        self._sizes: Sequence[int] = ()
        self._own: list[int] = []
        self._nbytes = self._left = 0
        self._next = 0
        self._stands_back = False
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "begin": self.begin,
            "measure": self.measure,
        }

    def begin(self, params: Params, progress: Progress) -> Answer:
        """Open the file."""
        self._open(params, progress)
        return Answer(self._body(begun=True))

    def _open(self, params: Params, progress: Progress) -> None:
        checkpoint = open_checkpoint(params["path"], progress=progress)
        if asdict(checkpoint.identity) != params["identity"]:
            raise _changed(params["path"])
        self._watch = Watch(files_of(checkpoint))
        self._table = StatisticsTable(len(checkpoint.tensors))
        self._sizes = _bytes_to_read(checkpoint)
        self._own = _share(self._sizes, params.get("share", 0), params.get("shares", 1))
        measured = np.frombuffer(params.get("measured", b""), np.uint8)
        if len(measured) == len(self._table):
            self._table["state"][measured != 0] = KNOWN
        self._nbytes = sum(self._sizes[index] for index in self._own)
        state = self._table["state"]
        self._left = sum(self._sizes[index] for index in self._own if state[index] == NOT_YET)
        self._next = 0
        self._checkpoint = checkpoint

    def measure(self, params: Params, progress: Progress) -> Answer:
        """Measure the next tensors."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise UsageError("no file is open")
        self._look(checkpoint.path)
        before = self._nbytes - self._left
        until = time.monotonic() + params["seconds"]
        measured: list[int] = []
        parts: list[Columns] = []
        spent = nbytes = 0

        def tell(done: int, total: int) -> None:
            # Of logical bytes there can be more than are read.
            progress(before + spent + (nbytes * done // total if total else 0), self._nbytes)

        for batch in self._batches(params["first"], params["most"]):
            nbytes = sum(self._sizes[index] for index in batch)
            parts.append(measure(checkpoint, batch, tell))
            measured += batch
            spent, nbytes = spent + nbytes, 0
            if time.monotonic() >= until:
                break
        # What was read while somebody wrote to the file is worth nothing.
        self._look(checkpoint.path)
        self._left -= spent
        self._stand_back()
        if not parts:
            return Answer(self._body())
        indices = np.array(measured, np.int64)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._table.put(indices, columns)
        buffers = {name: column.tobytes() for name, column in {"indices": indices, **columns}.items()}
        return Answer(self._body(spent), buffers)

    def _stand_back(self) -> None:
        """Go behind the selected tensor's numbers; not so far that a busy machine would never come to it.

        Only once the first numbers are there, which are few: to start, to open and to measure these takes each time as
        long again as there are others who go first.
        """
        if hasattr(os, "nice") and not self._stands_back:
            self._stands_back = True
            os.nice(BEHIND)

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
        state, own = self._table["state"], self._own
        # A tensor that a recipe computes is in sight too, and none of the file's.
        chosen = {index: None for index in first if _has(own, index) and state[index] == NOT_YET}
        yield from chosen
        while self._next < len(own) and state[own[self._next]] != NOT_YET:
            self._next += 1
        for index in own[self._next :]:
            if state[index] == NOT_YET and index not in chosen:
                yield index

    def _look(self, path: str) -> None:
        if self._watch.look()["state"] not in ("same", "silent"):
            raise _changed(path)

    def _body(self, spent: int = 0, *, begun: bool = False) -> dict[str, Any]:
        return {
            "tensors": len(self._own),
            "known": int(np.count_nonzero(self._table["state"][self._own] != NOT_YET)),
            "nbytes": self._nbytes,
            "left": self._left,
            "spent": spent,
            "begun": begun,
        }


def _bytes_to_read(checkpoint: Checkpoint) -> list[int]:
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


def _share(sizes: Sequence[int], share: int, shares: int) -> list[int]:
    """The tensors of one of several: in file order each goes to the one that has the fewest bytes so far."""
    weights = [0] * shares
    own = []
    for index, size in enumerate(sizes):
        whose = weights.index(min(weights))
        weights[whose] += size + LEAST_WORK
        if whose == share:
            own.append(index)
    return own


def _has(own: Sequence[int], index: int) -> bool:
    at = bisect_left(own, index)
    return at < len(own) and own[at] == index


def _changed(path: str) -> CorruptCheckpoint:
    return CorruptCheckpoint("the file has changed since it was opened", path=path, code="file_changed")
