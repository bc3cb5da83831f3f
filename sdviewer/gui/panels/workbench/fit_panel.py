"""The right side of a workbench: the pairs in three ways, what a strict load would say, and why a row is what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import QEvent, QPoint, QRect, Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.core.fit_sheet import FitSheet
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.models.fit_model import SOURCE, FitModel
from sdviewer.gui.panels.nothing_found import NothingFound
from sdviewer.gui.panels.pairs_filter import PairsFilter
from sdviewer.gui.panels.swapping import ALONE, swap_rows
from sdviewer.gui.panels.tree_rows import CHEVRON, ROW_HEIGHT, indent
from sdviewer.gui.panels.workbench.row_editor import RowEditor
from sdviewer.gui.panels.workbench.strict import StrictView
from sdviewer.gui.panels.workbench.table import FitView
from sdviewer.gui.panels.workbench.why import WhyPanel
from sdviewer.gui.widgets import Segments
from sdviewer.gui.workbench import WorkbenchSession

STRICT: Final = "strict"


class FitPanel(QWidget):
    """Keeps selection and scroll when the worker answers with other rows."""

    menu_requested = Signal(QPoint)
    pair_requested = Signal()

    def __init__(self, session: WorkbenchSession) -> None:
        super().__init__()
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._session = session
        self.model = FitModel(self)
        self.view = FitView(self.model)
        self.strict = StrictView(session)
        self.why = WhyPanel()
        entries = (("problems", "Problems", ""), ("all", "All", ""), ("tree", "Tree", ""), (STRICT, "Strict load", ""))
        self.tabs = Segments(entries, "Which rows")
        self.tabs.choose("problems")
        self.tabs.set_tooltip(STRICT, "What load_state_dict would say now")
        self.filter = PairsFilter("Filter keys", self.view, self.view.painter)
        self.filter.setFixedWidth(230)
        self.previous = widgets.icon_button("prev", "Previous problem (Alt+Up, Shift+F7)")
        self.next = widgets.icon_button("next", "Next problem (Alt+Down, F7)")
        self._swapping = False
        self._previewed = -1
        self._collided = False
        self.editor: RowEditor | None = None
        """What stands over a row while its key is edited."""
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        tools = QHBoxLayout()
        tools.setContentsMargins(14, 10, 14, 8)
        tools.setSpacing(8)
        tools.addWidget(self.tabs)
        tools.addStretch(1)
        for part in (self.filter, self.previous, self.next):
            tools.addWidget(part)
        self._nothing = NothingFound("Show all")
        self._nothing.left.connect(self.filter.clear)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.view)
        self._stack.addWidget(self._nothing)
        self._stack.addWidget(self.strict)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(tools)
        column.addWidget(self.filter.wrong)
        column.addWidget(widgets.line())
        column.addWidget(self._stack, 1)
        column.addWidget(widgets.line())
        column.addWidget(self.why)
        self.setMinimumWidth(560)

    def _connect(self) -> None:
        session, view = self._session, self.view
        session.sheet_changed.connect(self._show_sheet)
        session.rows_changed.connect(self._show_rows)
        session.filtered.connect(self._show_matches)
        session.counts_changed.connect(self._show_counts)
        session.reveal_requested.connect(self.select_node)
        session.selection_changed.connect(lambda node: self.why.forget_values())
        session.why_changed.connect(lambda why: self.why.show_why(why, session.choice))
        session.numbers_changed.connect(self.why.show_values)
        view.follow(session)
        view.menu_requested.connect(self.menu_requested)
        view.copy_requested.connect(self.copy_key)
        view.drop_requested.connect(self._drop)
        view.selectionModel().currentRowChanged.connect(self._current_changed)
        view.selectionModel().selectionChanged.connect(self._select_all)
        self.tabs.chosen.connect(self._choose_tab)
        session.no_more_problems.connect(lambda forwards: view.setFocus())
        self.filter.wanted.connect(session.set_filter)
        self.previous.clicked.connect(lambda: session.step(forwards=False))
        self.next.clicked.connect(lambda: session.step(forwards=True))
        self.why.rename.clicked.connect(self.edit_key)
        self.why.pair.clicked.connect(self.pair_requested)
        self.why.drop.clicked.connect(session.drop)
        self.why.choices.tried.connect(session.try_choice)
        self.why.choices.taken.connect(self._take_choice)
        self.why.choices.left.connect(view.setFocus)
        view.activated_node.connect(self._activate)

    # What the worker answered

    def _show_sheet(self, sheet: FitSheet, visible: memoryview, selected: int) -> None:
        if self.editor is not None:
            self.editor.close_now()
        self.model.is_tree = self._session.tab == "tree"
        self._swap(lambda: self.model.set_sheet(sheet, visible), selected, renumbered=True)
        preview = self._session.told.get("preview")
        at = int(preview["at"]) if preview else -1
        collides = self._session.collisions > 0
        news = (at >= 0 and at != self._previewed) or (collides and not self._collided)
        news = news and self._session.tab == "problems"
        self._previewed, self._collided = at, collides
        if news:
            self.view.scrollToTop()  # that is what one wants to see of it
        if news or self.model.row_of(selected) < 0:
            self.why.forget()
            self._select_first()

    def _select_first(self) -> None:
        """Something is selected from the start: the first pair in sight."""
        model = self.model
        if not model.rowCount():
            return
        rows = range(min(model.rowCount(), 200))
        row = next((row for row in rows if model.is_leaf(model.node(row))), 0)
        self.view.selectionModel().setCurrentIndex(model.index(row, 0), ALONE)

    def _show_rows(self, visible: memoryview, flags: memoryview) -> None:
        self._swap(lambda: self.model.set_rows(visible, flags), self._session.selected)

    def _swap(self, swap: Callable[[], None], selected: int, *, renumbered: bool = False) -> None:
        """Swap rows; the selected row, or the first in sight, keeps its place on the screen where it can."""
        bar = self.view.verticalScrollBar()
        at = bar.value()
        self._swapping = True
        try:
            swap_rows(self.view, self.model, swap, selected, renumbered=renumbered)
            if renumbered and self.model.row_of(selected) < 0:
                bar.setValue(at)
        finally:
            self._swapping = False

    def _show_matches(self, matched: int, error: str) -> None:
        self.filter.show_matches(matched, error)
        self._nothing.say("Nothing is shown: no key is like that.")
        if self._stack.currentWidget() is not self.strict:
            self._stack.setCurrentWidget(self._nothing if matched == 0 and not error else self.view)

    def _show_counts(self) -> None:
        session = self._session
        told = session.told
        self.tabs.set_text("problems", f"Problems {int(told['problems']):,}")
        self.tabs.set_text("all", f"All {int(told['total']):,}")
        preview = told.get("preview")
        if preview:
            gain, drops, left = (int(preview[name]) for name in ("gain", "drops", "left"))
            parts = [text.plural(gain, "pair")] if gain > 0 else []
            parts += [text.plural(drops, "dropped key")] if drops > 0 else []
            parts += [text.plural(left, "key left to the model", "keys left to the model")] if left else []
            self.model.preview_words = (
                f"{' and '.join(parts)} if you {'take' if session.choice >= 0 else 'accept'} {session.previewed}"
            )
        self.view.viewport().update()

    # What a person does

    def _choose_tab(self, tab: str) -> None:
        if tab == STRICT:
            self._stack.setCurrentWidget(self.strict)
            self.strict.begin()
            return
        self.strict.end()
        self._stack.setCurrentWidget(self.view)
        self._session.set_tab(tab)

    def show_tab(self, tab: str) -> None:
        """Bring one to the front."""
        self.tabs.choose(tab)
        self._choose_tab(tab)

    def _current_changed(self) -> None:
        index = self.view.currentIndex()
        if not self._swapping and index.isValid():
            self._session.select(self.model.node(index.row()))

    def select_node(self, node: int) -> None:
        """Select a visible node and bring it into view."""
        row = self.model.row_of(node)
        if row >= 0:
            if self._stack.currentWidget() is self.strict:
                self.show_tab(self._session.tab)
            self.view.selectionModel().setCurrentIndex(self.model.index(row, 0), ALONE)
            self.view.scrollTo(self.model.index(row, 0), QAbstractItemView.ScrollHint.EnsureVisible)
            self.view.setFocus()  # what one goes to is worked on

    def copy_key(self) -> None:
        """The key of the selected row: that of the target where it has one."""
        why = self._session.why
        if key := why.get("key_b") or why.get("now") or why.get("key_a"):
            widgets.copy_text(str(key))

    def _activate(self, node: int) -> None:
        """Return on a row of which there is something to choose."""
        why = self._session.why
        if why.get("row") == node and why.get("choices"):
            self.why.choices.begin()

    def _take_choice(self, about: Body, at: int, others: bool) -> None:
        self.view.setFocus()
        self._session.take_choice(about, at, others)

    def edit_key(self) -> None:
        """Edit the key that the file has in the current row, where it stands; what is typed is tried at once.

        Where the file has nothing, one types which of its keys it is.
        """
        session, view, row = self._session, self.view, self.view.currentIndex().row()
        if row < 0 or session.why.get("row") != self.model.node(row) or session.why["edits"] is None:
            return
        view.scrollTo(self.model.index(row, 0), QAbstractItemView.ScrollHint.EnsureVisible)
        self.editor = RowEditor(view.viewport(), session)
        self.editor.closed.connect(self._edited)
        start, width = view.places().columns[SOURCE]
        inside = QRect(0, 0, start + width, view.viewport().height())
        left = start + indent(self.model.depth(self.model.node(row))) + CHEVRON
        self.editor.show_over(QRect(0, view.rowViewportPosition(row), start + width, ROW_HEIGHT), left, inside)

    def _edited(self) -> None:
        self.editor = None
        self.view.setFocus()

    def _select_all(self) -> None:
        if not self._swapping:
            chosen = self.view.selectionModel().selectedRows()
            self._session.selection = [self.model.node(index.row()) for index in chosen]

    def _drop(self) -> None:
        if self._session.can_drop:
            self._session.drop()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if resources.is_theme_change(event):
            self.view.viewport().update()
