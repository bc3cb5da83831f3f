"""Short facts about what is selected, in one line below its path."""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from sdviewer.gui import resources
from sdviewer.gui.plain import plain_tip

_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine)


class FactsLine(QWidget):
    """Short facts with dots between; the shape in the fixed font. What does not fit is cut from the right.

    Of the last one some letters are in sight; where there is no room for them an ellipsis stands for it.
    """

    _gap = 9
    _least = 48

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(22)
        self._words: list[tuple[str, bool]] = []

    def show_facts(self, words: list[tuple[str, bool]]) -> None:
        """`words` are (text, whether in the fixed font)."""
        if words != self._words:
            self._words = words
            said = " · ".join(shown for shown, _ in words)
            self.setAccessibleName(said)
            self.setToolTip(plain_tip(said))
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(resources.colour("text2"))
        x, end = 2, self.width()
        for i, (shown, mono) in enumerate(self._words):
            if i:
                painter.setFont(resources.font())
                whole = painter.fontMetrics().horizontalAdvance(f"·{shown}") + self._gap
                if end - x < min(whole, self._least):
                    painter.drawText(QRect(x, 0, end - x, self.height()), _LEFT, "…")
                    return
                painter.drawText(QRect(x, 0, end - x, self.height()), _LEFT, "·")
                x += painter.fontMetrics().horizontalAdvance("·") + self._gap
            painter.setFont(resources.font(resources.NOTE, mono=True) if mono else resources.font())
            painter.setPen(resources.colour("text" if mono and not i else "text2"))
            metrics = painter.fontMetrics()
            fitting = metrics.elidedText(shown, Qt.TextElideMode.ElideRight, max(end - x, 0))
            painter.drawText(QRect(x, 0, end - x, self.height()), _LEFT, fitting)
            x += metrics.horizontalAdvance(fitting) + self._gap
            painter.setPen(resources.colour("text2"))
