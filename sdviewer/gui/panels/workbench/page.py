"""One tab of a workbench: file and target, what is proposed and the recipe at the left, the pairs at the right."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Final

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QMenu, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, is_cancelled
from sdviewer.gui.panels.banner import Banner
from sdviewer.gui.panels.file_banners import FileBanners
from sdviewer.gui.panels.find_panel import Search
from sdviewer.gui.panels.opened_page import FailedPage, OpenedPage
from sdviewer.gui.panels.recipe_panel import RecipePanel
from sdviewer.gui.panels.wording import changed_words, failure_words
from sdviewer.gui.panels.workbench.find import WorkbenchFind
from sdviewer.gui.panels.workbench.fit_panel import FitPanel
from sdviewer.gui.panels.workbench.foot import WorkbenchFoot
from sdviewer.gui.panels.workbench.head import WorkbenchHead
from sdviewer.gui.panels.workbench.suggestions import SuggestionsPanel
from sdviewer.gui.turns import Turns
from sdviewer.gui.workbench import WorkbenchSession

LEFT: Final = 390
"""Pixels of the suggestions at first."""


class WorkbenchPage(OpenedPage):
    """All that is shown of one workbench."""

    built = Signal()
    save_requested = Signal()
    script_requested = Signal()
    undo_requested = Signal()
    pair_requested = Signal()
    file_change_requested = Signal()
    target_change_requested = Signal()
    compare_requested = Signal()
    merge_requested = Signal()
    suggestion_edit_requested = Signal(int)
    step_edit_requested = Signal(int)
    recipe_made = Signal(object)
    menu_requested = Signal(QPoint)
    first_painted = Signal()
    cursor_moved = Signal(str)

    def __init__(self, session: WorkbenchSession) -> None:
        super().__init__(session)
        self.session = session
        self.files = FileBanners()
        self.banner = Banner()
        self._body = QWidget()
        self._body_column = QVBoxLayout(self._body)
        self._body_column.setContentsMargins(0, 0, 0, 0)
        self._body_column.setSpacing(0)
        self._stack.addWidget(self._body)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.files)
        column.addWidget(self.banner)
        column.addWidget(self._stack, 1)
        self._told_state = ""
        self._turns = Turns(self)
        self._turns.ended.connect(self._built)
        self._connect()

    def build(self) -> None:
        """Make what a workbench needs, a piece a turn of the event loop; `built` when it is there."""
        self._turns.add(
            lambda: self.head,
            lambda: self.suggestions,
            lambda: self.recipe,
            lambda: self.pairs,
            lambda: self.foot,
        )

    def _built(self) -> None:
        self._make_room()
        self.built.emit()

    def _change_file(self) -> None:
        """Another file; where the file has other state dicts, one of these or another file."""
        others = self.session.info["a"]["others"]
        if not others:
            self.file_change_requested.emit()
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for state_dict, name, tensors in others:
            words = f"{name or 'root'} ({text.plural(int(tensors), 'tensor')})".replace("&", "&&")
            menu.addAction(words, partial(self.session.show_front, str(state_dict)))
        menu.addSeparator()
        menu.addAction("Another &file…", self.file_change_requested.emit)
        under = self.head.a.change
        menu.popup(under.mapToGlobal(under.rect().bottomLeft()))

    @cached_property
    def head(self) -> WorkbenchHead:
        """File, target, bar and chips."""
        made = WorkbenchHead()
        widgets.polish(made)
        self._body_column.insertWidget(0, made)
        made.chip_clicked.connect(self._show_group)
        made.a.change.clicked.connect(self._change_file)
        made.b.change.clicked.connect(self.target_change_requested)
        made.alike.front_chosen.connect(self.session.show_front)
        made.alike.all_chosen.connect(self.session.repair_all)
        return made

    @cached_property
    def splitter(self) -> QSplitter:
        """Left and right."""
        made = QSplitter(Qt.Orientation.Horizontal)
        made.setChildrenCollapsible(False)
        made.setHandleWidth(1)
        self._body_column.addWidget(widgets.line())
        self._body_column.addWidget(made, 1)
        return made

    @cached_property
    def _left(self) -> QVBoxLayout:
        made = QWidget()
        made.setObjectName("page")
        made.setMinimumWidth(300)
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.splitter.insertWidget(0, made)
        return column

    @cached_property
    def suggestions(self) -> SuggestionsPanel:
        """What the program proposes."""
        made = SuggestionsPanel(self.session)
        widgets.polish(made)
        self._left.insertWidget(0, made, 1)
        made.edited.connect(self.suggestion_edit_requested)
        made.find_requested.connect(self.show_find)
        made.emptied.connect(lambda: self.pairs.view.setFocus())
        return made

    @cached_property
    def recipe(self) -> RecipePanel:
        """The document's recipe."""
        made = RecipePanel(self.session.document, saves=False)
        widgets.polish(made)
        self._left.addWidget(made)
        made.edit_requested.connect(self.step_edit_requested)
        self.recipe_made.emit(made)
        return made

    @cached_property
    def _right(self) -> QStackedWidget:
        made = QStackedWidget()
        self.splitter.addWidget(made)
        return made

    @cached_property
    def pairs(self) -> FitPanel:
        """The table."""
        made = FitPanel(self.session)
        widgets.polish(made)
        self._right.addWidget(made)
        made.pair_requested.connect(self.pair_requested)
        made.menu_requested.connect(self.menu_requested)
        made.view.first_painted.connect(self.first_painted)
        return made

    @cached_property
    def find_panel(self) -> WorkbenchFind:
        """Find and replace, in the place of the table."""
        made = WorkbenchFind(self.session)
        widgets.polish(made)
        self._right.addWidget(made)
        made.back_requested.connect(self.show_pairs)
        return made

    @cached_property
    def foot(self) -> WorkbenchFoot:
        """Undo, script, save."""
        made = WorkbenchFoot()
        widgets.polish(made)
        self._body_column.addWidget(widgets.line())
        self._body_column.addWidget(made)
        made.undo_requested.connect(self.undo_requested)
        made.script_requested.connect(self.script_requested)
        made.save_requested.connect(self.save_requested)
        made.collisions_requested.connect(self.show_collisions)
        return made

    def _make_room(self) -> None:
        width = self.width() or self.window().width()
        self.splitter.setSizes([LEFT, width - LEFT])
        self.splitter.setStretchFactor(0, 0)
        self.splitter.setStretchFactor(1, 1)

    def _connect(self) -> None:
        session = self.session
        session.building.connect(self._tell_building)
        session.printed.connect(self._opening.printed.go_on, Qt.ConnectionType.QueuedConnection)
        session.opened.connect(self._show)
        session.open_failed.connect(self._show_failure)
        session.counts_changed.connect(self._show_counts)
        session.edited.connect(self._show_recipe)
        session.job_changed.connect(lambda words, fraction: self._show_foot())
        session.trouble.connect(self.tell_trouble)
        session.changed_on_disk.connect(self._tell_change)
        session.files_changed.connect(self._tell_files)
        session.no_more_problems.connect(self._tell_no_more)

    # What is shown

    def _show(self) -> None:
        self._opening.end()
        self.banner.hide()
        self.files.forget()
        self._tell_files()
        self._told_state = ""
        self.head.show_sides(self.session.info["a"], self.session.info["b"], self.session.tip)
        self._stack.setCurrentWidget(self._body)
        self._show_recipe()
        self._tell_state()
        self.suggestions.list.setFocus()

    def reload(self) -> None:
        """Read the file again, with the recipe; what it has to fit too."""
        self.banner.hide()
        self.session.document.open()
        self.session.open()

    @cached_property
    def failed(self) -> FailedPage:
        """Why the file, or what it has to fit, could not be opened."""
        made = super().failed
        made.other.clicked.connect(self.target_change_requested)
        return made

    @property
    def _target_words(self) -> str:
        name = str(self.session.target["name"])
        return text.visible(name.rpartition("/")[2] or name, 120)

    def _tell_building(self) -> None:
        """A model is built, also where another target was in front before."""
        self.files.forget()
        self._opening.say(f"Building {self._target_words}…")
        self._opening.begin()
        self._stack.setCurrentWidget(self._opening)

    def _show_failure(self) -> None:
        self.files.forget()
        failure = self.session.failure
        if is_cancelled(failure) and self.session.target.get("run"):
            self.failed.offer("Change target…")
            self.tell_failure(self._target_words, str(self.session.target["name"]), failure)
            return
        path = str(failure.get("path") or "")
        name = text.visible(path.rpartition("/")[2], 120) if path else self.session.name
        of_target = failure.get("code") == "bad_target" or path not in ("", self.session.path)
        self.failed.offer("Change target…" if of_target else "")
        self.tell_failure(name, path or self.session.path, failure)

    def _show_counts(self) -> None:
        session = self.session
        self.head.show_counts(session.told, session.previewed)
        self.head.show_sides(session.info["a"], session.info["b"], session.tip)
        self._show_foot()
        self._tell_state()

    def _show_recipe(self) -> None:
        if "recipe" in self.__dict__ and self.session.document.state == "open":
            self.recipe.show_recipe()
            self._show_foot()

    def _show_foot(self) -> None:
        if "foot" in self.__dict__:
            self.foot.show_state(self.session)

    def _show_group(self, status: str) -> None:
        self.pairs.show_tab("problems")
        self.session.show_group("match" if status == "match" else status)

    def show_collisions(self) -> None:
        """The first of the keys that would have one name, which is what stands against saving."""
        self.show_pairs()
        self._show_group("collision")

    def show_pairs(self) -> None:
        """Back to the table."""
        self.session.try_search(None)
        self._right.setCurrentWidget(self.pairs)
        self.pairs.view.setFocus()

    def show_find(self) -> None:
        """Find and replace, on the selected keys where there are several, else on all."""
        self._right.setCurrentWidget(self.find_panel)
        self.find_panel.begin_with(self.session.selection, Search())
        self.find_panel.show_now()

    def edit_in_find(self, table: Body) -> bool:
        """A suggestion to be changed in find and replace; False where it is none for that."""
        search = Search.of(table)
        if search is None:
            return False
        self._right.setCurrentWidget(self.find_panel)
        self.find_panel.begin_with([], search)
        self.find_panel.show_now()
        return True

    def next_pane(self) -> None:
        """From the suggestions to the table and back."""
        if self.pairs.view.hasFocus():
            (self.suggestions.list if self.session.suggestions else self.recipe.view).setFocus()
        else:
            self.pairs.view.setFocus()

    # The banners

    def _tell_files(self) -> None:
        """What the tabs of file and target say of them as such: somebody may not have looked there."""
        session, document = self.session, self.session.document
        if session.state == "open":
            b = session.info["b"]
            self.files.tell("a", session.path, document.problems, int(document.info.get("files", 1)), document.scan)
            self.files.tell("b", str(session.target["name"]), b["problems"], int(b["files"]), session.target_scan)

    def _tell_state(self) -> None:
        """What the fit as a whole is like, each time that it becomes another."""
        session = self.session
        told = session.told
        edited = any(step.enabled for step in session.document.recipe.steps)
        failed = told.get("failed")
        keys, allowed = int(told["keys"]), int(told["allowed"])
        left = f", {allowed:,} may be missing as the recipe says: load it with strict=False" if allowed else ""
        collisions = session.collisions
        state = f"failed {collisions}" if failed else "problems" if session.problems else "done" if edited else "fits"
        beside = session.left_beside if state == "done" else ""
        if state + beside == self._told_state:
            return
        self._told_state = state + beside
        adapter = session.info["b"]["adapter"]
        if adapter and state in ("fits", "problems"):
            self._tell_adapter(adapter)
        elif failed and collisions:
            what = f"{text.plural(collisions, 'key')} of the file would have the name of another: no copy can be saved"
            why = "Choose what becomes of them. The steps behind it wait."
            self.banner.tell("error", what, why, buttons=[("Show", self.show_collisions)])
        elif failed:
            what, why = failure_words({"message": failed["message"], "remedy": failed["remedy"]})
            named = int(failed["step"]) >= 0  # then the message begins with the step
            said = (
                f"{what[:1].upper()}{what[1:]}"
                if named
                else f"The recipe does not go through: {what[:1].lower()}{what[1:]}"
            )
            self.banner.tell("error", said, why)
        elif state == "fits":
            what = f"Nothing to repair: {keys:,} of {text.plural(keys, 'key')} match."
            buttons: list[tuple[str, Callable[[], None]]] = []
            if session.info["b"]["kind"] == "checkpoint":
                buttons.append(("Compare", self.compare_requested.emit))
            buttons.append(("Save anyway", self.save_requested.emit))
            self.banner.tell(
                "info",
                what,
                f"By names and shapes{left}." if left else "A strict load goes through, by names and shapes.",
                "",
                buttons,
            )
        elif state == "done":
            what = f"All {text.plural(keys, 'target key')} match."
            buttons = [("Save repaired as…", self.save_requested.emit)]
            why = "A strict load of the repaired copy goes through, by names and shapes."
            why = f"By names and shapes{left}." if left else why
            why = f"Left: {beside}." if beside else why
            self.banner.tell("info", what, why, "", buttons, primary="" if beside else "Save repaired as…")
        else:
            self.banner.hide()

    def _tell_adapter(self, adapter: Body) -> None:
        """One of the two is an adapter for the other: what can be done about that."""
        if adapter["merged"]:
            merge = ("Merge into this file", self.session.merge)
            self.banner.tell("info", str(adapter["text"]), "", "", [merge], primary=merge[0])
        else:
            buttons = [("Merge into the target…", self.merge_requested.emit)]
            is_file = self.session.info["b"]["kind"] == "checkpoint"
            self.banner.tell("info", str(adapter["text"]), "", "", buttons if is_file else [])

    def tell_trouble(self, failure: Body) -> None:
        """What did not go through."""
        what, why = failure_words(failure)
        self.banner.tell("error", what, why, str(failure.get("details") or ""))

    def _tell_change(self, look: Body) -> None:
        if look["state"] in ("same", "silent"):
            self.banner.hide()
            return
        what, why, again = changed_words(self.session.document, look)
        self.banner.tell("warn", what, why, buttons=[(again, self.reload)] if again else [])

    def _tell_no_more(self, forwards: bool) -> None:
        self.foot.note.setText(f"No problem {'below' if forwards else 'above'}")
