"""The Metadata view: what the file says of itself, in groups; nothing of it changes what its tensors are."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.rows_model import Column
from sdviewer.gui.panels.file_view import FileView, RowsTable, cell, scrolled
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card

MOST_ROWS = 1000
"""Entries of one group."""

MOST_GROUPS = 40


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

    def refresh(self) -> None:
        """Ask for all groups."""

        def answered(body: Body, buffers: Buffers) -> None:
            self._show(list(body["groups"]))
            self.settled.emit()

        self.session.ask("metadata", {"limit": MOST_ROWS}, answered, lane="metadata")

    def _show(self, groups: list[Any]) -> None:
        widgets.clear_layout(self._cards)
        self.tables = []
        for group in groups[:MOST_GROUPS]:
            self._cards.addWidget(self._card(group))
        self._cards.addStretch(1)
        own = len(groups) - 1
        said = text.plural(own, "group") + " of the file's own" if own else "The file carries no metadata of its own."
        more = f", the first {MOST_GROUPS} shown" if len(groups) > MOST_GROUPS else ""
        self.summary.setText(said + more)

    def _card(self, group: Any) -> Card:
        more = int(group["more"])
        where = str(group["where"]) + (f", {more:,} more are not shown" if more else "")
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
