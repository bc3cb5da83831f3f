"""Large targets over an open file while another one is dragged over the window: what is to be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from sdviewer.gui import icons, resources

GAP = 24


class Offer(NamedTuple):
    """One thing that can be done with what is dragged: its name, what it is called, about what, an icon."""

    name: str
    title: str
    about: str
    icon: str


def offers(name: str, *, repaired: bool) -> tuple[Offer, ...]:
    """What can be done with another file while `name` is in front; `repaired`: in a workbench."""
    opening = Offer("open", "Open", "in a tab of its own", "open")
    if repaired:
        return opening, Offer("fit", "Use as target", f"of {name}", "repair")
    fitting = Offer("fit", "Repair to fit", f"{name} is made to fit it", "repair")
    return opening, Offer("compare", "Compare", f"with {name}", "compare"), fitting


class DropTargets(QWidget):
    """Covers its parent; what is dropped goes through to the window, which asks what is `meant`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._offers: Sequence[Offer] = ()
        self._at = ""
        self.hide()

    def begin(self, offered: Sequence[Offer]) -> None:
        """Show one for each thing that can be done."""
        parent = self.parentWidget()
        assert parent is not None
        self._offers, self._at = offered, ""
        self.setGeometry(parent.rect())
        self.raise_()
        self.show()

    def point(self, place: QPoint) -> None:
        """Light up the target at a place of the window's centre."""
        at = self.meant(place)
        if at != self._at:
            self._at = at
            self.update()

    def meant(self, place: QPoint) -> str:
        """The name of what a drop there means, "" where nothing is offered."""
        if self.isHidden():
            return ""
        return next((offer.name for offer, rect in self._rects() if rect.contains(place.toPointF())), "")

    def _rects(self) -> Iterator[tuple[Offer, QRectF]]:
        inside = QRectF(self.rect()).adjusted(GAP, GAP, -GAP, -GAP)
        wide = (inside.width() + GAP) / max(len(self._offers), 1) - GAP
        for number, offer in enumerate(self._offers):
            yield offer, QRectF(inside.left() + number * (wide + GAP), inside.top(), wide, inside.height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(0.92)
        painter.fillRect(self.rect(), resources.colour("win"))
        painter.setOpacity(1.0)
        for offer, rect in self._rects():
            over = offer.name == self._at
            pen = QPen(resources.colour("accent" if over else "border2"), 1.5)
            pen.setDashPattern([5, 3.5])
            painter.setPen(pen)
            painter.setBrush(resources.colour("accentSoft" if over else "panel"))
            painter.drawRoundedRect(rect, 12, 12)
            centre = rect.center().toPoint()
            icons.paint(painter, offer.icon, centre.x() - 20, centre.y() - 62, 40, "accent" if over else "text2")
            painter.setPen(resources.colour("text"))
            painter.setFont(resources.font(resources.HEADING, 600))
            line = QRectF(rect.left(), centre.y() - 12, rect.width(), 30)
            painter.drawText(line, int(Qt.AlignmentFlag.AlignCenter), offer.title)
            painter.setPen(resources.colour("text2"))
            painter.setFont(resources.font(resources.BASE))
            shown = painter.fontMetrics().elidedText(offer.about, Qt.TextElideMode.ElideMiddle, int(rect.width()) - 24)
            painter.drawText(line.translated(0, 30), int(Qt.AlignmentFlag.AlignCenter), shown)
