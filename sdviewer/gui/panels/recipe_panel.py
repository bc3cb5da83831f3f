"""The recipe so far: its steps in order, what each does now, and every way to change, save and open it."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QAction, QContextMenuEvent, QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QListView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from sdviewer.core import text
from sdviewer.gui import icons, resources, widgets
from sdviewer.gui.models.steps_model import StepRow, StepsModel
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Chip, Elided

ROW: Final = 30
SECOND_LINE: Final = 18
CELL: Final = 24
"""Width of each of the buttons at the right end of a row."""
BUTTONS: Final = ("eye", "rename", "x")
MOST_ROWS: Final = 9
OWN_KEYS: Final = (Qt.Key.Key_Delete, Qt.Key.Key_Backspace, Qt.Key.Key_F2)
Index = QModelIndex | QPersistentModelIndex


class StepsView(QListView):
    """Space switches a step, Return edits it, Del takes it out, Alt+Up and Alt+Down move it; so does dragging."""

    toggled = Signal(int)
    edited = Signal(int)
    removed = Signal(int)
    moved = Signal(int, int)

    def __init__(self, model: StepsModel) -> None:
        super().__init__()
        self.steps = model
        self._high = ROW + 4
        self._pressed = (-1, "")
        self.setModel(model)
        self._delegate = _StepDelegate(model)
        self.setItemDelegate(self._delegate)
        self.setAccessibleName("Steps of the recipe")
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setDragEnabled(True)
        self.setAcceptDrops(True)
        self.setDropIndicatorShown(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.setDefaultDropAction(Qt.DropAction.MoveAction)
        self.setDragDropOverwriteMode(False)
        model.move_wanted.connect(self.moved)

    def fit(self) -> None:
        """Be as high as the steps, up to a few of them."""
        shown = self.steps.rows[:MOST_ROWS]
        high = ROW * len(shown) + SECOND_LINE * sum(bool(row.second_line) for row in shown)
        self._high = max(high, ROW) + 4
        self.setFixedHeight(self._high)

    def act(self, name: str, row: int) -> None:
        """Do what one of a row's buttons does."""
        {"eye": self.toggled, "rename": self.edited, "x": self.removed}[name].emit(row)

    def event(self, event: QEvent) -> bool:
        # Del and F2 are commands of the tree: here they are meant for the step.
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() in OWN_KEYS:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        row, key = self.currentIndex().row(), event.key()
        if row < 0:
            super().keyPressEvent(event)
        elif event.modifiers() & Qt.KeyboardModifier.AltModifier and key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            to = row + (1 if key == Qt.Key.Key_Down else -1)
            if 0 <= to < len(self.steps.rows):
                self.moved.emit(row, to)
        elif key == Qt.Key.Key_Space:
            self.toggled.emit(row)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_F2):
            self.edited.emit(row)
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.removed.emit(row)
        else:
            super().keyPressEvent(event)

    def button_at(self, place: QPoint) -> tuple[int, str]:
        """The row and the name of the button at a point of the view; -1 and "" where there is none."""
        index = self.indexAt(place)
        if not index.isValid():
            return -1, ""
        rect = self.visualRect(index)
        for name, where in button_rects(rect).items():
            if where.contains(place):
                return index.row(), name
        return index.row(), ""

    def mousePressEvent(self, event: QMouseEvent) -> None:
        # A press on a button must not begin a drag.
        row, name = self.button_at(event.position().toPoint())
        self._pressed = (row, name) if event.button() == Qt.MouseButton.LeftButton else (-1, "")
        if event.button() == Qt.MouseButton.LeftButton and name:
            self.setCurrentIndex(self.indexAt(event.position().toPoint()))
            return
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        pressed, self._pressed = self._pressed, (-1, "")
        row, name = self.button_at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and (name or pressed[1]):
            if (row, name) == pressed:
                self.act(name, row)
            return
        super().mouseReleaseEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        row, name = self.button_at(event.position().toPoint())
        if row >= 0 and not name:
            self.edited.emit(row)
        elif name == "eye":
            # Off and on again; but what comes up below one that was taken out must not go too.
            self._pressed = (row, name)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        row, name = self.button_at(event.position().toPoint())
        tips = {"rename": "Edit this step (Return)", "x": "Take this step out (Del)"}
        on = row >= 0 and self.steps.rows[row].enabled
        tips["eye"] = f"Switch {'off' if on else 'on'} (Space)"
        self.viewport().setToolTip(tips.get(name, ""))
        super().mouseMoveEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        row = self.currentIndex().row()
        if row < 0:
            return
        menu = QMenu(self)
        for words, key, act in (
            ("Switch off" if self.steps.rows[row].enabled else "Switch on", "Space", lambda: self.toggled.emit(row)),
            ("Edit…", "Return", lambda: self.edited.emit(row)),
            ("Take out", "Del", lambda: self.removed.emit(row)),
            ("Move up", "Alt+Up", lambda: self.moved.emit(row, row - 1)),
            ("Move down", "Alt+Down", lambda: self.moved.emit(row, row + 1)),
        ):
            action = menu.addAction(f"{words}\t{key}", act)
            action.setEnabled(
                not (words == "Move up" and not row) and not (words == "Move down" and row + 1 == len(self.steps.rows))
            )
        menu.exec(event.globalPos())
        menu.deleteLater()


