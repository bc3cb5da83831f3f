"""A table that behaves like a tree: the model's rows are flat, the worker folds. It paints its rows itself."""

from __future__ import annotations

from typing import Any, Final, Protocol

from PySide6.QtCore import QEvent, QItemSelectionModel, QModelIndex, QPersistentModelIndex, QPoint, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from sdviewer.gui import resources
from sdviewer.gui.models.flat_tree import FlatTreeModel
from sdviewer.gui.panels.tree_rows import ROW_HEIGHT, chevron_rect
from sdviewer.gui.shown_tree import ShownTree

MOST_PINNED: Final = 4
"""Rows above the first one in sight that stay at the top while one scrolls."""

# Typing finds among so many rows below the current one: decoding all 100,000 names would take longer than a frame.
_LOOK_AHEAD: Final = 4000


class Painter(Protocol):
    """Draws one row of a table whose columns stand at `columns`."""

    def paint(
        self, painter: QPainter, row: int, y: int, columns: Any, *, selected: bool = False, hovered: bool = False
    ) -> None: ...

    def update_fonts(self) -> None: ...


class FlatTreeView(QTableView):
    """Rows with chevrons in the first column; those above the first one in sight stay at the top."""

    toggle_requested = Signal(int)
    subtree_requested = Signal(int, bool)
    step_requested = Signal(int, bool)  # node, expand
    activated_node = Signal(int)
    menu_requested = Signal(QPoint)
    view_requested = Signal(int)
    first_painted = Signal()
    edit_requested = Signal(int)  # the node whose value is to be edited
    head_menu_requested = Signal(QPoint)

    def __init__(self, model: FlatTreeModel, painter: Painter) -> None:
        super().__init__()
        self._painted = False
        self._model = model
        self.setModel(model)
        self.row_painter = painter
        self.hovered_row = -1
        self._pressed_pinned = False
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setMouseTracking(True)
        self.setCornerButtonEnabled(False)
        rows = self.verticalHeader()
        rows.setMinimumSectionSize(ROW_HEIGHT)
        rows.setDefaultSectionSize(ROW_HEIGHT)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.hide()
        head = self.horizontalHeader()
        head.setFixedHeight(30)
        head.setMinimumSectionSize(40)
        head.setHighlightSections(False)
        head.setSectionsClickable(True)
        head.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        head.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        head.customContextMenuRequested.connect(lambda at: self.head_menu_requested.emit(head.mapToGlobal(at)))
        # A head asks for every section whether every row of it is selected: of a selection of its own, which is empty.
        head.setSelectionModel(QItemSelectionModel(model, head))

    def follow(self, tree: ShownTree) -> None:
        """Have rows open and close in a tree."""
        self.toggle_requested.connect(tree.toggle)
        self.step_requested.connect(lambda node, expand: (tree.expand if expand else tree.collapse)(node))
        self.subtree_requested.connect(
            lambda node, expand: (tree.expand if expand else tree.collapse)(node, subtree=True)
        )

    def places(self) -> Any:
        """Where the columns stand, as the painter wants it."""
        raise NotImplementedError

    def share_room(self) -> None:
        """Give the columns their widths."""

    def paint_over(self, painter: QPainter, row: int, y: int) -> None:
        """Draw what else there is of a row."""

    def current_node(self) -> int:
        """The node with the keyboard, -1 where there is none."""
        index = self.currentIndex()
        return self._model.node(index.row()) if index.isValid() else -1

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        columns = self.places()
        first, last = self.rowAt(event.rect().top()), self.rowAt(event.rect().bottom())
        if first < 0:
            return
        chosen, nowhere = self.selectionModel(), QModelIndex()
        y = self.rowViewportPosition(first)
        for row in range(first, (last if last >= 0 else self._model.rowCount() - 1) + 1):
            selected = chosen.isRowSelected(row, nowhere)
            self.row_painter.paint(painter, row, y, columns, selected=selected, hovered=row == self.hovered_row)
            self.paint_over(painter, row, y)
            y += ROW_HEIGHT
        self._paint_pinned(painter, columns)
        if not self._painted:
            self._painted = True
            self.first_painted.emit()

    # What is above the first row in sight stays in sight

    def pinned(self) -> list[int]:
        """The table rows that are kept at the top: the nearest above what is in sight below them."""
        if self.verticalScrollBar().value() == 0:
            return []
        for count in range(MOST_PINNED, 0, -1):
            row = self.rowAt(count * ROW_HEIGHT + ROW_HEIGHT // 2)
            above = self._above(row) if row >= 0 else []
            chosen = above[-count:]
            # One that is not yet scrolled out of its place is seen where it is.
            if len(chosen) == count and all(
                self.rowViewportPosition(row) < at * ROW_HEIGHT for at, row in enumerate(chosen)
            ):
                return chosen
        return []

    def _above(self, row: int) -> list[int]:
        """The table rows above one in the tree, from the top."""
        model, found = self._model, []
        node = model.parent_of(model.node(row))
        while node >= 0:
            if (above := model.row_of(node)) >= 0:
                found.append(above)
            node = model.parent_of(node)
        return found[::-1]

    def _paint_pinned(self, painter: QPainter, columns: Any) -> None:
        rows = self.pinned()
        if not rows:
            return
        chosen, nowhere = self.selectionModel(), QModelIndex()
        height = len(rows) * ROW_HEIGHT
        painter.fillRect(0, 0, self.viewport().width(), height, resources.colour("panel"))
        for at, row in enumerate(rows):
            selected = chosen.isRowSelected(row, nowhere)
            self.row_painter.paint(painter, row, at * ROW_HEIGHT, columns, selected=selected)
        painter.fillRect(0, height - 1, self.viewport().width(), 1, resources.colour("border2"))

    def _pinned_at(self, place: QPoint) -> int:
        """The row that is pinned at a place, -1 where none is."""
        rows = self.pinned()
        at = place.y() // ROW_HEIGHT
        return rows[at] if 0 <= at < len(rows) else -1

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        super().scrollContentsBy(dx, dy)
        self.viewport().update()  # what is pinned does not scroll with the rest

    def scrollTo(
        self,
        index: QModelIndex | QPersistentModelIndex,
        hint: QAbstractItemView.ScrollHint = QAbstractItemView.ScrollHint.EnsureVisible,
    ) -> None:
        super().scrollTo(index, hint)
        pinned = self.pinned()
        hidden = len(pinned) * ROW_HEIGHT - self.rowViewportPosition(index.row())
        if hidden > 0:
            self.verticalScrollBar().setValue(self.verticalScrollBar().value() - hidden)

    def _column(self, column: int) -> tuple[int, int]:
        return self.columnViewportPosition(column), self.columnWidth(column)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.share_room()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        node = self.current_node()
        if node >= 0 and self._tree_key(event, node):
            event.accept()
            return
        super().keyPressEvent(event)

    def _tree_key(self, event: QKeyEvent, node: int) -> bool:
        """A key that a tree has and a table has not; whether it was one."""
        model, key = self._model, event.key()
        if event.modifiers() & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier):
            return False
        if key == Qt.Key.Key_Right:
            if model.has_children(node):
                if model.is_expanded(node):
                    self._move_to(self.currentIndex().row() + 1)
                else:
                    self.step_requested.emit(node, True)
        elif key == Qt.Key.Key_Left:
            if model.has_children(node) and model.is_expanded(node):
                self.step_requested.emit(node, False)
            else:
                self._move_to(model.visible_ancestor(model.parent_of(node)))
        elif key == Qt.Key.Key_Asterisk:
            self.subtree_requested.emit(node, True)
        elif key == Qt.Key.Key_Minus:
            self.subtree_requested.emit(node, False)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.activated_node.emit(node)
            if model.has_children(node):
                self.toggle_requested.emit(node)
        elif event.text() and event.text() in "123456":
            self.view_requested.emit(int(event.text()))
        else:
            return False
        return True

    def _move_to(self, row: int) -> None:
        if 0 <= row < self._model.rowCount():
            self.setCurrentIndex(self._model.index(row, 0))

    def keyboardSearch(self, search: str) -> None:
        """Go to the next visible row whose name begins with what is typed."""
        wanted = search.lower()
        count = self._model.rowCount()
        start = self.currentIndex().row() + (1 if len(search) == 1 else 0)
        for offset in range(min(count, _LOOK_AHEAD)):
            row = (start + offset) % count
            if self._model.name(self._model.node(row)).lower().startswith(wanted):
                self._move_to(row)
                return

    def mousePressEvent(self, event: QMouseEvent) -> None:
        pinned = self._pinned_at(event.position().toPoint())
        self._pressed_pinned = pinned >= 0
        if pinned >= 0:
            # To where it stands, also if it is the current one already.
            self.setCurrentIndex(self._model.index(pinned, 0))
            self.scrollTo(self._model.index(pinned, 0))
            return
        index = self.indexAt(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and index.isValid() and index.column() == 0:
            node = self._model.node(index.row())
            chevron = chevron_rect(self.visualRect(index), self._model.depth(node))
            if self._model.has_children(node) and chevron.contains(event.position().toPoint()):
                self.toggle_requested.emit(node)
                return
        super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        index = self.indexAt(event.position().toPoint())
        if self._pinned_at(event.position().toPoint()) >= 0:
            return
        if not index.isValid() or event.button() != Qt.MouseButton.LeftButton:
            return
        node = self._model.node(index.row())
        chevron = chevron_rect(self.visualRect(index), self._model.depth(node))
        if self._model.has_children(node) and not (
            index.column() == 0 and chevron.contains(event.position().toPoint())
        ):
            self.toggle_requested.emit(node)
        elif self._model.kind(node) == "value":
            self.edit_requested.emit(node)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed_pinned and event.buttons():
            return  # nothing is dragged from there
        super().mouseMoveEvent(event)
        place = event.position().toPoint()
        self._hover(-1 if self._pinned_at(place) >= 0 else self.indexAt(place).row())

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._hover(-1)

    def _hover(self, row: int) -> None:
        before = self.hovered_row
        if row == before:
            return
        self.hovered_row = row
        for changed in (before, row):
            if 0 <= changed < self._model.rowCount():
                y = self.rowViewportPosition(changed)
                self.viewport().update(0, y, self.viewport().width(), ROW_HEIGHT)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu_requested.emit(event.globalPos())

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "row_painter"):
            self.row_painter.update_fonts()
