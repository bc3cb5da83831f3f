"""How Python runs in the window's process: threads give way quickly, and garbage is looked for when nobody waits.

The interpreter lock changes hands only every 5 ms unless a shorter time is set, and a window asks for it at each event.
The cyclic collector runs whenever enough objects were made, in whatever thread made them: a full collection takes 20 to
50 ms, and one on a waiting thread would destroy Qt objects that belong to the window's. So it is off, and a timer of
the window collects instead: the young often, everything only when nothing has happened for a while.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

from PySide6.QtCore import QObject, QTimer

SWITCH_INTERVAL: Final = 0.0005
"""Seconds a thread may keep the interpreter lock while another wants it."""
_TICK: Final = 1_000
_FEW: Final = 300
"""New objects in a tick up to which the window counts as idle."""
_STILL: Final = 4
"""Idle ticks after which everything is collected, once."""


class Collector(QObject):
    """Collects garbage in the window's thread."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._idle = 0
        self._timer = QTimer(self, interval=_TICK)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Take over from the automatic collector. What is there now stays, so it is never walked again."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        gc.disable()
        gc.freeze()
        self._timer.start()

    def _tick(self) -> None:
        made = gc.get_count()[0]
        self._idle = self._idle + 1 if made <= _FEW else 0
        if self._idle == _STILL:
            gc.collect()
        elif self._idle == 0:
            gc.collect(0)
