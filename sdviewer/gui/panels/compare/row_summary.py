"""A row of a comparison that is no pair of tensors: a module in numbers, or a value as both sides have it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.badge import Badge
from sdviewer.gui.jobs import Body
from sdviewer.gui.models.compare_model import BY_NAME, percent
from sdviewer.gui.panels.path_bar import PathBar
from sdviewer.gui.widgets import Card, IconLabel


class RowSummary(QWidget):
    """`node_chosen` tells a part of the path that was clicked; `status_chosen` a status to be shown alone."""

    node_chosen = Signal(int)
    status_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.path = PathBar()
        self.path.node_chosen.connect(self.node_chosen)
        self.words = widgets.label("", "second")
        self.words.setWordWrap(True)
        self._card = Card()
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(2, 1)
        self._card.column.addLayout(self._grid)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.path)
        column.addWidget(self.words)
        column.addWidget(self._card)
        column.addStretch(1)

    def show_row(self, facts: Body, change: float | None, bound: str) -> None:
        """Tell a module or a value (FACTS of engine.comparison); `change` is the relative one of a module, and `bound`
        what it is as long as not all is measured."""
        self.path.show_path({"path": facts["path"], "name": facts["name"], "row": facts["row"]})
        self._clear()
        if facts["values"] is not None:
            self._show_values(facts)
            return
        parts = [text.plural(int(facts["leaves"]), "pair")]
        if change is not None:
            by = f"{bound} {percent(change)}" if bound == "at most" else f"{percent(change)} {bound}".rstrip()
            parts.append(f"together changed by {by}" if change else "no value changed")
        self.words.setText(" · ".join(parts))
        for row, (name, n) in enumerate(sorted(facts["counts"].items(), key=lambda item: -item[1])):
            status = BY_NAME[name]
            self._grid.addWidget(IconLabel(status.icon or "info", 15, status.token), row, 0)
            self._grid.addWidget(widgets.label(f"{n:,}", "mono"), row, 1, Qt.AlignmentFlag.AlignRight)
            self._grid.addWidget(widgets.label(status.says), row, 2)
        self._card.setVisible(bool(facts["counts"]))

    def _show_values(self, facts: Body) -> None:
        a, b = (str(value) for value in facts["values"])
        self.words.setText("A value that is no tensor, and differs.")
        for row, (letter, key, value) in enumerate((("A", facts["key_a"], a), ("B", facts["key_b"], b))):
            self._grid.addWidget(Badge(letter), row, 0)
            shown = widgets.label(text.visible(value, 2000) if key else "not there", "mono" if key else "second")
            shown.setWordWrap(True)
            shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._grid.addWidget(shown, row, 2)
        self._card.show()

    def _clear(self) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
