"""Ctrl+K: one field that finds tensors and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from PySide6.QtCore import (
    QAbstractListModel,
    QEvent,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QRect,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QAction, QKeyEvent, QKeySequence, QPainter
from PySide6.QtWidgets import (
    QDialog,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from sdviewer.gui import icons, resources
from sdviewer.gui.widgets import Field

MOST_TENSORS: Final = 60
_ROOT: Final = QModelIndex()
Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class Hit:
    """A tensor (`node`) or a command (`action`)."""

    words: str
    icon: str
    node: int = -1
    action: QAction | None = None
    note: str = ""

    @property
    def hint(self) -> str:
        """The shortcut of a command, or what is said of a tensor."""
        if self.action is None:
            return self.note
        return self.action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)


class Finder(Protocol):
    """Whose tensors are found: the session of a document, or of a comparison."""

    def ask(self, name: str, params: Any, done: Any, failed: Any = None, *, lane: str = "") -> Any: ...


class _Hits(QAbstractListModel):
    def __init__(self) -> None:
        super().__init__()
        self.hits: list[Hit] = []

    def set_hits(self, hits: list[Hit]) -> None:
        self.beginResetModel()
        self.hits = hits
        self.endResetModel()

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.hits)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self.hits[index.row()].words
        return None


class _HitDelegate(QStyledItemDelegate):
    def __init__(self, model: _Hits) -> None:
        super().__init__()
        self._model = model

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        hit = self._model.hits[index.row()]
        rect: QRect = option.rect
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, resources.colour("sel"))
            painter.fillRect(QRect(rect.left(), rect.top(), 3, rect.height()), resources.colour("accent"))
        icons.paint(painter, hit.icon, rect.left() + 12, rect.center().y() - 7, 15, "text2")
        painter.setFont(resources.font(resources.BASE, mono=hit.node >= 0))
        painter.setPen(resources.colour("text"))
        room = rect.adjusted(38, 0, -max(100, 24 + 7 * len(hit.hint)), 0)
        shown = painter.fontMetrics().elidedText(hit.words, Qt.TextElideMode.ElideMiddle, room.width())
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine), shown)
        painter.setFont(resources.font(resources.NOTE))
        painter.setPen(resources.colour("text3"))
        painter.drawText(
            rect.adjusted(0, 0, -12, 0), int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), hit.hint
        )

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(100, 30)


class CommandPalette(QDialog):
    """A list under a field; Enter takes the marked line."""

    node_chosen = Signal(int)

    def __init__(self, parent: QWidget, session: Finder | None, actions: Sequence[tuple[QAction, str]]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Go to tensor or command")
        self.setModal(True)
        self.setWindowFlag(Qt.WindowType.FramelessWindowHint)
        self.resize(620, 420)
        self._session = session
        self._actions = list(actions)
        self.field = Field("Go to tensor or command", "search")
        self.field.installEventFilter(self)
        self.field.textChanged.connect(self._find)
        self.field.escaped.connect(self.reject)
        self.field.returnPressed.connect(self._take)
        self._model = _Hits()
        self._delegate = _HitDelegate(self._model)
        self._view = QListView()
        self._view.setModel(self._model)
        self._view.setItemDelegate(self._delegate)
        self._view.setUniformItemSizes(True)
        self._view.setAccessibleName("Tensors and commands")
        self._view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._view.clicked.connect(lambda index: self._take())
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 10, 10, 10)
        column.setSpacing(8)
        column.addWidget(self.field)
        column.addWidget(self._view, 1)
        self._find("")

    def _find(self, wanted: str) -> None:
        commands = self._commands(wanted)
        self._show(commands)
        if self._session is None or not wanted.strip():
            return

        def answered(body: Any, buffers: Any) -> None:
            if self.field.text() == wanted:
                self._show([Hit(str(key), "tensor", int(node)) for node, key in body["rows"]] + commands)

        self._session.ask("find", {"text": wanted, "limit": MOST_TENSORS}, answered, lane="go to")

    def _commands(self, wanted: str) -> list[Hit]:
        words = wanted.lower().split()
        hits = []
        for action, icon in self._actions:
            name = action.text().replace("&", "")
            if action.isEnabled() and all(word in name.lower() for word in words):
                hits.append(Hit(name, icon or "rulearrow", action=action))
        return hits

    def _show(self, hits: list[Hit]) -> None:
        self._model.set_hits(hits)
        if hits:
            self._view.setCurrentIndex(self._model.index(0))

    def _take(self) -> None:
        index = self._view.currentIndex()
        if not index.isValid():
            return
        hit = self._model.hits[index.row()]
        self.accept()
        if hit.action is not None:
            hit.action.trigger()
        else:
            self.node_chosen.emit(hit.node)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 10, Qt.Key.Key_PageUp: -10}.get(
                Qt.Key(event.key())
            )
            if step is not None and self._model.hits:
                row = self._view.currentIndex().row() + step
                row = min(max(row, 0), len(self._model.hits) - 1)
                self._view.setCurrentIndex(self._model.index(row))
                return True
        return super().eventFilter(watched, event)
