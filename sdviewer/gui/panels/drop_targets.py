"""Two large targets over an open file while another one is dragged over the window: open it, or compare both."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from sdviewer.gui import icons, resources

GAP = 24


class DropTargets(QWidget):
    """Covers its parent; what is dropped goes through to the window, which asks `compares`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._name = ""
        self._at = ""
        self.hide()

    def begin(self, name: str) -> None:
        """Show both; `name` is that of the file that is open."""
        parent = self.parentWidget()
        assert parent is not None
        self._name, self._at = name, ""
        self.setGeometry(parent.rect())
        self.raise_()
        self.show()

    def point(self, place: QPoint) -> None:
        """Light up the target at a place of the window's centre."""
        at = self._target_at(place)
        if at != self._at:
            self._at = at
            self.update()

    def compares(self, place: QPoint) -> bool:
        """Whether a drop there means to compare."""
        return self._target_at(place) == "compare"

    def _target_at(self, place: QPoint) -> str:
        return next((name for name, rect in self._rects().items() if rect.contains(place.toPointF())), "")

    def _rects(self) -> dict[str, QRectF]:
        inside = QRectF(self.rect()).adjusted(GAP, GAP, -GAP, -GAP)
        half = (inside.width() - GAP) / 2
        left = QRectF(inside.left(), inside.top(), half, inside.height())
        return {"open": left, "compare": left.translated(half + GAP, 0)}

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(0.92)
        painter.fillRect(self.rect(), resources.colour("win"))
        painter.setOpacity(1.0)
        words = {
            "open": ("Open", "in a tab of its own", "open"),
            "compare": ("Compare", f"with {self._name}", "compare"),
        }
        for name, rect in self._rects().items():
            over = name == self._at
            pen = QPen(resources.colour("accent" if over else "border2"), 1.5)
            pen.setDashPattern([5, 3.5])
            painter.setPen(pen)
            painter.setBrush(resources.colour("accentSoft" if over else "panel"))
            painter.drawRoundedRect(rect, 12, 12)
            title, about, icon = words[name]
            centre = rect.center().toPoint()
            icons.paint(painter, icon, centre.x() - 20, centre.y() - 62, 40, "accent" if over else "text2")
            painter.setPen(resources.colour("text"))
            painter.setFont(resources.font(resources.HEADING, 600))
            line = QRectF(rect.left(), centre.y() - 12, rect.width(), 30)
            painter.drawText(line, int(Qt.AlignmentFlag.AlignCenter), title)
            painter.setPen(resources.colour("text2"))
            painter.setFont(resources.font(resources.BASE))
            shown = painter.fontMetrics().elidedText(about, Qt.TextElideMode.ElideMiddle, int(rect.width()) - 24)
            painter.drawText(line.translated(0, 30), int(Qt.AlignmentFlag.AlignCenter), shown)
