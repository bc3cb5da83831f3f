"""The tensors that belong to the selected one, as links: its bias, its moments, its average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QPushButton, QSizePolicy, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import IconLabel

MOST_SHOWN: Final = 3
"""Links side by side; what is more is in the menu of one that says how many."""


class RelatedLinks(QWidget):
    """At most a few links, made once; each goes to a row."""

    node_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 0, 0, 0)
        row.setSpacing(2)
        self._nodes = [-1] * MOST_SHOWN
        self.links = [self._link(partial(self._go, i)) for i in range(MOST_SHOWN)]
        self.more = self._link(self._show_more)
        self.rest: Sequence[Mapping[str, Any]] = ()
        self._sign = IconLabel("link", 13, "text3")
        row.addWidget(self._sign)
        for link in (*self.links, self.more):
            row.addWidget(link)
        self.show_related(())

    def _link(self, act: Any) -> QPushButton:
        made = widgets.button("", link=True)
        made.clicked.connect(act)
        return made

    def show_related(self, related: Sequence[Mapping[str, Any]]) -> None:
        """`related` are the "words" and the "row" of each, as the facts have them."""
        shown, self.rest = related[:MOST_SHOWN], related[MOST_SHOWN:]
        for i, link in enumerate(self.links):
            link.setVisible(i < len(shown))
            if i < len(shown):
                self._nodes[i] = int(shown[i]["row"])
                self._name(link, str(shown[i]["words"]), f"Go to: {shown[i]['words']}")
        self._sign.setVisible(bool(shown))
        self.more.setVisible(bool(self.rest))
        if self.rest:
            said = ", ".join(str(one["words"]) for one in self.rest)
            self._name(self.more, f"{len(self.rest)} more", f"More that belongs to it: {said}")

    def _name(self, link: QPushButton, words: str, says: str) -> None:
        # An ampersand in a button's text would become a mnemonic.
        link.setText(words.replace("&", "&&"))
        link.setAccessibleName(says)
        link.setToolTip(plain_tip(says))

    def _go(self, number: int) -> None:
        self.node_chosen.emit(self._nodes[number])

    def _show_more(self) -> None:
        menu = QMenu(self)
        for one in self.rest:
            act = menu.addAction(str(one["words"]).replace("&", "&&"))
            act.triggered.connect(partial(self.node_chosen.emit, int(one["row"])))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.more.mapToGlobal(self.more.rect().bottomLeft()))
