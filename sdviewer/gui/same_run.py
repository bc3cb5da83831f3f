"""The other checkpoints of the run of an open file: found in a process of its own, when all else is shown.

It is ended as soon as it has read enough (`engine.same_run`), and with the tab.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from PySide6.QtCore import QObject, QTimer, Signal

from sdviewer.engine.client import Worker
from sdviewer.gui.jobs import Body, Buffers, Jobs

QUIET: Final = 1500
"""Milliseconds between what is asked first of a file and the first look at others beside it."""

PART: Final = 0.5
"""Seconds of reading that are asked for at once."""


class SameRun(QObject):
    """`changed` tells that more is known; `state` is the STATE of `engine.same_run`, empty before."""

    changed = Signal()

    def __init__(self, jobs: Jobs, path: str, parent: QObject) -> None:
        super().__init__(parent)
        self.state: Body = {}
        self._jobs, self._path = jobs, path
        self._worker: Worker | None = None
        self._quiet = QTimer(self, interval=QUIET, singleShot=True)
        self._quiet.timeout.connect(self._start)
        self._begun = False

    def begin(self) -> None:
        """Look for them in a while, once for each open file."""
        if not self._begun:
            self._begun = True
            self._quiet.start()

    def stop(self) -> None:
        """End the process."""
        self._begun = True
        self._quiet.stop()
        self._jobs.drop("same run")
        if self._worker is not None:
            self._worker.stop(wait=False)
            self._worker = None

    def _start(self) -> None:
        self._worker = Worker("same_run")
        self._ask("find", {"path": self._path})

    def _ask(self, name: str, params: dict[str, Any]) -> None:
        if (worker := self._worker) is not None:
            start = partial(worker.request, name, params)
            self._jobs.run("same run", start, self._answered, lambda failure: self.stop(), long=True, background=True)

    def _answered(self, body: Body, buffers: Buffers) -> None:
        self.state = body
        if body["known"]:
            self.changed.emit()
        if body["more"]:
            self._ask("read", {"seconds": PART})
        else:
            self.stop()
