"""Pieces of work, each in a turn of the event loop of its own: all at once would stall the window."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal


class Turns(QObject):
    """What is still to be done, in its order. `ended` fires when nothing is left."""

    ended = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._steps: list[Callable[[], object]] = []

    def add(self, *steps: Callable[[], object]) -> None:
        """Do these behind what is there already."""
        idle = not self._steps
        self._steps += steps
        if idle:
            QTimer.singleShot(1, self, self._next)

    @property
    def busy(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self._steps)

    def _next(self) -> None:
        if self._steps:
            self._steps.pop(0)()
        if self._steps:
            QTimer.singleShot(1, self, self._next)
        else:
            self.ended.emit()