def button_rects(rect: QRect) -> dict[str, QRect]:
    """Where the buttons of a row are."""
    left = rect.right() - CELL * len(BUTTONS) - 2
    return {name: QRect(left + CELL * at, rect.top(), CELL, ROW) for at, name in enumerate(BUTTONS)}


class _StepDelegate(QStyledItemDelegate):
    """Handle, number, words, count and three buttons; what is wrong on a second line."""

    def __init__(self, model: StepsModel) -> None:
        super().__init__()
        self._model = model

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(100, ROW + (SECOND_LINE if self._model.rows[index.row()].second_line else 0))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        rect: QRect = option.rect
        state: QStyle.StateFlag = option.state
        row = self._model.rows[index.row()]
        if row.error:
            painter.fillRect(rect, resources.colour("tS"))
        elif state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, resources.colour("sel"))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, resources.colour("hover"))
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect.left(), rect.top(), 3, rect.height(), resources.colour("accent"))
        pale = not row.enabled or row.waits
        token = "S" if row.error else "text3" if pale else "text"
        middle = rect.top() + ROW // 2
        icons.paint(painter, "drag", rect.left() + 6, middle - 7, 14, "text3")
        self._words(painter, QRect(rect.left() + 24, rect.top(), 26, ROW), str(index.row() + 1), token, bold=True)
        buttons = button_rects(rect)
        for name, place in buttons.items():
            shown = "eyeoff" if name == "eye" and not row.enabled else name
            icons.paint(painter, shown, place.center().x() - 6, middle - 7, 14, "S" if row.error else "text2")
        right = buttons["eye"].left() - 6
        dead = bool(row.second_line) and not row.error
        width = QFontMetrics(resources.font(resources.NOTE)).horizontalAdvance(row.count) + 4
        count = QRect(right - width, rect.top(), width, ROW)
        self._words(painter, count, row.count, "S" if row.error else "text2", small=True)
        right -= width + 8
        if dead or row.error:
            icons.paint(painter, "warn", right - 14, middle - 7, 14, "S" if row.error else "warn")
            right -= 20
        self._words(painter, QRect(rect.left() + 50, rect.top(), right - rect.left() - 50, ROW), row.label, token)
        if row.second_line:
            place = QRect(rect.left() + 50, rect.top() + ROW - 4, rect.width() - 60, SECOND_LINE)
            self._words(painter, place, row.second_line, "S" if row.error else "warn", small=True)

    def _words(
        self, painter: QPainter, rect: QRect, words: str, token: str, *, bold: bool = False, small: bool = False
    ) -> None:
        size = resources.NOTE if small else resources.BASE
        painter.setFont(resources.font(size, 600 if bold else 400))
        painter.setPen(resources.colour(token))
        shown = painter.fontMetrics().elidedText(words, Qt.TextElideMode.ElideMiddle, rect.width())
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine), shown)


