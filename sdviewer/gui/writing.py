"""Jobs of a session that write a file, one at a time: how far one is, in words, and what became of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from PySide6.QtCore import QObject, Signal

from sdviewer.core import text
from sdviewer.engine.client import DocumentWorker
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, Start, is_cancelled


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


class Writing(QObject):
    """Runs jobs that write a file. One ends with `failed`, `stopped`, or the word of who derives from this.

    `LANE` is that of its jobs, `BUSY` the failure of one that was not begun because another is under way.
    """

    LANE: ClassVar[str]
    BUSY: ClassVar[Body]

    job_changed = Signal(str, float)  # text ("" when nothing runs), fraction or -1
    failed = Signal(object)
    stopped = Signal(str)  # the place where nothing was written

    def __init__(self, jobs: Jobs, worker: DocumentWorker, parent: QObject) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._worker = worker
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether something is being written."""
        return self._job is not None and not self._job.finished

    def cancel(self) -> bool:
        """Stop what is under way, of which nothing is left; what gets its name comes to its end. False: nothing is."""
        if self._job is None or self._job.finished:
            return False
        self._job.cancel()
        return True

    def _is_free(self) -> bool:
        """Whether nothing is under way; else that is told."""
        if self.running:
            self.failed.emit(self.BUSY)
        return not self.running

    def _run(self, out: str, start: Start, done: Callable[[Body, Buffers], None]) -> None:
        """Write `out`; `start` and `done` are those of `Jobs.run`."""
        pace = Pace(text.visible(Path(out).name, 60))
        at = (0, 0)

        def begin(ended: Any, wrong: Any, progressed: Any) -> Any:
            def told(written: int, size: int) -> None:  # on the thread that waits for the worker
                nonlocal at
                at = (written, size)
                progressed(written, size)

            return start(ended, wrong, told)

        def over(body: Body, buffers: Buffers) -> None:
            self.job_changed.emit("", -1.0)
            done(body, buffers)

        def went_wrong(failure: Body) -> None:
            self.job_changed.emit("", -1.0)
            if is_cancelled(failure):
                self.stopped.emit(out)
            else:
                self._failed(out, failure)

        def went_on(fraction: float) -> None:
            self.job_changed.emit(pace.tell(*at, time.monotonic()), fraction)

        self.job_changed.emit(pace.words, -1.0)
        self._job = self._jobs.run(self.LANE, begin, over, went_wrong, went_on)

    def _failed(self, out: str, failure: Body) -> None:
        self.failed.emit(failure)
