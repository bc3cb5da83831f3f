"""The head of a comparison: which file is A and which is B, what each holds, and the button that swaps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.badge import Badge
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.wording import worth_telling
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Card, Elided


class FileCard(Card):
    """One file: its name, what of it is compared, and a menu."""

    def __init__(self, letter: str, fill: Callable[[QMenu], None]) -> None:
        super().__init__()
        self.letter = letter
        self.name = Elided("", "strong", Qt.TextElideMode.ElideMiddle)
        self.about = Elided("", "note")
        self.more = widgets.icon_button("more", f"More about file {letter}")
        self.more.clicked.connect(self._show_menu)
        self._fill = fill
        words = QVBoxLayout()
        words.setSpacing(1)
        words.addWidget(self.name)
        words.addWidget(self.about)
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(Badge(letter))
        row.addLayout(words, 1)
        row.addWidget(self.more)
        self.column.setContentsMargins(12, 6, 6, 6)
        self.column.addLayout(row)
        self.setFixedHeight(48)

    def show_file(self, card: Body) -> None:
        """Tell a file (CARD of engine.comparison)."""
        self.name.setText(str(card["name"]))
        chosen = int(card["chosen"])
        dicts = card["state_dicts"]
        parts = [
            text.plural(int(card["tensors"]), "tensor"),
            f"{text.short_count(int(card['parameters']))} params",
            text.size(int(card["size"])),
        ]
        if len(dicts) > 1 and 0 <= chosen < len(dicts) and dicts[chosen][0]:
            parts.insert(0, str(dicts[chosen][0]))
        if problems := worth_telling(card["problems"]):
            parts.insert(0, text.plural(len(problems), "problem"))
        if card.get("steps"):
            parts.append(f"recipe of {text.plural(int(card['steps']), 'step')}")
        self.about.setText(" · ".join(parts))
        self.setToolTip(plain_tip(text.visible(str(card["path"]), 400)))
        self.setAccessibleName(f"File {self.letter}: {card['name']}, {self.about.text()}")

    def _show_menu(self) -> None:
        menu = QMenu(self)
        self._fill(menu)
        menu.exec(self.more.mapToGlobal(self.more.rect().bottomLeft()))
        menu.deleteLater()


class FileCards(QWidget):
    """A, swap, B."""

    file_chosen = Signal(str)
    other_requested = Signal(str)  # "a" or "b": another file in its place

    def __init__(self, session: ComparisonSession) -> None:
        super().__init__()
        self._session = session
        self.a = FileCard("A", lambda menu: self._fill(menu, "a"))
        self.b = FileCard("B", lambda menu: self._fill(menu, "b"))
        self.swap = widgets.icon_button("swap", "Swap A and B (Ctrl+Shift+X)")
        self.swap.setIconSize(QSize(18, 18))
        self.swap.clicked.connect(session.swap)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addWidget(self.a, 1)
        row.addWidget(self.swap)
        row.addWidget(self.b, 1)

    def show_files(self, info: Body) -> None:
        """Tell both files."""
        self.a.show_file(info["a"])
        self.b.show_file(info["b"])

    def _fill(self, menu: QMenu, side: str) -> None:
        session = self._session
        path = session.a if side == "a" else session.b
        menu.addAction("Open in a tab of its own", lambda: self.file_chosen.emit(path))
        menu.addAction("Another file in its place…", lambda: self.other_requested.emit(side))
        menu.addAction("Copy path", lambda: widgets.copy_text(path))
        if side == "a" and session.recipe:
            menu.addAction("Without its recipe", self._leave_recipe)
        dicts = session.info[side]["state_dicts"] if session.state == "open" else []
        if len(dicts) > 1:
            menu.addSection("Compare its")
            for index, (dotted, role, tensors) in enumerate(dicts):
                if not tensors:
                    continue
                words = f"{dotted or role} ({text.plural(int(tensors), 'tensor')})".replace("&", "&&")
                action = menu.addAction(words)
                action.setCheckable(True)
                action.setChecked(index == int(session.info[side]["chosen"]))
                action.triggered.connect(lambda _=False, index=index: self._choose(side, index))

    def _leave_recipe(self) -> None:
        self._session.recipe = ""
        self._session.open()

    def _choose(self, side: str, index: int) -> None:
        matching = replace(self._session.matching, hand=(), broken=())
        a = side == "a"
        self._session.match(replace(matching, state_dict_a=index) if a else replace(matching, state_dict_b=index))
