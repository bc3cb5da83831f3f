"""Brings pyqtgraph and NumPy into the process on a thread, before the first plot: else the window would stall."""

from __future__ import annotations

import importlib
import threading

from PySide6.QtCore import QObject, Qt, Signal


class PlotLibrary(QObject):
    """Whether the plotting library is there yet."""

    loaded = Signal()
    _arrived = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.ready = False
        self._started = False
        self._arrived.connect(self._finish, Qt.ConnectionType.QueuedConnection)

    def load(self) -> None:
        """Begin, once."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._import, name="plot library", daemon=True).start()

    def _import(self) -> None:
        importlib.import_module("sdviewer.gui.plots.axes")
        self._arrived.emit()

    def _finish(self) -> None:
        self.ready = True
        self.loaded.emit()


_library: PlotLibrary | None = None


def library() -> PlotLibrary:
    """The one of this process; made on first use, after QApplication."""
    global _library
    if _library is None:
        _library = PlotLibrary()
    return _library