class RecipePanel(QWidget):
    """There as soon as there is a step, or something that the file must have."""

    save_requested = Signal()
    edit_requested = Signal(int)

    def __init__(self, session: Session, *, saves: bool = True) -> None:
        """`saves`: it has the button that saves the repaired copy."""
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._session = session
        self._count = Chip("").only_says()
        self._add = _menu_button("plus", "Add a step")
        self._more = _menu_button("more", "Save, open and edit the recipe")
        save = widgets.button("Save repaired as…", "save", primary=True)
        save.clicked.connect(self.save_requested)
        self._save = save
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(widgets.label("Recipe", "title"))
        head.addWidget(self._count)
        head.addStretch(1)
        head.addWidget(self._add)
        head.addWidget(self._more)
        if saves:
            head.addWidget(save)
        self._guards = Elided("", "note")
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        self.model = StepsModel()
        self.view = StepsView(self.model)
        self.view.toggled.connect(session.toggle_step)
        self.view.removed.connect(session.remove_step)
        self.view.moved.connect(self._move)
        self.view.edited.connect(self.edit_requested)
        self._warnings = widgets.label("", "note")
        self._warnings.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 8)
        column.setSpacing(6)
        column.addLayout(head)
        column.addWidget(self._guards)
        column.addWidget(self._wrong)
        column.addWidget(self.view, 1)
        column.addWidget(self._warnings)
        self._current = -1
        self.hide()

    def offer(self, steps: list[QAction], others: list[QAction]) -> None:
        """Put the window's commands into the two menus."""
        for made, actions in ((self._add, steps), (self._more, others)):
            made.menu().clear()
            made.menu().addActions(actions)

    def show_recipe(self) -> None:
        """Show the session's recipe as the worker understood it."""
        session = self._session
        edit, steps = session.edit, session.recipe.steps
        told = list(edit.get("steps") or ())
        failed = session.failed_step
        at = -2 if failed is None else int(failed["step"])
        reason = "" if failed is None else _reason(failed, at)
        rows = [
            StepRow(
                text.visible(step.label, 300),
                step.enabled,
                int(report["matched"]),
                int(report["changed"]),
                tuple(map(str, report["dead_rules"])),
                text.visible(str(step.table.get("why") or ""), 300),
                reason if i == at else "",
                failed is not None and i > at,
            )
            for i, (step, report) in enumerate(zip(steps, told, strict=False))
        ]
        current = self._current if self._current >= 0 else self.view.currentIndex().row()
        self._current = -1
        self.model.set_rows(rows)
        if rows and current >= 0:
            self.view.setCurrentIndex(self.model.index(min(current, len(rows) - 1), 0))
        self.setVisible(not session.recipe.is_empty)
        self._count.setText(text.plural(len(rows), "step"))
        guards = _guards(session)
        self._guards.setText(guards)
        self._guards.setVisible(bool(guards))
        self._wrong.setText(reason if at == -1 else "")
        self._wrong.setVisible(at == -1)
        self._save.setEnabled(failed is None)
        self._save.setToolTip("" if failed is None else "The recipe does not go through on this file.")
        warnings = [text.visible(str(message), 300) for _, message, _ in edit.get("warnings") or ()]
        self._warnings.setText("\n".join(warnings[:3]))
        self._warnings.setVisible(bool(warnings))
        self.view.fit()
        self._fit()

    def _fit(self) -> None:
        """Be as high as what is in it; the tree has the rest."""
        column = self.layout()
        assert column is not None
        column.activate()
        wrapped = column.totalHeightForWidth(max(self.width(), 320)) if column.hasHeightForWidth() else 0
        self.setFixedHeight(wrapped or column.totalSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit()

    def _move(self, step: int, to: int) -> None:
        if 0 <= to < len(self.model.rows):
            self._current = to  # the row that was moved stays the current one
            self._session.move_step(step, to)


def _reason(failed: object, at: int) -> str:
    """Why a step fails, without the number and name that stand beside it already."""
    assert hasattr(failed, "__getitem__")
    message, remedy = str(failed["message"]), str(failed["remedy"])
    if at >= 0 and message.startswith(f"step {at + 1} ("):
        message = message.partition("): ")[2] or message
    said = message[:1].upper() + message[1:] + "."
    return text.visible(f"{said} {remedy}".strip(), 400)


def _guards(session: Session) -> str:
    """What the recipe wants of the file, in one line."""
    source = session.recipe.source
    parts = [f"requires {text.visible(str(pattern), 60)}" for pattern in source.get("require") or ()]
    if session.recipe.is_for_several:
        parts.append(f"for {' and '.join([text.visible(str(name), 60) for name in source['state_dict']])}")
    parts += [f"forbids {text.visible(str(pattern), 60)}" for pattern in source.get("forbid") or ()]
    if source.get("tensors") is not None:
        parts.append(f"written for {text.plural(int(source['tensors']), 'tensor')}")
    return ", ".join(parts)


def _menu_button(icon: str, name: str) -> QToolButton:
    made = widgets.icon_button(icon, name, 15)
    made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    made.setMenu(QMenu(made))
    return made
