"""What the views of a whole file share: a head with a way back, a table of rows that come in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QModelIndex, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QScrollArea,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column, RowsModel
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Elided

PAGE = 200
"""Rows asked for at once."""

ROW_HEIGHT = 28


class FileView(QWidget):
    """One view in the place of the details. `settled` fires when everything that was asked for is shown.

    It is made and filled a piece a turn of the event loop: all at once would stall the window.
    """

    settled = Signal()
    back_requested = Signal()

    name = ""
    title = ""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.session = session
        self._turns: list[Callable[[], object]] = []
        self._unmade = list(self.pieces())
        self.heading = widgets.label(self.title, "path")
        self.summary = Elided("", "second")
        back = widgets.icon_button("x", "Back to the details (Esc)")
        back.clicked.connect(self.back_requested)
        self.head = QHBoxLayout()
        self.head.setSpacing(10)
        self.head.addWidget(self.heading)
        self.head.addStretch(1)
        self.head.addWidget(back)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(16, 12, 12, 12)
        self.column.setSpacing(8)
        self.column.addLayout(self.head)
        self.column.addWidget(self.summary)

    def pieces(self) -> Sequence[Callable[[], object]]:
        """What makes the parts of the view, one after another, before it is first filled."""
        return ()

    @property
    def built(self) -> bool:
        """Whether all parts are made, and nothing waits for its turn."""
        return not self._unmade and not self._turns

    def show_now(self) -> None:
        """Make what is not made yet, then ask for what is shown."""
        made, self._unmade = self._unmade, []
        self.in_turns([*made, self.refresh])

    def in_turns(self, steps: Sequence[Callable[[], object]]) -> None:
        """Do these behind what waits already, one a turn of the event loop."""
        idle = not self._turns
        self._turns += steps
        if idle:
            QTimer.singleShot(1, self._next)

    def _next(self) -> None:
        if self._turns:
            self._turns[0]()
            self._turns.pop(0)
        if self._turns:
            QTimer.singleShot(1, self._next)

    def refresh(self) -> None:
        """Ask for what is shown; called when the view comes to the front, and when the file was read again."""
        raise NotImplementedError

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.back_requested.emit()
            return
        super().keyPressEvent(event)


def scrolled(inside: QWidget) -> QScrollArea:
    """A page that scrolls up and down."""
    scroll = QScrollArea()
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    scroll.setWidget(inside)
    return scroll


class RowsTable(QTableView):
    """A table of a RowsModel; Ctrl+C copies the selected rows. `request` names what the worker is asked for pages."""

    row_activated = Signal(object)
    row_chosen = Signal(object)

    def __init__(self, columns: Sequence[Column], name: str, model: RowsModel | None = None) -> None:
        super().__init__()
        self.rows = RowsModel(columns) if model is None else model
        self.setModel(self.rows)
        self.setAccessibleName(name)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTabKeyNavigation(False)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        head = self.horizontalHeader()
        head.setFixedHeight(28)
        head.setHighlightSections(False)
        head.setMinimumSectionSize(40)
        for at, column in enumerate(columns):
            if column.width:
                self.setColumnWidth(at, column.width)
            else:
                head.setSectionResizeMode(at, QHeaderView.ResizeMode.Stretch)
        self.activated.connect(lambda index: self.row_activated.emit(self.rows.rows[index.row()]))
        self.selectionModel().currentRowChanged.connect(self._row_changed)

    def _row_changed(self, index: QModelIndex, before: QModelIndex) -> None:
        if index.isValid():
            self.row_chosen.emit(self.rows.rows[index.row()])

    def feed_from(
        self, session: Session, request: str, lane: str, also: Callable[[], dict[str, Any]] | None = None
    ) -> None:
        """Get further pages from the document's worker; `also` are further parameters of the request."""

        def ask(start: int) -> None:
            def answered(body: Body, buffers: Buffers) -> None:
                self.rows.add_rows(start, body["rows"])
                self.rows.came()

            params = {"start": start, "limit": PAGE, **(also() if also is not None else {})}
            session.ask(request, params, answered, lambda failure: self.rows.came(), lane=f"{lane} more")

        self.rows.wanted.connect(ask)

    def fit_height(self, most: int) -> None:
        """Be as high as the rows, up to `most` of them."""
        shown = max(min(len(self.rows.rows), most), 1)
        self.setFixedHeight(self.horizontalHeader().height() + shown * ROW_HEIGHT + 4)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            chosen = sorted({index.row() for index in self.selectionModel().selectedRows()})
            QGuiApplication.clipboard().setText(self.rows.as_text(chosen))
            return
        super().keyPressEvent(event)


def cell(at: int) -> Any:
    """The text of a row's field."""
    return lambda row: str(row[at])
