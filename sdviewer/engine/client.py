"""The window's side of a worker process: requests, progress, and cancel that always works.

Two threads serve each process: one starts it and writes what it is asked, one waits for its answers, so that who asks
waits neither for a process nor for a pipe. Callbacks run on the waiting thread; the window queues them into its own.
Cancelling asks first and ends the process after `PATIENCE` seconds: a worker holds nothing that cannot be made again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from sdviewer.engine.failures import CANCELLED, DIED
from sdviewer.engine.frames import Frame, read_frame, write_frame
from sdviewer.engine.naming import look

PATIENCE = 0.15
"""Seconds a worker has to notice a cancel before it is ended."""

GRACE = 30.0
"""Seconds that a process with something to clean up has after a cancel before it is ended; nobody waits for it."""

LAST_WAIT = 1.0
"""Seconds that somebody who stops a worker waits until it is gone; one that waits for a dead drive cannot be ended."""

Done = Callable[[Mapping[str, Any], Mapping[str, memoryview]], None]
Failed = Callable[[Mapping[str, Any]], None]
Progressed = Callable[[int, int], None]
Printed = Callable[[str], None]
"""Takes all that somebody's code has printed so far."""

ON_THE_WAY = ("progress", "printed")
"""Frames that are no answer yet."""


def worker_command(service: str) -> list[str]:
    """The command line of a worker; `-P` keeps the current folder off its import path."""
    return [sys.executable, "-P", "-m", "sdviewer.engine.worker", service]


def worker_environment() -> dict[str, str]:
    """Our own, without what would let a worker import from the current folder or load what nobody asked for.

    An empty entry in PYTHONPATH, which a needless colon makes, is the current folder.
    """
    environment = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    # The workers of a pool share the cores: threads of a product that wait for one another on a busy core make singular
    # values take ten times as long.
    environment.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, environment["PYTHONPATH"].split(os.pathsep)))
    return environment


@dataclass(eq=False)
class Request:
    """One request on its way. After `cancel` its `failed` is called with `CANCELLED`, exactly once.

    `naming` is the identity of the file that it writes, once that gets its name (`engine.naming`): then it is done, and
    a `cancel` comes too late.
    """

    id: int
    name: str
    params: Mapping[str, Any]
    done: Done
    failed: Failed
    progressed: Progressed | None = None
    printed: Printed | None = None
    owner: Worker | None = None
    finished: bool = False
    cancelling: bool = False
    naming: Mapping[str, int] | None = None
    buffers: Mapping[str, Any] = field(default_factory=dict)

    def cancel(self) -> None:
        """Stop the work, whatever it takes, unless its file gets its name already; returns at once."""
        if self.owner is not None:
            self.owner.cancel(self)

    def drop(self) -> None:
        """Nobody waits for this any more: it is left out if it can be, and nothing is ended for it."""
        if self.owner is not None:
            self.owner.cancel(self, end=False)


class _Process:
    """A worker process and what it has been asked. It is started, written to and ended by a thread of its own."""

    def __init__(self, service: str) -> None:
        self.pending: dict[int, Request] = {}
        self.waiter: threading.Thread | None = None
        self._service = service
        self._outbox: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.popen: subprocess.Popen[bytes] | None = None
        self.is_left = False
        self._ended = threading.Event()

    def write(self, frame: Frame) -> None:
        """Send a frame in its turn; returns at once."""
        self._outbox.put(frame)

    def write_no_more(self) -> None:
        """Close its pipe behind what is written: the process then ends by itself."""
        self._outbox.put(None)

    def end(self) -> None:
        """End the process, also one that is just being started; returns at once."""
        # No lock, which would be held while the process starts: this or `start` sees what the other one set before.
        self._ended.set()
        if self.popen is not None:
            self.popen.kill()
        self._outbox.put(None)

    def leave(self, grace: float) -> None:
        """Let the process end what it does, at most for `grace` seconds; returns at once."""
        self.is_left = True
        timer = threading.Timer(grace, self.end)
        timer.daemon = True
        timer.start()

    def start(self) -> BinaryIO | None:
        """Start the process and its writing thread; the pipe of its answers, None where it was ended before.

        Raises:
            OSError: the system starts no more processes.
        """
        if self._ended.is_set():
            return None
        popen = subprocess.Popen(
            worker_command(self._service), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker_environment()
        )
        self.popen = popen
        if self._ended.is_set():
            popen.kill()
        writer = threading.Thread(target=self._write_all, args=(popen,), name=f"to {self._service} worker", daemon=True)
        writer.start()
        return cast(BinaryIO, popen.stdout)

    def wait(self) -> None:
        """Wait until the process is gone; nothing is written to it any more."""
        self._outbox.put(None)
        if self.popen is not None:
            cast(BinaryIO, self.popen.stdout).close()
            self.popen.wait()

    def _write_all(self, popen: subprocess.Popen[bytes]) -> None:
        # Where it died the waiting thread sees its pipe close and tells everybody.
        stream = cast(BinaryIO, popen.stdin)
        with contextlib.suppress(OSError, ValueError):
            while (frame := self._outbox.get()) is not None:
                write_frame(stream, frame)
        with contextlib.suppress(OSError):
            stream.close()


