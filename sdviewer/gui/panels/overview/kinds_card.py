"""What the tensors of a file are: tables by dtype and by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.widgets import Card

MOST_ROWS: Final = 8
"""Rows of one table."""
LINE: Final = 20
"""Pixels of a row."""
NUMBER: Final = 84
"""Pixels of a column of numbers."""


class KindsCard(Card):
    """Names with counts, elements and bytes, by dtype and by kind beside each other; Copy gives both tables whole."""

    def __init__(self) -> None:
        super().__init__("Kinds of tensors", "of the whole file, optimizer and averages too")
        self.tables = (PaintedTable(), PaintedTable())
        row = QHBoxLayout()
        row.setSpacing(40)
        for table in self.tables:
            row.addWidget(table, 1, Qt.AlignmentFlag.AlignTop)
        self.column.addLayout(row)
        self._copied = ""
        copy = widgets.icon_button("copy", "Copy the tables", 14)
        copy.clicked.connect(lambda: widgets.copy_text(self._copied))
        self.add_control(copy)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def show_kinds(self, body: Body) -> None:
        """Show the tables of a file (engine.overview)."""
        lines: list[str] = []
        for table, (heading, rows) in zip(self.tables, body["kinds"], strict=True):
            table.show_rows(str(heading), rows)
            lines.append("\t".join((str(heading), "tensors", "elements", "bytes")))
            lines += ["\t".join((text.visible(str(name), 200), *map(str, counts))) for name, *counts in rows]
        self._copied = "\n".join(lines)
        self.setVisible(any(rows for _, rows in body["kinds"]))


class PaintedTable(QWidget):
    """A few rows that only say something; painted, since a label for each cell is dear when the theme changes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, ...]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_rows(self, heading: str, rows: Sequence[Sequence[Any]]) -> None:
        """Show other ones: name, tensors, elements, bytes."""
        self.rows = [(heading, "tensors", "elements", "size")]
        for name, tensors, elements, nbytes in rows[:MOST_ROWS]:
            cells = (text.count(tensors), text.short_count(elements), text.size(nbytes))
            self.rows.append((text.visible(str(name), 40), *cells))
        if len(rows) > MOST_ROWS:
            self.rows.append((f"{len(rows) - MOST_ROWS:,} more", "", "", ""))
        self.setAccessibleName(f"Tensors by {heading}")
        self.setAccessibleDescription("; ".join(" ".join(row) for row in self.rows[1:]))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(160 + 3 * NUMBER, LINE * len(self.rows))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        left = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        right = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        note, room = resources.font(resources.NOTE), self.width() - 3 * NUMBER
        for at, (name, *cells) in enumerate(self.rows):
            painter.setPen(resources.colour("text2"))
            painter.setFont(note if at else resources.font(resources.SMALL, 600))
            shown = QFontMetrics(painter.font()).elidedText(name, Qt.TextElideMode.ElideRight, room)
            painter.drawText(QRectF(0, at * LINE, room, LINE), left, shown)
            painter.setPen(resources.colour("text" if at else "text3"))
            painter.setFont(resources.font(resources.NOTE, mono=True) if at else note)
            for column, words in enumerate(cells):
                painter.drawText(QRectF(room + column * NUMBER, at * LINE, NUMBER, LINE), right, words)
