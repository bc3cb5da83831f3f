"""Work that can wait a moment, one piece in a turn of the event loop, whoever wants it: two at once would stall."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer

Call = Callable[[], object]


class SharedTurns(QObject):
    """What waits, in order; `Turns` are those of one owner.

    A piece sees to it itself that what it is about is still there.
    """

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
