"""A plot with choices in its head, which are there where it is wide: alone, not in the overview."""

from __future__ import annotations

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QWidget

from sdviewer.gui.plots.plot import Plot

_SUBTITLE = 150
"""Pixels that a subtitle needs to say anything."""


class ChoosingPlot(Plot):
    """`add_choice` instead of `add_control`; a choice may be hidden for reasons of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._choices = QWidget()
        self._row = QHBoxLayout(self._choices)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(8)
        self._row.addStretch(1)
        self._hint.timeout.connect(self._clear_old)

    def clear(self) -> None:
        """Take what is drawn off."""

    def _clear_old(self) -> None:
        """What takes a while to come must not be taken for what is drawn of the tensor before."""
        if self._answer is None:
            self.subtitle.setText("")
            self.clear()

    def add_choice(self, *widgets: QWidget) -> None:
        """Put choices at the right end of the head; after the controls that are always there."""
        for widget in widgets:
            self._row.addWidget(widget)
        self.add_control(self._choices)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.make_room()

    def make_room(self) -> None:
        """Show the choices if they have room; after one of them was shown or hidden, too."""
        wanted = self.title_label.sizeHint().width() + self._choices.sizeHint().width() + _SUBTITLE
        self._choices.setVisible(self.width() >= wanted)
