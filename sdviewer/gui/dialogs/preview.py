"""What a step would change, before it is added: counts, and the keys before and after, problems first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Chip

Preview = Mapping[str, Any]
LIMIT: Final = 200
"""Rows asked for at once; more come as the list is scrolled."""
HEADS: Final = ("Before", "After", "Shape", "Effect")
_ROOM_FOR_SHAPES: Final = 340
_ROOM_FOR_PROBLEM: Final = 210
_ROOM_FOR_EFFECT: Final = 112
_ROOT: Final = QModelIndex()
Index = QModelIndex | QPersistentModelIndex

_SHORT: Final = (
    ("which is a key already", "collides with a key already there"),
    ("would both become", "two keys would become one"),
    ("under which", "a key would stand below a key"),
)
"""Problems as the worker words them, and in so many words as a column has room for."""
_SAID: Final = {"gone": "taken away", "carried": "carried over", "new": "put in"}


class PreviewModel(QAbstractTableModel):
    """Rows of [old key in parts, new key in parts or None, shape, problem], which come in pages."""

    def __init__(self, session: Session, effect: str, lane: str) -> None:
        super().__init__()
        self.effect = effect
        self.said: Mapping[str, tuple[str, str]] = {}
        """What more is known of a new key: words, and the token of their colour."""
        self._lane = lane
        self.rows: list[Any] = []
        self.total = 0
        self._session = session
        self._asked = -1

    def set_rows(self, rows: Sequence[Any], total: int) -> None:
        """Show other rows."""
        self.beginResetModel()
        self.rows, self.total, self._asked = list(rows), total, -1
        self.endResetModel()

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(HEADS)

    def canFetchMore(self, parent: Index) -> bool:
        return not parent.isValid() and len(self.rows) < self.total and self._asked != len(self.rows)

    def fetchMore(self, parent: Index) -> None:
        start = self._asked = len(self.rows)

        def answered(body: Body, buffers: Buffers) -> None:
            # Of another preview where somebody typed meanwhile.
            if start == len(self.rows) and body["total"] == self.total and body["rows"]:
                self.beginInsertRows(_ROOT, start, start + len(body["rows"]) - 1)
                self.rows.extend(body["rows"])
                self.endInsertRows()

        params = {"start": start, "limit": LIMIT, "for": self._lane}
        self._session.ask("preview", params, answered, lane=f"{self._lane} more")

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        old, new, shape, problem = self.rows[index.row()]
        column = index.column()
        if role == Qt.ItemDataRole.AccessibleTextRole and column < 2:
            return _spoken(old if column == 0 else new)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            if role == Qt.ItemDataRole.ToolTipRole and problem:
                return plain_tip(text.visible(problem, 400))
            cell = (joined(old), joined(new), shape, self.effect_of(index.row())[0])[column]
            return plain_tip(cell) if role == Qt.ItemDataRole.ToolTipRole else cell
        return None

    def effect_of(self, row: int) -> tuple[str, str]:
        """What becomes of the key in a row, and the token of its colour."""
        _, new, _, problem = self.rows[row]
        if not problem and new is not None and (said := self.said.get(joined(new))):
            return said
        return effect(new, problem, self.effect), "S" if problem else "text3" if new is None else "ok"

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return HEADS[section]
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return None


def joined(parts: Any) -> str:
    """A key from its parts, "" for one that is dropped."""
    return "" if parts is None else "".join(part[0] for part in parts)


def effect(new: Any, problem: str, changed: str = "renamed") -> str:
    """What becomes of a key, in a few words; `changed` is what the step does with those that stay."""
    if not problem:
        return "dropped" if new is None else changed
    return next((words for end, words in _SHORT if end in problem), text.visible(problem, 120))


def _spoken(parts: Any) -> str:
    """A key with its marks, for who does not see them."""
    if parts is None:
        return "dropped"
    marks = [f"{_SAID[kind]}: {piece}" for piece, kind in parts if kind in _SAID]
    return joined(parts) + "".join(f", {mark}" for mark in marks)


class _PreviewDelegate(QStyledItemDelegate):
    """What goes is struck on blue, what comes underlined on orange, what is carried over framed; problems hatched."""

    def __init__(self, model: PreviewModel) -> None:
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
        if column < 2 and (parts := old if column == 0 else new) is not None:
            self._parts(painter, inside, parts, "S" if problem else "text")
        elif column == 2:
            self._parts(painter, inside, [(shape, "kept")], "S" if problem else "text2")
        elif column == 3:
            words, token = self._model.effect_of(index.row())
            self._parts(painter, inside, [(words, "kept")], token)

    def _parts(self, painter: QPainter, rect: QRect, parts: Sequence[Any], plain: str) -> None:
        metrics = QFontMetrics(painter.font())
        x = rect.left()
        middle = rect.center().y()
        for words, kind in parts:
            if not words or x >= rect.right():
                continue
            shown = metrics.elidedText(words, Qt.TextElideMode.ElideRight, rect.right() - x)
            width = metrics.horizontalAdvance(shown)
            place = QRect(x, rect.top(), width, rect.height())
            ground = place.adjusted(0, 4, 0, -4)
            token = {"gone": "A", "new": "B"}.get(kind, plain)
            if kind in ("gone", "new"):
                painter.fillRect(ground, resources.colour("tA" if kind == "gone" else "tB"))
            painter.setPen(resources.colour(token))
            painter.drawText(
                place.adjusted(0, 0, 1, 0), int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine), shown
            )
            if kind == "gone":
                painter.drawLine(x, middle + 1, x + width - 1, middle + 1)
            elif kind == "new":
                painter.drawLine(x, ground.bottom(), x + width - 1, ground.bottom())
            elif kind == "carried":
                painter.setPen(resources.colour("edge"))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(ground.adjusted(0, 0, -1, -1))
            x += width


class PreviewTable(QWidget):
    """Counts above, keys below."""

    def __init__(
        self,
        session: Session,
        effect: str = "renamed",
        noun: str = "key",
        *,
        listed: bool = True,
        lane: str = "preview",
    ) -> None:
        """`lane` is the one in which the previews are asked for."""
        super().__init__()
        self._noun = noun
        self.words = widgets.label("", "strong")
        self.blocked = Chip("", "shape", "warn").only_says()
        self.took = widgets.label("", "note")
        head = self.head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.words)
        head.addWidget(self.blocked)
        head.addStretch(1)
        head.addWidget(self.took)
        self.model = PreviewModel(session, effect, lane)
        self._delegate = _PreviewDelegate(self.model)
        view = self.view = QTableView()
        view.setModel(self.model)
        view.setItemDelegate(self._delegate)
        view.setAccessibleName("Keys before and after")
        view.setShowGrid(False)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        view.setTabKeyNavigation(False)
        view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        view.verticalHeader().hide()
        view.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        view.verticalHeader().setDefaultSectionSize(25)
        across = view.horizontalHeader()
        across.setFixedHeight(28)
        across.setHighlightSections(False)
        for column in (0, 1):
            across.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        view.setColumnWidth(2, 90)
        view.setColumnWidth(3, _ROOM_FOR_PROBLEM)
        column_layout = QVBoxLayout(self)
        column_layout.setContentsMargins(0, 0, 0, 0)
        column_layout.setSpacing(8)
        column_layout.addLayout(head)
        column_layout.addWidget(view, 1)
        # A step on the whole file changes no key: there is nothing to list.
        view.setVisible(listed)
        if not listed:
            column_layout.addStretch(1)
        self.show_preview(None)

    def show_preview(self, preview: Preview | None) -> None:
        """Show what the worker found; None where there is nothing to look at yet."""
        blocked = int((preview or {}).get("blocked") or 0)
        self.blocked.setVisible(blocked > 0)
        self.blocked.setText(f"{blocked:,} would collide")
        if preview is None or preview.get("error"):
            self.words.setText("")
            self.took.setText("")
            self.model.set_rows([], 0)
            return
        changed, dropped = int(preview["changed"]), int(preview["dropped"])
        words = f"{text.plural(changed, self._noun)} {'changes' if changed == 1 else 'change'}"
        if dropped:
            words = f"{words}, {dropped:,} dropped" if changed else f"{text.plural(dropped, self._noun)} dropped"
        if preview.get("matched") is not None:
            matched = int(preview["matched"])
            words = f"{text.plural(matched, 'entry', 'entries')} of the file {'changes' if matched == 1 else 'change'}"
        self.words.setText(words)
        milliseconds = float(preview["seconds"]) * 1000
        took = f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"
        self.took.setText(f"evaluated on {text.plural(int(preview['keys']), 'key')} in {took}")
        self.took.setVisible(preview.get("matched") is None)
        self.model.set_rows(preview["rows"], int(preview["total"]))
        self._share_room(preview["rows"], blocked > 0)
        self.view.scrollToTop()

    def _share_room(self, rows: Sequence[Any], blocked: bool) -> None:
        """Both shapes of a tensor that gets another take more room than one, problems more than what is done."""
        metrics = QFontMetrics(resources.font(resources.NOTE, mono=True))
        widest = max([metrics.horizontalAdvance(row[2]) for row in rows], default=0)
        self.view.setColumnWidth(2, min(max(widest + 16, 90), _ROOM_FOR_SHAPES))
        self.view.setColumnWidth(3, _ROOM_FOR_PROBLEM if blocked else _ROOM_FOR_EFFECT)
