"""The first page: drop zone, Open, recent files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QKeySequence, QMouseEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QMenu, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.settings import Recent, Settings
from sdviewer.gui.widgets import Card, ClickCard, DashedFrame, Elided, IconLabel, KeyHint

WIDTH = 960
SUFFIXES = ".pth   .pt   .bin   .ckpt   .safetensors"


class StartPage(QScrollArea):
    """What is shown when no file is open."""

    open_requested = Signal()
    folder_requested = Signal()
    file_chosen = Signal(str)
    series_chosen = Signal(object)  # paths
    compare_requested = Signal(str)
    repair_requested = Signal(str)
    two_requested = Signal()
    fit_requested = Signal()
    shortcuts_requested = Signal()

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setWidgetResizable(True)
        self._settings = settings
        self._unsaved: Mapping[str, int] = {}
        self._drop = DashedFrame()
        self._fill_drop_zone()
        self._recents = QVBoxLayout()
        self._recents_title = widgets.label("Recent", "strong")
        self._clear = widgets.button("Clear list", link=True)
        self._clear.clicked.connect(settings.clear_recents)
        self._list = Card()
        self._list.column.setContentsMargins(6, 6, 6, 6)
        self._list.column.setSpacing(0)
        page = QWidget()
        outer = QHBoxLayout(page)
        outer.setContentsMargins(24, 24, 24, 24)
        column = QVBoxLayout()
        column.setSpacing(12)
        column.addStretch(3)
        column.addWidget(self._drop)
        column.addLayout(self._cards())
        column.addSpacing(4)
        head = QHBoxLayout()
        head.addWidget(self._recents_title)
        head.addStretch(1)
        head.addWidget(self._clear)
        column.addLayout(head)
        column.addWidget(self._list)
        column.addLayout(self._foot())
        column.addStretch(4)
        inside = QWidget()
        inside.setLayout(column)
        inside.setMaximumWidth(WIDTH)
        inside.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        column.setContentsMargins(0, 0, 0, 0)
        outer.addStretch(1)
        outer.addWidget(inside, 100)
        outer.addStretch(1)
        self.setWidget(page)
        settings.recents_changed.connect(self.show_recents)
        self.show_recents()

    def _fill_drop_zone(self) -> None:
        self._drop.setFixedHeight(212)
        column = QVBoxLayout(self._drop)
        column.setSpacing(4)
        column.addStretch(3)
        column.addWidget(IconLabel("tensor", 40), 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(12)
        column.addWidget(
            widgets.label("Drop a checkpoint here, or its folder", "heading"), 0, Qt.AlignmentFlag.AlignHCenter
        )
        column.addWidget(widgets.label(SUFFIXES, "second"), 0, Qt.AlignmentFlag.AlignHCenter)
        folder = widgets.button("Open a folder…", link=True)
        folder.setToolTip("A checkpoint of several files: an index and its shards, or what a distributed run wrote")
        folder.setProperty("tone", "accent")
        folder.clicked.connect(self.folder_requested)
        column.addWidget(folder, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(3)

    def _cards(self) -> QHBoxLayout:
        """What can be done first."""
        row = QHBoxLayout()
        row.setSpacing(12)
        opened = QKeySequence(QKeySequence.StandardKey.Open)
        for icon, title, note, keys, signal in (
            ("open", "Open", "Look inside one checkpoint", opened, self.open_requested),
            ("compare", "Compare", "See what changed between two", QKeySequence("Ctrl+D"), self.two_requested),
            ("repair", "Repair", "Make keys fit a model", QKeySequence("Ctrl+Shift+R"), self.fit_requested),
        ):
            card = _card(icon, title, note, keys)
            card.clicked.connect(signal)
            row.addWidget(card, 1)
        return row

    def _foot(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(IconLabel("info", 15))
        row.addWidget(
            Elided(
                "Files are read without running any code in them. Nothing is changed on disk until you save a copy.",
                "note",
            ),
            1,
        )
        shortcuts = widgets.button("All shortcuts", link=True)
        shortcuts.setProperty("tone", "accent")
        shortcuts.clicked.connect(self.shortcuts_requested)
        row.addWidget(shortcuts)
        row.addWidget(KeyHint("Ctrl+?"))
        return row

    def set_over(self, over: bool) -> None:
        """Light up while a file hovers above the window."""
        self._drop.set_over(over)

    def show_unsaved(self, edits: Mapping[str, int]) -> None:
        """Say of which files edits were not saved when sdviewer ended: how many, by path."""
        if edits != self._unsaved:
            self._unsaved = edits
            self.show_recents()

    def recent_words(self) -> list[str]:
        """What is said of each file opened before."""
        return [row.accessibleName() for row in self._list.findChildren(_RecentRow)]

    def show_recents(self) -> None:
        """Fill the list of files opened before."""
        widgets.clear_layout(self._list.column)
        recents = self._settings.recents()[:6]
        for shown in (self._recents_title, self._clear, self._list):
            shown.setVisible(bool(recents))
        for recent in recents:
            row = _RecentRow(recent, self._unsaved.get(recent.path, 0))
            row.chosen.connect(self._choose)
            row.compare_requested.connect(self.compare_requested)
            row.repair_requested.connect(self.repair_requested)
            self._list.column.addWidget(row)

    def _choose(self, recent: Recent) -> None:
        if recent.series:
            self.series_chosen.emit(list(recent.series))
        else:
            self.file_chosen.emit(recent.path)


class _RecentRow(Card):
    """One file, or series, opened before: name, folder, numbers, size, when."""

    chosen = Signal(object)  # Recent
    compare_requested = Signal(str)
    repair_requested = Signal(str)

    def __init__(self, recent: Recent, unsaved: int) -> None:
        super().__init__()
        self.setProperty("tone", "row")
        self._recent = recent
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        name, folder = _names(recent.path)
        numbers = f"{text.plural(recent.tensors, 'tensor')} · {text.short_count(recent.parameters)} params"
        if recent.series:
            numbers = f"series of {text.plural(recent.tensors, 'file')}"
        elif unsaved:
            numbers = f"{text.plural(unsaved, 'step')} not saved"
        self.setAccessibleName(f"Open {name} in {folder}, {numbers}")
        self.setToolTip(plain_tip(text.visible(recent.path, 400)))
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(12)
        row: list[tuple[QWidget, int]] = [
            (IconLabel("history" if recent.series else "file", 15), 0),
            (Elided(name), 34),
            (Elided(folder, "note"), 14),
        ]
        row += [(Elided(numbers, "strong" if unsaved else "note"), 26)]
        for words, stretch in ((text.size(recent.size), 9), (_when(recent.time), 7)):
            cell: QLabel = Elided(words, "note")
            cell.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            row.append((cell, stretch))
        for column, (cell_widget, stretch) in enumerate(row):
            if stretch:
                cell_widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            grid.addWidget(cell_widget, 0, column)
            grid.setColumnStretch(column, stretch)
        self.column.setContentsMargins(10, 7, 10, 7)
        self.column.addLayout(grid)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        menu = QMenu(self)
        path = self._recent.path
        menu.addAction("Open", lambda: self.chosen.emit(self._recent))
        if not self._recent.series:
            menu.addAction("Compare with…", lambda: self.compare_requested.emit(path))
            menu.addAction("Repair to fit…", lambda: self.repair_requested.emit(path))
        menu.addAction("Copy path", lambda: widgets.copy_text(path))
        menu.exec(event.globalPos())
        menu.deleteLater()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.chosen.emit(self._recent)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.chosen.emit(self._recent)
            return
        super().keyPressEvent(event)


def _card(icon: str, title: str, note: str, keys: QKeySequence) -> ClickCard:
    card = ClickCard()
    card.setAccessibleName(f"{title}: {note[0].lower()}{note[1:]}")
    row = QHBoxLayout()
    row.setSpacing(14)
    row.addWidget(IconLabel(icon, 22, "accent"))
    words = QVBoxLayout()
    words.setSpacing(3)
    words.addWidget(widgets.label(title, "title"))
    words.addWidget(widgets.label(note, "note"))
    row.addLayout(words, 1)
    row.addWidget(KeyHint(keys))
    card.column.setContentsMargins(16, 12, 12, 12)
    card.column.addLayout(row)
    return card


def _names(path: str) -> tuple[str, str]:
    """A file's name and its folder, the home folder as `~`."""
    file = Path(path)
    folder = file.parent
    home = Path.home()
    shown = f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) and folder != home else str(folder)
    return text.visible(file.name, 120), text.visible("~" if folder == home else shown, 200)


def _when(seconds: float) -> str:
    """Today the hour, then yesterday, the day of the week, the day."""
    then, now = time.localtime(seconds), time.localtime()
    days = (time.mktime((*now[:3], 12, 0, 0, 0, 0, -1)) - time.mktime((*then[:3], 12, 0, 0, 0, 0, -1))) // 86400
    if days <= 0:
        return time.strftime("%H:%M", then)
    if days == 1:
        return "yesterday"
    if days < 7:
        return time.strftime("%a", then)
    return f"{then.tm_mday} {time.strftime('%b', then)}" + ("" if then.tm_year == now.tm_year else f" {then.tm_year}")
