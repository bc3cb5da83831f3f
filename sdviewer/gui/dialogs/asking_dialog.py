"""What dialogs that ask for something have in common: margins, fields with their names, and a foot to leave by."""

from __future__ import annotations

from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.mnemonics import follow_alt


class AskingDialog(QDialog):
    """A modal dialog; the letters of its buttons are underlined while Alt is held."""

    def __init__(self, parent: QWidget, title: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setModal(True)

    def make_column(self, heading: QWidget) -> QVBoxLayout:
        """The layout, begun with its heading."""
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 16, 18, 14)
        column.setSpacing(10)
        column.addWidget(heading)
        return column

    def make_foot(self, act: QPushButton, wrong: QWidget | None = None, *, default: bool = True) -> QHBoxLayout:
        """What is wrong, Cancel, and what it is for; `default`: Return does that, too."""
        cancel = widgets.button("Cancel")
        cancel.clicked.connect(self.reject)
        act.setDefault(default)
        act.clicked.connect(self.accept)
        foot = QHBoxLayout()
        if wrong is not None:
            foot.addWidget(wrong, 1)
        else:
            foot.addStretch(1)
        foot.addWidget(cancel)
        foot.addWidget(act)
        return foot

    def keyPressEvent(self, event: QKeyEvent) -> None:
        super().keyPressEvent(event)
        follow_alt(self, event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        super().keyReleaseEvent(event)
        follow_alt(self, event)


def field_grid(gap: int) -> QGridLayout:
    """Rows of names and their fields, `gap` pixels apart."""
    grid = QGridLayout()
    grid.setHorizontalSpacing(10)
    grid.setVerticalSpacing(gap)
    grid.setColumnStretch(1, 1)
    return grid
