"""Where the selected row stands: its path in clickable parts, and a button that copies its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.widgets import Elided, IconLabel

_MOST_PARTS = 7


class PathPart(QPushButton):
    """One step of the path; a click goes there."""

    def __init__(self, words: str) -> None:
        # An ampersand in a button's text would become a mnemonic.
        super().__init__(words.replace("&", "&&"))
        self.setFlat(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(20, self.sizeHint().height())


class PathBar(QWidget):
    """The path of one row, or a sentence for several."""

    node_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)
        self.setFixedHeight(28)
        self._copied = ""

    def show_path(self, facts: Mapping[str, Any]) -> None:
        """Show where a row stands; parts in the middle of a long path are left out."""
        widgets.clear_layout(self._row)
        path = [(text.visible(str(words), 80), int(node)) for words, node in facts["path"]]
        # Inside a state dict the path is the key; where the state dict stands is said by the tree.
        if len(path) > 1 and (facts.get("key") or facts.get("prefix")):
            path = path[1:]
        above, last = path[:-1], path[-1] if path else (text.visible(str(facts["name"]), 80), int(facts["row"]))
        if len(above) > _MOST_PARTS:
            above = [*above[:2], ("…", above[len(above) // 2][1]), *above[-(_MOST_PARTS - 3) :]]
        for words, node in above:
            part = PathPart(words)
            part.clicked.connect(lambda _=False, node=node: self.node_chosen.emit(node))
            self._row.addWidget(part)
            self._row.addWidget(IconLabel("chev", 12, "text3"))
        self._row.addWidget(Elided(last[0], "path", Qt.TextElideMode.ElideMiddle))
        if facts.get("old_key"):
            self._row.addWidget(Elided(f"was {text.visible(str(facts['old_key']), 120)}", "note"))
        if facts.get("dropped"):
            self._row.addWidget(widgets.label("dropped", "note"))
        self._copied = str(facts.get("key") or facts.get("dotted") or facts["name"])
        copy = widgets.icon_button("copy", "Copy key")
        copy.clicked.connect(lambda: widgets.copy_text(self._copied))
        self._row.addSpacing(6)
        self._row.addWidget(copy)
        self._row.addStretch(1)

    def show_sentence(self, words: str) -> None:
        """Show words in the path's place."""
        widgets.clear_layout(self._row)
        self._row.addWidget(Elided(words, "path"))
        self._row.addStretch(1)
