"""Where the bytes of a file are: a stacked bar, its parts by name, and what the weights alone would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QHelpEvent, QPainter, QPainterPath, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QToolTip, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.plots import colours
from sdviewer.gui.widgets import Card, Elided

MOST_PARTS: Final = 6
_SHADES: Final = {"model": (1.0,), "average": (0.85,), "optimizer": (0.66, 0.42, 0.3), "other": (0.55, 0.35)}


class BytesCard(Card):
    """The bytes of one file."""

    slim_copy_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Where the bytes are")
        self.bar = StackedBar()
        self.parts = PartsList()
        self._alone = Elided("", "note")
        self.slim = widgets.button("Save slim copy…")
        self.slim.setToolTip("Write a copy without what is only needed to go on training")
        self.slim.clicked.connect(self.slim_copy_requested)
        column = QVBoxLayout()
        column.setSpacing(5)
        column.addWidget(self.bar)
        column.addSpacing(2)
        column.addWidget(self.parts)
        self._rule = widgets.line()
        column.addWidget(self._rule)
        foot = QHBoxLayout()
        foot.addWidget(self._alone, 1)
        foot.addWidget(self.slim)
        column.addLayout(foot)
        self.column.addLayout(column)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def show_bytes(self, body: Body) -> None:
        """Show the parts of a file (engine.overview, BYTES)."""
        parts = merged(body["parts"])
        shades = shades_of(parts)
        size = int(body["size"])
        self.subtitle.setText(f"{text.size(size)} file{', packed' if body['compressed'] else ''}")
        self.bar.show_parts([int(nbytes) for _, nbytes, _ in parts], shades)
        self.parts.show_parts([(name, nbytes) for name, nbytes, _ in parts], shades)
        alone = int(body["weights_only"])
        slim = bool(body["slim"])
        self._alone.setText(f"Weights only: {text.size(alone)}" if slim else "")
        for part in (self._alone, self.slim, self._rule):
            part.setVisible(slim)
        said = ", ".join(f"{name} {text.size(int(nbytes))}" for name, nbytes, _ in parts)
        self.bar.setAccessibleDescription(f"{text.size(size)}: {said}")


def merged(parts: Sequence[Sequence[Any]]) -> list[tuple[str, int, str]]:
    """The parts in their order, the smallest put together where there are too many."""
    told = [(str(name), int(nbytes), str(kind)) for name, nbytes, kind in parts]
    if len(told) <= MOST_PARTS + 1:
        return told
    large = set(sorted(range(len(told)), key=lambda at: -told[at][1])[:MOST_PARTS])
    rest = [part for at, part in enumerate(told) if at not in large]
    more = (f"{len(rest):,} more", sum(nbytes for _, nbytes, _ in rest), "rest")
    return [*(part for at, part in enumerate(told) if at in large), more]


def shades_of(parts: Sequence[tuple[str, int, str]]) -> list[float]:
    """A shade for each part; -1 for what is no tensor's, -2 for what nothing uses."""
    used: dict[str, int] = {}
    made = []
    for _, _, kind in parts:
        at = used[kind] = used.get(kind, -1) + 1
        shades = _SHADES.get(kind)
        made.append(shades[at % len(shades)] if shades else -2.0 if kind == "unused" else -1.0)
    return made


def _colour(shade: float) -> QColor:
    if shade >= 0:
        return colours.amount(shade)
    return resources.colour("Bf" if shade < -1 else "neutral")


class StackedBar(QWidget):
    """Parts of a whole beside each other; each is at least a line."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[tuple[int, float]] = []
        self.setAccessibleName("Where the bytes are")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(200, 15)

    def show_parts(self, sizes: Sequence[int], shades: Sequence[float]) -> None:
        """Show other parts."""
        self._parts = list(zip(sizes, shades, strict=True))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        total = sum(size for size, _ in self._parts)
        if not total:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        path = QPainterPath()
        path.addRoundedRect(QRectF(self.rect()), 3, 3)
        painter.setClipPath(path)
        room = self.width() - (len(self._parts) - 1)
        x = 0.0
        for size, shade in self._parts:
            wide = max(size / total * room, 1.0)
            painter.fillRect(QRectF(x, 0, wide, self.height()), _colour(shade))
            x += wide + 1


class PartsList(QWidget):
    """A swatch, a name and a size for each part; exact bytes as tooltip."""

    LINE: Final = 20
    SWATCH: Final = 11

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, int]] = []
        self._shades: list[float] = []
        self.setAccessibleName("Parts of the file")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_parts(self, parts: Sequence[tuple[str, int]], shades: Sequence[float]) -> None:
        """Show other parts."""
        self.parts, self._shades = list(parts), list(shades)
        self.setAccessibleDescription("; ".join(f"{name} {text.size(nbytes)}" for name, nbytes in parts))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, self.LINE * len(self.parts))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        note, mono = resources.font(resources.NOTE), resources.font(resources.NOTE, mono=True)
        for at, ((name, nbytes), shade) in enumerate(zip(self.parts, self._shades, strict=True)):
            line = QRectF(0, at * self.LINE, self.width(), self.LINE)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(_colour(shade))
            middle = line.center().y() - self.SWATCH / 2
            painter.drawRoundedRect(QRectF(0, middle, self.SWATCH, self.SWATCH), 3, 3)
            size = text.size(nbytes)
            painter.setFont(mono)
            painter.setPen(resources.colour("text"))
            painter.drawText(line, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, size)
            room = self.width() - QFontMetrics(mono).horizontalAdvance(size) - 2 * self.SWATCH - 12
            painter.setFont(note)
            painter.setPen(resources.colour("text2"))
            shown = QFontMetrics(note).elidedText(name, Qt.TextElideMode.ElideRight, room)
            painter.drawText(line.adjusted(2 * self.SWATCH - 3, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, shown)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            at = event.pos().y() // self.LINE
            there = 0 <= at < len(self.parts)
            QToolTip.showText(event.globalPos(), f"{self.parts[at][1]:,} bytes" if there else "", self)
            return True
        return super().event(event)
