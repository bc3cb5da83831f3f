"""The main window: it assembles panels and wires them; what they do is theirs."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from pathlib import Path

from PySide6.QtCore import QByteArray, QEvent, QPoint, QSize, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QKeyEvent,
    QMouseEvent,
    QShowEvent,
)
from PySide6.QtWidgets import (
    QHBoxLayout,
    QMainWindow,
    QMenu,
    QMessageBox,
    QSizePolicy,
    QStackedWidget,
    QToolBar,
    QToolButton,
    QWidget,
)

import sdviewer
from sdviewer.core import text
from sdviewer.engine.client import DocumentWorker, NumbersPool
from sdviewer.gui import icons, resources, widgets
from sdviewer.gui.actions import ACTIONS, MENUS, SUBMENU_ICONS, SUBMENUS, State, sequences
from sdviewer.gui.clipboard_offer import ClipboardOffer
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.comparisons import Comparisons, comparison_words
from sdviewer.gui.dialogs.forms import FORMS
from sdviewer.gui.dialogs.palette import CommandPalette
from sdviewer.gui.dialogs.shortcuts import ShortcutsDialog
from sdviewer.gui.dragged import ROWS_MIME
from sdviewer.gui.editing import Editing, has_value
from sdviewer.gui.files import Files, log_for_tests
from sdviewer.gui.mnemonics import follow_alt, show_letters
from sdviewer.gui.models.tree_model import known_columns
from sdviewer.gui.panels.compare.page import ComparePage
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.drop_targets import DropTargets, offers
from sdviewer.gui.panels.recipe_panel import RecipePanel
from sdviewer.gui.panels.series.page import SeriesPage
from sdviewer.gui.panels.start_page import StartPage
from sdviewer.gui.panels.status_bar import StatusBar, document_words
from sdviewer.gui.panels.tabs import DocumentTabs
from sdviewer.gui.panels.workbench.page import WorkbenchPage
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.plots.library import library
from sdviewer.gui.recovery import Recovery
from sdviewer.gui.series_session import SeriesSession
from sdviewer.gui.series_tabs import SeriesTabs
from sdviewer.gui.session import Session
from sdviewer.gui.settings import Settings
from sdviewer.gui.smallest_size import SmallestSize
from sdviewer.gui.turns import shared_turns
from sdviewer.gui.widgets import Field
from sdviewer.gui.workbench import WorkbenchSession
from sdviewer.gui.workbenches import Workbenches

TREE_MENU = (
    *("copy", "copy_value", "copy_row", "copy_python", "copy_snippet", "export", ""),
    *("rename", "drop", "keep", "find", "step_strip", "step_prefix", "step_replace_prefix", ""),
    *("select_leaf", "select_shape", "select_family", "show_in_overview", "", "expand", "collapse"),
)
"""Commands of the tree's context menu; "" is a rule."""
COMPARE_MENU = (
    *("take", "", "pair_by_hand", "break_pair", ""),
    *("next_difference", "previous_difference", "hide_alike", "", "expand", "collapse"),
)
"""Those of the aligned trees of a comparison, behind copying."""
WORKBENCH_MENU = (
    *("rename", "pair_by_hand", "drop", ""),
    *("next_difference", "previous_difference", "", "expand", "collapse"),
)
"""Those of the table of a workbench."""
EXPORTS = ("convert", "export", "slim_copy", "clean_copy")
"""Those of the button at the top of a document."""
_TOOL_NAMES = {"repair": "Repair"}
"""What a button of the toolbar is called where its command has a longer name."""
SMALLEST = QSize(1024, 700)
USUAL = QSize(1440, 900)


