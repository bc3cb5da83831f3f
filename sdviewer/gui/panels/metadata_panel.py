"""The Metadata view: what the file says of itself, in groups; nothing of it changes what its tensors are.

The text of a safetensors file can be edited: in its table, through the recipe, so undone and saved like any other step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QFont, QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.text_dialog import edit_text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column, RowsModel
from sdviewer.gui.panels.file_view import FileView, RowsTable, cell, scrolled
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card
from sdviewer.repair.operations import Metadata

MOST_ROWS = 1000
"""Entries of one group."""

MOST_GROUPS = 40

_Index = QModelIndex | QPersistentModelIndex
_STATES = {"edited": "B", "added": "B", "removed": "A"}


class MetadataPanel(FileView):
    """One card a group."""

    name = "metadata"
    title = "Metadata"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._inside = QWidget()
        self._cards = QVBoxLayout(self._inside)
        self._cards.setContentsMargins(0, 4, 4, 0)
        self._cards.setSpacing(10)
        self.column.addWidget(scrolled(self._inside), 1)
        self.tables: list[RowsTable] = []
        self.editor: TextCard | None = None
        session.recipe_changed.connect(self._show_edits)

    def refresh(self) -> None:
        """Ask for all groups."""

        def answered(body: Body, buffers: Buffers) -> None:
            self._show(list(body["groups"]))
            self.settled.emit()

        self.session.ask("metadata", {"limit": MOST_ROWS}, answered, lane="metadata")

    def _show(self, groups: list[Any]) -> None:
        widgets.clear_layout(self._cards)
        self.tables, self.editor = [], None
        for group in groups[:MOST_GROUPS]:
            self._cards.addWidget(self._card(group))
        self._cards.addStretch(1)
        own = sum(1 for group in groups[1:] if group["rows"])
        said = text.plural(own, "group") + " of the file's own" if own else "The file carries no metadata of its own."
        more = f", the first {MOST_GROUPS} shown" if len(groups) > MOST_GROUPS else ""
        self.summary.setText(said + more)

    def _show_edits(self) -> None:
        if self.editor is not None:
            self.editor.show_edits()

    def _card(self, group: Any) -> Card:
        more = int(group["more"])
        where = str(group["where"]) + (f", {more:,} more are not shown" if more else "")
        card: Card
        if "texts" in group:
            card = self.editor = TextCard(self.session, str(group["title"]), where, group)
            table: RowsTable = self.editor.table
        else:
            card = Card(str(group["title"]), where)
            columns = (
                Column("Name", cell(0), 300, True, token=lambda row: "text"),
                Column("Value", cell(1), 0, True),
            )
            table = RowsTable(columns, str(group["title"]))
            table.rows.show_rows(group["rows"], len(group["rows"]))
            table.fit_height(14)
        copy = widgets.button("Copy", "copy")
        copy.clicked.connect(lambda: widgets.copy_text(table.rows.as_text(range(len(table.rows.rows)))))
        card.add_control(copy)
        card.column.setContentsMargins(12, 10, 4, 6)
        card.set_body(table)
        widgets.polish(card)
        self.tables.append(table)
        return card


class Entry(NamedTuple):
    """A row of the table that can be edited: as it is shown, and as it is (None: no text, or too long to be edited)."""

    shown_name: str
    shown_text: str
    name: str
    text: str | None
    state: str = ""


class TextCard(Card):
    """The text of a safetensors file as the recipe leaves it: a double click or F2 edits, Delete removes, Add adds."""

    def __init__(self, session: Session, title: str, where: str, group: Mapping[str, Any]) -> None:
        super().__init__(title, f"{where} — a double click or F2 edits, Delete removes")
        self._session = session
        self._own = [
            Entry(str(shown[0]), str(shown[1]), str(name), value)
            for shown, (name, value) in zip(group["rows"], group["texts"], strict=True)
        ]
        columns = (
            Column("Name", lambda row: row.shown_name, 300, True, token=lambda row: _STATES.get(row.state, "text")),
            Column("Value", lambda row: row.shown_text, 0, True, token=_token),
            Column("", lambda row: row.state, 80, token=_token),
        )
        self.table = TextTable(columns, title)
        self.table.texts.edited.connect(self._edited)
        self.table.edit_requested.connect(self._edit_in_dialog)
        self.table.remove_requested.connect(self._remove)
        self.add = widgets.button("Add…", "plus")
        self.add.setToolTip("One more entry of the file's own text")
        self.add.clicked.connect(self._add)
        self.add_control(self.add)
        self.show_edits()

    def show_edits(self) -> None:
        """The entries as they were read, with what the recipe makes of them."""
        changes: dict[str, str | None] = dict(self._session.edit.get("metadata") or {})
        rows = []
        for entry in self._own:
            new = changes.pop(entry.name, entry.text)
            if new == entry.text:
                rows.append(entry)
            elif new is None:
                rows.append(entry._replace(state="removed"))
            else:
                rows.append(entry._replace(shown_text=text.visible(new, 2000), text=new, state="edited"))
        rows += [
            Entry(text.visible(name, 300), text.visible(new, 2000), name, new, "added")
            for name, new in changes.items()
            if new is not None
        ]
        chosen = self.table.currentIndex().row()
        self.table.texts.show_rows(rows, len(rows))
        self.table.fit_height(14)
        if 0 <= chosen < len(rows):
            self.table.selectRow(chosen)

    def _edited(self, row: int, column: int, new: str) -> None:
        """A cell was edited in place; another name is the old entry removed and a new one added."""
        entry: Entry = self.table.texts.rows[row]
        assert entry.text is not None
        if column == 1:
            self._apply(Metadata(values=((entry.name, new),)))
        elif any(other.name == new and other.state != "removed" for other in self.table.texts.rows):
            self._session.trouble.emit({"message": "There is an entry of this name already", "remedy": ""})
        else:
            self._apply(Metadata(values=((new, entry.text),), remove=(entry.name,)))

    def _edit_in_dialog(self, row: int) -> None:
        """A text of several lines, or one that no line editor would give back as it is."""
        entry: Entry = self.table.texts.rows[row]
        if entry.state == "removed":
            return
        if entry.text is None or not editable(entry.text):
            why = "is no text, or too long" if entry.text is None else "holds characters that an editor would change"
            self._session.trouble.emit(
                {"message": f"{entry.shown_name} {why}", "remedy": "Remove it and add it anew, or edit it in a recipe."}
            )
            return
        new = edit_text(self, f"Edit {entry.shown_name}", entry.text)
        if new is not None and new != entry.text:
            self._apply(Metadata(values=((entry.name, new),)))

    def _add(self) -> None:
        name = edit_text(self, "Name of the new entry", "", one_line=True)
        if not name:
            return
        if any(row.name == name and row.state != "removed" for row in self.table.texts.rows):
            self._session.trouble.emit({"message": "There is an entry of this name already", "remedy": ""})
            return
        value = edit_text(self, f"Text of {text.visible(name, 60)}", "")
        if value is not None:
            self._apply(Metadata(values=((name, value),)))

    def _remove(self, rows: Sequence[int]) -> None:
        names = [self.table.texts.rows[row].name for row in rows if self.table.texts.rows[row].state != "removed"]
        if names:
            self._apply(Metadata(remove=tuple(names)))

    def _apply(self, step: Metadata) -> None:
        self._session.apply(step)


def editable(value: str) -> bool:
    """Whether an editor shows a text as it is and gives it back so: no controls, no turns of direction."""
    plain = value.replace("\n", " ").replace("\t", " ")
    return text.visible(plain, len(plain) + 1) == plain


class TextModel(RowsModel):
    """Entries whose name and text can be edited in place where a line holds them."""

    edited = Signal(int, int, str)

    def flags(self, index: _Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if self.in_place(index) else flags

    def in_place(self, index: _Index) -> bool:
        """Whether a cell can be edited in a line of its own."""
        if not index.isValid() or index.column() > 1:
            return False
        entry: Entry = self.rows[index.row()]
        if entry.text is None or entry.state == "removed":
            return False
        shown = entry.name if index.column() == 0 else entry.text
        return "\n" not in shown and len(shown) <= 300 and editable(shown)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        entry: Entry = self.rows[index.row()]
        if role == Qt.ItemDataRole.EditRole:
            return entry.name if index.column() == 0 else entry.text
        if role == Qt.ItemDataRole.FontRole and entry.state == "removed" and index.column() < 2:
            struck = super().data(index, role)
            assert isinstance(struck, QFont)
            struck = QFont(struck)
            struck.setStrikeOut(True)
            return struck
        return super().data(index, role)

    def setData(self, index: _Index, value: object, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or value == self.data(index, role) or (index.column() == 0 and not value):
            return False
        self.edited.emit(index.row(), index.column(), str(value))
        return True


class TextTable(RowsTable):
    """Takes F2 and Delete for itself, which mean keys of the state dict elsewhere in the window."""

    edit_requested = Signal(int)
    remove_requested = Signal(object)

    def __init__(self, columns: Sequence[Column], name: str) -> None:
        self.texts = TextModel(columns)
        super().__init__(columns, name, self.texts)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.doubleClicked.connect(self._edit)

    def _edit(self, index: QModelIndex) -> None:
        """In place where that is possible, in a dialog else; what is no name is the text."""
        if not index.isValid():
            return
        cell_of = index.siblingAtColumn(min(index.column(), 1))
        if self.texts.in_place(cell_of):
            self.edit(cell_of)
        else:
            self.edit_requested.emit(index.row())

    def event(self, event: QEvent) -> bool:
        ours = (Qt.Key.Key_F2, Qt.Key.Key_Delete)
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() in ours:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_F2:
            self._edit(self.currentIndex().siblingAtColumn(max(1, self.currentIndex().column())))
        elif event.key() == Qt.Key.Key_Delete:
            self.remove_requested.emit(sorted({index.row() for index in self.selectionModel().selectedRows()}))
        else:
            super().keyPressEvent(event)


def _token(row: Entry) -> str:
    return _STATES.get(row.state, "text2")
