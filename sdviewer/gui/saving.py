"""The saves of one session, one at a time: what was asked for, how far it is, what became of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PySide6.QtCore import QObject, Signal

from sdviewer.core import text
from sdviewer.engine.client import DocumentWorker
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled
from sdviewer.repair.history import Draft, Step

RUNNING: Mapping[str, str] = {
    "code": "save_running",
    "message": "another copy of this file is still being written",
    "remedy": "Wait until it is there, or stop it.",
    "path": "",
}
"""A save that was not begun, as a failure."""


Kind = Literal["repaired", "clean", "slim", "converted"]


@dataclass(frozen=True, slots=True)
class SaveOrder:
    """One copy: where and how it is written. `container`: "" for what the name and the file suggest.

    `first` come before the steps of the recipe, `steps` after them, for this copy alone. `shared`, `shard_size` and
    `state_dict` are as a recipe has them. `overwrite`: a file at `out` may go; `sure`: also if it has hard links, or is
    not the one that was written there last. `kind` is what was asked for: after a repaired copy the next plain save
    goes to the same place.
    """

    out: str
    container: str = ""
    shared: str = ""
    shard_size: str = ""
    state_dict: str | None = None
    first: tuple[Step, ...] = ()
    steps: tuple[Step, ...] = ()
    overwrite: bool = False
    sure: bool = False
    kind: Kind = "repaired"

    def draft(self, recipe: Draft, own: str = "") -> Draft:
        """The recipe that makes this copy, of this file or of one like it; `own` is the file's container."""
        made = replace(recipe, steps=(*self.first, *recipe.steps, *self.steps))
        if self.state_dict is not None and not recipe.steps:
            made = made.for_state_dict(self.state_dict)
        wanted = {
            "format": "" if self.container == own else self.container,
            "shared": self.shared,
            "max_shard_size": self.shard_size,
        }
        said = {name: value for name, value in wanted.items() if value}
        saved = {**(made.head.get("save") or {}), **said}
        if self.container and self.container == own:
            saved.pop("format", None)
        head = {name: value for name, value in made.head.items() if name != "save"}
        return replace(made, head={**head, "save": saved} if saved else head)


@dataclass(frozen=True, slots=True)
class Saved:
    """A copy that was written: its order, the recipe that made it, its receipt, and that as files have it.

    `place` leads to its state dict, None where no one can be named; `mappable`: torch can map its records as they are.
    """

    order: SaveOrder
    draft: Draft
    receipt: Body
    json: bytes
    lines: bytes
    place: list[str | int] | None
    mappable: bool


class Pace:
    """Bytes done, bytes in a second, seconds left; of a save, which first writes its bytes and then reads them back."""

    WINDOW = 3.0
    """Seconds that a rate is taken over."""
    EVERY = 0.4
    """Seconds between two changes of the words: nobody reads faster."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._times: deque[tuple[float, int]] = deque()
        self._said = -self.EVERY
        self.words = f"Saving {name}"

    def tell(self, done: int, total: int, now: float) -> str:
        """What to say at a time, in seconds of any clock, when `done` of `total` bytes are written or read back."""
        if total <= 0:
            return self.words
        if done >= total:
            self.words = f"Putting {self._name} in its place"
            return self.words
        self._times.append((now, done))
        while len(self._times) > 2 and now - self._times[0][0] > self.WINDOW:
            self._times.popleft()
        if now - self._said < self.EVERY:
            return self.words
        self._said = now
        half = total // 2
        writing = done < half
        here = done if writing else done - half
        words = f"{'Writing' if writing else 'Checking'} {self._name}: {text.size(here)} of {text.size(half)}"
        rate = self._rate()
        if rate > 0:
            words += f", {text.size(round(rate))}/s"
            left = (total - done) / rate
            if left >= 1:
                words += f", {_about(left)} left"
        self.words = words
        return words

    def _rate(self) -> float:
        (began, first), (now, last) = self._times[0], self._times[-1]
        # Over less than half a second a rate says what the cache took, not the disk.
        return (last - first) / (now - began) if now - began >= 0.5 else 0.0


def _about(seconds: float) -> str:
    """Seconds to go, no finer than they are known."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def run_paced(
    jobs: Jobs,
    lane: str,
    out: str,
    tell: Callable[[str, float], None],
    start: Callable[[Any, Any, Any], Any],
    done: Callable[[Body, Buffers], None],
    failed: Callable[[Body], None],
) -> Job:
    """Run a job that writes `out`, and `tell` its words ("" when it ended) with how far it is, -1 for unknown."""
    pace = Pace(text.visible(Path(out).name, 60))
    at = (0, 0)

    def begin(ended: Any, wrong: Any, progressed: Any) -> Any:
        def told(written: int, size: int) -> None:  # on the thread that waits for the worker
            nonlocal at
            at = (written, size)
            progressed(written, size)

        return start(ended, wrong, told)

    def over(body: Body, buffers: Buffers) -> None:
        tell("", -1.0)
        done(body, buffers)

    def went_wrong(failure: Body) -> None:
        tell("", -1.0)
        failed(failure)

    tell(pace.words, -1.0)
    return jobs.run(*(lane, begin, over, went_wrong), lambda fraction: tell(pace.tell(*at, time.monotonic()), fraction))


