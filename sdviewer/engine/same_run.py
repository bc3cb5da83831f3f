"""The other checkpoints of the run that an open file is of, and the best metric that they state, over its steps.

A process of its own that lets all others go first and reads headers only: of a long run evenly some, until it has read
`MOST_READ` files or spent `LONGEST` seconds. A file whose keys and shapes are not mostly those of the open one is of
another model, and left out.

Requests (name: parameters -> body of the result):

    find     {"path"} -> STATE: the files are known by their names
    read     {"seconds"} -> STATE: further headers are read, until so many seconds have passed

    STATE    {"files": n of the run, without those that were read and are of another model; 0 where it is no run,
              "known": whether enough is read to be shown, "more": whether more is to be read, "unit" of the labels,
              "metric": its short name, "" where the files state none that tells how good they are,
              "points": [POINT] of the files that were read, in the order of their steps, "own": place of the open file,
              "to_open": [path] that open as a series}
    POINT    [label, metric | null, path]
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.core.series.metrics import find_metrics, shortest_names
from sdviewer.core.series.order import Dated, order, steps_in
from sdviewer.core.series.same_run import FEWEST_NUMBERED, is_alike
from sdviewer.engine.frames import Answer
from sdviewer.engine.run_headers import LARGEST, StatedNumbers, chosen_of, evenly
from sdviewer.errors import SDViewerError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.run_files import Beside, run_beside

FIRST_READ: Final = 24
"""Files that are read first, evenly over the run: enough for a line ..."""

MOST_READ: Final = 96
"""... and at most."""

LONGEST: Final = 6.0
"""Seconds of reading after which it is enough: headers can be large, and drives slow."""

BEHIND: Final = 5
"""How much further than other workers this one stands back."""

NO_RUN: Final[Mapping[str, Any]] = {
    "files": 0,
    "known": True,
    "more": False,
    "unit": "",
    "metric": "",
    "points": [],
    "own": -1,
    "to_open": [],
}

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Header:
    """What one file says of itself."""

    path: str
    dated: Dated
    stated: Mapping[str, float]
    shapes: frozenset[tuple[str, tuple[int, ...]]]


class SameRun:
    """The service of one open file."""

    def __init__(self) -> None:
        self._run: Beside | None = None
        self._own = ""
        self._plan: list[int] = []
        """Which of the files are still to be read, the next one first."""
        self._until_known = 0
        """How many of these are left when enough is known."""
        self._headers: dict[int, _Header] = {}
        self._others: set[int] = set()
        """Those that were read and are of another model, or cannot be read."""
        self._spent = 0.0
        self._stated = StatedNumbers()
        self._nice = False
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {"find": self.find, "read": self.read}

    def find(self, params: Params, progress: Progress) -> Answer:
        """Find the files by their names."""
        if not self._nice and hasattr(os, "nice"):
            os.nice(BEHIND)
            self._nice = True
        self._own = os.path.abspath(str(params["path"]))  # noqa: PTH100
        self._run = run = run_beside(self._own, progress)
        self._plan, self._headers, self._others, self._spent = [], {}, set(), 0.0
        if run is not None:
            own = [at for at, (_, path) in enumerate(run.files) if path == self._own]
            by_name = order([Dated(name) for name, _ in run.files]).places
            most = [by_name[place] for place in evenly(len(by_name), MOST_READ)]
            first = [most[place] for place in evenly(len(most), FIRST_READ)]
            self._plan = list(dict.fromkeys([*own, *first, *most])) if own else []
            self._until_known = len(self._plan) - len({*own, *first})
        return Answer(self._state())

    def read(self, params: Params, progress: Progress) -> Answer:
        """Read further headers, the open file's own first; one at least."""
        began = time.monotonic()
        until = began + float(params["seconds"])
        while self._plan:
            self._read(self._plan.pop(0), progress)
            if time.monotonic() >= until:
                break
        self._spent += time.monotonic() - began
        if self._spent > LONGEST:
            self._plan = []
        return Answer(self._state())

    def _read(self, at: int, progress: Progress) -> None:
        assert self._run is not None
        name, path = self._run.files[at]
        header: _Header | None = None
        with contextlib.suppress(SDViewerError):  # nobody asked for that file: there is nothing to be told
            header = self._header(name, path, open_checkpoint(path, progress=progress))
        own = next(iter(self._headers.values()), None)
        if header is not None and (own is None or is_alike(own.shapes, header.shapes)):
            self._headers[at] = header
        elif own is None:
            self._plan = []  # there is nothing to compare others with
        else:
            self._others.add(at)

    def _header(self, name: str, path: str, checkpoint: Checkpoint) -> _Header:
        chosen = chosen_of(checkpoint, None)
        entries = chosen.entries if chosen is not None else ()
        shapes = frozenset([(key, checkpoint.tensors[at].shape) for key, at in entries])
        stated, _ = self._stated.of(checkpoint, path)
        return _Header(path, Dated(name, checkpoint.identity.mtime_ns, steps_in(checkpoint.values)), stated, shapes)

    def _state(self) -> dict[str, Any]:
        run, headers = self._run, list(self._headers.values())
        if run is None or not self._is_run(run):
            return dict(NO_RUN)
        found = order([header.dated for header in headers])
        in_order = [headers[place] for place in found.places]
        metric = next(iter(find_metrics([header.stated for header in in_order])), None)
        if metric is not None and not metric.rule:
            metric = None  # a number that says nothing of how good a model is
        values = metric.values if metric is not None else [float("nan")] * len(in_order)
        return {
            "files": len(run.files) - len(self._others),
            "known": len(self._plan) <= (self._until_known if run.told_by_names else 0),
            "more": bool(self._plan),
            "unit": found.unit,
            "metric": text.visible(shortest_names([metric.name])[metric.name], 60) if metric is not None else "",
            "points": [
                [label, value if abs(value) < LARGEST else None, header.path]
                for header, label, value in zip(in_order, found.labels, values, strict=True)
            ],
            "own": next((at for at, header in enumerate(in_order) if header.path == self._own), -1),
            "to_open": list(run.to_open) if not self._others else self._paths(run),
        }

    def _paths(self, run: Beside) -> list[str]:
        """The files but those of other models."""
        return [path for at, (_, path) in enumerate(run.files) if at not in self._others]

    def _is_run(self, run: Beside) -> bool:
        """Whether it is one, or may turn out to be.

        Where names do not tell, the files are exactly alike, or each states a step of its own.
        """
        headers = self._headers.values()
        if self._plan:
            return True
        if run.told_by_names:
            return len(headers) > 1
        steps = {tuple(sorted(header.dated.steps.items())) for header in headers}
        one_each = len(steps) == len(headers) and () not in steps
        return len(headers) >= FEWEST_NUMBERED and (one_each or len({header.shapes for header in headers}) == 1)
