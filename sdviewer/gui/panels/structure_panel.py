"""The Raw structure view: objects as the pickles have them, records of the archive, storages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractItemView, QSplitter, QStackedWidget, QTreeView, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.models.structure_model import LABEL, PAGE, PLACE, TYPE, VALUE, StructureModel
from sdviewer.gui.panels.file_view import PAGE as ROWS
from sdviewer.gui.panels.file_view import FileView, RowsTable, cell
from sdviewer.gui.panels.wording import failure_words
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card, CodeBlock, Segments

PAGES = (("objects", "Objects", "dict"), ("records", "Records", "file"), ("storages", "Storages", "treemap"))


AnyPage = TypeVar("AnyPage", bound="_Page")


class StructurePanel(FileView):
    """Three lists, one at a time."""

    name = "structure"
    title = "Raw structure"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.segments = Segments(PAGES, "Part of the structure")
        self.segments.chosen.connect(self.show_page)
        self.head.insertWidget(2, self.segments)
        self._stack = QStackedWidget()
        self._stack.addWidget(QWidget())
        self.column.addWidget(self._stack, 1)
        self._shown = "objects"

    @cached_property
    def objects(self) -> ObjectsPage:
        """Pickles and what is in them."""
        return self._add(ObjectsPage(self.session))

    @cached_property
    def records(self) -> RecordsPage:
        """Records of the archive."""
        return self._add(RecordsPage(self.session))

    @cached_property
    def storages(self) -> StoragesPage:
        """Runs of raw numbers."""
        return self._add(StoragesPage(self.session))

    def _add(self, page: AnyPage) -> AnyPage:
        widgets.polish(page)
        self._stack.addWidget(page)
        page.said = self.summary.setText
        page.arrived = self.settled.emit
        return page

    def pieces(self) -> Sequence[Callable[[], object]]:
        """The lists."""
        return (lambda: self.objects, lambda: self.records, lambda: self.records.text, lambda: self.storages)

    def _page(self, name: str) -> _Page:
        return {"objects": self.objects, "records": self.records, "storages": self.storages}[name]

    def refresh(self) -> None:
        """Ask anew: the file may have been read again."""
        for name, _, _ in PAGES:
            self._page(name).stale = True
        self.show_page(self._shown)

    def show_page(self, name: str) -> None:
        """Show objects, records or storages."""
        self._shown = name
        self.segments.choose(name)
        page = self._page(name)
        self._stack.setCurrentWidget(page)
        if page.stale:
            page.stale = False
            page.refresh()
        else:
            page.said(page.words)


class _Page(QWidget):
    """One of the lists; `said` shows its summary, `arrived` tells that it is shown."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.stale = True
        self.words = ""
        self.said: Any = None
        self.arrived: Any = None
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)

    def refresh(self) -> None:
        raise NotImplementedError

    def say(self, words: str) -> None:
        self.words = words
        self.said(words)
        self.arrived()


class ObjectsPage(_Page):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.model = StructureModel()
        self.model.wanted.connect(self._ask)
        self.view = ObjectsView(self.model)
        card = Card()
        card.column.setContentsMargins(1, 4, 1, 1)
        card.set_body(self.view)
        self.column.addWidget(card)
        self._opened = False

    def refresh(self) -> None:
        self._opened = False
        self.model.forget()
        self.model.ask(0)

    def _ask(self, item: int, start: int) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            self.model.add(item, start, body["rows"], int(body["total"]))
            if not item:
                self.say(
                    "Every container, value and object, as the file has it. None was made: calls and classes are only "
                    "named."
                    if body["total"]
                    else "There is nothing but the tensors in this container."
                )
            if not self._opened:
                self._open_first(item)

        params = {"item": item, "start": start, "limit": PAGE}
        self.session.ask("structure", params, answered, lambda failure: self.model.failed(item))

    def _open_first(self, item: int) -> None:
        """Open the first pickle and what it returns, so that the objects are in sight."""
        index = self.model.index(0, 0, self.model.index_of(item))
        depth = 0
        above = index.parent()
        while above.isValid():
            depth, above = depth + 1, above.parent()
        self._opened = depth >= 2
        if index.isValid() and not self._opened and self.model.hasChildren(index):
            self.view.expand(index)


class ObjectsView(QTreeView):
    """The tree of objects; Return on a "more" row gets more, Ctrl+C copies a row."""

    def __init__(self, model: StructureModel) -> None:
        super().__init__()
        self._model = model
        self.setModel(model)
        self.setAccessibleName("Objects of the file")
        self.setUniformRowHeights(True)
        self.setAlternatingRowColors(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setIndentation(18)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        head = self.header()
        head.setFixedHeight(28)
        head.setStretchLastSection(False)
        head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for section, width in ((LABEL, 270), (TYPE, 190), (PLACE, 150)):
            self.setColumnWidth(section, width)
        head.setSectionResizeMode(VALUE, head.ResizeMode.Stretch)
        self.activated.connect(self._more)
        self.clicked.connect(self._more)

    def _more(self, index: QModelIndex) -> None:
        above = self._model.more_of(index)
        if above >= 0:
            self._model.ask(above)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy) and self.currentIndex().isValid():
            QGuiApplication.clipboard().setText(self._model.as_text(self.currentIndex()))
            return
        super().keyPressEvent(event)


