"""The row of views of a tensor: those that fit as segments, the rest in a menu."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import QPoint, QSize, Signal
from PySide6.QtGui import QActionGroup, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QSizePolicy, QWidget

from sdviewer.gui import icons
from sdviewer.gui.widgets import Segments, button

View = tuple[str, str, str]
"""(id, title, icon)."""


class ViewBar(QWidget):
    """Offers views in an order; `chosen` tells the id of the one that somebody turns to."""

    chosen = Signal(str)

    def __init__(self, views: Sequence[View]) -> None:
        super().__init__()
        self._views = {view[0]: view for view in views}
        self._offered: list[str] = []
        self._hidden: list[str] = []
        self._current = ""
        self.segments = Segments(views, "View of the tensor")
        self.segments.chosen.connect(self.chosen)
        self.more = button("More", "more")
        self.more.setAccessibleName("More views of the tensor")
        self.more.clicked.connect(self._show_menu)
        self.more.hide()
        self._widths: dict[str, int] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout(self)
        row.setSizeConstraint(QHBoxLayout.SizeConstraint.SetNoConstraint)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.segments)
        row.addWidget(self.more)
        row.addStretch(1)

    def minimumSizeHint(self) -> QSize:
        return QSize(180, super().minimumSizeHint().height())

    def offer(self, names: Sequence[str]) -> None:
        """Offer these, in this order."""
        self._offered = list(names)
        self._fit()

    def choose(self, name: str) -> None:
        """Mark one as chosen without telling anybody; one from the menu takes the last place of the row."""
        self._current = name
        self.segments.choose(name)
        self._fit()

    def in_menu(self) -> list[str]:
        """The views that the menu holds."""
        return list(self._hidden)

    def _fit(self) -> None:
        """As many as fit in the row, the chosen one always among them."""
        if not self._widths:
            self.segments.ensurePolished()
            buttons = self.segments.buttons()
            self._widths = {name: made.sizeHint().width() + 1 for name, made in zip(self._views, buttons, strict=True)}
        room = self.width() - 6
        needed = sum(self._widths[name] for name in self._offered)
        shown = list(self._offered)
        if needed > room:
            room -= self.more.sizeHint().width() + 8
            while len(shown) > 1 and sum(self._widths[name] for name in shown) > room:
                shown.remove(next(name for name in reversed(shown) if name != self._current))
        self._hidden = [name for name in self._offered if name not in shown]
        self.segments.offer(shown)
        self.more.setVisible(bool(self._hidden))

    def _show_menu(self) -> None:
        menu = QMenu(self.more)
        self.fill_menu(menu)
        menu.exec(self.more.mapToGlobal(QPoint(0, self.more.height() + 2)))
        menu.deleteLater()

    def fill_menu(self, menu: QMenu) -> None:
        """An entry for each view that is not in the row."""
        group = QActionGroup(menu)
        for name in self._hidden:
            _, title, icon = self._views[name]
            action = menu.addAction(icons.icon(icon), title.replace("&", "&&"))
            group.addAction(action)
            action.triggered.connect(partial(self.chosen.emit, name))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()
