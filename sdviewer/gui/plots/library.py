"""Brings pyqtgraph and NumPy into the process on a thread, before the first plot: else the window would stall."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable

from PySide6.QtCore import QObject, Qt, Signal

from sdviewer.gui.turns import shared_turns


class PlotLibrary(QObject):
    """Whether the plotting library is there yet; `loaded` fires in the window's thread, once."""

    loaded = Signal()
    _arrived = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.ready = False
        self._started = False
        self._calls: list[Callable[[], object]] = []
        self._arrived.connect(self._finish, Qt.ConnectionType.QueuedConnection)

    def load(self) -> None:
        """Begin, if nobody has."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._bring, name="plot library", daemon=True).start()

    def soon(self, call: Callable[[], object]) -> None:
        """Call something once the library is there, in a turn of its own."""
        if self.ready:
            shared_turns().later(call)
        else:
            self._calls.append(call)

    def load_now(self) -> None:
        """Have it when this returns: for a picture that nobody waits at."""
        self._started = True
        _import()
        self._finish()

    def _bring(self) -> None:
        _import()
        self._arrived.emit()

    def _finish(self) -> None:
        if not self.ready:
            self.ready = True
            self.loaded.emit()
            for call in self._calls:
                shared_turns().later(call)
            self._calls.clear()


@functools.cache
def library() -> PlotLibrary:
    """The one of this process; made on first use, after QApplication."""
    return PlotLibrary()


def _import() -> None:
    importlib.import_module("sdviewer.gui.plots.canvas")
