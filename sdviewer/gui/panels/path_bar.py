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
_USUAL_PARTS = 4


class PathPart(QPushButton):
    """One step of the path; a click goes to `node`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.node = -1
        self.setFlat(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def show_step(self, words: str, node: int) -> None:
        """Another step."""
        self.node = node
        # An ampersand in a button's text would become a mnemonic.
        self.setText(words.replace("&", "&&"))
        self.show()

    def minimumSizeHint(self) -> QSize:
        return QSize(20, self.sizeHint().height())


class PathBar(QWidget):
    """The path of one row, or a sentence for several. Its parts are made once and show one row after another."""

    node_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)
        self.setFixedHeight(28)
        self._copied = ""
        self._above: list[tuple[PathPart, IconLabel]] = []
        self._last = Elided("", "path", Qt.TextElideMode.ElideMiddle)
        self._was = Elided("", "note")
        self._dropped = widgets.label("dropped", "note")
        self._copy = widgets.icon_button("copy", "Copy key")
        self._copy.clicked.connect(lambda: widgets.copy_text(self._copied))
        for widget in (self._last, self._was, self._dropped):
            self._row.addWidget(widget)
        self._row.addSpacing(6)
        self._row.addWidget(self._copy)
        self._row.addStretch(1)
        for _ in range(_USUAL_PARTS):
            self._add_part()
        self.show_sentence("")

    def _add_part(self) -> None:
        part, chevron = PathPart(self), IconLabel("chev", 12, "text3")
        part.clicked.connect(lambda: self.node_chosen.emit(part.node))
        self._row.insertWidget(2 * len(self._above), part)
        self._row.insertWidget(2 * len(self._above) + 1, chevron)
        self._above.append((part, chevron))

    def show_path(self, facts: Mapping[str, Any]) -> None:
        """Show where a row stands; parts in the middle of a long path are left out."""
        path = [(text.visible(str(words), 80), int(node)) for words, node in facts["path"]]
        # Inside a state dict the path is the key; where the state dict stands is said by the tree.
        if len(path) > 1 and (facts.get("key") or facts.get("prefix")):
            path = path[1:]
        above, last = path[:-1], path[-1] if path else (text.visible(str(facts["name"]), 80), int(facts["row"]))
        if len(above) > _MOST_PARTS:
            above = [*above[:2], ("…", above[len(above) // 2][1]), *above[-(_MOST_PARTS - 3) :]]
        self._show_above(above)
        self._last.setText(last[0])
        changed = str(facts.get("changed") or "")
        was = f"was {facts['old_key']}" if facts.get("old_key") else ""
        if facts.get("made"):
            was = changed
        self._was.setText(text.visible(was, 160))
        self._was.setVisible(bool(was))
        self._dropped.setText(f"goes {text.visible(changed, 120)}" if changed else "dropped")
        self._dropped.setVisible(bool(facts.get("dropped")))
        self._copied = str(facts.get("key") or facts.get("dotted") or facts["name"])
        self._copy.show()

    def _show_above(self, above: list[tuple[str, int]]) -> None:
        while len(self._above) < len(above):
            self._add_part()
        for i, (part, chevron) in enumerate(self._above):
            if i < len(above):
                part.show_step(*above[i])
            else:
                part.hide()
            chevron.setVisible(i < len(above))

    def show_sentence(self, words: str) -> None:
        """Show words in the path's place."""
        self._show_above([])
        self._last.setText(words)
        for widget in (self._was, self._dropped, self._copy):
            widget.hide()
