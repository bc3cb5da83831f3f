"""A card as a picture, on the clipboard or in a file: PNG at twice the pixels, SVG with lines that stay lines."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject, QPoint, QSaveFile, Signal
from PySide6.QtGui import QGuiApplication, QImage, QImageWriter, QPainter
from PySide6.QtWidgets import QWidget

from sdviewer.gui import resources

Kind = Literal["png", "svg"]
SHARPNESS: Final = 2
"""Pixels of a picture for one of a plain screen: it is looked at on paper and on larger screens."""
Column = tuple[str, Sequence[object]]


def image_of(card: QWidget) -> QImage:
    """The card as it is drawn, on the page's colour, with its description as the picture's text."""
    image = QImage(card.size() * SHARPNESS, QImage.Format.Format_ARGB32_Premultiplied)
    image.setDevicePixelRatio(SHARPNESS)
    painter = QPainter(image)
    _draw(card, painter)
    image.setText("Description", description_of(card))
    return image


def description_of(card: QWidget) -> str:
    """What is said to who cannot see it: that of the card, or of what is drawn in it."""
    said = [card.accessibleDescription(), *(child.accessibleDescription() for child in card.findChildren(QWidget))]
    return next((words for words in said if words), "")


def svg_of(card: QWidget) -> bytes:
    """The card as SVG; what is a picture in it stays one."""
    from PySide6.QtSvg import QSvgGenerator

    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(card.size())
    generator.setViewBox(card.rect())
    generator.setTitle(card.accessibleName())
    generator.setDescription(description_of(card))
    painter = QPainter(generator)
    _draw(card, painter)
    return bytes(buffer.data().data())


def _draw(card: QWidget, painter: QPainter) -> None:
    """The card on the page's colour, which its round corners leave free; ends the painter."""
    try:
        painter.fillRect(card.rect(), resources.colour("win"))
        card.render(painter, QPoint())
    finally:
        painter.end()


def copy_image(card: QWidget) -> None:
    """Put the card on the clipboard."""
    QGuiApplication.clipboard().setImage(image_of(card))


def as_text(columns: Sequence[Column]) -> str:
    """Columns with their headings, tabs between; a shorter one ends with empty cells. Texts stand as they are."""
    rows = max((len(values) for _, values in columns), default=0)
    lines = ["\t".join(heading for heading, _ in columns)]
    for row in range(rows):
        cells = (values[row] if row < len(values) else "" for _, values in columns)
        lines.append("\t".join(cell if isinstance(cell, str) else repr(cell) for cell in cells))
    return "\n".join(lines)


class PictureFile(QObject):
    """Writes a picture of a card, encoded on a thread; `done` tells what went wrong, "" for nothing."""

    done = Signal(str)

    def write(self, card: QWidget, path: str, kind: Kind) -> None:
        """Write it; whoever looks sees what was there before, or all of it."""
        made = image_of(card) if kind == "png" else svg_of(card)
        threading.Thread(target=self._write, args=(made, path), daemon=True).start()

    def _write(self, made: QImage | bytes, path: str) -> None:
        self.done.emit(write_file(path, made))


def write_file(path: str, made: QImage | bytes) -> str:
    """What went wrong, "" for nothing."""
    file = QSaveFile(path)
    if not file.open(QIODevice.OpenModeFlag.WriteOnly):
        return file.errorString()
    written = (
        QImageWriter(file, QByteArray(b"png")).write(made)
        if isinstance(made, QImage)
        else file.write(made) == len(made)
    )
    if not written:
        file.cancelWriting()
    return "" if file.commit() else file.errorString() or "it could not be written"


def suggested(folder: str, key: str, name: str, kind: Kind) -> str:
    """Where a picture of a plot of a tensor could go."""
    from sdviewer.gui.dialogs.export_dialog import file_name

    return str(Path(folder) / file_name(f"{key} {name}", f".{kind}"))
