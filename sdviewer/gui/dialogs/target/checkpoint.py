"""Another checkpoint as the target: one that is open, one opened before, or any other; which of its state dicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QListWidget, QListWidgetItem

from sdviewer.core import text
from sdviewer.gui import icons, widgets
from sdviewer.gui.dialogs.target.page import Browse, Question, TargetPage
from sdviewer.gui.files import OPEN_FILTER
from sdviewer.gui.jobs import Body
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Choice

HINTS: Final = (("info", "Its keys and shapes are what the file has to fit. Only its header is read."),)
_PATH: Final = Qt.ItemDataRole.UserRole


class CheckpointPage(TargetPage):
    """Files to choose from. Choosing one reads its header."""

    def __init__(self, known: Sequence[str], browse: Browse) -> None:
        super().__init__()
        self._browse = browse
        self._told = ""
        self.list = QListWidget()
        self.list.setProperty("framed", True)
        self.list.setAccessibleName("Checkpoints that are open or were opened before")
        for path in known:
            self._offer(path)
        self.list.currentItemChanged.connect(lambda now, before: self._changed())
        self.places = Choice("State dict")
        self.places.activated.connect(lambda at: self.changed.emit())
        self._places_label = widgets.label("State dict", "second")
        other = widgets.button("Choose a file…", "open")
        widgets.set_property(other, "small", True)
        other.clicked.connect(self._choose)
        below = QHBoxLayout()
        below.setSpacing(8)
        below.addWidget(self._places_label)
        below.addWidget(self.places, 1)
        below.addStretch(1)
        below.addWidget(other)
        self.column.addWidget(self.list, 1)
        self.column.addLayout(below)
        self._show_places([], None)

    def question(self) -> Question | None:
        path = self.path
        place = self.places.currentData() if self._told == path and self.places.count() > 1 else None
        return Question(path=path, state_dict=place) if path else None

    @property
    def path(self) -> str:
        """The file that is chosen, "" for none."""
        item = self.list.currentItem()
        return str(item.data(_PATH)) if item is not None else ""

    def hints(self) -> Sequence[Sequence[str]]:
        return HINTS

    def show_answer(self, body: Body) -> None:
        if self._told != self.path:
            self._told = self.path
            self._show_places(body["state_dicts"], body["state_dict"])

    def take_file(self, path: str) -> None:
        """Choose a file, also one that was not offered."""
        known = next((at for at in range(self.list.count()) if self.list.item(at).data(_PATH) == path), -1)
        if known < 0:
            self._offer(path, 0)
            known = 0
        self.list.setCurrentRow(known)

    def _offer(self, path: str, at: int = -1) -> None:
        name, folder = PurePath(path).name or path, str(PurePath(path).parent)
        item = QListWidgetItem(icons.icon("file"), text.visible(f"{name}  —  {folder}", 160))
        item.setData(_PATH, path)
        item.setToolTip(plain_tip(text.visible(path, 400)))
        self.list.insertItem(self.list.count() if at < 0 else at, item)

    def _choose(self) -> None:
        if path := self._browse("Choose a checkpoint that loads", OPEN_FILTER):
            self.take_file(path)

    def _changed(self) -> None:
        self._show_places([], None)
        self._told = ""
        self.changed.emit()

    def _show_places(self, places: Sequence[Sequence[object]], chosen: str | None) -> None:
        """The state dicts of the file, where there are several."""
        self.places.clear()
        for place, role, tensors in places:
            name = text.visible(str(place), 60) or "the file itself"
            self.places.addItem(f"{name}  —  {role}, {text.plural(int(str(tensors)), 'tensor')}", place)
        self.places.setCurrentIndex(max(self.places.findData(chosen), 0))
        for part in (self.places, self._places_label):
            part.setVisible(len(places) > 1)
