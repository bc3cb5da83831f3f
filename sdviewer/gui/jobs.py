"""Requests to worker processes, their answers queued into the window's thread.

A lane is exclusive: a newer job in it drops the older, whose late results nobody hears of. What may be long is
cancelled too; what is short is not, since a worker that does not notice a cancel at once is ended, with all that it
knows. Slots are given when a job is started; there is no way to connect afterwards.

Answers are handed out one in a turn of the event loop. Qt sends all queued calls before it looks at timers and input,
also those that arrive meanwhile and the paints that they cause: a page whose plots got their numbers one right after
another was not heard of for 70 ms, though none of them took 8.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PySide6.QtCore import QObject, Qt, QTimer, Signal

Body = Mapping[str, Any]
Buffers = Mapping[str, memoryview]
Done = Callable[[Body, Buffers], None]
Failed = Callable[[Body], None]
Progressed = Callable[[float], None]


class Handle(Protocol):
    """What the engine gives back for a request."""

    def cancel(self) -> None: ...
    def drop(self) -> None: ...


Start = Callable[[Done, Failed, Callable[[int, int], None]], Handle]


@dataclass(eq=False)
class Job:
    """One request to a worker. `fraction` is how far it is, -1 where nobody knows."""

    lane: str
    done: Done
    failed: Failed
    progressed: Progressed | None
    long: bool = False
    background: bool = False
    handle: Handle | None = None
    dropped: bool = False
    finished: bool = False

    def cancel(self) -> None:
        """Stop it; its `failed` is called with the code "cancelled"."""
        if self.handle is not None and not self.finished:
            self.handle.cancel()


class Jobs(QObject):
    """The jobs of one session or window."""

    _arrived = Signal()
    idle = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lanes: dict[str, Job] = {}
        self._running: set[Job] = set()
        self._closed = False
        self._posting = threading.Lock()
        self._calls: deque[Callable[[], None]] = deque()
        self._handing_out = self._held = False
        self._arrived.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def run(
        self,
        lane: str,
        start: Start,
        done: Done,
        failed: Failed,
        progressed: Progressed | None = None,
        *,
        long: bool = False,
        background: bool = False,
    ) -> Job:
        """Start a job; an older one of a named lane is dropped, and cancelled if it is a `long` one.

        One in the `background` does not count as something that is waited for.
        """
        job = Job(lane, done, failed, progressed, long, background)
        if lane:
            self.drop(lane)
            self._lanes[lane] = job
        if not background:
            self._running.add(job)

        # These run on the engine's waiting thread.
        def answered(body: Body, buffers: Buffers) -> None:
            self._post(lambda: self._finish(job, lambda: job.done(body, buffers)))

        def went_wrong(body: Body) -> None:
            self._post(lambda: self._finish(job, lambda: job.failed(body)))

        def went_on(done: int, total: int) -> None:
            fraction = done / total if total else -1.0
            self._post(lambda: self._tell(job, fraction))

        job.handle = start(answered, went_wrong, went_on)
        return job

    def drop(self, lane: str) -> None:
        """Forget what runs in a lane; its slots are not called any more."""
        older = self._lanes.pop(lane, None)
        if older is not None and not older.finished:
            older.dropped = True
            self._running.discard(older)
            if older.long:
                older.cancel()
            elif older.handle is not None:
                older.handle.drop()

    def busy(self, lane: str = "") -> bool:
        """Whether a lane, or any, waits for an answer."""
        return lane in self._lanes if lane else bool(self._running)

    def hold(self) -> None:
        """Keep answers until `release`: there is nobody yet to show them."""
        self._held = True

    def release(self) -> None:
        """Hand out what was kept, and what comes."""
        with self._posting:
            self._held = False
            if self._calls and not self._handing_out:
                self._handing_out = True
                self._arrived.emit()

    def close(self) -> None:
        """Hear of nothing any more; after this returns no other thread touches this object."""
        with self._posting:
            self._closed = True
            self._calls.clear()
        self._lanes.clear()
        self._running.clear()

    def _post(self, call: Callable[[], None]) -> None:
        with self._posting:
            if self._closed:
                return
            self._calls.append(call)
            if not self._handing_out:
                self._handing_out = True
                self._arrived.emit()

    def _deliver(self) -> None:
        with self._posting:
            if self._closed or self._held or not self._calls:
                self._handing_out = False
                return
            call = self._calls.popleft()
        # Set before the call: a dialog that it opens runs an event loop of its own, which goes on with the others.
        QTimer.singleShot(1, self, self._deliver)
        call()

    def _finish(self, job: Job, call: Callable[[], None]) -> None:
        job.finished = True
        self._running.discard(job)
        if job.dropped:
            return
        if self._lanes.get(job.lane) is job:
            del self._lanes[job.lane]
        call()
        if not self._running and not self._closed and not job.background:
            self.idle.emit()

    def _tell(self, job: Job, fraction: float) -> None:
        if not job.dropped and not job.finished and job.progressed is not None:
            job.progressed(fraction)


def is_cancelled(failure: Body) -> bool:
    """Whether a failure only says that somebody stopped the job."""
    return failure.get("code") == "cancelled"
