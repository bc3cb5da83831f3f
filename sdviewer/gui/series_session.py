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

MOST_DEATHS: Final = 3
"""Times that the files are opened again by themselves because the worker had ended ..."""

MOST_DEADLY: Final = 20
"""... and files that are left out because it ends each time that it reads them."""

AUTOMATIC: Final = 4 << 30
"""Bytes of all files together that are measured without being asked for."""


class SeriesSession(QObject):
    """A series in a tab. `info` is the STATE of `engine.series`."""

    opened = Signal()
    open_failed = Signal()
    all_read = Signal()
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
        self.subject: list[str] | None = None
        """What of the files it is about, as `engine.series` has it; None: the model."""
        self.what = "norm"
        """What the numbers are wanted for, which are measured first."""
        self.sight: list[int] = []
        """Steps that somebody looks at."""
        self.measuring: Measuring = ""
        self.left = self.total = 0
        self.trouble = ""
        self._asked_for = self._stopped = False
        self._deaths = 0
        self._deadly: list[str] = []
        """Files that the worker has died of, which are not read again."""
        self._unlucky: Any = None
        """What the survey has died of once."""
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

    @property
    def is_measured(self) -> bool:
        """Whether all is measured that can be: what has no number then has none."""
        return self.measuring == "done"

    # Opening

    def warm_up(self) -> None:
        """Start the worker, so that it is there when it is asked."""
        self._worker.start()

    def open(self) -> None:
        """Find the files and read their headers; again where that was done before."""
        self._deaths, self._deadly, self.trouble = 0, [], ""
        self._open()

    def choose_subject(self, subject: list[str] | None) -> None:
        """Be about something else in the files, which are read again for that."""
        if subject != self.subject:
            self.subject = subject
            self._open()

    def _open(self) -> None:
        self._stop_survey()
        self.state, self.failure, self.measuring = "opening", {}, ""
        self._stopped, self._unlucky = False, None
        self._tell_job("Looking for checkpoints", -1.0)
        params = {"paths": list(self.paths), "skip": self._deadly, "subject": self.subject}
        self._run("read", "open", params, self._found, self._not_found, long=True)

    def _found(self, body: Body, buffers: Buffers) -> None:
        self.state, self.info = "open", body
        self.opened.emit()
        self._read_on()

    def _not_found(self, failure: Body) -> None:
        if not self._died(failure):
            self._failed(failure)

    def _failed(self, failure: Body) -> None:
        self._tell_job("", -1.0)
        self.failure = failure
        if self.state == "opening":
            self.state = "failed"
            self.open_failed.emit()
        elif not is_cancelled(failure):
            self.trouble = text.visible(str(failure.get("message", "")), 300)
            self.files_changed.emit()

    def _died(self, failure: Body) -> bool:
        """Open everything again where the worker has ended: it knew nothing that is not in the files."""
        if failure.get("code") not in ("worker_died", "not_open"):
            return False
        self._deaths += 1
        if self._deaths > MOST_DEATHS + min(len(self._deadly), MOST_DEADLY):
            self._stop_survey()
            self.state, self.failure = "failed", DIED_AGAIN
            self.open_failed.emit()
        else:
            self._open()
        return True

    def _not_read(self, failure: Body) -> None:
        """The worker may have died of a file: read one at a time it is known of which, and that one is left out."""
        if self._deaths and failure.get("code") == "worker_died":
            self._deadly.append(str(self.info["next"]))
        if not self._died(failure):
            self._failed(failure)

    def _read_on(self) -> None:
        read, files = int(self.info["read"]), int(self.info["files"])
        if read < files:
            self._tell_job(f"Reading {read:,} of {files:,} files", read / files)
            params = {"seconds": 0.0 if self._deaths else PART, "stop": self._stopped}
            self._run("read", "read", params, self._read, self._not_read)
            return
        self._tell_job("", -1.0)
        self.all_read.emit()
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
        if failure.get("code") == "worker_died" and key != self._unlucky:
            self._unlucky = key  # not of this file, perhaps
            self._next()
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
        if self._died(failure):
            return
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
            self._not_shown,
        )

    def _not_shown(self, failure: Body) -> None:
        if self.state == "open":  # else it is being opened again already
            self._died(failure)

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


DIED_AGAIN: Final = {
    "code": "worker_died",
    "message": "the process that reads these files ended suddenly, again and again",
    "remedy": "Open single files of the folder, to see which one it is.",
}
