"""The series among the tabs of one window: opening a folder or several files as one, and what is in front."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, QPoint, QTimer, Signal
from PySide6.QtWidgets import QFileDialog, QMenu, QWidget

from sdviewer.core import text
from sdviewer.gui import icons, widgets
from sdviewer.gui.files import OPEN_FILTER, log_for_tests
from sdviewer.gui.panels.series.page import SeriesPage
from sdviewer.gui.panels.tabs import DocumentTabs
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.settings import Settings

ICON = "history"


class SeriesTabs(QObject):
    """`changed` tells that what is in front may look other; two steps are to be compared, or one of them opened."""

    changed = Signal()
    cursor_moved = Signal(str)
    job_changed = Signal(object, str, float)  # whose session, words, fraction
    compare_requested = Signal(str, str)
    files_chosen = Signal(object)  # paths, each for a tab of its own

    def __init__(self, window: QWidget, tabs: DocumentTabs, settings: Settings) -> None:
        super().__init__(window)
        self._window, self._tabs, self._settings = window, tabs, settings

    @property
    def page(self) -> SeriesPage | None:
        """The series in front."""
        page = self._tabs.currentWidget() if self._tabs.count() else None
        return page if isinstance(page, SeriesPage) else None

    @property
    def session(self) -> SeriesSession | None:
        """The session of the series in front."""
        page = self.page
        return page.session if page is not None else None

    def open(self, paths: list[str]) -> None:
        """Open a folder, or several files, as a series of one run; one that is open comes to the front."""
        for page in self._tabs.series():
            if list(page.session.paths) == paths:
                self._tabs.setCurrentWidget(page)
                return
        log_for_tests("series", paths[0])
        session = SeriesSession(paths)
        page = SeriesPage(session)
        for signal in (session.opened, session.open_failed, session.files_changed, session.measuring_changed):
            signal.connect(self.changed)
        session.all_read.connect(lambda: self._remember(session))
        session.job_changed.connect(lambda words, fraction: self.job_changed.emit(session, words, fraction))
        page.close_requested.connect(lambda: self._tabs.close_requested.emit(page))
        page.cursor_moved.connect(self.cursor_moved)
        page.file_chosen.connect(lambda path: self.files_chosen.emit([path]))
        page.compare_requested.connect(self.compare_requested)
        widgets.polish(page)
        self._tabs.add_page(page, ICON)
        session.warm_up()
        page.built.connect(session.open)
        QTimer.singleShot(1, page, page.build)
        self.changed.emit()

    def _remember(self, session: SeriesSession) -> None:
        info = session.info
        self._settings.add_recent_series(session.path, session.paths, int(info["files"]), int(info["nbytes"]))

    def close(self, page: SeriesPage) -> list[str]:
        """Take a series out of the window; the paths that it was opened by."""
        self._tabs.removeTab(self._tabs.indexOf(page))
        page.session.close()
        page.deleteLater()
        self.changed.emit()
        return list(page.session.paths)

    def ask_folder(self) -> None:
        """Choose a folder with several checkpoints of one run."""
        folder = str(self._settings.get("files/last_folder"))
        path = QFileDialog.getExistingDirectory(self._window, "Open a folder as a series", folder)
        if path:
            self._settings.set("files/last_folder", str(Path(path).parent))
            self.open([path])

    def ask_files(self) -> None:
        """Choose several checkpoints of one run."""
        folder = str(self._settings.get("files/last_folder"))
        paths, _ = QFileDialog.getOpenFileNames(self._window, "Open files as a series", folder, OPEN_FILTER)
        if paths:
            self._settings.set("files/last_folder", str(Path(paths[0]).parent))
            self.open(paths)

    def offer(self, paths: list[str], place: QPoint) -> QMenu:
        """Ask at a place on the screen what is to become of several files that were dropped there."""
        menu = QMenu(self._window)
        words = text.plural(len(paths), "file")
        menu.addAction(icons.icon(ICON), f"Open {words} as a &series", lambda: self.open(paths))
        menu.addAction(icons.icon("file"), "Open each in a &tab of its own", lambda: self.files_chosen.emit(paths))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(place)
        return menu
