"""What a survey has still to measure, and in which order: what is in sight first, then file order, a handful at a time.

Two processes share the work: tensors of a few MiB are measured by one core each. What is whose goes by bytes in file
order, so that both know it without a word.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.stats.table import NOT_YET, Columns

AT_ONCE = 64
"""Tensors that are measured between two looks at the clock ..."""

BYTES_AT_ONCE = 32 << 20
"""... unless they are large: then so many bytes, or one tensor."""

LEAST_WORK = 1 << 16
"""Bytes that could be measured in the time that any tensor takes."""


class SurveyQueue:
    """The work of one of several: `sizes` are the bytes to be read of each, `state` is its column of that name."""

    def __init__(self, sizes: Sequence[int], state: NDArray[Any], share: int = 0, shares: int = 1) -> None:
        self._sizes, self._state = sizes, state
        self._own = _share(sizes, share, shares)
        self._nbytes = sum(sizes[index] for index in self._own)
        self._left = sum(sizes[index] for index in self._own if state[index] == NOT_YET)
        self._next = 0

    def _batches(self, first: Iterable[int], most: int) -> Iterator[list[int]]:
        """What is to be measured, in handfuls that take about as long as one large tensor; of at most so many bytes."""
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

    def measure(
        self, params: Mapping[str, Any], measured: Callable[[list[int], Progress], Columns], progress: Progress
    ) -> tuple[list[int], list[Columns]]:
        """The next ones and what was found of them, until the time of a request `measure` is over.

        `measured` measures some. Progress is in bytes of the whole share.
        """
        before = self._nbytes - self._left
        until = time.monotonic() + params["seconds"]
        indices: list[int] = []
        parts: list[Columns] = []
        spent = nbytes = 0

        def tell(done: int, total: int) -> None:
            # Of logical bytes there can be more than are read.
            progress(before + spent + (nbytes * done // total if total else 0), self._nbytes)

        for batch in self._batches(params["first"], params["most"]):
            nbytes = self._bytes(batch)
            parts.append(measured(batch, tell))
            indices += batch
            spent, nbytes = spent + nbytes, 0
            if time.monotonic() >= until:
                break
        return indices, parts

    def answer(self, indices: list[int], parts: list[Columns], put: Callable[[list[int], Columns], None]) -> Answer:
        """The answer to a request `measure`; `put` puts what was found into the table of the column `state`."""
        spent = self._bytes(indices)
        self._left -= spent
        if not parts:
            return Answer(self.body())
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        put(indices, columns)
        found = {"indices": np.array(indices, np.int64), **columns}
        return Answer(self.body(spent), {name: column.tobytes() for name, column in found.items()})

    def _bytes(self, batch: Iterable[int]) -> int:
        return sum(self._sizes[index] for index in batch)

    def body(self, spent: int = 0, *, begun: bool = False) -> dict[str, Any]:
        """BODY of `engine.survey`."""
        return {
            "tensors": len(self._own),
            "known": int(np.count_nonzero(self._state[self._own] != NOT_YET)),
            "nbytes": self._nbytes,
            "left": self._left,
            "spent": spent,
            "begun": begun,
        }

    def _in_order(self, first: Iterable[int]) -> Iterator[int]:
        state, own = self._state, self._own
        # A tensor that a recipe computes is in sight too, and none of the file's.
        chosen = {index: None for index in first if _has(own, index) and state[index] == NOT_YET}
        yield from chosen
        while self._next < len(own) and state[own[self._next]] != NOT_YET:
            self._next += 1
        for index in own[self._next :]:
            if state[index] == NOT_YET and index not in chosen:
                yield index


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
