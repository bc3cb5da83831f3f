"""One open series as the window knows it: its files and how far they are read and measured.

One worker opens the files and keeps what is shown (`engine.series`), another measures (`engine.series_survey`); what is
to be measured and what was goes from one to the other through here, a file at a time, so that both can be stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from PySide6.QtCore import QObject, QTimer, Signal

from sdviewer.core import text
from sdviewer.engine.client import Request, Worker
from sdviewer.gui.jobs import Body, Buffers, Job, Jobs, is_cancelled

State = Literal["opening", "open", "failed"]
Measuring = Literal["", "offered", "measuring", "stopped", "done"]

PART: Final = 0.3
"""Seconds of reading headers that are asked for at once."""

AUTOMATIC: Final = 4 << 30
"""Bytes of all files together that are measured without being asked for."""


class SeriesSession(QObject):
    """A series in a tab. `info` is the STATE of `engine.series`."""

    opened = Signal()
    open_failed = Signal()
    files_changed = Signal()  # more headers are read: files, keys, metrics
    numbers_changed = Signal()  # more is measured: lines, matrix
    measuring_changed = Signal()
    job_changed = Signal(str, float)

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__()
        self.paths = tuple(paths)
        self.path = paths[0] if len(paths) == 1 else str(Path(paths[0]).parent)
        self.state: State = "opening"
        self.info: Body = {}
        self.failure: Body = {}
        self.what = "norm"
        """What the numbers are wanted for, which are measured first."""
        self.sight: list[int] = []
        """Steps that somebody looks at."""
        self.measuring: Measuring = ""
        self.left = self.total = 0
        self.trouble = ""
        self._asked_for = self._stopped = False
        self.jobs = Jobs(self)
        self._worker = Worker("series")
        self._survey: Worker | None = None
        self.job = ("", -1.0)

    @property
    def name(self) -> str:
        """The folder's own name, printable."""
        return str(self.info.get("name") or text.visible(Path(self.path).name or self.path, 120))

    @property
    def tip(self) -> str:
        """Where the files lie, printable."""
        return text.visible(self.path, 400)

    @property
    def step_paths(self) -> list[str]:
        """The files in the order of their steps."""
        return [str(path) for path in self.info.get("paths", ())]

    def label(self, step: int) -> str:
        """What a step is called: `epoch 12`, or the name of its file."""
        labels, unit = self.info.get("labels", ()), str(self.info.get("unit", ""))
        return f"{unit} {labels[step]}".strip() if 0 <= step < len(labels) else ""

    # Opening

    def warm_up(self) -> None:
        """Start the worker, so that it is there when it is asked."""
        self._worker.start()

    def open(self) -> None:
        """Find the files and read their headers; again where that was done before."""
        self._stop_survey()
        self.state, self.failure, self.measuring, self.trouble = "opening", {}, "", ""
        self._stopped = False
        self._tell_job("Looking for checkpoints", -1.0)
        self._run("read", "open", {"paths": list(self.paths)}, self._found, self._failed, long=True)

    def _found(self, body: Body, buffers: Buffers) -> None:
        self.state, self.info = "open", body
        self.opened.emit()
        self._read_on()

    def _failed(self, failure: Body) -> None:
        self._tell_job("", -1.0)
        self.failure = failure
        if self.state == "opening":
            self.state = "failed"
            self.open_failed.emit()
        elif not is_cancelled(failure):
            self.trouble = text.visible(str(failure.get("message", "")), 300)
            self.files_changed.emit()

    def _read_on(self) -> None:
        read, files = int(self.info["read"]), int(self.info["files"])
        if read < files:
            self._tell_job(f"Reading {read:,} of {files:,} files", read / files)
            self._run("read", "read", {"seconds": PART, "stop": self._stopped}, self._read, self._failed)
            return
        self._tell_job("", -1.0)
        self._begin_measuring()

    def _read(self, body: Body, buffers: Buffers) -> None:
        self.info = body
        self.files_changed.emit()
        self._read_on()

    def cancel_opening(self) -> None:
        """Give up on a folder that takes long."""
        self.jobs.drop("read")
        self._failed({"code": "cancelled", "message": "You stopped it", "remedy": ""})

    # Measuring

    def _begin_measuring(self) -> None:
        if self._asked_for or int(self.info.get("nbytes", 0)) <= AUTOMATIC:
            self.measure()
        else:
            self._say("offered")

    def measure(self) -> None:
        """Measure what is not, file by file."""
        if self.measuring in ("measuring", "done") or self.state != "open":
            return
        self._asked_for = self._asked_for or self.measuring in ("offered", "stopped")
        self._survey = Worker("series_survey")
        self._say("measuring")
        self._next()

    def _next(self) -> None:
        if self.measuring == "measuring":
            self._run("todo", "todo", {"what": self.what, "first": self.sight}, self._told, self._give_up)

    def _told(self, body: Body, buffers: Buffers) -> None:
        self.left, self.total = int(body["left"]), int(body["total"])
        work = body["work"]
        if work is None or self._survey is None:
            self._stop_survey()
            self._say("done")
            return
        done = self.total - self.left
        self._tell_job(f"Measuring {done:,} of {self.total:,}", done / max(self.total, 1))
        survey, key = self._survey, work["key"]
        params = {**work["params"]}
        self.jobs.run(
            "measure",
            lambda d, f, p: survey.request(work["name"], params, d, f, p, buffers=buffers),
            lambda found, measured: self._measured(key, found, measured),
            lambda failure: self._not_measured(key, failure),
            lambda fraction: self._tell_job(
                f"Measuring {done:,} of {self.total:,}", (done + max(fraction, 0)) / self.total
            ),
            long=True,
            background=True,
        )

    def _measured(self, key: Any, body: Body, buffers: Buffers) -> None:
        self._note("note", {"key": key, "body": dict(body)}, buffers)

    def _not_measured(self, key: Any, failure: Body) -> None:
        if is_cancelled(failure):
            return
        self._note("unread", {"key": key, "failure": str(failure.get("message", ""))}, {})
        self.files_changed.emit()

    def _note(self, name: str, params: Mapping[str, Any], buffers: Buffers) -> None:
        def noted(body: Body, _: Buffers) -> None:
            self.numbers_changed.emit()
            self._next()

        self.jobs.run(
            "note",
            lambda d, f, p: self._worker.request(name, params, d, f, p, buffers=buffers),
            noted,
            self._give_up,
            background=True,
        )

    def _give_up(self, failure: Body) -> None:
        self._stop_survey()
        if not is_cancelled(failure):
            self.trouble = text.visible(str(failure.get("message", "")), 300)
        self._say("stopped")

    def cancel_job(self) -> None:
        """Stop what the status bar tells; what is measured stays."""
        if self.measuring == "measuring":
            self._stop_survey()
            self._say("stopped")
        elif self.state == "opening":
            self.cancel_opening()
        else:
            self._stopped = True  # what is read stays, and nothing more is

    def _stop_survey(self) -> None:
        for lane in ("todo", "measure", "note"):
            self.jobs.drop(lane)
        if self._survey is not None:
            self._survey.stop(wait=False)
            self._survey = None
        self._tell_job("", -1.0)

    def _say(self, measuring: Measuring) -> None:
        self.measuring = measuring
        self.measuring_changed.emit()

    def _tell_job(self, words: str, fraction: float) -> None:
        if (words, fraction) != self.job:
            self.job = (words, fraction)
            self.job_changed.emit(words, fraction)

    # Anything else

    def ask(self, name: str, params: Mapping[str, Any], done: Any) -> Job:
        """Ask the worker for what a card shows; a newer question replaces an older of its kind."""
        return self.jobs.run(
            f"show {name}",
            lambda d, f, p: self._worker.request(name, params, d, f, p),
            done,
            lambda failure: None,
        )

    def _run(
        self, lane: str, name: str, params: Mapping[str, Any], done: Any, failed: Any, *, long: bool = False
    ) -> None:
        def start(done: Any, failed: Any, progressed: Any) -> Request:
            return self._worker.request(name, params, done, failed, progressed)

        self.jobs.run(lane, start, done, failed, long=long, background=True)

    def close(self) -> None:
        """End the workers; nothing is heard of this series any more."""
        self._stop_survey()
        self.jobs.close()
        QTimer.singleShot(0, self.deleteLater)
        self._worker.stop(wait=False)
