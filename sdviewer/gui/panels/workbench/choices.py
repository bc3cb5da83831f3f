"""What can be done about a row that collides, whose shapes differ, or that is missing.

The current choice is previewed, Return takes it, Esc leaves.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QStringListModel, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QCheckBox, QHBoxLayout, QListView, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body

Index = QModelIndex | QPersistentModelIndex


class ChoicesView(QWidget):
    """`tried` and `taken` tell a row (`about` of WHY), the place of a choice or -1, whether it is for all alike."""

    tried = Signal(object, int, bool)
    taken = Signal(object, int, bool)
    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._told: list[list[Any]] = []
        self._about: Body = {}
        self._model = QStringListModel(self)
        self.list = _List()
        self.list.setModel(self._model)
        self.list.setAccessibleName("What can be done")
        self.list.moved.connect(self._try)
        self.list.taken.connect(self._take)
        self.list.left.connect(self._leave)
        self.others = QCheckBox("")
        self.others.setChecked(True)
        self.others.toggled.connect(self._try)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(widgets.label("What can be done", "strong"))
        head.addStretch(1)
        head.addWidget(self.others)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addLayout(head)
        column.addWidget(self.list, 1)
        self.hide()

    @property
    def at(self) -> int:
        """The current choice, -1 for none."""
        return self.list.currentIndex().row()

    def show_choices(self, about: Body, told: list[list[Any]], tried: int) -> None:
        """Show those of a row (WHY of engine.workbench); the same ones keep what is current."""
        had_focus = self.list.hasFocus()
        if (about, told) != (self._about, self._told):
            self._about, self._told = about, told
            self.list.quiet = True
            self._model.setStringList([str(words) for words, _ in told])
            self.list.setCurrentIndex(self._model.index(tried, 0) if told and tried >= 0 else QModelIndex())
            self.list.quiet = False
        elif tried < 0 and not had_focus:
            self.list.quiet = True
            self.list.setCurrentIndex(QModelIndex())
            self.list.quiet = False
        self._name_others()
        self.setVisible(bool(told))

    def begin(self) -> None:
        """The keyboard comes here: the likeliest is tried first."""
        self.list.setFocus()
        if self.at < 0:
            self.list.setCurrentIndex(self._model.index(0, 0))

    def _name_others(self) -> None:
        count = max((int(others) for _, others in self._told), default=0)
        if 0 <= self.at < len(self._told):
            count = int(self._told[self.at][1])
        self.others.setText(f"The same for {text.plural(count, 'other')}")
        self.others.setVisible(count > 0)

    @property
    def _for_all(self) -> bool:
        return self.others.isChecked() and 0 <= self.at < len(self._told) and int(self._told[self.at][1]) > 0

    def _try(self) -> None:
        self._name_others()
        if self.at >= 0:
            self.tried.emit(self._about, self.at, self._for_all)

    def _take(self) -> None:
        if self.at >= 0:
            self.taken.emit(self._about, self.at, self._for_all)

    def _leave(self) -> None:
        self.list.quiet = True
        self.list.setCurrentIndex(QModelIndex())
        self.list.quiet = False
        self.tried.emit(self._about, -1, False)
        self.left.emit()


class _List(QListView):
    moved = Signal()
    taken = Signal()
    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.quiet = False
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setFont(resources.font(resources.NOTE))
        self.doubleClicked.connect(lambda index: self.taken.emit())

    def currentChanged(self, current: Index, previous: Index) -> None:
        super().currentChanged(current, previous)
        if not self.quiet and current.isValid():
            self.moved.emit()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        by_key = event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason)
        if by_key and not self.currentIndex().isValid() and self.model().rowCount():
            self.setCurrentIndex(self.model().index(0, 0))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.taken.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)
