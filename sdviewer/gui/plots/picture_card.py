"""A card whose picture and data can be taken out: with the menu at the right of its head, a right click, or Ctrl+C."""

from __future__ import annotations

from typing import ClassVar

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QWidget

from sdviewer.gui import widgets
from sdviewer.gui.plots.plot_menu import PlotMenu
from sdviewer.gui.widgets import Card


class PictureCard(Card):
    """`name` is its id, which the names of files end in; `title` what it is called in words."""

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, heading: str, subtitle: str = "") -> None:
        super().__init__(heading, subtitle)
        # Who clicks it copies its data with Ctrl+C.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.menu = PlotMenu(self)
        self.head.addWidget(self.menu.button)

    @property
    def key(self) -> str:
        """What the picture is of, which the names of files begin with."""
        raise NotImplementedError

    @property
    def folder(self) -> str:
        """Where files are put that nobody chose a place for."""
        raise NotImplementedError

    def can_be_copied(self) -> bool:
        """Whether there is anything to copy."""
        raise NotImplementedError

    def copy_data(self) -> None:
        """Put what is drawn on the clipboard, as columns of text."""
        raise NotImplementedError

    def add_control(self, widget: QWidget) -> None:
        self.head.insertWidget(self.head.count() - 1, widget)

    def event(self, event: QEvent) -> bool:
        # Ctrl+C is the window's for a key; in a plot it is for what is drawn.
        return widgets.takes_copy(event) or super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_data()
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu.open(event.globalPos())
