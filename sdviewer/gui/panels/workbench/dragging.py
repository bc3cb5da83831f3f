"""Pairing by dragging in the table of a workbench: a key of the file onto one of the target, or the other way round."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QByteArray, QEvent, QMimeData, QObject, QPoint, QRect, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QDrag, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap
from PySide6.QtWidgets import QApplication, QWidget

from sdviewer.gui import icons, resources
from sdviewer.gui.models.fit_model import FitModel
from sdviewer.gui.panels.flat_tree import FlatTreeView
from sdviewer.gui.panels.tree_rows import ROW_HEIGHT

KEY_MIME: Final = "application/x-sdviewer-fit-key"
EDGE: Final = 28
"""Pixels from the upper and the lower edge within which the table scrolls while something is dragged."""
SCROLL_EVERY: Final = 40
LONGEST_LABEL: Final = 460


class KeyDrag(QObject):
    """Watches a table. `dropped` tells the row that was dragged and the one it was dropped on."""

    dropped = Signal(int, int)

    def __init__(self, view: FlatTreeView, model: FitModel) -> None:
        super().__init__(view)
        self._view, self._model = view, model
        self._pressed = QPoint()
        self.dragged = -1
        """The node that is dragged, -1 for none."""
        self._mark = _Mark(view.viewport())
        self._scroll = QTimer(self, interval=SCROLL_EVERY)
        self._scroll.timeout.connect(self._scroll_on)
        self._step = 0
        self._node = -1
        view.viewport().setAcceptDrops(True)
        view.viewport().installEventFilter(self)

    # The mouse, before a drag

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        kind = event.type()
        if isinstance(event, QMouseEvent):
            return self._mouse(kind, event)
        if kind in (QEvent.Type.DragEnter, QEvent.Type.DragMove, QEvent.Type.Drop):
            return self._drag(kind, event)
        if kind == QEvent.Type.DragLeave:
            self.leave()
        return False

    def _mouse(self, kind: QEvent.Type, event: QMouseEvent) -> bool:
        place = event.position().toPoint()
        if kind == QEvent.Type.MouseButtonPress:
            self._pressed = place
            index = self._view.indexAt(place)
            self._node = self._model.node(index.row()) if index.isValid() else -1
            return False
        if kind != QEvent.Type.MouseMove or not event.buttons() & Qt.MouseButton.LeftButton:
            return False
        far = (place - self._pressed).manhattanLength() >= QApplication.startDragDistance()
        if far and self._node >= 0 and self._model.is_leaf(self._node):
            self._begin(self._node)
        return True  # or the selection would follow the pointer

    def _begin(self, node: int) -> None:
        self._node = -1
        self.dragged = node
        drag = QDrag(self._view)
        data = QMimeData()
        data.setData(KEY_MIME, QByteArray(b"key"))
        drag.setMimeData(data)
        side = "b" if self._model.is_gap(node, "a") else "a"
        drag.setPixmap(_label(self._model.words(node, f"name_{side}"), side, self._view.devicePixelRatioF()))
        drag.setHotSpot(QPoint(-10, ROW_HEIGHT // 2))
        drag.exec(Qt.DropAction.LinkAction)
        self.dragged = -1
        self.leave()

    # While something is dragged

    def _drag(self, kind: QEvent.Type, event: Any) -> bool:
        if self.dragged < 0 or not event.mimeData().hasFormat(KEY_MIME):
            return False
        place = event.position().toPoint()
        onto = self.target_at(place)
        if kind == QEvent.Type.Drop:
            self.leave()
            if onto >= 0:
                event.acceptProposedAction()
                dragged = self.dragged
                # Behind the drop, which is over only then: a question may be asked.
                QTimer.singleShot(0, self, lambda: self.dropped.emit(dragged, onto))
            return True
        self._show(onto)
        height = self._view.viewport().height()
        self._step = -1 if place.y() < EDGE else 1 if place.y() > height - EDGE else 0
        if self._step and not self._scroll.isActive():
            self._scroll.start()
        event.setDropAction(Qt.DropAction.LinkAction)
        event.accept() if onto >= 0 or kind == QEvent.Type.DragEnter else event.ignore()
        return True

    def target_at(self, place: QPoint) -> int:
        """The node at a place that what is dragged can be paired with, -1 for none."""
        index = self._view.indexAt(place)
        node = self._model.node(index.row()) if index.isValid() else -1
        if node < 0 or node == self.dragged or not self._model.is_leaf(node):
            return -1
        from_file = not self._model.is_gap(self.dragged, "a")
        fits = not self._model.is_gap(node, "b") if from_file else not self._model.is_gap(node, "a")
        return node if fits else -1

    def leave(self) -> None:
        """Nothing is dragged over the table any more."""
        self._scroll.stop()
        self._mark.hide()

    def _show(self, node: int) -> None:
        row = self._model.row_of(node) if node >= 0 else -1
        if row < 0:
            self._mark.hide()
            return
        y = self._view.rowViewportPosition(row)
        self._mark.setGeometry(QRect(0, y, self._view.viewport().width(), ROW_HEIGHT))
        self._mark.show()
        self._mark.raise_()

    def _scroll_on(self) -> None:
        if not self._step:
            self._scroll.stop()
            return
        bar = self._view.verticalScrollBar()
        bar.setValue(bar.value() + self._step * ROW_HEIGHT)
        self._mark.hide()


class _Mark(QWidget):
    """A frame around the row that would be paired."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(resources.colour("accent"), 2))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 4, 4)


def _label(key: str, side: str, ratio: float) -> QPixmap:
    """What hangs on the pointer: the key in the colour of its side."""
    font = resources.font(resources.NOTE, mono=True)
    made = QPixmap(1, 1)
    painter = QPainter(made)
    painter.setFont(font)
    shown = painter.fontMetrics().elidedText(key, Qt.TextElideMode.ElideLeft, LONGEST_LABEL)
    width = painter.fontMetrics().horizontalAdvance(shown) + 40
    painter.end()
    made = QPixmap(round(width * ratio), round(ROW_HEIGHT * ratio))
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(resources.colour(side.upper()), 1))
    painter.setBrush(resources.colour(f"t{side.upper()}"))
    painter.drawRoundedRect(QRectF(0.5, 0.5, width - 1, ROW_HEIGHT - 1), 5, 5)
    icons.paint(painter, "link", 9, (ROW_HEIGHT - 14) // 2, 14, side.upper())
    painter.setFont(font)
    painter.setPen(resources.colour("text"))
    flags = int(Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)
    painter.drawText(QRect(30, 0, width - 34, ROW_HEIGHT), flags, shown)
    painter.end()
    return made