def _bytes(at: int) -> Any:
    return lambda row: text.size(int(row[at]))


def _exact(at: int) -> Any:
    return lambda row: f"{int(row[at]):,} bytes"


class RecordsPage(_Page):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        columns = (
            Column("Record", cell(1), 0, True, token=lambda row: "S" if row[8] else "text"),
            Column("Holds", lambda row: str(row[8] or row[2]), 110, token=lambda row: "S" if row[8] else "text2"),
            Column("Offset", lambda row: f"{int(row[3]):,}", 110, right=True),
            Column("Size", _bytes(4), 90, right=True, tip=_exact(4)),
            Column("In the file", _stored, 110, right=True, tip=_exact(5)),
            Column("CRC-32", lambda row: str(row[7] or "–"), 90, True),
        )
        self.table = RowsTable(columns, "Records")
        self.table.feed_from(session, "records", "records")
        self.table.row_chosen.connect(self._look)
        self._text_card = Card("Text", "choose a record")
        card = Card()
        card.column.setContentsMargins(1, 4, 1, 1)
        card.set_body(self.table)
        self._split = QSplitter(Qt.Orientation.Vertical)
        self._split.setChildrenCollapsible(False)
        self._split.setHandleWidth(10)
        self._split.setProperty("role", "gap")
        self._split.addWidget(card)
        self.column.addWidget(self._split)

    @cached_property
    def text(self) -> CodeBlock:
        """The text of a record; made in a turn of its own, because with the table it would take too long a one."""
        made = CodeBlock("")
        made.setAccessibleName("The record's text")
        copy = widgets.button("Copy", "copy")
        copy.clicked.connect(lambda: widgets.copy_text(made.toPlainText()))
        self._text_card.add_control(copy)
        self._text_card.set_body(made)
        widgets.polish(self._text_card)
        self._split.addWidget(self._text_card)
        self._split.setSizes([400, 300])
        return made

    def refresh(self) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            self.table.rows.show_rows(body["rows"], int(body["total"]))
            around = int(body["file"]) - int(body["bytes"])
            words = [text.plural(int(body["total"]), "record"), f"{text.size(int(body['bytes']))} in them"]
            if around > 0:
                words.append(f"{text.size(around)} of headers, padding and what belongs to no record")
            self.say(", ".join(words) if body["total"] else "This is a folder; its files are named in the tree.")

        self.text.setPlainText("")
        self.session.ask("records", {"start": 0, "limit": ROWS}, answered, lane="records")

    def _look(self, row: Any) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            self._text_card.title_label.setText(str(body["name"]))
            self._text_card.subtitle.setText(str(body["note"]))
            self.text.setPlainText(str(body["text"]))
            self.arrived()

        def failed(failure: Body) -> None:
            what, _ = failure_words(failure)
            self._text_card.title_label.setText(str(row[1]))
            self._text_card.subtitle.setText(what)
            self.text.setPlainText("")
            self.arrived()

        self.session.ask("record_text", {"record": int(row[0])}, answered, failed, lane="record text")


def _stored(row: Any) -> str:
    return str(row[6]) if int(row[5]) == int(row[4]) and row[6] else text.size(int(row[5]))


class StoragesPage(_Page):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        columns = (
            Column("Storage", cell(0), 170, True, token=lambda row: "text"),
            Column("Size", _bytes(1), 90, right=True, tip=_exact(1)),
            Column(
                "Not used", _unused, 120, right=True, token=lambda row: "warn" if row[2] else "text3", tip=_exact(2)
            ),
            Column("Tensors", lambda row: f"{int(row[3]):,}", 80, right=True),
            Column("Looked into by", _sharers, 0, True, token=lambda row: "text", tip=_all_sharers),
            Column("Device", cell(4), 80),
            Column("CRC-32", lambda row: str(row[5] or "–"), 90, True),
        )
        self.table = RowsTable(columns, "Storages")
        self.table.feed_from(session, "storages", "storages")
        card = Card()
        card.column.setContentsMargins(1, 4, 1, 1)
        card.set_body(self.table)
        self.column.addWidget(card)

    def refresh(self) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            self.table.rows.show_rows(body["rows"], int(body["total"]))
            words = [text.plural(int(body["total"]), "storage"), text.size(int(body["nbytes"]))]
            words.append(f"{int(body['shared']):,} shared by several tensors")
            words.append(f"{text.size(int(body['unused']))} held and not used by any tensor")
            self.say(", ".join(words))

        self.session.ask("storages", {"start": 0, "limit": ROWS}, answered, lane="storages")


def _unused(row: Any) -> str:
    return text.size(int(row[2])) if row[2] else "–"


def _sharers(row: Any) -> str:
    keys = [str(key) for key in row[6]]
    more = f" and {int(row[3]) - len(keys):,} more" if int(row[3]) > len(keys) else ""
    return ", ".join(keys) + more


def _all_sharers(row: Any) -> str:
    return "\n".join(str(key) for key in row[6])
