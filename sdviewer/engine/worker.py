"""A worker process: takes requests from stdin one after another, answers on stdout.

Started as `python -P -m sdviewer.engine.worker SERVICE` (`-P`: nothing is imported from the current folder). A thread
listens for `cancel`, which the running request notices in its next call of `progress`. When the window goes away the
pipe closes and the process ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO, Protocol

from sdviewer.core.checkpoint import Identity
from sdviewer.core.progress import Progress
from sdviewer.engine.failures import failure, unforeseen
from sdviewer.engine.frames import Answer, Frame, read_frame, write_frame
from sdviewer.engine.hardening import harden
from sdviewer.errors import Cancelled, SDViewerError

NICE = 5
"""How far a worker stands back: the window and its event loop go first where cores are few."""

PROGRESS_INTERVAL = 0.05
"""Seconds between two progress messages of one request."""


Handler = Callable[[Mapping[str, Any], Progress], Answer]


class Service(Protocol):
    """What one kind of worker can do; `requests` maps a request's name to its handler."""

    requests: Mapping[str, Handler]


def run(service: Service, incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer requests until the other side closes `incoming`."""
    todo: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    words: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    cancelled: set[int] = set()

    def listen() -> None:
        while (frame := read_frame(incoming)) is not None:
            if frame.type == "request":
                todo.put(frame)
                continue
            if frame.type == "cancel":
                cancelled.add(frame.id)
            words.put(frame)
        # The window is gone: so is every reason to go on, whatever is running.
        os._exit(0)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    while (request := todo.get()) is not None:
        try:
            write_frame(outgoing, _answer(service, request, _Progress(request.id, cancelled, words, outgoing)))
        except BrokenPipeError:
            os._exit(0)  # as in `listen`, noticed here first


class _Progress:
    """The progress of one request: what is told of it, and what the window says to it."""

    def __init__(
        self, request: int, cancelled: Collection[int], words: queue.SimpleQueue[Frame], outgoing: BinaryIO
    ) -> None:
        self._request = request
        self._cancelled = cancelled
        self._words = words
        self._outgoing = outgoing
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self._request in self._cancelled:
            raise Cancelled
        now = time.monotonic()
        if now - self._last >= PROGRESS_INTERVAL:
            self._last = now
            write_frame(self._outgoing, Frame(self._request, "progress", {"done": done, "total": total}))

    def printed(self, words: str) -> None:
        """Tell what somebody's code has printed so far (`engine.models`)."""
        write_frame(self._outgoing, Frame(self._request, "printed", {"words": words}))

    def before_naming(self, identity: Identity) -> None:
        """Wait until the window lets the file have its name (`engine.naming`).

        Raises:
            Cancelled: somebody stopped the job before.
        """
        write_frame(self._outgoing, Frame(self._request, "naming", asdict(identity)))
        # A word that came too late for an earlier request is still in the queue.
        while (word := self._words.get()).id != self._request:
            pass
        if word.type != "go":
            raise Cancelled


def _answer(service: Service, request: Frame, progress: Progress) -> Frame:
    try:
        progress(0, 0)
        handler = service.requests[request.body["name"]]
        answer = handler({**request.body["params"], **request.buffers}, progress)
    except Cancelled:
        return Frame(request.id, "cancelled")
    except SDViewerError as error:
        return Frame(request.id, "failed", failure(error))
    except Exception as error:  # The worker's outermost frame: what no room foresaw is told, not lost.
        return Frame(request.id, "failed", unforeseen(error))
    return Frame(request.id, "result", answer.body, answer.buffers)


def main(service_name: str) -> None:
    """The process: frames go out on a private copy of stdout, so that nothing else can write among them."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    outgoing = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    service = _service(service_name)
    run(_Fenced(service, *_fence(service_name, service)), sys.stdin.buffer, outgoing)


class _Fenced:
    """A service whose process is hardened before it answers one of the `requests` that make it look at a file."""

    def __init__(self, service: Service, requests: Collection[str], writable: Iterable[str]) -> None:
        fenced = False

        def behind(handler: Handler) -> Handler:
            def answer(params: Mapping[str, Any], progress: Progress) -> Answer:
                nonlocal fenced
                if not fenced:
                    fenced = True
                    harden(writable, may_write=True, programs=[sys.executable])
                return handler(params, progress)

            return answer

        self.requests: Mapping[str, Handler] = {
            name: behind(handler) if name in requests else handler for name, handler in service.requests.items()
        }


def _fence(name: str, service: Service) -> tuple[Collection[str], list[str]]:
    """Which requests of a service want the fence, and what stays writable.

    A process that saves gets no `open`: it writes where the user says, and starts torch to check that.
    """
    import tempfile

    if name in ("document", "comparison", "workbench"):
        from sdviewer.engine.statistics_store import folder

        # An HDF5 file is read by a process of its own, from a temporary copy where it is packed. What was measured is
        # kept for the next time.
        kept = str(folder())
        _make(kept)
        return ("open",), [tempfile.gettempdir(), kept]
    if name == "building":
        return (), []
    import platformdirs

    # Numbers keep compiled loops in the user's cache, and an inflated storage in a temporary file.
    cache = os.environ.get("NUMBA_CACHE_DIR") or str(platformdirs.user_cache_path("sdviewer") / "numba")
    _make(cache)
    return service.requests.keys(), [cache, tempfile.gettempdir()]


def _make(place: str) -> None:
    """Make a folder: a rule needs one that is there."""
    with contextlib.suppress(OSError):
        os.makedirs(place, mode=0o700, exist_ok=True)  # noqa: PTH103


def _service(name: str) -> Service:
    if name == "document":
        from sdviewer.engine.document import Document

        gc.disable()  # a checkpoint has no cycles worth finding, and a collection over 100,000 rows costs 0.1 s
        return Document()
    if name == "comparison":
        from sdviewer.engine.comparison import Comparison

        gc.disable()
        return Comparison()
    if name == "workbench":
        from sdviewer.engine.workbench import Workbench

        gc.disable()
        return Workbench()
    if name == "building":
        from sdviewer.engine.building import Building

        return Building()
    if name == "target":
        from sdviewer.engine.target_reading import TargetReading

        gc.disable()
        return TargetReading()
    if name == "proposals":
        from sdviewer.engine.proposing import Proposals

        gc.disable()
        return Proposals()
    if name == "survey":
        from sdviewer.engine.survey import Survey

        return Survey()
    if name == "pair_survey":
        from sdviewer.engine.pair_survey import PairSurvey

        return PairSurvey()
    if name == "series":
        from sdviewer.engine.series import Series

        return Series()
    if name == "same_run":
        from sdviewer.engine.same_run import SameRun

        return SameRun()
    if name == "series_survey":
        from sdviewer.engine.series_survey import SeriesSurvey

        return SeriesSurvey()
    from sdviewer.engine.numbers import Numbers

    return Numbers()


if __name__ == "__main__":
    main(sys.argv[1])
