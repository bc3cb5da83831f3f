"""Repair to fit: which file is made to fit what, in a tab of its own, and the commands that work there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QMimeData, QObject, QTimer, Signal
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QFileDialog, QWidget

from sdviewer.engine.client import NumbersPool
from sdviewer.gui import widgets
from sdviewer.gui.clipboard import clipboard_text, holds_load_error, text_in
from sdviewer.gui.dialogs import target_dialog
from sdviewer.gui.dialogs.forms import form_of
from sdviewer.gui.dialogs.step_dialog import StepDialog, run
from sdviewer.gui.files import OPEN_FILTER, log_for_tests
from sdviewer.gui.hand_pairs import HandPairs
from sdviewer.gui.jobs import Buffers
from sdviewer.gui.panels.compare.page import ComparePage
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.tabs import DocumentTabs
from sdviewer.gui.panels.workbench.page import WorkbenchPage
from sdviewer.gui.session import Session
from sdviewer.gui.settings import Settings
from sdviewer.gui.workbench import Target, WorkbenchSession

NOTHING_BUILT: Final[Buffers] = {}
WHAT_TO_COPY: Final = "Copy all that was printed, from Error(s) in loading state_dict on."


class Workbenches(QObject):
    """Works on the workbenches among the tabs of one window. `changed` tells that what is in front may look other."""

    changed = Signal()
    cursor_moved = Signal(str)
    recipe_made = Signal(object)
    menu_requested = Signal(object, object)  # page, place on the screen

    def __init__(self, window: QWidget, tabs: DocumentTabs, pool: NumbersPool, settings: Settings) -> None:
        super().__init__(window)
        self._window, self._tabs, self._pool, self._settings = window, tabs, pool, settings
        self._hand_pairs = HandPairs(window)
        self.open_paths: Any = lambda paths: None
        """Opens files in tabs of their own."""
        self.compare: Any = lambda a, b: None
        self.save: Any = lambda session: None
        self.editing: Any = None

    @property
    def page(self) -> WorkbenchPage | None:
        """The workbench in front."""
        page = self._front
        return page if isinstance(page, WorkbenchPage) else None

    @property
    def session(self) -> WorkbenchSession | None:
        """The session of the workbench in front."""
        page = self.page
        return page.session if page is not None else None

    @property
    def document(self) -> Session | None:
        """The document that the workbench in front repairs."""
        session = self.session
        return session.document if session is not None and session.document.state == "open" else None

    # Ways in

    def ask(self) -> None:
        """Ask what the file in front has to fit; of a comparison A has to fit B."""
        front = self._front
        if isinstance(front, ComparePage):
            self.repair(front.session.a, {"name": front.session.b})
        else:
            self.ask_with()

    def ask_with(self, target: bytes | str = b"") -> None:
        """The same, with a text or a file filled in that may be the target."""
        front = self._front
        if isinstance(front, WorkbenchPage):
            self._ask_target(front, target)
        elif isinstance(front, DocumentPage):
            self.ask_for(front.session.path, target)
        elif path := self._browse("Choose a checkpoint to repair"):
            self.ask_for(path, target)

    def ask_for(self, path: str, target: bytes | str = b"") -> None:
        """Ask what a file has to fit; a text or a file that may be it is filled in."""
        if chosen := self._ask(path, target):
            self.repair(path, chosen.target, chosen.built)

    def paste(self) -> None:
        """Make the file in front fit what the load error on the clipboard says."""
        said = clipboard_text()
        if holds_load_error(said):
            self.ask_with(said)
        else:
            self._tell_no_error("The clipboard holds no load error")

    def takes(self, data: QMimeData) -> bool:
        """Whether what is dragged may be a text that a file could be made to fit."""
        return data.hasText() and isinstance(self._front, DocumentPage | WorkbenchPage)

    def take(self, event: QDropEvent) -> None:
        """A text was dropped: the error of a load asks for what it says to be fitted."""
        if holds_load_error(said := text_in(event.mimeData())):
            event.acceptProposedAction()
            # Behind the drop: until it is answered, the program that the text comes from waits.
            QTimer.singleShot(0, self, lambda: self.ask_with(said))
        else:
            self._tell_no_error("The text that was dropped is no load error")

    def _tell_no_error(self, words: str) -> None:
        if isinstance(front := self._front, DocumentPage | WorkbenchPage):
            front.banner.tell("info", words, WHAT_TO_COPY)

    @property
    def _front(self) -> QWidget | None:
        return self._tabs.currentWidget() if self._tabs.count() else None

    def _ask(self, path: str, target: bytes | str) -> target_dialog.Chosen:
        """What a file has to fit, asked in a dialog."""
        known = [page.session.path for page in self._tabs.pages()]
        known += [recent.path for recent in self._settings.recents()]
        folder = str(self._settings.get("repair/imports"))
        chosen = target_dialog.ask(self._window, path, list(dict.fromkeys(known)), self._browse, folder, target)
        if chosen and "folder" in chosen.target:
            self._settings.set("repair/imports", chosen.target["folder"])
        return chosen

    def repair(self, path: str, target: Target, built: Buffers = NOTHING_BUILT) -> WorkbenchPage:
        """Make a file fit, in a tab of its own; a workbench of both that is open comes to the front."""
        for page in self._tabs.workbenches():
            if (page.session.path, page.session.target) == (path, target):
                self._tabs.setCurrentWidget(page)
                return page
        log_for_tests("repair", path)
        session = WorkbenchSession(self._document_of(path).session, target, self._pool)
        session.built = built
        page = WorkbenchPage(session)
        self._connect(page)
        widgets.polish(page)
        self._tabs.add_page(page, "repair")
        session.warm_up()
        page.built.connect(session.open)
        page.built.connect(lambda: self._hand_pairs.follow(page))
        QTimer.singleShot(1, page.build)
        self.changed.emit()
        return page

    def _document_of(self, path: str) -> DocumentPage:
        """The file's own tab, opened where there is none."""
        known = next((page for page in self._tabs.pages() if page.session.path == path), None)
        if known is None:
            self.open_paths([path])
            known = next(page for page in self._tabs.pages() if page.session.path == path)
        return known

    def _connect(self, page: WorkbenchPage) -> None:
        session = page.session
        for signal in (session.opened, session.open_failed, session.counts_changed, session.edited):
            signal.connect(self.changed)
        session.edited.connect(lambda: self._tabs.rename_workbench(page))
        session.opened.connect(lambda: self._tabs.rename_workbench(page))
        session.why_changed.connect(lambda why: self.changed.emit())
        session.saved.connect(lambda receipt: self._show_document(page))
        session.save_failed.connect(lambda failure: self._show_document(page))
        page.close_requested.connect(lambda: self._tabs.close_requested.emit(page))
        page.cursor_moved.connect(self.cursor_moved)
        page.menu_requested.connect(lambda place: self.menu_requested.emit(page, place))
        page.save_requested.connect(lambda: self.save(session.document))
        page.script_requested.connect(lambda: self.editing.export_script())
        page.undo_requested.connect(session.document.undo)
        page.pair_requested.connect(self.pair_by_hand)
        page.file_change_requested.connect(lambda: self._ask_file(page))
        page.target_change_requested.connect(lambda: self._ask_target(page))
        page.files.file_chosen.connect(lambda path: self.open_paths([path]))
        page.compare_requested.connect(lambda: self.compare(session.path, session.target["name"]))
        page.merge_requested.connect(lambda: self.repair(session.target["name"], {"name": session.path}))
        page.suggestion_edit_requested.connect(lambda at: self._edit_suggestion(page, at))
        page.step_edit_requested.connect(lambda at: self.editing.edit_step(at))
        page.recipe_made.connect(self.recipe_made)

    def _show_document(self, page: WorkbenchPage) -> None:
        """What became of a save is told in the file's own tab."""
        if page is self.page:
            self.open_paths([page.session.path])

    def close(self, page: WorkbenchPage) -> tuple[str, Target]:
        """Take a workbench out of the window; of which file, to fit what. The file's own tab keeps the recipe."""
        self._tabs.removeTab(self._tabs.indexOf(page))
        page.session.close()
        page.deleteLater()
        self.changed.emit()
        return page.session.path, page.session.target

    def document_closed(self, document: Session) -> None:
        """A file goes: so does what repaired it."""
        for page in self._tabs.workbenches():
            if page.session.document is document:
                self.close(page)

    def _browse(self, title: str = "Choose a checkpoint", names: str = OPEN_FILTER) -> str:
        folder = str(self._settings.get("files/last_folder"))
        path, _ = QFileDialog.getOpenFileName(self._window, title, folder, names)
        if path:
            self._settings.set("files/last_folder", str(Path(path).parent))
        return path

    def _ask_target(self, page: WorkbenchPage, target: bytes | str = b"") -> None:
        if chosen := self._ask(page.session.path, target):
            page.session.built = chosen.built
            page.session.fit_to(chosen.target)

    def _ask_file(self, page: WorkbenchPage) -> None:
        if path := self._browse():
            self.repair(path, page.session.target)

    # The workbench in front

    def next_problem(self) -> None:
        """Down to the next problem."""
        if (session := self.session) is not None:
            session.step(forwards=True)

    def previous_problem(self) -> None:
        """Up to the problem before."""
        if (session := self.session) is not None:
            session.step(forwards=False)

    def accept(self) -> None:
        """The suggestion that is previewed."""
        if (session := self.session) is not None:
            session.accept(session.chosen)

    def accept_safe(self) -> None:
        """All suggestions that are proved or likely and without a caution."""
        if (session := self.session) is not None:
            session.accept_safe()

    def show_strict(self) -> None:
        """What a strict load would say now."""
        if (page := self.page) is not None:
            page.pairs.show_tab("strict")

    def find_replace(self) -> None:
        """In the keys of the file, in the place of the table."""
        if (page := self.page) is not None:
            page.show_find()

    def rename(self) -> None:
        """Edit the selected key in place; of several rows the part that all have, in find and replace."""
        if (page := self.page) is not None:
            (page.show_find if len(page.session.selection) > 1 else page.pairs.edit_key)()

    def drop(self) -> None:
        """Leave the selected keys out."""
        if (session := self.session) is not None and session.can_drop:
            session.drop()

    def pair_by_hand(self) -> None:
        """Choose what the selected key is paired with."""
        session = self.session
        if session is None or not session.can_pair:
            return
        self._hand_pairs.choose(session)

    def _edit_suggestion(self, page: WorkbenchPage, at: int) -> None:
        """Change a suggestion before it goes into the recipe."""
        session = page.session
        if not 0 <= at < len(session.suggestions):
            return
        table = session.suggestions[at]["step"]
        if page.edit_in_find(table):
            return
        form = form_of(str(table["op"]))
        if form is None:
            session.accept(at)  # it has no fields
            return
        document = session.document
        step = run(StepDialog(self._window, document, form, table, -1))
        if step is not None:
            document.apply(step, str(session.info["a"]["state_dict"]))
