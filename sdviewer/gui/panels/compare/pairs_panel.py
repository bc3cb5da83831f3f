"""The left side of a comparison: both files, chips, filter, how pairs are made, the aligned tree and its map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from PySide6.QtCore import QEvent, QPoint, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QAbstractItemView, QHBoxLayout, QMenu, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.core.aligned import AlignedSheet
from sdviewer.gui import resources, widgets
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.jobs import Buffers
from sdviewer.gui.models import compare_model
from sdviewer.gui.panels.compare.cards import FileCards
from sdviewer.gui.panels.compare.chips import StatusChips
from sdviewer.gui.panels.compare.difference_map import DifferenceMap
from sdviewer.gui.panels.compare.tree import AlignedView
from sdviewer.gui.panels.nothing_found import NothingFound
from sdviewer.gui.panels.pairs_filter import PairsFilter
from sdviewer.gui.panels.swapping import ALONE, swap_rows
from sdviewer.gui.panels.tree_rows import ROW_HEIGHT
from sdviewer.gui.plain import plain_tip

FILTER_HELP: Final = """qkv  attn.3  —  words: a key on either side holds all of them
*.weight  —  a glob over the whole key
/h\\.[0-9]+\\./  —  a regular expression
shape:768  dtype:bf16  params:>1M  size:>10MiB  —  of either side
-bias  —  a minus in front of anything leaves it out"""

MATCHES: Final = (
    ("key", "By name", "Match by name"),
    ("prefix", "By name, after one exchange of prefixes", "Match by name, after a prefix"),
    ("auto", "By name, prefixes and equal content", "Match by name and content"),
)
ORDERS: Final = (
    ("natural", False, "File order"),
    ("rel_l2", True, "Most changed"),
    ("status", True, "Gravest difference"),
    ("cosine", False, "Smallest cosine"),
    ("max_abs", True, "Largest |B \N{MINUS SIGN} A|"),
    ("changed_share", True, "Largest share changed"),
    ("name", False, "Name"),
)
TOLERANCES: Final = (1e-8, 1e-6, 1e-4)


class PairsPanel(QWidget):
    """Keeps selection and scroll by node when the worker answers with other rows."""

    menu_requested = Signal(QPoint)

    def __init__(self, session: ComparisonSession, cards: FileCards, chips: StatusChips, view: AlignedView) -> None:
        """Its parts are made before: all in one turn of the event loop would stall the window."""
        super().__init__()
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._session = session
        self.cards, self.chips, self.view = cards, chips, view
        self.model = view.rows
        self.map = DifferenceMap()
        self.filter = PairsFilter("Filter both sides", view, view.painter)
        self.filter.setAccessibleName("Filter both sides")
        self.filter.setToolTip(plain_tip(FILTER_HELP))
        self.matching = widgets.button("Match by name", "link")
        self.order = widgets.button("File order", "filter")
        self.place = widgets.label("", "second")
        self.previous = widgets.icon_button("prev", "Previous difference (Alt+Up, Shift+F7)")
        self.next = widgets.icon_button("next", "Next difference (Alt+Down, F7)")
        self._sort = ("natural", False)
        self._matched = -1
        self._hide = False
        self._swapping = False
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        tools = QHBoxLayout()
        tools.setSpacing(8)
        tools.addWidget(self.filter, 1)
        for part in (self.matching, self.order, self.place, self.previous, self.next):
            tools.addWidget(part)
        top = QVBoxLayout()
        top.setContentsMargins(12, 12, 6, 10)
        top.setSpacing(8)
        top.addWidget(self.cards)
        top.addWidget(self.chips)
        top.addLayout(tools)
        top.addWidget(self.filter.wrong)
        self._nothing = NothingFound("Show all")
        self._nothing.left.connect(self.show_all)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.view)
        self._stack.addWidget(self._nothing)
        below = QHBoxLayout()
        below.setSpacing(0)
        below.addWidget(self._stack, 1)
        below.addWidget(self.map)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(top)
        column.addWidget(widgets.line())
        column.addLayout(below, 1)
        self.setMinimumWidth(480)

    def _connect(self) -> None:
        session, view = self._session, self.view
        session.opened.connect(self._opened)
        session.sheet_changed.connect(self._show_sheet)
        session.rows_changed.connect(self._show_rows)
        session.filtered.connect(self._show_matches)
        session.reveal_requested.connect(self.select_node)
        session.numbers_changed.connect(self._show_numbers)
        session.map_changed.connect(self._show_map)
        session.watch.sight = self._in_sight
        view.follow(session)
        view.menu_requested.connect(self.menu_requested)
        view.verticalScrollBar().valueChanged.connect(self._scrolled)
        view.verticalScrollBar().rangeChanged.connect(self._scrolled)
        view.selectionModel().currentRowChanged.connect(self._current_changed)
        view.horizontalHeader().sectionClicked.connect(self._sort_by_column)
        self.map.place_chosen.connect(self._go_to_place)
        self.map.resized.connect(self._map_resized)
        self.chips.chosen.connect(session.set_chips)
        self.filter.wanted.connect(session.set_filter)
        self.previous.clicked.connect(lambda: session.step(forwards=False))
        self.next.clicked.connect(lambda: session.step(forwards=True))
        self.matching.clicked.connect(lambda: self._below(self.matching, self.fill_match_menu))
        self.order.clicked.connect(lambda: self._below(self.order, self.fill_order_menu))

    # What the worker answered

    def _opened(self) -> None:
        self.cards.show_files(self._session.info)
        self._say_matching()
        if self._session.info["kept"]:  # the same files, with another recipe
            return
        self._show_order("natural", False)
        self.chips.choose(())
        if self.filter.text():
            self._session.set_filter(self.filter.text())
        if self._hide:
            self._session.hide_alike(True)

    def _show_sheet(self, sheet: AlignedSheet, visible: memoryview, selected: int) -> None:
        self.cards.show_files(self._session.info)
        self._say_matching()
        self._swap(lambda: self.model.set_sheet(sheet, visible), selected, renumbered=True)
        if selected < 0 and self.model.rowCount():
            self._select_first()

    def _select_first(self) -> None:
        """Something is selected from the start: the first pair in sight, or the top: all differences are below."""
        model = self.model
        nodes = [model.node(row) for row in range(min(model.rowCount(), 200))]
        row = next((row for row, node in enumerate(nodes) if model.is_leaf(node) and not model.is_value(node)), 0)
        self.view.selectionModel().setCurrentIndex(model.index(row, 0), ALONE)

    def _show_rows(self, visible: memoryview, flags: memoryview) -> None:
        self._swap(lambda: self.model.set_rows(visible, flags), self._session.selected)

    def _swap(self, swap: Callable[[], None], selected: int, *, renumbered: bool = False) -> None:
        """Swap rows; the selected row, or the first in sight, keeps its place on the screen where it can."""
        self._swapping = True
        try:
            swap_rows(self.view, self.model, swap, selected, renumbered=renumbered)
        finally:
            self._swapping = False
        self._scrolled()

    def _show_matches(self, matched: int, error: str) -> None:
        self.filter.show_matches(matched, error)
        self._matched = matched
        self._nothing.say("Nothing is shown: no pair is like that.")
        self._stack.setCurrentIndex(1 if matched == 0 and not error else 0)
        self._say_place()

    def _show_numbers(self) -> None:
        told = self._session.told
        self.model.set_numbers(self._session.numbers, float(told["limit"]))
        self.view.viewport().update()
        renamed = sum(self._session.info["renamed"].values())
        counts = {**told["counts"], "value": int(told["values"]), "renamed": renamed}
        self.chips.show_counts(counts, int(told["pairs"]))
        self._say_place()

    def _show_map(self, buffers: Buffers) -> None:
        self.map.show_map(buffers, self.model.limit)
        self._scrolled()

    def _map_resized(self, height: int) -> None:
        self._session.map_height = height
        self._session.request_map()

    def _in_sight(self) -> list[int]:
        """The pairs on the screen."""
        view, sheet = self.view, self.model.sheet
        first, last = view.rowAt(0), view.rowAt(view.viewport().height() - 1)
        if sheet is None or first < 0:
            return []
        pair = sheet.columns["pair"]
        nodes = self.model.nodes(first, last if last >= 0 else self.model.rowCount() - 1)
        chosen = [self._session.selected] if 0 <= self._session.selected < len(sheet) else []
        return [pair[node] for node in (*chosen, *nodes) if pair[node] >= 0]

    # What a person does

    def show_all(self) -> None:
        """Take filter, chips and hiding away."""
        self.filter.clear()
        self.chips.choose(())
        if self._hide:
            self.hide_alike(False)

    def hide_alike(self, on: bool) -> None:
        """Hide what is alike, or show it again."""
        self._hide = on
        self._session.hide_alike(on)
        self._show_order(*self._sort)

    @property
    def hides_alike(self) -> bool:
        """Whether what is alike is hidden."""
        return self._hide

    def _current_changed(self) -> None:
        index = self.view.currentIndex()
        if not self._swapping and index.isValid():
            self._session.select(self.model.node(index.row()))
            self._say_place()

    def select_node(self, node: int) -> None:
        """Select a visible node and bring it into view."""
        row = self.model.row_of(node)
        if row >= 0:
            self.view.selectionModel().setCurrentIndex(self.model.index(row, 0), ALONE)
            self.view.scrollTo(self.model.index(row, 0), QAbstractItemView.ScrollHint.EnsureVisible)

    def _say_place(self) -> None:
        """Which of all rows is selected, or how many pairs a filter shows."""
        model, session = self.model, self._session
        pairs = int(session.told.get("pairs", 0))
        sheet = model.sheet
        at = int(sheet.columns["pair"][session.selected]) if sheet and 0 <= session.selected < len(sheet) else -1
        if self._matched >= 0:
            self.place.setText(f"{self._matched:,} of {pairs:,}")
        else:
            self.place.setText(f"{at + 1:,} of {pairs:,}" if at >= 0 else f"{pairs:,} pairs")

    def _scrolled(self) -> None:
        view, rows = self.view, self.model.rowCount()
        if rows and not self._swapping:
            height = rows * ROW_HEIGHT
            first = view.verticalScrollBar().value()
            self.map.show_part(first / height, min((first + view.viewport().height()) / height, 1.0))

    def _go_to_place(self, share: float) -> None:
        view = self.view
        height = self.model.rowCount() * ROW_HEIGHT
        view.verticalScrollBar().setValue(round(share * height - view.viewport().height() / 2))

    # Order, matching, what is ignored

    def _sort_by_column(self, column: int) -> None:
        """Numbers the largest first, texts upwards; then the other way; then file order."""
        key, first = compare_model.SORT_KEYS[column], column in compare_model.DESCENDING_FIRST
        before, descending = self._sort
        if before != key:
            self.sort(key, first)
        elif descending == first:
            self.sort(key, not first)
        else:
            self.sort("natural", False)

    def sort(self, key: str, descending: bool) -> None:
        """Order by a column, "natural" for file order."""
        self._show_order(key, descending)
        self._session.sort(key, descending)

    def _show_order(self, key: str, descending: bool) -> None:
        self._sort = (key, descending)
        head = self.view.horizontalHeader()
        column = compare_model.SORT_KEYS.index(key) if key in compare_model.SORT_KEYS else -1
        head.setSortIndicatorShown(column >= 0)
        if column >= 0:
            order = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
            head.setSortIndicator(column, order)
        named = next((title for name, way, title in ORDERS if (name, way) == self._sort), "")
        words = named or f"By {HEADS.get(key, key)}, {'downwards' if descending else 'upwards'}"
        self.order.setText(f"{words}, differences" if self._hide else words)

    def _below(self, button: QPushButton, fill: Callable[[QMenu], None]) -> None:
        menu = QMenu(self)
        fill(menu)
        menu.exec(button.mapToGlobal(button.rect().bottomLeft()))
        menu.deleteLater()

    def fill_order_menu(self, menu: QMenu) -> None:
        """What rows can be sorted by, and whether all are shown."""
        group = QActionGroup(menu)
        for key, descending, title in ORDERS:
            action = _choice(menu, title, (key, descending) == self._sort, group)
            action.triggered.connect(lambda _=False, key=key, way=descending: self.sort(key, way))
        menu.addSeparator()
        _choice(menu, "Hide what is alike", self._hide).triggered.connect(self.hide_alike)

    def fill_match_menu(self, menu: QMenu) -> None:
        """How pairs are made, and which differences are not looked at."""
        session = self._session
        group = QActionGroup(menu)
        current = str(session.info.get("match") or "key")
        for match, title, _ in MATCHES:
            action = _choice(menu, title, match == current, group)
            action.triggered.connect(lambda _=False, match=match: session.match(replace(session.matching, match=match)))
        by_hand = len(session.matching.hand) + len(session.matching.broken)
        if by_hand:
            forget = menu.addAction(f"Forget {text.plural(by_hand, 'pair')} made or broken by hand")
            forget.triggered.connect(lambda: session.match(replace(session.matching, hand=(), broken=())))
        menu.addSection("Ignore")
        ignoring = session.ignoring
        _choice(menu, "Differences of type alone", ignoring.dtype).triggered.connect(
            lambda on: session.ignore(replace(session.ignoring, dtype=on))
        )
        _choice(menu, "The optimizer", ignoring.optimizer).triggered.connect(
            lambda on: session.ignore(replace(session.ignoring, optimizer=on))
        )
        self._offer_keys(menu)
        for most in TOLERANCES:
            words = f"Differences of at most {text.value(most)}"
            _choice(menu, words, ignoring.most == most).triggered.connect(
                lambda on, most=most: session.ignore(replace(session.ignoring, most=most if on else 0.0))
            )

    def _offer_keys(self, menu: QMenu) -> None:
        """What is ignored by its keys, or what the filter finds now."""
        session, wanted = self._session, self.filter.text().strip()
        if keys := session.ignoring.keys:
            shown = text.visible(keys, 60).replace("&", "&&")
            forget = _choice(menu, f"What “{shown}” finds", True)
            forget.triggered.connect(lambda: session.ignore(replace(session.ignoring, keys="")))
        if wanted and wanted != keys:
            take = menu.addAction("What the filter finds now")
            take.triggered.connect(lambda: session.ignore(replace(session.ignoring, keys=wanted)))

    def _say_matching(self) -> None:
        info = self._session.info
        match = str(info.get("match") or "key")
        words = next((said for name, _, said in MATCHES if name == match), "Match by name")
        exchanges = [(str(a), str(b)) for a, b in info.get("exchanges") or ()]
        self.matching.setText(words if match != "prefix" or not exchanges else "Match by name, prefix exchanged")
        lines = [
            f"{text.visible(a, 80) or 'nothing'} in A is {text.visible(b, 80) or 'nothing'} in B" for a, b in exchanges
        ]
        renamed = info.get("renamed") or {}
        if renamed:
            lines.append(f"{text.plural(sum(renamed.values()), 'pair')} of different names")
        self.chips.show_renamed(renamed)
        self.matching.setToolTip(plain_tip("\n".join(["How pairs are made, what is ignored", *lines])))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.view.viewport().update()


HEADS: Final = {"name": "name", "shape_a": "shape in A", "shape_b": "shape in B", "status": "difference"} | {
    "rel_l2": "change",
    "cosine": "cosine",
}


def _choice(menu: QMenu, title: str, on: bool, group: QActionGroup | None = None) -> QAction:
    action = menu.addAction(title)
    action.setCheckable(True)
    action.setChecked(on)
    if group is not None:
        group.addAction(action)
    return action
