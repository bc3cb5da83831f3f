"""The application: one process, one main window, and what happens with an error nobody foresaw."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from platformdirs import user_state_path
from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QApplication

from sdviewer import APP_ID, __version__
from sdviewer.engine.client import DocumentWorker, NumbersPool
from sdviewer.engine.instance import OpenRequest, serve
from sdviewer.gui import resources
from sdviewer.gui.interpreter import Collector
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.plots.library import library
from sdviewer.gui.settings import Settings
from sdviewer.gui.smallest_size import room_on


class Arrivals(QObject):
    """Files that a second start hands over; `arrived` carries its `OpenRequest` into the window's thread."""

    arrived = Signal(object)


class Surprises(QObject):
    """Tells errors that nobody foresaw in the document in front; the program goes on."""

    happened = Signal(str)

    def install(self) -> None:
        """Take over from Python's hooks, in every thread."""
        sys.excepthook = self._tell
        threading.excepthook = lambda arguments: self._tell(
            arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        )

    def _tell(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            QApplication.quit()
            return
        details = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(details)
        self.happened.emit(details)


def make_application() -> QApplication:
    """The one QApplication of this process, or a new one."""
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    app = QApplication(["sdviewer"])
    app.setApplicationName("sdviewer")
    app.setApplicationDisplayName("sdviewer")
    app.setApplicationVersion(__version__)
    app.setDesktopFileName(APP_ID)
    app.setAttribute(Qt.ApplicationAttribute.AA_DontShowIconsInMenus, False)
    return app


def make_window(settings: Settings, pool: NumbersPool, journals: Path | None = None) -> MainWindow:
    """A main window with the surprises of this process told in it; `journals` is its folder of unsaved edits."""
    window = MainWindow(settings, pool, journals)
    surprises = Surprises(window)
    surprises.happened.connect(lambda details: _tell_surprise(window, details), Qt.ConnectionType.QueuedConnection)
    surprises.install()
    return window


def run(
    paths: Sequence[str], started: DocumentWorker | None = None, *, compare: bool = False, series: bool = False
) -> int:
    """Show the window with these files until it is closed; `started` is as `MainWindow.open_paths` has it.

    `compare`: with two beside each other; `series`: with all of one run in one tab.
    """
    app = make_application()
    settings = Settings()
    resources.dress(app, settings.get("appearance/theme"))
    pool = NumbersPool()
    window = make_window(settings, pool, user_state_path("sdviewer") / "journals")
    window.resize(window.size().boundedTo(room_on(window.screen())))
    window.show()
    window.take(list(paths), started, compare=compare, series=series)
    window.recovery.look()
    arrivals = Arrivals()
    arrivals.arrived.connect(lambda request: _take(window, request), Qt.ConnectionType.QueuedConnection)
    server = serve(arrivals.arrived.emit)
    if not paths:
        # After the first paint: they compete for the same cores. Where there is a document, behind that.
        QTimer.singleShot(0, pool.start)
        QTimer.singleShot(0, library().load)
    Collector(window).start()
    # Ctrl+C in the terminal is noticed only while Python code runs.
    signal.signal(signal.SIGINT, lambda *_: window.close())
    heartbeat = QTimer(window)
    heartbeat.timeout.connect(lambda: None)
    heartbeat.start(500)
    code = app.exec()
    server.close()
    window.recovery.close()
    pool.stop()
    return code


def _take(window: MainWindow, request: OpenRequest) -> None:
    """Open what another start was asked for, and come to the front."""
    if request.activation_token:
        os.environ["XDG_ACTIVATION_TOKEN"] = request.activation_token
    window.take(list(request.paths), compare=request.compare, series=request.series)
    window.setWindowState(window.windowState() & ~Qt.WindowState.WindowMinimized)
    window.raise_()
    window.activateWindow()


def _tell_surprise(window: MainWindow, details: str) -> None:
    page = window.current_page() or window.comparisons.page
    if page is not None:
        page.banner.tell(
            "error", "Something went wrong in sdviewer.", "Your file was not changed and no edit is lost.", details
        )
