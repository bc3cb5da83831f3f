"""Tabs of documents: middle click closes, a dot marks what is not saved."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QEnterEvent, QMouseEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QTabBar, QTabWidget, QToolButton, QWidget

from sdviewer.gui import icons, widgets
from sdviewer.gui.panels.compare.page import ComparePage
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.series.page import SeriesPage
from sdviewer.gui.panels.workbench.page import WorkbenchPage
from sdviewer.gui.plain import plain_tip


class _Bar(QTabBar):
    middle_clicked = Signal(int)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.MiddleButton:
            index = self.tabAt(event.position().toPoint())
            if index >= 0:
                self.middle_clicked.emit(index)
                return
        super().mouseReleaseEvent(event)

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self._show_crosses(True)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._show_crosses(False)

    def _show_crosses(self, shown: bool) -> None:
        for index in range(self.count()):
            cross = self.tabButton(index, QTabBar.ButtonPosition.RightSide)
            if isinstance(cross, QToolButton):
                cross.setIconSize(QSize(11, 11) if shown else QSize(0, 0))


class DocumentTabs(QTabWidget):
    """One tab a document."""

    close_requested = Signal(object)  # a page of any kind
    repair_requested = Signal(str)  # the file that is to fit something
    compare_requested = Signal(str)  # the file that is compared with another
    open_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._bar = _Bar()
        self.setTabBar(self._bar)
        self.setDocumentMode(True)
        self.setMovable(True)
        self.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.setIconSize(QSize(15, 15))
        self._bar.setDrawBase(False)
        self._bar.setExpanding(False)
        self._bar.setFixedHeight(38)
        self._bar.setAccessibleName("Documents")
        self._bar.middle_clicked.connect(lambda index: self.close_requested.emit(self.widget(index)))
        self._bar.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self._bar.customContextMenuRequested.connect(self._show_menu)
        plus = widgets.icon_button("plus", "Open a file", 16)
        plus.clicked.connect(self.open_requested)
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(6, 0, 18, 8)
        row.addWidget(plus)
        holder.setFixedHeight(38)
        self.setCornerWidget(holder)

    def add_page(self, page: DocumentPage | ComparePage | SeriesPage | WorkbenchPage, icon: str = "file") -> None:
        """Put a document, a comparison, a series or a workbench into a tab and to the front."""
        index = self.addTab(page, icons.icon(icon), _escaped(page.session.name))
        self.setTabToolTip(index, plain_tip(page.session.tip))
        cross = widgets.icon_button("x", f"Close {page.session.name}", 11)
        cross.setIconSize(QSize(0, 0))
        cross.setFixedSize(18, 18)
        cross.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        cross.clicked.connect(lambda: self.close_requested.emit(page))
        self._bar.setTabButton(index, QTabBar.ButtonPosition.RightSide, cross)
        self.setCurrentIndex(index)

    def pages(self) -> list[DocumentPage]:
        """All documents, from the left."""
        return [page for i in range(self.count()) if isinstance(page := self.widget(i), DocumentPage)]

    def comparisons(self) -> list[ComparePage]:
        """All comparisons, from the left."""
        return [page for i in range(self.count()) if isinstance(page := self.widget(i), ComparePage)]

    def series(self) -> list[SeriesPage]:
        """All series, from the left."""
        return [page for i in range(self.count()) if isinstance(page := self.widget(i), SeriesPage)]

    def workbenches(self) -> list[WorkbenchPage]:
        """All workbenches, from the left."""
        return [page for i in range(self.count()) if isinstance(page := self.widget(i), WorkbenchPage)]

    def rename_workbench(self, page: WorkbenchPage) -> None:
        """Its target may be another; a dot behind the name of what is not saved."""
        index = self.indexOf(page)
        if index >= 0:
            self.setTabText(index, _escaped(page.session.name) + ("  •" if page.session.modified else ""))
            self.setTabToolTip(index, plain_tip(page.session.tip))

    def rename(self, page: ComparePage) -> None:
        """Its files may stand the other way round."""
        index = self.indexOf(page)
        if index >= 0:
            self.setTabText(index, _escaped(page.session.name))
            self.setTabToolTip(index, plain_tip(page.session.tip))

    def mark(self, page: DocumentPage, modified: bool) -> None:
        """A dot behind the name of what is not saved."""
        index = self.indexOf(page)
        if index >= 0:
            self.setTabText(index, _escaped(page.session.name) + ("  •" if modified else ""))

    def _show_menu(self, position: QPoint) -> None:
        index = self._bar.tabAt(position)
        page = self.widget(index)
        if not isinstance(page, DocumentPage | ComparePage | SeriesPage | WorkbenchPage):
            return
        menu = QMenu(self)
        if isinstance(page, DocumentPage):
            path = page.session.path
            menu.addAction("Compare with…", lambda: self.compare_requested.emit(path))
            menu.addAction("Repair to fit…", lambda: self.repair_requested.emit(path))
            menu.addAction("Copy path", lambda: widgets.copy_text(path))
        menu.addAction("Close", lambda: self.close_requested.emit(page))
        menu.exec(self._bar.mapToGlobal(position))


def _escaped(name: str) -> str:
    # An ampersand in a tab's text would become a mnemonic.
    return name.replace("&", "&&")
