"""The list at the left of the target dialog: the ways to say what a file has to fit."""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QVBoxLayout, QWidget

from sdviewer.gui import icons, resources

HEIGHT: Final = 50


class Way(NamedTuple):
    """One of them; `heading` stands above its page."""

    id: str
    title: str
    note: str
    icon: str
    heading: str


WAYS: Final = (
    Way("message", "Paste the error", "the RuntimeError text", "clip", "Paste the error your training script printed"),
    Way("checkpoint", "Another checkpoint", "use its keys and shapes", "file", "Choose a checkpoint that loads"),
    Way("class", "Model class", "import path, runs your code", "script", "Name the class, or a function that makes it"),
    Way("config", "Hugging Face config", "config.json, no weights needed", "dict", "Choose the config of the model"),
    Way("keys", "Key list", "text or JSON, one key a line", "tensor", "Paste the keys of the model, or choose a file"),
)


class Ways(QWidget):
    """One of them is chosen; the arrow keys go up and down."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._buttons = {way.id: _WayButton(way) for way in WAYS}
        column = QVBoxLayout(self)
        column.setContentsMargins(11, 12, 11, 12)
        column.setSpacing(2)
        for name, made in self._buttons.items():
            self._group.addButton(made)
            column.addWidget(made)
            made.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
            made.toggled.connect(partial(self._toggled, name))
        column.addStretch(1)
        self.setAccessibleName("What the file has to fit")

    def _toggled(self, name: str, on: bool) -> None:
        # Tab and Shift+Tab come to the one that is chosen: Qt sees to that only once one had the keyboard.
        self._buttons[name].setFocusPolicy(Qt.FocusPolicy.StrongFocus if on else Qt.FocusPolicy.ClickFocus)
        if on:
            self.chosen.emit(name)

    def choose(self, name: str) -> None:
        """Turn to one; `chosen` tells where it is another."""
        self._buttons[name].setChecked(True)

    @property
    def last(self) -> QWidget:
        """The last of them for Tab."""
        return self._buttons[WAYS[-1].id]

    @property
    def current(self) -> str:
        """The one that is chosen, "" for none."""
        return next((name for name, made in self._buttons.items() if made.isChecked()), "")


class _WayButton(QAbstractButton):
    """Icon, title and a note below it."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way
        self.setCheckable(True)
        self.setFixedHeight(HEIGHT)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setText(way.title)
        self.setAccessibleName(way.title)
        self.setAccessibleDescription(way.note)

    def sizeHint(self) -> QSize:
        return QSize(236, HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ground = "sel" if self.isChecked() else "hover" if self.underMouse() else ""
        if ground:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(resources.colour(ground))
            painter.drawRoundedRect(QRectF(self.rect()), 6, 6)
        if self.hasFocus():
            painter.setPen(QPen(resources.colour("accent"), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        icons.paint(painter, self._way.icon, 11, (HEIGHT - 16) // 2, 16, "text" if self.isChecked() else "text2")
        painter.setFont(resources.font(resources.BASE, weight=600))
        painter.setPen(resources.colour("text"))
        painter.drawText(QPointF(38, 21), self._way.title)
        painter.setFont(resources.font(resources.NOTE))
        painter.setPen(resources.colour("text2"))
        painter.drawText(QPointF(38, 38), self._way.note)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.update()
