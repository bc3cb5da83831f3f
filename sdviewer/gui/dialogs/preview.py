"""What a step would change, before it is added: counts, and the keys before and after, problems first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QRect, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetrics, QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Chip

Preview = Mapping[str, Any]
LIMIT: Final = 300
HEADS: Final = ("Before", "After", "Shape", "")
_ROOT: Final = QModelIndex()
Index = QModelIndex | QPersistentModelIndex


class _PreviewModel(QAbstractTableModel):
    """Rows of [old key, new key or None, shape, problem]."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[Any]] = []

    def set_rows(self, rows: list[list[Any]]) -> None:
        """Show other rows."""
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(HEADS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        old, new, shape, problem = self.rows[index.row()]
        cell = (old, "dropped" if new is None else new, shape, problem)[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return cell
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(cell)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADS[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None


class _PreviewDelegate(QStyledItemDelegate):
    """The part that goes in blue, the part that comes in orange; problems crimson and hatched."""

    def __init__(self, model: _PreviewModel) -> None:
        super().__init__()
        self._model = model

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        rect: QRect = option.rect
        old, new, shape, problem = self._model.rows[index.row()]
        if problem:
            painter.fillRect(rect, resources.colour("tS"))
            hatch = QColor(resources.colour("S"))
            hatch.setAlphaF(0.28)
            painter.fillRect(rect, QBrush(hatch, Qt.BrushStyle.BDiagPattern))
        column = index.column()
        painter.setFont(resources.font(resources.NOTE, mono=column < 3))
        inside = rect.adjusted(8, 0, -4, 0)
        token = "S" if problem else "text"
        if column == 0:
            head, middle, tail = _difference(old, new or "")
            self._parts(painter, inside, [(head, token, ""), (middle, "A", "tA"), (tail, token, "")])
        elif column == 1 and new is None:
            self._parts(painter, inside, [("dropped", "text3", "")])
        elif column == 1:
            head, middle, tail = _difference(new, old)
            self._parts(painter, inside, [(head, token, ""), (middle, "B", "tB"), (tail, token, "")])
        else:
            self._parts(painter, inside, [(shape if column == 2 else problem, "S" if problem else "text2", "")])

    def _parts(self, painter: QPainter, rect: QRect, parts: list[tuple[str, str, str]]) -> None:
        metrics = QFontMetrics(painter.font())
        x = rect.left()
        for words, token, tint in parts:
            if not words or x >= rect.right():
                continue
            shown = metrics.elidedText(words, Qt.TextElideMode.ElideRight, rect.right() - x)
            width = metrics.horizontalAdvance(shown)
            place = QRect(x, rect.top(), width + 1, rect.height())
            if tint:
                painter.fillRect(place.adjusted(0, 4, 0, -4), resources.colour(tint))
            painter.setPen(resources.colour(token))
            painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine), shown)
            x += width


class PreviewTable(QWidget):
    """Counts above, keys below."""

    def __init__(self) -> None:
        super().__init__()
        self._words = widgets.label("", "strong")
        self._problems = Chip("", "shape", "warn")
        self._problems.setEnabled(False)
        self._more = widgets.label("", "note")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._words)
        head.addWidget(self._problems)
        head.addStretch(1)
        head.addWidget(self._more)
        self.model = _PreviewModel()
        self._delegate = _PreviewDelegate(self.model)
        view = QTableView()
        view.setModel(self.model)
        view.setItemDelegate(self._delegate)
        view.setAccessibleName("Keys before and after")
        view.setShowGrid(False)
        view.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        view.setTabKeyNavigation(False)
        view.verticalHeader().hide()
        view.verticalHeader().setDefaultSectionSize(25)
        across = view.horizontalHeader()
        across.setFixedHeight(28)
        across.setHighlightSections(False)
        for column in (0, 1):
            across.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        view.setColumnWidth(2, 100)
        view.setColumnWidth(3, 150)
        column_layout = QVBoxLayout(self)
        column_layout.setContentsMargins(0, 0, 0, 0)
        column_layout.setSpacing(8)
        column_layout.addLayout(head)
        column_layout.addWidget(view, 1)
        self.show_preview(None)

    def show_preview(self, preview: Preview | None) -> None:
        """Show what the worker found; None where there is nothing to look at yet."""
        problems = list((preview or {}).get("problems") or ())
        self._problems.setVisible(bool(problems))
        if preview is None or preview.get("error"):
            self._words.setText("")
            self._more.setText("")
            self.model.set_rows([])
            return
        changed, dropped = int(preview["changed"]), int(preview["dropped"])
        words = f"{text.plural(changed, 'key')} {'changes' if changed == 1 else 'change'}"
        if dropped:
            words = f"{words}, {dropped:,} dropped" if changed else f"{text.plural(dropped, 'key')} dropped"
        self._words.setText(words)
        if problems:
            first = text.visible(str(problems[0]), 120)
            self._problems.setText(first if len(problems) == 1 else f"{first}, and {len(problems) - 1} more")
        more = int(preview.get("more") or 0)
        self._more.setText(f"and {more:,} more" if more else "")
        self.model.set_rows(
            [
                [str(old), new, str(shape), text.visible(str(problem), 80)]
                for old, new, shape, problem in preview["rows"]
            ]
        )


def _difference(mine: str, other: str) -> tuple[str, str, str]:
    """A key cut in three: what both begin with, what only this one has, what both end with."""
    start = 0
    most = min(len(mine), len(other))
    while start < most and mine[start] == other[start]:
        start += 1
    end = 0
    while end < most - start and mine[-1 - end] == other[-1 - end]:
        end += 1
    return mine[:start], mine[start : len(mine) - end], mine[len(mine) - end :]
