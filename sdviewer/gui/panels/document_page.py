"""One tab: banner, tree beside details, the recipe once there is one; or that it is being opened, or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import PurePath
from typing import Final

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QSplitter, QStackedWidget, QVBoxLayout
from shiboken6 import isValid

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.dialogs import lost
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.tree_model import COLUMNS
from sdviewer.gui.panels import save_failures
from sdviewer.gui.panels.banner import Banner
from sdviewer.gui.panels.detail_panel import DetailPanel
from sdviewer.gui.panels.document_bar import DocumentBar
from sdviewer.gui.panels.export_words import tell_exports
from sdviewer.gui.panels.file_view import FileView
from sdviewer.gui.panels.find_panel import EVERYWHERE, FindPanel, Search
from sdviewer.gui.panels.metadata_panel import MetadataPanel
from sdviewer.gui.panels.opened_page import OpenedPage
from sdviewer.gui.panels.overview.page import OverviewPage
from sdviewer.gui.panels.overview_grid import ORDER
from sdviewer.gui.panels.problems_panel import ProblemsPanel
from sdviewer.gui.panels.receipt_page import ReceiptPage
from sdviewer.gui.panels.recipe_panel import RecipePanel
from sdviewer.gui.panels.security_panel import SecurityPanel
from sdviewer.gui.panels.security_words import banner_words, dangerous_calls
from sdviewer.gui.panels.structure_panel import StructurePanel
from sdviewer.gui.panels.tree_panel import TreePanel
from sdviewer.gui.panels.wording import changed_words, failure_words, problem_words, sentence, worth_telling
from sdviewer.gui.session import Session
from sdviewer.gui.turns import shared_turns
from sdviewer.repair.history import Step

TREE_WIDTH = 486
WIDEST_TREE = 0.6
"""Share of the window that the tree takes for its columns."""

VIEWS: Final[Mapping[str, type[FileView]]] = {
    view.name: view for view in (SecurityPanel, StructurePanel, MetadataPanel, ProblemsPanel, FindPanel)
}
"""The views of a whole file, which stand where the details do: a new one is one new file and one word here."""


class DocumentPage(OpenedPage):
    """All that is shown of one session."""

    built = Signal()
    save_requested = Signal()
    step_edit_requested = Signal(int)
    recipe_made = Signal(object)
    clean_copy_requested = Signal()
    elsewhere_requested = Signal()
    file_chosen = Signal(str)
    compare_requested = Signal(str, str)
    tree_shown = Signal()
    columns_chosen = Signal(object)
    tree_painted = Signal()
    menu_requested = Signal(QPoint)
    export_requested = Signal()
    cursor_moved = Signal(str)
    view_chosen = Signal(str)
    scale_chosen = Signal(str)
    remembered = Signal(str, str)  # a setting and its value, of the Overview and whether it is in front
    slim_copy_requested = Signal()
    run_requested = Signal(object)  # paths of one run, to be opened as a series

    def __init__(
        self, session: Session, view: str, scale: str, overview: tuple[str, str, str] = ("tensors", "std", "std")
    ) -> None:
        """`overview`: what comes first, "overview" or "tensors"; what colours the tiles; what is drawn across depth."""
        super().__init__(session)
        self.session = session
        self._view, self._scale = view, scale
        self._front, *self._of_overview = overview
        self.banner = Banner()
        self.bar = DocumentBar()
        self.bar.chosen.connect(self.show_view)
        self.bar.hide()
        self._left = _splitter(Qt.Orientation.Vertical)
        self.splitter = _splitter(Qt.Orientation.Horizontal)
        self._stack.addWidget(self.splitter)
        self.splitter.addWidget(widgets.Frame(self._left))
        # The change on disk that the banner tells, the one that somebody dismissed, and the records told as damaged.
        self._told_disk = self._dismissed_disk = ""
        self._look: Body = {}
        self._told_wrong = 0
        # Whether the banner tells of a save: that is over when the next one begins.
        self._told_save = False
        # Whether somebody dismissed what the banner says of the file itself.
        self._heard = False
        self.right = QStackedWidget()
        self.views: dict[str, FileView] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.banner)
        column.addWidget(self.bar)
        column.addWidget(self._stack, 1)
        self._steps: list[Callable[[], object]] = [
            *([lambda: self.overview, *self._overview_steps()] if self._front == "overview" else []),
            lambda: self.tree,
            lambda: self.detail,
            *self._detail_steps(),
            lambda: self.detail.module_page,
        ]
        self._connect()

    # Made when they are first needed, at the latest one a turn of the event loop: all at once would stall the window

    def build(self) -> None:
        """Make what a document needs, piece by piece; `built` when it is there."""
        if not isValid(self):
            return
        if self._steps:
            self._steps.pop(0)()
            shared_turns().later(self.build, first=True)
        else:
            self.built.emit()

    def _overview_steps(self) -> list[Callable[[], object]]:
        return [partial(self._make_overview, card) for card in range(3)]

    def _make_overview(self, card: int) -> None:
        self.overview.steps()[card]()

    def _detail_steps(self) -> list[Callable[[], object]]:
        return [partial(self._make_detail, piece) for piece in range(len(ORDER) + 1)]

    def _make_detail(self, piece: int) -> None:
        self.detail.tensor_page.make(piece)

    @cached_property
    def overview(self) -> OverviewPage:
        """The file as a whole."""
        made = OverviewPage(self.session, *self._of_overview)
        widgets.polish(made)
        self._stack.addWidget(made)
        made.rows_chosen.connect(self.show_rows)
        made.view_chosen.connect(self.show_view)
        made.slim_copy_requested.connect(self.slim_copy_requested)
        made.file_chosen.connect(self.file_chosen)
        made.compare_requested.connect(self.compare_requested)
        made.run_requested.connect(self.run_requested)
        made.pointed.connect(self.cursor_moved)
        made.first_painted.connect(self.tree_painted)
        made.colour_chosen.connect(lambda colour: self.remembered.emit("overview/colour", colour))
        made.measure_chosen.connect(lambda measure: self.remembered.emit("overview/measure", measure))
        return made

    @cached_property
    def tree(self) -> TreePanel:
        """Filter and tree."""
        made = TreePanel(self.session)
        widgets.polish(made)
        self._left.insertWidget(0, made)
        self._left.setStretchFactor(0, 1)
        made.problems_requested.connect(lambda: self.show_view("problems"))
        made.security_requested.connect(lambda: self.show_view("security"))
        made.view.first_painted.connect(self.tree_painted)
        made.view.menu_requested.connect(self.menu_requested)
        made.view.view_requested.connect(lambda number: self.detail.choose_view(number))
        made.columns_chosen.connect(self.columns_chosen)
        made.columns_chosen.connect(lambda columns: self._make_room())
        return made

    def _make_room(self) -> None:
        """As wide a tree as its columns need, as long as the details keep the larger part."""
        added = sum(COLUMNS[name].width for name in self.session.columns)
        room = self.window().width()
        self.splitter.setSizes([min(TREE_WIDTH + added, max(TREE_WIDTH, int(room * WIDEST_TREE))), 10_000])

    @cached_property
    def recipe(self) -> RecipePanel:
        """The steps so far."""
        made = RecipePanel(self.session)
        widgets.polish(made)
        self._left.addWidget(made)
        made.save_requested.connect(self.save_requested)
        made.edit_requested.connect(self.step_edit_requested)
        self.recipe_made.emit(made)
        return made

    @cached_property
    def detail(self) -> DetailPanel:
        """What is selected."""
        made = DetailPanel(self.session, self._view, self._scale)
        widgets.polish(made)
        self.right.addWidget(made)
        self.splitter.addWidget(widgets.Frame(self.right))
        self.splitter.setStretchFactor(0, 0)
        self.splitter.setStretchFactor(1, 1)
        self._make_room()
        made.cursor_moved.connect(self.cursor_moved)
        made.export_requested.connect(self.export_requested)
        made.overview_requested.connect(self.show_in_overview)
        made.view_chosen.connect(self.view_chosen)
        made.scale_chosen.connect(self.scale_chosen)
        return made

    def view(self, name: str) -> FileView:
        """One of the views of the whole file, made when it is first wanted."""
        if name not in self.views:
            made = self.views[name] = VIEWS[name](self.session)
            widgets.polish(made)
            self.right.addWidget(made)
            made.back_requested.connect(self.show_details)
            if isinstance(made, SecurityPanel):
                made.clean_copy_requested.connect(self.clean_copy_requested)
                made.problems_requested.connect(lambda: self.show_view("problems"))
            if isinstance(made, ProblemsPanel):
                made.place_chosen.connect(self._find)
                made.drop_requested.connect(self.drop_lost)
        return self.views[name]

    def show_view(self, name: str) -> None:
        """Show a view of the whole file beside the tree, or "details", or "overview" in place of both."""
        if name == "details":
            self.show_details()
            return
        if name == "overview":
            self.show_overview()
            return
        made = self.view(name)
        self._bring(made)
        made.setFocus()
        made.show_now()

    def show_find(self, search: Search | None = None, scope: str = EVERYWHERE) -> None:
        """Find and replace, beside the tree."""
        made = self.view("find")
        assert isinstance(made, FindPanel)
        self._bring(made)
        made.begin(search, scope)
        made.show_now()

    def edit_in_find(self, at: int, step: Step) -> bool:
        """Change a step of the recipe in find and replace; False where it is none for that."""
        made = self.view("find")
        assert isinstance(made, FindPanel)
        if not made.edit(at, step):
            return False
        self._bring(made)
        return True

    def _bring(self, made: FileView) -> None:
        self._stack.setCurrentWidget(self.splitter)
        self.right.setCurrentWidget(made)
        self._tell_front()

    def show_details(self) -> None:
        """Back to what is selected."""
        self.right.setCurrentWidget(self.detail)
        self.show_tree()

    def show_overview(self) -> None:
        """The file as a whole, in place of tree and details."""
        new = "overview" not in self.__dict__
        self._stack.setCurrentWidget(self.overview)
        if new:
            self.overview.begin()
        else:
            self.overview.take_focus()
        self._tell_front()

    def show_in_overview(self) -> None:
        """The file as a whole, with the place of what is selected marked."""
        rows = self.session.selection
        self.show_overview()
        if rows:
            self.overview.mark(rows[0])

    def show_rows(self, rows: list[int]) -> None:
        """Select rows of the tree, and show what is selected."""
        self.show_details()
        if len(rows) == 1:
            self.session.reveal(rows[0])
        elif rows:
            self.session.reveal_several(rows)

    def _tell_front(self) -> None:
        """Say what is in front; whether that is the Overview is remembered."""
        front = "overview" if self._stack.currentWidget() is self.__dict__.get("overview") else "tensors"
        self.bar.show_view("overview" if front == "overview" else self.shown_view())
        if front != self._front:
            self._front = front
            self.remembered.emit("view/front", front)
        self.tree_shown.emit()

    def shown_view(self) -> str:
        """The name of the view that is in front of those beside the tree, "details" for the selection."""
        current = self.right.currentWidget()
        return current.name if isinstance(current, FileView) else "details"

    def _find(self, place: str) -> None:
        """Show the row that a problem is about, if the tree has it."""
        if not place:
            return

        def answered(body: Body, buffers: Buffers) -> None:
            found = next((int(node) for node, key in body["rows"] if key == place or place.endswith(f".{key}")), -1)
            if found >= 0:
                self.show_details()
                self.session.reveal(found)

        self.session.ask("find", {"text": place.rpartition(".")[2], "limit": 1000}, answered, lane="find place")

    @cached_property
    def offer(self) -> Banner:
        """What can be brought back, below what is wrong."""
        made = Banner()
        column = self.layout()
        assert isinstance(column, QVBoxLayout)
        column.insertWidget(1, made)
        return made

    @cached_property
    def receipt(self) -> ReceiptPage:
        """What a save did."""
        made = ReceiptPage()
        widgets.polish(made)
        self._stack.addWidget(made)
        made.back_requested.connect(self.show_tree)
        made.file_chosen.connect(self.file_chosen)
        made.compare_requested.connect(self.compare_requested)
        return made

    def _connect(self) -> None:
        session = self.session
        session.opened.connect(self._show_document)
        session.open_failed.connect(self._show_failure)
        session.recipe_changed.connect(lambda: self.recipe.show_recipe())
        session.sheet_changed.connect(lambda *_: self._leave_receipt())
        session.scanned.connect(self._tell_scan)
        session.selection_changed.connect(self._selected)
        session.trouble.connect(self._tell_trouble)
        session.changed_on_disk.connect(self._tell_change)
        session.contents_changed.connect(self._contents_changed)
        self.banner.dismissed.connect(self._dismissed)
        session.saving.began.connect(self._end_save_words)
        session.saved.connect(self._show_receipt)
        session.save_failed.connect(self._tell_save_failure)
        session.save_stopped.connect(self._tell_stopped)
        tell_exports(self.banner, session)

    @property
    def shows_tree(self) -> bool:
        """Whether tree and details are what is on the screen."""
        return self._stack.currentWidget() is self.splitter

    def show_tree(self) -> None:
        """Back to tree and details."""
        self._stack.setCurrentWidget(self.splitter)
        if self.isVisible():  # (a file that is opened behind a workbench leaves that the keyboard)
            self.tree.view.setFocus()
        self._tell_front()

    def _show_document(self) -> None:
        self._opening.end()
        self.bar.show()
        if self._front == "overview":
            self._stack.setCurrentWidget(self.overview)
            self.overview.take_focus()
            self._tell_front()
        else:
            self.show_tree()
        if "overview" in self.__dict__:
            self.overview.show_now()
        self._told_disk = self._dismissed_disk = ""
        self._told_wrong = 0
        self._told_save = self._heard = False
        self._tell_problems(self.session.problems)
        current = self.right.currentWidget()
        if isinstance(current, FileView):
            current.show_now()  # the file was read again

    def _show_failure(self) -> None:
        self.bar.hide()
        self.tell_failure(self.session.name, self.session.path, self.session.failure)

    def _show_receipt(self, receipt: Body) -> None:
        written = self.session.saving.written
        assert written is not None
        self._end_save_words()
        self.receipt.show_receipt(written, self.session)
        self._stack.setCurrentWidget(self.receipt)
        self.receipt.setFocus()

    def _leave_receipt(self) -> None:
        """An edit, or an undo, is to be seen."""
        if isinstance(self._stack.currentWidget(), ReceiptPage):
            self.show_tree()

    def _selected(self, nodes: list[int]) -> None:
        """Who selects a row in the tree wants to see it."""
        if nodes and self.tree.view.hasFocus() and self.shown_view() not in ("details", FindPanel.name):
            self.right.setCurrentWidget(self.detail)
            self._tell_front()

    # The banner

    def _tell_scan(self, scan: Body) -> None:
        """Say what loading the file would do where that is more than building tensors, the act first."""
        problems = self.session.problems
        words = banner_words(scan, any(problem[0] == "error" for problem in problems))
        if words is None:
            return
        show = "Show what it calls" if dangerous_calls(scan) else "Show what is known"
        save = "Save a clean copy…"
        buttons = [(show, lambda: self.show_view("security"))]
        if worth_telling(problems):
            buttons.append(("Problems", lambda: self.show_view("problems")))
        if not self.session.not_clean:
            buttons.append((save, self.clean_copy_requested.emit))
        self.banner.tell("security", words[0], words[1], buttons=buttons, primary=save)

    def _tell_problems(self, problems: list[list[str]]) -> None:
        words = problem_words(problems, int(self.session.info.get("files", 1)))
        if words is None:
            self.banner.hide()
        else:
            self.banner.tell(*words, buttons=(("Details", lambda: self.show_view("problems")),))

    def _tell_trouble(self, failure: Body) -> None:
        what, why = failure_words(failure)
        self.banner.tell("error", what, why, str(failure.get("details") or ""))

    def _contents_changed(self) -> None:
        """Damage that the checksums show is told like any other, once."""
        wrong = self.session.contents.known.wrong
        if wrong and wrong != self._told_wrong and not self._told_disk:
            self._told_wrong = wrong
            self._heard = False
            self._tell_standing()

    def _tell_save_failure(self, failure: Body) -> None:
        told = save_failures.words(failure)
        self._leave_receipt()  # that of an earlier copy, which says that it was saved
        acts: dict[str, Callable[[], None]] = {
            "elsewhere": self.elsewhere_requested.emit,
            "again": self._save_again,
            "surely": lambda: self._save_again(sure=True),
            "reload": self.reload,
            "drop_lost": lambda: self.drop_lost(save_again=True),
            "clean": self.clean_copy_requested.emit,
            "stop": self.session.cancel_job,
        }
        buttons = [(name, acts[act]) for name, act in told.buttons]
        primary, act = told.buttons[0] if told.buttons else ("", "elsewhere")
        details, icon = str(failure.get("details") or ""), save_failures.ICONS.get(act, "save")
        self.banner.tell(told.tone, told.what, told.why, details, buttons, primary=primary, icon=icon)
        self._told_save = True

    def _tell_stopped(self, out: str) -> None:
        name = text.visible(PurePath(out).name, 80)
        why = f"Nothing is left of {name}; what was at its place before is still there."
        self.banner.tell("info", "Saving was stopped.", why, buttons=[("Save again", self._save_again)])
        self._told_save = True

    def _end_save_words(self) -> None:
        """What became of an earlier save is told no more; what stands of the file is."""
        if self._told_save:
            self._tell_standing()

    def _save_again(self, *, sure: bool = False) -> None:
        self._end_save_words()
        self.session.save_again(sure=sure)

    def drop_lost(self, *, save_again: bool = False) -> None:
        """Show what a save would miss, and leave it out if that is wanted."""

        def found(body: Body, buffers: Buffers) -> None:
            patterns = tuple(str(pattern) for pattern in body["patterns"])
            remaining = str(body["remaining"])
            if not patterns:
                self.banner.tell("error", "There is no step that drops what is lost.", sentence(remaining))
                return
            step = lost.ask(self, self.session, body)
            if step is not None:
                state_dict = str(body["state_dict"])
                self.session.apply(step, state_dict, lambda: self._tell_dropped(len(patterns), save_again))

        self.session.ask("lost", {}, found, lane="lost")

    def _tell_dropped(self, n: int, save_again: bool) -> None:
        again = save_again and self.session.saving.last is not None
        save = "Save again" if again else "Save repaired as…"
        buttons = [("Undo", self.session.undo), (save, self._save_again if again else self.save_requested.emit)]
        what = f"{text.plural(n, 'tensor')} that cannot be read {'is' if n == 1 else 'are'} left out of the copy."
        self.banner.tell(
            "info", what, "The step is in the recipe; this file stays as it is.", "", buttons, primary=save
        )
        self._told_save = True

    def _tell_change(self, look: Body) -> None:
        """What became of the file on disk, in words; nothing is read again by itself."""
        state = str(look["state"])
        if state == "same":
            if self._told_disk:
                self._told_disk = ""
                self._tell_standing()
            return
        if state == self._dismissed_disk:
            return  # whoever wrote to it goes on writing
        self._told_disk, self._dismissed_disk, self._look = state, "", look
        if not self._told_save:  # which nobody has read yet; this comes behind it
            self._say_change(look)

    def _say_change(self, look: Body) -> None:
        young = bool(look["young"])
        what, why, reload = changed_words(self.session, look)
        more = " It may still be being written." if young else ""
        buttons = ((reload, self.reload),) if reload else ()
        self.banner.tell("warn", what, f"{why}{more}", buttons=buttons, primary=reload, icon="refresh")

    def _tell_standing(self) -> None:
        """What the banner says of the file itself, nothing where there is nothing to say."""
        self._told_save = False
        if self._told_disk:
            self._say_change(self._look)
            return
        if self._heard:
            self.banner.hide()
            return
        self._tell_problems(self.session.problems)
        if self.session.scan:
            self._tell_scan(self.session.scan)

    def _dismissed(self) -> None:
        if self._told_save:
            self._tell_standing()  # which was behind it
            return
        self._heard = not self._told_disk
        self._dismissed_disk, self._told_disk = self._told_disk, ""

    def reload(self) -> None:
        """Open the file again, with the recipe."""
        self.banner.hide()
        self.session.open()


def _splitter(orientation: Qt.Orientation) -> QSplitter:
    made = QSplitter(orientation)
    made.setChildrenCollapsible(False)
    made.setHandleWidth(1)
    return made