class Worker:
    """One worker process, started by the first request (or `start`) and again after it died.

    `grace`: seconds that a process has to clean up after a cancel that it did not notice in time.
    """

    def __init__(self, service: str, grace: float = 0.0) -> None:
        self.service = service
        self._grace = grace
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._process: _Process | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the process now, so that it is warm when the first request comes."""
        with self._lock:
            if self._process is None and not self._stopped:
                self._process = self._spawn()

    def request(
        self,
        name: str,
        params: Mapping[str, Any],
        done: Done,
        failed: Failed,
        progressed: Progressed | None = None,
        *,
        printed: Printed | None = None,
        buffers: Mapping[str, Any] | None = None,
    ) -> Request:
        """Ask the worker; requests are answered in order. It gets raw `buffers` among its `params`."""
        request = Request(next(self._ids), name, params, done, failed, progressed, printed, self, buffers=buffers or {})
        with self._lock:
            self._send(request)
        return request

    def cancel(self, request: Request, *, end: bool = True) -> None:
        """Ask the worker to stop `request`; if `end`, end the process when it has not in `PATIENCE` seconds."""
        with self._lock:
            process = self._process
            if request.finished or request.cancelling or process is None or request.id not in process.pending:
                return
            if request.naming is not None:
                return
            request.cancelling = True
            process.write(Frame(request.id, "cancel"))
        if not end:
            return
        timer = threading.Timer(PATIENCE, self._end_if_pending, (process, request))
        timer.daemon = True
        timer.start()

    def stop(self, *, wait: bool = True) -> None:
        """End the process; no callback comes after this returns, but for one that runs already if not `wait`.

        Waits at most `LAST_WAIT` seconds.
        """
        with self._lock:
            self._stopped = True
            process, self._process = self._process, None
            if process is not None:
                process.pending.clear()
                process.end()
        if wait and process is not None and process.waiter not in (None, threading.current_thread()):
            process.waiter.join(LAST_WAIT)

    def before_first_request(self, process: _Process) -> None:
        """Called when a process was started anew, before the request that caused it is sent."""

    def _send(self, request: Request) -> None:
        if self._stopped:
            return
        if self._process is None:
            self._process = self._spawn()
        if not self._process.pending and request.name != "open":
            self.before_first_request(self._process)
        self._post(self._process, request)

    def _post(self, process: _Process, request: Request) -> None:
        process.pending[request.id] = request
        body = {"name": request.name, "params": request.params}
        process.write(Frame(request.id, "request", body, request.buffers))

    def _spawn(self) -> _Process:
        process = _Process(self.service)
        process.waiter = threading.Thread(
            target=self._wait, args=(process,), name=f"{self.service} worker", daemon=True
        )
        process.waiter.start()
        return process

    def _wait(self, process: _Process) -> None:
        """The waiting thread: starts the process and hands out answers until it ends."""
        stream = None
        with contextlib.suppress(OSError):  # no process to be had: as if it had died at once
            stream = process.start()
        while stream is not None and (frame := read_frame(stream)) is not None:
            with self._lock:
                request = process.pending.get(frame.id)
                if frame.type == "naming":
                    self._let_name(process, request, frame)
                    continue
                if request is not None and frame.type not in ON_THE_WAY:
                    del process.pending[frame.id]
                    request.finished = True
            if request is not None:
                _hand_over(request, frame)
            elif process.is_left and frame.type not in ON_THE_WAY:
                process.write_no_more()  # it is done, and ends
        with self._lock:
            orphans = self._take(process)
        process.wait()
        _tell(orphans)

    def _let_name(self, process: _Process, request: Request | None, frame: Frame) -> None:
        """Let a file have its name, or not where the job was stopped; with the lock, so that it is one or the other."""
        goes = request is not None and not request.cancelling
        if request is not None and goes:
            request.naming = frame.body
            if request.progressed is not None:
                request.progressed(1, 1)
        process.write(Frame(frame.id, "go" if goes else "cancel"))

    def _end_if_pending(self, process: _Process, request: Request) -> None:
        with self._lock:
            if request.id not in process.pending:
                return
            orphans = self._take(process)
        if self._grace:
            process.leave(self._grace)
        else:
            process.end()
        # Told now and not when it is gone: a process that waits for a dead drive ends when that answers, if ever.
        _tell(orphans)

    def _take(self, process: _Process) -> list[Request]:
        """What a process that ends was still asked; nobody is asked through it any more."""
        orphans = list(process.pending.values())
        process.pending.clear()
        for request in orphans:
            request.finished = True
        if self._process is process:
            self._process = None
        return orphans


def _tell(orphans: Iterable[Request]) -> None:
    for request in orphans:
        request.failed(CANCELLED if request.cancelling else _true_failure(request, DIED))


def _true_failure(request: Request, failure: Mapping[str, Any]) -> Mapping[str, Any]:
    """What became of a job that failed when its file was to get its name: the file may be there all the same."""
    if request.naming is None:
        return failure
    return look(str(request.params["out"]), request.naming) or failure


def _hand_over(request: Request, frame: Frame) -> None:
    if frame.type == "progress":
        if request.progressed is not None:
            request.progressed(frame.body["done"], frame.body["total"])
    elif frame.type == "printed":
        if request.printed is not None:
            request.printed(frame.body["words"])
    elif frame.type == "result" and not request.cancelling:
        request.done(frame.body, frame.buffers)
    elif frame.type == "failed" and not request.cancelling:
        request.failed(_true_failure(request, frame.body))
    else:
        request.failed(CANCELLED)


def request_alone(
    service: str,
    name: str,
    params: Mapping[str, Any],
    done: Done,
    failed: Failed,
    progressed: Progressed | None = None,
    *,
    printed: Printed | None = None,
    grace: float = 0.0,
) -> Request:
    """Ask a process of its own, which ends with its answer; `grace` as `Worker` has it."""
    worker = Worker(service, grace)

    def answered(body: Mapping[str, Any], buffers: Mapping[str, memoryview]) -> None:
        worker.stop()
        done(body, buffers)

    def went_wrong(body: Mapping[str, Any]) -> None:
        worker.stop()
        failed(body)

    return worker.request(name, params, answered, went_wrong, progressed, printed=printed)


class DocumentWorker(Worker):
    """The worker of one open document: opens its file again, with its recipe, when the process had to be ended."""

    def __init__(self, path: str) -> None:
        super().__init__("document")
        self.path = path
        self.recipe = ""
        self._opened_in: _Process | None = None

    def open(self, done: Done, failed: Failed, progressed: Progressed | None = None, *, recipe: str = "") -> Request:
        """Open the file (again)."""
        self.recipe = recipe
        with self._lock:
            if self._process is None and not self._stopped:
                self._process = self._spawn()
            self._opened_in = self._process
        return self.request("open", {"path": self.path, "recipe": recipe}, done, failed, progressed)

    def edit(self, recipe: str, selected: list[int], done: Done, failed: Failed, *, strict: bool = True) -> Request:
        """Put `recipe` (its text) in the place of the recipe there was; kept only when the worker accepts it.

        Where it is not `strict` a recipe is accepted of which a step does not go through.
        """

        def accepted(body: Mapping[str, Any], buffers: Mapping[str, memoryview]) -> None:
            self.recipe = recipe
            done(body, buffers)

        return self.request("edit", {"recipe": recipe, "selected": selected, "strict": strict}, accepted, failed)

    def save(
        self,
        recipe: str,
        out: str,
        identity: Mapping[str, int],
        done: Done,
        failed: Failed,
        progressed: Progressed | None = None,
        *,
        container: str = "",
        overwrite: bool = False,
        split_names: bool = False,
        replaces: Mapping[str, int] | None = None,
        others: Mapping[str, Any] | None = None,
        target: Mapping[str, Any] | None = None,
    ) -> Request:
        """Save a repaired copy, in a process of its own: the document answers meanwhile, and a cancel ends only that.

        `identity` is the `info` field of what is open, `others` the `edit` field of the files that tensors are taken
        from: what changed since is not saved from. `container`: ""
        for what `out`, the recipe or the file itself suggests. A file at `out` is replaced with `overwrite`; if it has
        hard links, only with `split_names`; with `replaces`, the identity of a file, only that one. `target`: what
        the result has to fit (TARGET of engine.target_check); the receipt says whether it does.
        """
        params = {
            "path": self.path,
            "recipe": recipe,
            "out": out,
            "container": container,
            "overwrite": overwrite,
            "split_names": split_names,
            "replaces": None if replaces is None else dict(replaces),
            "identity": dict(identity),
            "others": dict(others or {}),
            "target": None if target is None else dict(target),
        }
        # Where a file without a name cannot be had, one that is ended at once leaves what it wrote so far.
        return request_alone("document", "save", params, done, failed, progressed, grace=GRACE)

    def export(
        self, params: Mapping[str, Any], done: Done, failed: Failed, progressed: Progressed | None = None
    ) -> Request:
        """Write tensors into a file of their own, in a process of its own (`engine.exports`); adds the path."""
        return request_alone("document", "export", {**params, "path": self.path}, done, failed, progressed)

    def check_contents(
        self, identity: Mapping[str, int], done: Done, failed: Failed, progressed: Progressed | None = None
    ) -> Request:
        """Compare all bytes with their checksums, in a process of its own: it takes long, and nobody waits for it."""
        params = {"path": self.path, "identity": dict(identity)}
        return request_alone("numbers", "contents", params, done, failed, progressed)

    def before_first_request(self, process: _Process) -> None:
        if self._opened_in is process:
            return
        self._opened_in = process
        params = {"path": self.path, "recipe": self.recipe}
        self._post(process, Request(next(self._ids), "open", params, _ignore_result, _ignore_failure, owner=self))


def _ignore_result(body: Mapping[str, Any], buffers: Mapping[str, memoryview]) -> None:
    """The window already shows what a replayed `open` says."""


def _ignore_failure(body: Mapping[str, Any]) -> None:
    """The request that follows fails too, and is told."""


@dataclass(eq=False)
class PoolRequest:
    """A request to the pool, waiting for a free worker or on its way."""

    pool: NumbersPool
    name: str
    params: Mapping[str, Any]
    done: Done
    failed: Failed
    progressed: Progressed | None
    sent: Request | None = None

    def cancel(self) -> None:
        """Stop the work; returns at once. `failed` is called with `CANCELLED`."""
        if self.pool.withdraw(self):
            self.failed(CANCELLED)
        elif self.sent is not None:
            self.sent.cancel()

    drop = cancel
    """A worker of the pool holds nothing: what nobody waits for is stopped like anything else."""


class NumbersPool:
    """A few workers for statistics and plots; what is urgent goes before what waits, the newest first."""

    def __init__(self, size: int = 2) -> None:
        self._free = [Worker("numbers") for _ in range(size)]
        self._workers = tuple(self._free)
        self._cold = list(self._workers)
        self._waiting: deque[PoolRequest] = deque()
        self._lock = threading.RLock()

    def start(self) -> None:
        """Start the process of one worker."""
        self._workers[0].start()

    def warm_up(self) -> None:
        """Have the workers load what measures large tensors, one after another: the others can be asked meanwhile."""
        with self._lock:
            # The one that is asked last, so that the next request does not wait for this.
            worker = next((worker for worker in reversed(self._free) if worker in self._cold), None)
            if worker is None or self._waiting:
                return
            self._free.remove(worker)
            self._cold.remove(worker)

        def finished(*answer: Any) -> None:
            with self._lock:
                self._free.append(worker)
            self._assign()
            self.warm_up()

        worker.request("warm_up", {}, finished, finished)

    def request(
        self,
        name: str,
        params: Mapping[str, Any],
        done: Done,
        failed: Failed,
        progressed: Progressed | None = None,
        *,
        urgent: bool = True,
    ) -> PoolRequest:
        """Ask for numbers (`sdviewer.engine.numbers`)."""
        request = PoolRequest(self, name, params, done, failed, progressed)
        with self._lock:
            if urgent:
                self._waiting.appendleft(request)
            else:
                self._waiting.append(request)
            self._assign()
        return request

    def withdraw(self, request: PoolRequest) -> bool:
        """Take back a request that still waits; False when a worker has it or had it."""
        with self._lock:
            if request not in self._waiting:
                return False
            self._waiting.remove(request)
            return True

    def stop(self) -> None:
        """End all workers; no callback comes after this returns."""
        with self._lock:
            self._waiting.clear()
        for worker in self._workers:
            worker.stop()

    def _assign(self) -> None:
        """Give waiting requests to free workers."""
        with self._lock:
            while self._free and self._waiting:
                self._send(self._free.pop(0), self._waiting.popleft())

    def _send(self, worker: Worker, request: PoolRequest) -> None:
        def free() -> None:
            with self._lock:
                self._free.insert(0, worker)
            self._assign()

        def done(body: Mapping[str, Any], buffers: Mapping[str, memoryview]) -> None:
            free()
            request.done(body, buffers)

        def failed(body: Mapping[str, Any]) -> None:
            free()
            request.failed(body)

        request.sent = worker.request(request.name, request.params, done, failed, request.progressed)
