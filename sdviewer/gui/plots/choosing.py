"""A plot with choices, which are there where it has the room: alone, not in the overview."""

from __future__ import annotations

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QWidget

from sdviewer.gui.plots.plot import Plot
from sdviewer.gui.widgets import Chip

_SUBTITLE = 110
"""Pixels that a subtitle needs to say anything."""
_HIGH = 240
"""Pixels of height from which a line of choices leaves enough to the plot."""


class ChoosingPlot(Plot):
    """`add_choice` is for controls, `add_note` for chips that only say something; both may hide for their own reasons.

    In a wide plot the choices stand in the head and the notes have a line of their own. In a narrow one the notes stand
    in the head, and the choices have the line where the plot is high enough for one, as alone in a small window.
    """

    def __init__(self) -> None:
        super().__init__()
        self._choices, self._choice_row = _row()
        self._notes, self._note_row = _row()
        self._choice_row.insertStretch(0, 1)
        self._note_row.addStretch(1)
        self.add_control(self._notes)
        self.add_control(self._choices)
        self._room = (False, False)

    def _take_off(self) -> None:
        super()._take_off()
        self._notes.hide()

    def add_choice(self, *widgets: QWidget) -> None:
        """Put choices at the right end of the head."""
        for widget in widgets:
            self._choice_row.addWidget(widget)

    def add_note(self, *chips: Chip) -> None:
        """Put chips that only say something."""
        for chip in chips:
            chip.only_says().hide()
            self._note_row.insertWidget(self._note_row.count() - 1, chip)

    def _draw_answer(self) -> None:
        super()._draw_answer()
        self.make_room()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.make_room()

    def make_room(self) -> None:
        """Show the choices if they have room; after one of them was shown or hidden, too."""
        needed = self._choices.sizeHint().width()
        beside = self.width() >= self.taken(self.subtitle, self._choices, self._notes) + needed + _SUBTITLE
        below = not beside and self.height() >= _HIGH and self.width() >= needed + self.taken_by_margins()
        self._choices.setVisible(beside or below)
        self._notes.setVisible(any(not chip.isHidden() for chip in self._notes.findChildren(Chip)))
        if (beside, below) != self._room:
            self._room = (beside, below)
            if beside:
                self.head.insertWidget(2, self._choices)
                self.column.insertWidget(1, self._notes)
            else:
                self.head.insertWidget(2, self._notes)
                self.column.insertWidget(1, self._choices)


def _row() -> tuple[QWidget, QHBoxLayout]:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(8)
    return made, row
