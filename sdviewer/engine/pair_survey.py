"""The numbers of all pairs of a comparison, a part at a time, in a process that lets all others go first.

Requests (name: parameters -> body of the result, and its buffers):

    begin    {"a": FILE, "b": FILE, "pairs": [[index in A, index in B]], "atol"?: x | null, "rtol"?: x | null, "share"?,
             "shares"?}, buffer "measured"?: for each pair whether somebody knows it already; "pairs" may
             come as a buffer too (int32) -> BODY
    measure  {"first": [pair], "seconds", "most"} -> BODY; buffers: the columns of `stats.pair_table` over what was
             measured now, and "indices" (int64). Pairs of `first` come first, then the others in order, until so many
             seconds have passed; one of more than `most` bytes is passed over, and the bytes of all together do not
             pass that

    FILE  {"path", "identity", "recipe"?: text, with paths that mean the same everywhere, | null, "state_dict"?: the one
          that it edits}

BODY is that of `engine.survey`, with pairs for tensors; bytes are those of both sides. An index is one into the tensors
of a file as it was opened, or as `engine.planned` makes them of the recipe; a pair is a place in `pairs`. One that has
an index of -1, or whose shapes differ, is nothing to be measured. A file that was changed since it was opened fails
with `file_changed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sdviewer.core.progress import Progress
from sdviewer.engine.comparing import Tensors, compare_pairs
from sdviewer.engine.frames import Answer
from sdviewer.engine.survey import StandingBack, bytes_to_read, look, open_again
from sdviewer.engine.survey_queue import SurveyQueue
from sdviewer.engine.watch import Watch, files_of
from sdviewer.errors import UsageError
from sdviewer.formats.other_files import OtherFiles
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe
from sdviewer.stats.pair_kernels import WORTH
from sdviewer.stats.pair_sums import Tolerance, tolerance_of
from sdviewer.stats.pair_table import NOTHING, PairTable
from sdviewer.stats.table import KNOWN, Columns

Params = Mapping[str, Any]


class PairSurvey:
    """The service of one comparison."""

    def __init__(self) -> None:
        self._sides: tuple[Tensors, Tensors] | None = None
        self._watches: list[tuple[Watch, str]] = []
        self._pairs: list[tuple[int, int]] = []
        self._tolerance: Tolerance | None = None
        self._compiled = False
        self._table = PairTable([])
        self._queue = SurveyQueue((), self._table["state"])
        self._stand_back = StandingBack()
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "begin": self.begin,
            "measure": self.measure,
        }

    def begin(self, params: Params, progress: Progress) -> Answer:
        """Open both files."""
        self._tolerance = tolerance_of(params.get("atol"), params.get("rtol"))
        a, b = _open(params["a"], progress), _open(params["b"], progress)
        self._watches = [
            (Watch(files_of(side.checkpoint)), which["path"]) for side, which in ((a, params["a"]), (b, params["b"]))
        ]
        pairs = params["pairs"]
        if not isinstance(pairs, list):
            pairs = np.frombuffer(pairs, np.int32).reshape(-1, 2).tolist()
        self._pairs = [(i, j) for i, j in pairs]
        self._table = PairTable([""] * len(self._pairs))
        state = self._table["state"]
        measured = np.frombuffer(params.get("measured", b""), np.uint8)
        if len(measured) == len(self._pairs):
            state[measured != 0] = KNOWN
        state[[place for place, (i, j) in enumerate(self._pairs) if not _comparable(a, i, b, j)]] = NOTHING
        sizes_a, sizes_b = bytes_to_read(a.checkpoint), bytes_to_read(b.checkpoint)
        sizes = [0 if state[place] == NOTHING else sizes_a[i] + sizes_b[j] for place, (i, j) in enumerate(self._pairs)]
        # Decided once, so that the last digits do not depend on what was measured together.
        self._compiled = sum(sizes) // 2 >= WORTH
        self._queue = SurveyQueue(sizes, state, params.get("share", 0), params.get("shares", 1))
        self._sides = a, b
        return Answer(self._queue.body(begun=True))

    def measure(self, params: Params, progress: Progress) -> Answer:
        """Compare the next pairs."""
        sides = self._sides
        if sides is None:
            raise UsageError("no files are open")
        self._look()

        def measured(batch: list[int], tell: Progress) -> Columns:
            pairs = [self._pairs[place] for place in batch]
            columns, _ = compare_pairs(*sides, pairs, self._tolerance, compiled=self._compiled, progress=tell)
            return columns

        indices, columns = self._queue.measure(params, measured, progress)
        self._look()
        self._stand_back()
        return self._queue.answer(indices, columns, self._table.put)

    def _look(self) -> None:
        for watch, path in self._watches:
            look(watch, path)


def _open(which: Mapping[str, Any], progress: Progress) -> Tensors:
    checkpoint = open_again(which, progress)
    recipe = which.get("recipe")
    if not recipe:
        return Tensors(checkpoint)
    state_dict = which.get("state_dict")
    plan = make_plan(parse_recipe(recipe), checkpoint, state_dict=state_dict, tensors_alone=True, others=OtherFiles())
    return Tensors(checkpoint, plan)


def _comparable(a: Tensors, i: int, b: Tensors, j: int) -> bool:
    return i >= 0 and j >= 0 and tuple(a[i].shape) == tuple(b[j].shape)