class Saving(QObject):
    """Runs a session's saves. Each ends with exactly one of `saved`, `failed` and `stopped`."""

    job_changed = Signal(str, float)  # text ("" when nothing runs), fraction or -1
    began = Signal()
    saved = Signal(object)  # Saved
    failed = Signal(object)
    stopped = Signal(str)  # the place where nothing was written

    def __init__(self, jobs: Jobs, worker: DocumentWorker, parent: QObject) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._worker = worker
        self._job: Job | None = None
        self._files: dict[str, Mapping[str, int] | None] = {}
        self.last: SaveOrder | None = None
        self.written: Saved | None = None

    @property
    def running(self) -> bool:
        """Whether a copy is being written."""
        return self._job is not None and not self._job.finished

    def begin(self, order: SaveOrder, recipe: Draft, info: Mapping[str, Any]) -> bool:
        """Write a copy; `info` is that of what is open. False: another one is under way, which is told."""
        if self.running:
            self.failed.emit(RUNNING)
            return False
        self.last = order
        self.began.emit()
        draft = order.draft(recipe, str(info["container"]))

        def saved(body: Body, buffers: Buffers) -> None:
            self._files[order.out] = body["identity"]
            receipt = body["receipt"]
            files = (bytes(buffers["json"]), bytes(buffers["text"]))
            self.written = Saved(order, draft, receipt, *files, body["place"], bool(body["mappable"]))
            self.saved.emit(self.written)

        def failed(failure: Body) -> None:
            if is_cancelled(failure):
                self.stopped.emit(order.out)
                return
            if failure.get("identity"):
                # It is there, without its receipt: to save it again replaces this file, and no other.
                self._files[order.out] = failure["identity"]
                self.last = replace(order, overwrite=True)
            self.failed.emit(failure)

        def start(done: Any, wrong: Any, told: Any) -> Any:
            return self._worker.save(
                *(draft.to_text(), order.out, info["identity"], done, wrong, told),
                container=order.container,
                overwrite=order.overwrite,
                split_names=order.sure,
                replaces=None if order.sure else self._files.get(order.out),
            )

        self._job = run_paced(self._jobs, "save", order.out, self.job_changed.emit, start, saved, failed)
        return True

    def wrote(self, out: str) -> bool:
        """Whether what stands at a place was written by this session, as far as it knows."""
        return out in self._files

    def cancel(self) -> bool:
        """Stop the copy under way, of which nothing is left; one that gets its name comes to its end. False: none."""
        if self._job is None or self._job.finished:
            return False
        self._job.cancel()
        return True
