"""The steps of a recipe as a list: what each is, what it does now, and which one does not go through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from PySide6.QtCore import QAbstractListModel, QMimeData, QModelIndex, QPersistentModelIndex, Qt, Signal

from sdviewer.core import text
from sdviewer.gui.plain import plain_tip

Index = QModelIndex | QPersistentModelIndex
MIME: Final = "application/x-sdviewer-step"
_ROOT: Final = QModelIndex()


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step as it is shown. `waits`: a step before it does not go through, so nothing is known of this one."""

    label: str
    enabled: bool
    matched: int
    changed: int
    dead_rules: tuple[str, ...] = ()
    why: str = ""
    error: str = ""
    waits: bool = False

    @property
    def count(self) -> str:
        """How much it does, in a word or two."""
        if not self.enabled:
            return "off"
        if self.error:
            return "fails"
        if self.waits:
            return "waits"
        return text.plural(self.changed, "key")

    @property
    def second_line(self) -> str:
        """What is wrong with it, "" where nothing is."""
        if self.error:
            return self.error
        if self.dead_rules and self.enabled and not self.waits:
            first = text.visible(self.dead_rules[0], 120)
            more = f" and {len(self.dead_rules) - 1:,} more" if len(self.dead_rules) > 1 else ""
            return f"Matches nothing: {first}{more}"
        return ""

    @property
    def sentence(self) -> str:
        """All of it in words."""
        parts = [self.label]
        if self.enabled and not self.error and not self.waits:
            parts.append(f"{text.plural(self.matched, 'key')} matched, {self.changed:,} changed")
        else:
            said = {"off": "switched off", "fails": "does not go through", "waits": "waits for a step before it"}
            parts.append(said[self.count])
        return "\n".join([", ".join(parts), *filter(None, (self.second_line, self.why))])


class StepsModel(QAbstractListModel):
    """The rows; a step that is dragged to another place is told, and moves when the worker has answered."""

    move_wanted = Signal(int, int)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[StepRow] = []

    def set_rows(self, rows: list[StepRow]) -> None:
        """Show other steps."""
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self.rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return row.label
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"Step {index.row() + 1}: {row.sentence}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(row.sentence)
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        flag = Qt.ItemFlag
        if not index.isValid():
            return flag.ItemIsDropEnabled
        return flag.ItemIsEnabled | flag.ItemIsSelectable | flag.ItemIsDragEnabled

    def supportedDropActions(self) -> Qt.DropAction:
        return Qt.DropAction.MoveAction

    def mimeTypes(self) -> list[str]:
        return [MIME]

    def mimeData(self, indexes: Any) -> QMimeData:
        data = QMimeData()
        data.setData(MIME, str(indexes[0].row()).encode())
        return data

    def dropMimeData(self, data: QMimeData, action: Qt.DropAction, row: int, column: int, parent: Index) -> bool:
        if data.hasFormat(MIME):
            moved = int(bytes(data.data(MIME).data()))
            to = row if row >= 0 else len(self.rows)
            self.move_wanted.emit(moved, to - (moved < to))
        return False  # the view would take the row out, and it stays until the worker has answered
