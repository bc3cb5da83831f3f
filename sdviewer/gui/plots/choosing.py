"""A plot with choices in its head, which are there where it is wide: alone, not in the overview."""

from __future__ import annotations

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QWidget

from sdviewer.gui.plots.plot import Plot
from sdviewer.gui.widgets import Chip

_SUBTITLE = 110
"""Pixels that a subtitle needs to say anything."""


class ChoosingPlot(Plot):
    """`add_choice` is for controls, `add_note` for chips that only say something; both may hide for their own reasons.

    In a narrow plot the notes stand in the head, in a wide one the choices do and the notes have a line of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._choices, self._choice_row = _row()
        self._notes, self._note_row = _row()
        self._choice_row.insertStretch(0, 1)
        self._note_row.addStretch(1)
        self.add_control(self._notes)
        self.add_control(self._choices)
        self._wide = False

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
        beside = (self.subtitle, self._choices, self._notes)
        taken = 0
        for i in range(self.head.count()):
            item = self.head.itemAt(i)
            other = item.widget() if item is not None else None
            if other is not None and other not in beside and not other.isHidden():
                taken += other.sizeHint().width() + self.head.spacing()
        wide = self.width() >= taken + self._choices.sizeHint().width() + _SUBTITLE
        self._choices.setVisible(wide)
        self._notes.setVisible(any(not chip.isHidden() for chip in self._notes.findChildren(Chip)))
        if wide != self._wide:
            self._wide = wide
            if wide:
                self.column.insertWidget(1, self._notes)
            else:
                self.head.insertWidget(2, self._notes)


def _row() -> tuple[QWidget, QHBoxLayout]:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(8)
    return made, row