class MainWindow(QMainWindow):
    """Menus, toolbar, tabs, status bar."""

    def __init__(self, settings: Settings, pool: NumbersPool, journals: Path | None = None) -> None:
        """`journals` is the folder where edits are kept that are not saved; None: nowhere."""
        super().__init__()
        self.settings = settings
        self._pool = pool
        self.recovery = Recovery(journals, self)
        self.files = Files(self, self, settings)
        self.editing = Editing(self, self.current_page, lambda: self.workbenches.document or self.comparisons.followed)
        self.actions_by_id: dict[str, QAction] = {}
        self._acts_of: State | None = None
        self.start = StartPage(settings)
        self.tabs = DocumentTabs()
        self.series = SeriesTabs(self, self.tabs, settings)
        self.comparisons = Comparisons(self, self.tabs, pool, settings)
        self.comparisons.open_paths = self.comparisons.taking.open_paths = self.open_paths
        self.comparisons.taking.save = self.files.ask_repaired
        self.workbenches = Workbenches(self, self.tabs, pool, settings)
        self.workbenches.open_paths, self.workbenches.compare = self.open_paths, self.compare
        self.workbenches.save, self.workbenches.editing = self.files.ask_repaired, self.editing
        self._offer = ClipboardOffer(self, self.workbenches.ask_for)
        self.editing.find_elsewhere = self.workbenches.find_replace
        self.status = StatusBar()
        self._survey_state = ""
        self._go_field = _GoField()
        self._stack = QStackedWidget()
        self._stack.addWidget(self.start)
        self._stack.addWidget(self.tabs)
        self._targets = DropTargets(self._stack)
        self.setCentralWidget(self._stack)
        self.setStatusBar(self.status)
        self.setWindowIcon(icons.icon("tensor", "accent"))
        self.setAcceptDrops(True)
        self._smallest = SmallestSize(self, SMALLEST)
        self.resize(USUAL)
        self._make_actions()
        self._make_menus()
        self._make_toolbar()
        self._connect()
        self._restore()
        self._show_front()

    # Assembling

    def _make_actions(self) -> None:
        for entry in ACTIONS:
            if not entry.method:
                continue
            action = QAction(entry.text, self)
            if entry.icon:
                action.setIcon(icons.icon(entry.icon))
            action.setShortcuts(sequences(entry))
            action.triggered.connect(lambda _=False, method=entry.method: attrgetter(method)(self)())
            self.actions_by_id[entry.id] = action
            self.addAction(action)

    def _make_menus(self) -> None:
        self._recent_menu = QMenu("Open &recent", self)
        self._recent_menu.setIcon(icons.icon("history"))
        self._recent_menu.aboutToShow.connect(self._fill_recent_menu)
        self._submenus = {title: QMenu(title, self) for title in SUBMENUS.values() if title}
        for group, title in SUBMENUS.items():
            if title:
                self._submenus[title].setIcon(icons.icon(SUBMENU_ICONS[group]))
        for title in MENUS:
            menu = self.menuBar().addMenu(title)
            # Once it is gone: then Alt has been let go long since.
            menu.aboutToHide.connect(lambda: QTimer.singleShot(0, lambda: show_letters(self, False)))
            for entry in ACTIONS:
                if entry.menu != title:
                    continue
                if entry.separator:
                    menu.addSeparator()
                if entry.id == "recent":
                    menu.addMenu(self._recent_menu)
                elif entry.submenu:
                    submenu = self._submenus[entry.submenu]
                    submenu.addAction(self.actions_by_id[entry.id])
                    menu.addMenu(submenu)
                else:
                    menu.addAction(self.actions_by_id[entry.id])

    def _make_toolbar(self) -> None:
        bar = QToolBar("Toolbar", self)
        bar.setObjectName("toolbar")
        bar.setMovable(False)
        bar.setFloatable(False)
        bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        bar.setIconSize(QSize(16, 16))
        # One widget with a layout of its own: a tool bar's layout lets nobody set margins and gaps.
        inside = QWidget()
        inside.setFixedHeight(45)
        row = QHBoxLayout(inside)
        row.setContentsMargins(14, 0, 18, 0)
        row.setSpacing(8)
        row.addWidget(self._tool_button("open", with_text=True))
        row.addSpacing(8)
        row.addWidget(self._tool_button("compare", with_text=True))
        row.addSpacing(8)
        row.addWidget(self._tool_button("repair", with_text=True))
        row.addSpacing(16)
        row.addWidget(self._tool_button("undo"))
        row.addWidget(self._tool_button("redo"))
        row.addStretch(1)
        row.addWidget(self._go_field)
        row.addSpacing(6)
        row.addWidget(self._tool_button("theme"))
        inside.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        bar.addWidget(inside)
        self.addToolBar(bar)

    def _tool_button(self, name: str, *, with_text: bool = False) -> QToolButton:
        made = QToolButton()
        made.setDefaultAction(self.actions_by_id[name])
        made.setIconSize(QSize(16, 16))
        made.setAccessibleName(_TOOL_NAMES.get(name) or self.actions_by_id[name].text().replace("&", "").rstrip("…"))
        if with_text:
            self.actions_by_id[name].setIconText(made.accessibleName())
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        return made

    def _connect(self) -> None:
        self.start.open_requested.connect(self.files.open_dialog)
        self.start.folder_requested.connect(self.files.open_folder_dialog)
        self.start.file_chosen.connect(lambda path: self.open_paths([path]))
        self.start.series_chosen.connect(self.series.open)
        self.start.compare_requested.connect(self.comparisons.ask_with)
        self.start.repair_requested.connect(self.workbenches.ask_for)
        self.start.two_requested.connect(self.comparisons.ask)
        self.start.fit_requested.connect(self.workbenches.ask)
        self.start.shortcuts_requested.connect(self.show_shortcuts)
        self.recovery.left_behind.connect(self.start.show_unsaved)
        self.tabs.open_requested.connect(self.files.open_dialog)
        self.tabs.close_requested.connect(self._close_page)
        self.tabs.compare_requested.connect(self.comparisons.ask_with)
        self.comparisons.changed.connect(self._comparison_changed)
        self.comparisons.cursor_moved.connect(self.status.show_cursor)
        self.comparisons.job_changed.connect(self._show_comparison_job)
        self.comparisons.menu_requested.connect(self._show_compare_menu)
        self.tabs.repair_requested.connect(self.workbenches.ask_for)
        self.workbenches.changed.connect(self._workbench_changed)
        self.workbenches.cursor_moved.connect(self.status.show_cursor)
        self.workbenches.menu_requested.connect(self._show_workbench_menu)
        self.workbenches.recipe_made.connect(self._fill_recipe_menus)
        self.series.changed.connect(self._series_changed)
        self.series.cursor_moved.connect(self.status.show_cursor)
        self.series.job_changed.connect(self._show_series_job)
        self.series.files_chosen.connect(self.open_paths)
        self.series.compare_requested.connect(self.compare)
        self.tabs.currentChanged.connect(self._show_front)
        self.status.cancel_requested.connect(self._cancel_job)
        self.status.security_requested.connect(self.show_security)
        self.status.offer_taken.connect(self.measure_all)
        self._go_field.pressed.connect(self.go_to)
        resources.theme().changed.connect(self._theme_changed)

    def _connect_page(self, page: DocumentPage) -> None:
        session = page.session
        session.opened.connect(lambda: self._opened(page))
        session.open_failed.connect(self._show_front)
        session.selection_changed.connect(lambda nodes: self._refresh_actions())
        session.facts_changed.connect(lambda facts: self._refresh_actions())
        session.recipe_changed.connect(lambda: self._recipe_changed(page))
        session.saved.connect(lambda receipt: self._show_front())
        session.job_changed.connect(lambda words, fraction: self._show_job(page, words, fraction))
        page.close_requested.connect(lambda: self.files.close_session(session))
        session.scanned.connect(lambda scan: self._refresh_actions())
        session.contents_changed.connect(lambda: self._contents_changed(page))
        session.survey_changed.connect(lambda: self._show_survey(page))
        page.bar.compare_requested.connect(lambda: self.comparisons.ask_with(session.path))
        page.bar.repair_requested.connect(lambda: self.workbenches.ask_for(session.path))
        page.bar.offer_exports([self.actions_by_id[name] for name in EXPORTS])
        page.save_requested.connect(lambda: self.files.ask_and_save(session))
        page.step_edit_requested.connect(self.editing.edit_step)
        page.recipe_made.connect(self._fill_recipe_menus)
        page.slim_copy_requested.connect(lambda: self.files.ask_and_save(session, "slim"))
        page.remembered.connect(self.settings.set)
        page.clean_copy_requested.connect(lambda: self.files.ask_and_save(session, "clean"))
        page.elsewhere_requested.connect(lambda: self.files.ask_and_save(session, again=True))
        page.file_chosen.connect(lambda path: self.open_paths([path]))
        page.compare_requested.connect(self.compare)
        page.series_requested.connect(lambda: self._open_as_series(page))
        page.run_requested.connect(self.series.open)
        page.tree_shown.connect(self._show_front)
        page.tree_painted.connect(lambda: log_for_tests("painted", session.path))
        page.tree_painted.connect(library().load)
        page.cursor_moved.connect(self.status.show_cursor)
        page.view_chosen.connect(lambda view: self.settings.set("view/plot", view))
        page.scale_chosen.connect(lambda scale: self.settings.set("plots/histogram_scale", scale))
        page.menu_requested.connect(self._show_tree_menu)
        page.export_requested.connect(self.files.export)
        page.columns_chosen.connect(lambda columns: self.settings.set("tree/columns", ",".join(columns)))

    # Documents

    def open_paths(self, paths: list[str], started: DocumentWorker | None = None) -> None:
        """Open files, one tab each; a file that is open already comes to the front.

        `started`: a worker of one of the paths whose process was started before there was a window.
        """
        for path in paths:
            known = next((page for page in self.tabs.pages() if page.session.path == path), None)
            if known is not None:
                self.tabs.setCurrentWidget(known)
                continue
            log_for_tests("open", path)
            session = Session(path, self._pool, started if started is not None and started.path == path else None)
            session.columns = known_columns(str(self.settings.get("tree/columns")))
            page = DocumentPage(
                session,
                str(self.settings.get("view/plot")),
                str(self.settings.get("plots/histogram_scale")),
                (
                    str(self.settings.get("view/front")),
                    str(self.settings.get("overview/colour")),
                    str(self.settings.get("overview/measure")),
                ),
            )
            self._connect_page(page)
            self.recovery.watch(page)
            widgets.polish(page)
            self.tabs.add_page(page)
            # The worker opens the file while the page is made, which shows the answer when it is there.
            session.jobs.hold()
            session.open()
            page.built.connect(session.jobs.release)
            shared_turns().later(page.build, first=True)
        self._show_front()

    def _open_as_series(self, page: DocumentPage) -> None:
        """A folder that is no checkpoint itself, as the series that is in it."""
        path = page.session.path
        self.remove_tab(page.session)
        self.series.open([path])

    def current_page(self) -> DocumentPage | None:
        """The document in front."""
        page = self.tabs.currentWidget() if self.tabs.count() else None
        return page if isinstance(page, DocumentPage) else None

    def current_session(self) -> Session | None:
        """The session of the document in front, or of the one that is repaired there."""
        page = self.current_page()
        return page.session if page is not None else self.workbenches.document

    def reload_current(self) -> None:
        """Read the file in front again."""
        page = self.current_page() or self.comparisons.page or self.workbenches.page or self.series.page
        if page is not None:
            page.reload()

    def remove_tab(self, session: Session) -> None:
        """Take a document out of the window."""
        for page in self.tabs.pages():
            if page.session is session:
                self.workbenches.document_closed(session)
                self.tabs.removeTab(self.tabs.indexOf(page))
                self.recovery.forget(session)
                session.close()
                page.deleteLater()
        self._show_front()

    def _close_page(self, page: DocumentPage | ComparePage | SeriesPage | WorkbenchPage) -> None:
        if isinstance(page, ComparePage):
            self.files.closed(partial(self.compare, *self.comparisons.close(page)))
        elif isinstance(page, SeriesPage):
            self.files.closed(partial(self.series.open, self.series.close(page)))
        elif isinstance(page, WorkbenchPage):
            self.files.closed(partial(self.workbenches.repair, *self.workbenches.close(page)))
        else:
            self.files.close_session(page.session)

    def close_tab(self) -> None:
        """The tab in front."""
        page = self.tabs.currentWidget()
        if isinstance(page, DocumentPage | ComparePage | SeriesPage | WorkbenchPage):
            self._close_page(page)

    def take(
        self, paths: list[str], started: DocumentWorker | None = None, *, compare: bool = False, series: bool = False
    ) -> None:
        """What somebody asked for on the command line; `started` is as `open_paths` has it.

        A folder that is no checkpoint itself and has several in it is a series.
        """
        if series:
            self.series.open(paths)
        elif compare and len(paths) == 2:
            self.compare(*paths)
        else:
            self.open_paths(paths, started)
            for page in self.tabs.pages():
                if page.session.path in paths:
                    page.session.open_failed.connect(partial(self._turn_into_series, page))

    def _turn_into_series(self, page: DocumentPage) -> None:
        if page.session.failure.get("code") == "several_checkpoints":
            QTimer.singleShot(0, page, lambda: self._open_as_series(page))

    def compare(self, a: str, b: str) -> None:
        """Two files beside each other."""
        self.comparisons.compare(a, b)

    def _opened(self, page: DocumentPage) -> None:
        session = page.session
        info = session.info
        self.settings.add_recent(session.path, int(info["tensors"]), int(info["parameters"]), int(info["size"]))
        self._show_front()
        QTimer.singleShot(0, self, self._look_at_clipboard)

    def _look_at_clipboard(self) -> None:
        """Offer to make the file in front fit, where the clipboard says what it does not."""
        page = self.current_page()
        repaired = page is not None and any(one.session.document is page.session for one in self.tabs.workbenches())
        self._offer.look(page, repaired=repaired)

    def _recipe_changed(self, page: DocumentPage) -> None:
        self.tabs.mark(page, page.session.modified)
        self._show_front()

    def _contents_changed(self, page: DocumentPage) -> None:
        if page is self.current_page():
            self._show_front()

    def _show_front(self) -> None:
        """Title, status and commands of the document in front; the start page where there is none."""
        page = self.current_page()
        comparison = self.comparisons.session
        self._stack.setCurrentWidget(self.tabs if self.tabs.count() else self.start)
        if comparison is not None:
            self._show_comparison(comparison)
        elif (workbench := self.workbenches.session) is not None:
            self._show_workbench(workbench)
        elif (series := self.series.page) is not None:
            self._show_series(series)
        elif page is None:
            self.setWindowTitle("sdviewer")
            self.setWindowModified(False)
            self.status.hide()
        else:
            session = page.session
            self.setWindowTitle(f"{session.name}[*] — sdviewer")
            self.setWindowModified(session.modified)
            opened = session.state == "open"
            words = document_words(session.info, session.edit, session.notes) if opened else ""
            self.status.show_document(words, opened)
            self.status.show_job(*session.job[1:])
            self.status.show_offer(*session.survey.known.offer())
            self.status.show()
        self._refresh_actions()

    def _show_comparison(self, session: ComparisonSession) -> None:
        self.setWindowTitle(f"{session.name} — sdviewer")
        self.setWindowModified(False)
        opened = session.state == "open"
        self.status.show_document(comparison_words(session) if opened else "", opened)
        self.status.show_job(*session.job)
        self.status.show_offer(*session.watch.known.offer())
        self.status.show()

    def _show_workbench(self, session: WorkbenchSession) -> None:
        """It has a foot of its own in the place of the status bar."""
        self.setWindowTitle(f"Repair {session.name}[*] — sdviewer")
        self.setWindowModified(session.modified)
        self.status.hide()

    def _workbench_changed(self) -> None:
        if self.workbenches.page is not None or not self.tabs.count():
            self._show_front()

    def _comparison_changed(self) -> None:
        if self.comparisons.page is not None or not self.tabs.count():
            self._show_front()

    def _show_comparison_job(self, session: ComparisonSession, words: str, fraction: float) -> None:
        if session is self.comparisons.session:
            self.status.show_job(words, fraction)

    def _show_series(self, page: SeriesPage) -> None:
        self.setWindowTitle(f"{page.session.name} — sdviewer")
        self.setWindowModified(False)
        self.status.show_document(page.status_words(), False)
        self.status.show_job(*page.session.job)
        self.status.show_offer("", "")
        self.status.show()

    def _series_changed(self) -> None:
        if self.series.page is not None or not self.tabs.count():
            self._show_front()

    def _show_series_job(self, session: SeriesSession, words: str, fraction: float) -> None:
        if session is self.series.session:
            self.status.show_job(words, fraction)

    def _show_survey(self, page: DocumentPage) -> None:
        if page is self.current_page():
            known = page.session.survey.known
            self.status.show_offer(*known.offer())
            if known.state != self._survey_state:
                self._survey_state = known.state
                self._refresh_actions()

    def _show_job(self, page: DocumentPage, words: str, fraction: float) -> None:
        if page is self.current_page():
            self.status.show_job(words, fraction)

    def _front(self) -> Session | ComparisonSession | None:
        """What is in front, a document (that of a workbench too) or a comparison."""
        return self.current_session() or self.comparisons.session

    def _cancel_job(self) -> None:
        front = self._front() or self.series.session
        if front is not None:
            front.cancel_job()

    # Commands

    def _refresh_actions(self) -> None:
        page = self.current_page()
        session = page.session if page is not None else None
        comparison, followed = self.comparisons.session, self.comparisons.followed
        state = State(
            tabs=self.tabs.count(),
            comparison=comparison is not None and comparison.state == "open",
            series=(series := self.series.session) is not None and series.state == "open",
            pair=comparison is not None and comparison.has_pair,
            paired_tensor=comparison is not None and comparison.can_pair,
            takeable=comparison is not None and comparison.can_take,
            undo=followed.history.undo_label if followed is not None else "",
            redo=followed.history.redo_label if followed is not None else "",
            not_measurable=comparison.watch.not_measurable if comparison is not None else "",
        )
        workbench, repaired = self.workbenches.session, self.workbenches.document
        if workbench is not None and repaired is not None and workbench.state == "open":
            state = State(
                workbench=True,
                paired_tensor=workbench.can_pair,
                droppable_key=workbench.can_drop,
                editable_key=workbench.can_edit,
                undo=repaired.history.undo_label,
                redo=repaired.history.redo_label,
                steps=any(step.enabled for step in repaired.recipe.steps),
                recipe=not repaired.recipe.is_empty,
                fails=repaired.failed_step is not None,
                tabs=self.tabs.count(),
            )
        if page is not None and session is not None and session.state == "open":
            # What is selected and not seen is not edited.
            hidden = "" if page.shows_tree else "Show the tensors first (Ctrl+1)."
            state = State(
                document=True,
                tree=page.shows_tree,
                selected=bool(session.selection) and page.shows_tree,
                value=has_value(session),
                not_editable=hidden or ("" if session.facts.get("plain") else session.editable),
                not_droppable=hidden or ("" if session.facts.get("leaves") else session.editable),
                undo=session.history.undo_label,
                redo=session.history.redo_label,
                steps=any(step.enabled for step in session.recipe.steps),
                recipe=not session.recipe.is_empty,
                fails=session.failed_step is not None,
                not_clean=session.not_clean,
                not_checkable=session.contents.not_checkable,
                not_measurable=session.survey.not_measurable,
                tabs=self.tabs.count(),
            )
        # A new tab comes to the front in four steps, and a hundred actions take 3 ms.
        if state == self._acts_of:
            return
        self._acts_of = state
        for entry in ACTIONS:
            action = self.actions_by_id.get(entry.id)
            if action is None:
                continue
            reason = entry.condition(state)
            action.setEnabled(not reason)
            words = entry.text.replace("&", "").rstrip("…")
            if entry.id in ("undo", "redo") and (label := getattr(state, entry.id)):
                words = f"{words} {text.visible(label, 80)}"
                action.setText(f"{entry.text} {text.visible(label, 80).replace('&', '&&')}")
            elif entry.id in ("undo", "redo"):
                action.setText(entry.text)
            keys = ", ".join(key.toString(key.SequenceFormat.NativeText) for key in action.shortcuts()[:1])
            tip = f"{words} ({keys})" if keys else words
            action.setToolTip(plain_tip(f"{tip}\n{reason or entry.tip}".strip()))

    def go_to(self) -> None:
        """The palette of tensors and commands."""
        page, comparison = self.current_page(), self.comparisons.session
        session = page.session if page is not None and page.session.state == "open" else None
        compared: ComparisonSession | WorkbenchSession | None = comparison or self.workbenches.session
        compared = compared if compared is not None and compared.state == "open" else None
        commands = [(self.actions_by_id[e.id], e.icon) for e in ACTIONS if e.id in self.actions_by_id and e.id != "go"]
        palette = CommandPalette(self, session or compared, commands)
        if compared is not None:
            palette.node_chosen.connect(compared.reveal)
        if page is not None and session is not None:
            palette.node_chosen.connect(page.show_tree)
            palette.node_chosen.connect(session.reveal)
        place = self._go_field.mapToGlobal(self._go_field.rect().topRight())
        palette.move(place.x() - palette.width(), place.y())
        palette.exec()
        palette.deleteLater()

    def next_difference(self) -> None:
        """Down to the next row that differs, or is a problem."""
        (self.workbenches.next_problem if self.workbenches.page else self.comparisons.next_difference)()

    def previous_difference(self) -> None:
        """Up to the row before."""
        (self.workbenches.previous_problem if self.workbenches.page else self.comparisons.previous_difference)()

    def rename(self) -> None:
        """Edit what is selected in place."""
        (self.workbenches if self.workbenches.page else self.editing).rename()

    def drop(self) -> None:
        """Leave what is selected out of the saved copy."""
        (self.workbenches if self.workbenches.page else self.editing).drop()

    def pair_by_hand(self) -> None:
        """Choose what the selected row is paired with."""
        (self.workbenches if self.workbenches.page else self.comparisons).pair_by_hand()

    def focus_filter(self) -> None:
        """The field above the tree."""
        page, comparison = self.current_page(), self.comparisons.page or self.workbenches.page
        field = page.tree.filter if page is not None else comparison.pairs.filter if comparison is not None else None
        if field is not None:
            field.setFocus(Qt.FocusReason.ShortcutFocusReason)
            field.selectAll()

    def measure_all(self) -> None:
        """The statistics of every tensor of the file in front."""
        if session := self.current_session():
            session.survey.measure()
        elif comparison := self.comparisons.session:
            comparison.measure()

    def choose_columns(self) -> None:
        """Which columns the tree has."""
        page = self.current_page()
        if page is not None:
            page.tree.show_column_menu()

    def expand_all(self) -> None:
        """All rows of the tree."""
        if front := self.workbenches.session or self._front():
            front.expand_all()

    def collapse_all(self) -> None:
        """Only the top rows."""
        if front := self.workbenches.session or self._front():
            front.collapse_all()

    def show_overview(self) -> None:
        """The file as a whole."""
        self._show_view("overview")

    def show_in_overview(self) -> None:
        """The file as a whole, with the place of the selection marked."""
        page = self.current_page()
        if page is not None and page.session.state == "open":
            page.show_in_overview()

    def show_details(self) -> None:
        """The selection, beside the tree."""
        self._show_view("details")

    def show_security(self) -> None:
        """What loading the file would run."""
        self._show_view("security")

    def show_structure(self) -> None:
        """All that is in the file, as it stands there."""
        self._show_view("structure")

    def show_metadata(self) -> None:
        """What the file says of itself."""
        self._show_view("metadata")

    def show_problems(self) -> None:
        """What is odd or damaged."""
        self._show_view("problems")

    def _show_view(self, name: str) -> None:
        page = self.current_page()
        if page is not None and page.session.state == "open":
            page.show_view(name)

    def next_tab(self) -> None:
        """To the right, and round."""
        self.tabs.setCurrentIndex((self.tabs.currentIndex() + 1) % max(self.tabs.count(), 1))

    def previous_tab(self) -> None:
        """To the left, and round."""
        self.tabs.setCurrentIndex((self.tabs.currentIndex() - 1) % max(self.tabs.count(), 1))

    def next_pane(self) -> None:
        """From the tree to the details and back."""
        page = self.current_page()
        if page is None:
            if (other := self.comparisons.page or self.workbenches.page) is not None:
                other.next_pane()
            return
        if page.tree.view.hasFocus():
            page.detail.tensor_page.views.segments.setFocus()
            page.detail.focusNextChild()
        else:
            page.tree.view.setFocus()

    def toggle_theme(self) -> None:
        """From light to dark and back."""
        choice: resources.ThemeChoice = "light" if resources.theme().name == "dark" else "dark"
        self.settings.set("appearance/theme", choice)
        resources.theme().turn(choice)

    def follow_system_theme(self) -> None:
        """Light or dark as the desktop says."""
        self.settings.set("appearance/theme", "system")
        resources.theme().turn("system")

    def toggle_full_screen(self) -> None:
        """Whole screen and back."""
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def show_shortcuts(self) -> None:
        """All commands with their keys."""
        dialog = ShortcutsDialog(self)
        dialog.exec()
        dialog.deleteLater()

    def show_about(self) -> None:
        """What this is."""
        box = QMessageBox(self)
        box.setWindowTitle("About sdviewer")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setIconPixmap(icons.pixmap("tensor", 40, "accent", self.devicePixelRatioF()))
        box.setText(f"sdviewer {sdviewer.__version__}")
        box.setInformativeText(
            "Opens PyTorch checkpoints without running anything in them. It uses no network. MIT licence."
        )
        box.exec()
        box.deleteLater()

    def _fill_recent_menu(self) -> None:
        self._recent_menu.clear()
        for recent in self.settings.recents():
            name = text.visible(recent.path, 120).replace("&", "&&")
            if recent.series:
                words = f"{name} (series of {text.plural(recent.tensors, 'file')})"
                self._recent_menu.addAction(words, partial(self.series.open, list(recent.series)))
            else:
                self._recent_menu.addAction(name, partial(self.open_paths, [recent.path]))
        self._recent_menu.addSeparator()
        self._recent_menu.addAction("Clear list", self.settings.clear_recents)

    def _show_tree_menu(self, position: QPoint) -> None:
        menu = QMenu(self)
        for name in TREE_MENU:
            if name:
                menu.addAction(self.actions_by_id[name])
            else:
                menu.addSeparator()
        menu.exec(position)

    def _show_compare_menu(self, page: ComparePage, position: QPoint) -> None:
        menu = QMenu(self)
        facts = page.session.facts
        for side in ("a", "b"):
            if facts.get(f"key_{side}"):
                menu.addAction(f"Copy key in {side.upper()}", partial(page.copy_key, side))
        for name in ("", *COMPARE_MENU):
            if name:
                menu.addAction(self.actions_by_id[name])
            else:
                menu.addSeparator()
        menu.exec(position)
        menu.deleteLater()

    def _show_workbench_menu(self, page: WorkbenchPage, position: QPoint) -> None:
        menu = QMenu(self)
        why = page.session.why
        for words, name in (("source key", "key_a"), ("key after the recipe", "now"), ("target key", "key_b")):
            if key := str(why.get(name) or ""):
                menu.addAction(f"Copy {words}", partial(widgets.copy_text, key))
        for name in ("", *WORKBENCH_MENU):
            if name:
                menu.addAction(self.actions_by_id[name])
            else:
                menu.addSeparator()
        menu.exec(position)
        menu.deleteLater()

    def _fill_recipe_menus(self, panel: RecipePanel) -> None:
        named = ("undo", "redo", "open_recipe", "save_recipe", "export_script", "edit_recipe", "save_as")
        steps = [self.actions_by_id[f"step_{form.op}"] for form in FORMS if not SUBMENUS[form.group]]
        steps += [menu.menuAction() for menu in self._submenus.values()]
        panel.offer(steps, [self.actions_by_id[name] for name in named])

    # The window itself

    def _theme_changed(self) -> None:
        icons.forget()
        self.actions_by_id["theme"].setIcon(icons.icon("sun" if resources.theme().name == "dark" else "moon"))

    def _restore(self) -> None:
        self._theme_changed()
        geometry = self.settings.state("geometry")
        if not geometry.isEmpty():
            self.restoreGeometry(geometry)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        super().keyPressEvent(event)
        follow_alt(self, event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        super().keyReleaseEvent(event)
        follow_alt(self, event)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._smallest.follow()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange:
            show_letters(self, False)
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow() and (front := self._front()):
            front.disk.look()
            QTimer.singleShot(0, self, self._look_at_clipboard)  # once it is painted

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasFormat(ROWS_MIME):
            return  # one of our own tensors: to ask for its file would write it
        if paths := _local_files(event.mimeData().urls()):
            event.acceptProposedAction()
            self.start.set_over(True)
            page = self.current_page() or self.workbenches.page
            if len(paths) == 1 and not paths[0].endswith(".toml") and page is not None:
                self._targets.begin(offers(page.session.name, repaired=page is self.workbenches.page))
        elif self.workbenches.takes(event.mimeData()):
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        self._targets.point(self._stack.mapFrom(self, event.position().toPoint()))

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.start.set_over(False)
        self._targets.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self.start.set_over(False)
        meant = self._targets.meant(self._stack.mapFrom(self, event.position().toPoint()))
        self._targets.hide()
        paths = _local_files(event.mimeData().urls())
        if not paths:
            self.workbenches.take(event)
            return
        event.acceptProposedAction()
        recipes = [path for path in paths if path.endswith(".toml")]
        checkpoints = [path for path in paths if path not in recipes]
        onto = self.current_session()
        if onto is not None and meant == "compare" and len(checkpoints) == 1:
            self.compare(onto.path, checkpoints[0])
        elif meant == "fit" and len(checkpoints) == 1:
            QTimer.singleShot(0, self, lambda: self.workbenches.ask_with(checkpoints[0]))  # as below
        elif len(checkpoints) > 2:
            # Behind the drop: until it is answered, the program that the files come from waits.
            place = self.mapToGlobal(event.position().toPoint())
            QTimer.singleShot(0, self, lambda: self.series.offer(checkpoints, place))
        elif len(checkpoints) == 2:
            self.compare(*checkpoints)
        else:
            self.open_paths(checkpoints)
        for path in recipes[:1]:
            self.editing.take_recipe(path)

    def closeEvent(self, event: QCloseEvent) -> None:
        for page in self.tabs.pages():
            if page.session.modified or page.session.saving.running:
                self.tabs.setCurrentWidget(page)
                if not self.files.close_session(page.session):
                    event.ignore()
                    return
        self.settings.set_state("geometry", QByteArray(self.saveGeometry()))
        for workbench in self.tabs.workbenches():
            self.workbenches.close(workbench)
        for page in self.tabs.pages():
            self.remove_tab(page.session)
        for comparison in self.tabs.comparisons():
            self.comparisons.close(comparison)
        for series in self.tabs.series():
            self.series.close(series)
        event.accept()


class _GoField(Field):
    """Looks like a field, opens the palette."""

    pressed = Signal()

    def __init__(self) -> None:
        super().__init__("Go to tensor or command", "search", "Ctrl+K")
        self.setReadOnly(True)
        self.setFixedWidth(330)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.pressed.emit()


def _local_files(urls: list[QUrl]) -> list[str]:
    """Paths of what was dropped; a folder's comes with a slash behind it, and would be another file than without."""
    paths = [url.toLocalFile() for url in urls if url.isLocalFile()]
    return [path.rstrip("/") or path for path in paths if path]
