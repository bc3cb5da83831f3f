"""Whether what is open is still what lies on the disk: asked again and again, and told when it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PySide6.QtCore import QObject, QTimer, Signal

from sdviewer.gui.jobs import Body, Buffers, Jobs

POLL: Final = 1500
"""Milliseconds between two looks at the file on disk."""

SILENT_LOOKS: Final = 3
"""Looks without an answer after which the drive is said not to answer."""


class DiskWatch(QObject):
    """Asks a worker for `changed` (engine.watch). `looked` tells every answer, `changed` each that is another."""

    looked = Signal(object)
    changed = Signal(object)

    def __init__(self, jobs: Jobs, request: Callable[..., Any], parent: QObject) -> None:
        """`request` asks the worker: name, params, done, failed, progressed."""
        super().__init__(parent)
        self._jobs, self._request = jobs, request
        self._told: tuple[str, bool] = ("same", False)
        self._silent = 0
        self._poll = QTimer(self, interval=POLL)
        self._poll.timeout.connect(self.look)

    def begin(self) -> None:
        """Something was opened: as it is now it is the same."""
        self._told, self._silent = ("same", False), 0
        self._poll.start()

    def stop(self) -> None:
        """Nothing is open."""
        self._poll.stop()

    def look(self) -> None:
        """Find out how it is now."""
        if self._poll.isActive() and not self._jobs.busy("disk"):
            self._jobs.run(
                "disk",
                lambda done, failed, progressed: self._request("changed", {}, done, failed, progressed),
                self._looked,
                lambda failure: None,
                background=True,
            )

    def _looked(self, body: Body, buffers: Buffers) -> None:
        state, young = str(body["state"]), bool(body["young"])
        self._silent = self._silent + 1 if state == "silent" else 0
        if state == "silent" and self._silent < SILENT_LOOKS:
            return
        self.looked.emit(body)
        # A file that is the one that was opened needs no word, however young it is.
        found = (state, young and state != "same")
        if found != self._told:
            self._told = found
            self.changed.emit(body)
