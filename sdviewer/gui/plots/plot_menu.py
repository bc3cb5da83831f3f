"""The menu of a plot's card: its picture, and the numbers that it is drawn from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QPoint
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QFileDialog, QMenu

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.plots.picture import Kind, PictureFile, copy_image, suggested

if TYPE_CHECKING:
    from sdviewer.gui.plots.picture_card import PictureCard


class PlotMenu(QObject):
    """The `button` is at the right of a card's head; a right click on the card opens the same menu."""

    def __init__(self, plot: PictureCard) -> None:
        super().__init__(plot)
        self._plot = plot
        self._files: list[PictureFile] = []
        self.button = widgets.icon_button("more", f"Picture and data of {plot.title}")
        keeps = self.button.sizePolicy()
        keeps.setRetainSizeWhenHidden(True)
        self.button.setSizePolicy(keeps)
        self.button.clicked.connect(self._open_below)

    def _open_below(self) -> None:
        self.open(self.button.mapToGlobal(QPoint(0, self.button.height() + 2)))

    def open(self, position: QPoint) -> None:
        """Show the menu at a place of the screen."""
        menu = QMenu(self._plot)
        self.fill(menu)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(position)

    def fill(self, menu: QMenu) -> None:
        """The acts, those that are not possible now greyed."""
        menu.addAction("Copy &image", self.copy_image)
        data = menu.addAction("Copy &data", self.copy_data)
        data.setShortcut(QKeySequence.StandardKey.Copy)
        data.setEnabled(self._plot.can_be_copied())
        menu.addSeparator()
        menu.addAction("Save as &PNG…", partial(self.save, "png"))
        menu.addAction("Save as &SVG…", partial(self.save, "svg"))

    def copy_image(self) -> None:
        """The card on the clipboard."""
        self._without_button(lambda: copy_image(self._plot))

    def copy_data(self) -> None:
        """What is drawn, as columns of text."""
        self._plot.copy_data()

    def save(self, kind: Kind) -> None:
        """Ask where, and write it."""
        at = suggested(self._plot.folder, self._plot.key, self._plot.name, kind)
        name = f"{kind.upper()} picture (*.{kind})"
        path, _ = QFileDialog.getSaveFileName(self._plot.window(), "Save the plot", at, name)
        if path:
            self.write(path if Path(path).suffix else f"{path}.{kind}", kind)

    def write(self, path: str, kind: Kind) -> PictureFile:
        """Write it; what goes wrong is said in the card's subtitle."""
        file = PictureFile()
        self._files.append(file)

        def done(wrong: str) -> None:
            self._files.remove(file)
            name = text.visible(Path(path).name, 60)
            said = f"{name} was not saved: {text.visible(wrong, 200)}" if wrong else f"saved as {name}"
            self._plot.subtitle.setText(said)

        file.done.connect(done)
        self._without_button(lambda: file.write(self._plot, path, kind))
        return file

    def _without_button(self, draw: Callable[[], None]) -> None:
        """A picture has no use for a button."""
        self.button.setVisible(False)
        draw()
        self.button.setVisible(True)
