"""Pieces of work, each in a turn of the event loop of its own, whoever wants it: two at once would stall the window."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal
from shiboken6 import isValid

Call = Callable[[], object]


class SharedTurns(QObject):
    """What waits in this process, in order. A piece sees to it itself that what it is about is still there."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: deque[Call] = deque()
        # Not 0, which would come before what else waits for its turn.
        self._next = QTimer(self, interval=1, singleShot=True)
        self._next.timeout.connect(self._call_next)

    def later(self, call: Call, *, first: bool = False) -> None:
        """Call it in a turn of its own; `first`: before all that waits already."""
        (self._calls.appendleft if first else self._calls.append)(call)
        if not self._next.isActive():
            self._next.start()

    def _call_next(self) -> None:
        call = self._calls.popleft()
        if self._calls:
            self._next.start()
        call()


@functools.cache
def shared_turns() -> SharedTurns:
    """The one of this process; made on first use, after QApplication."""
    return SharedTurns()


class Turns(QObject):
    """What one owner has still to do, in its order, among the shared turns. `ended` fires when nothing is left."""

    ended = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._steps: list[Call] = []

    def add(self, *steps: Call) -> None:
        """Do these behind what is there already."""
        idle = not self._steps
        self._steps += steps
        if idle and steps:
            shared_turns().later(self._next)

    @property
    def busy(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self._steps)

    def _next(self) -> None:
        if not isValid(self):
            return  # its owner is gone
        self._steps[0]()
        del self._steps[0]  # what it adds itself comes behind what is there
        if self._steps:
            shared_turns().later(self._next, first=True)
        else:
            self.ended.emit()
