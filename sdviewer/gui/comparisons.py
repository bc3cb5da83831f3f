"""The commands of the Compare menu: which files are compared, and stepping through what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from sdviewer.core import text
from sdviewer.engine.client import NumbersPool
from sdviewer.gui import widgets
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.dialogs import compare_dialog
from sdviewer.gui.dialogs.partner_dialog import PartnerDialog
from sdviewer.gui.files import OPEN_FILTER, log_for_tests
from sdviewer.gui.panels.compare.page import ComparePage
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.tabs import DocumentTabs
from sdviewer.gui.plots.library import library
from sdviewer.gui.session import WARM_FROM, Session
from sdviewer.gui.settings import Settings
from sdviewer.gui.small_files import choose_place, write_file
from sdviewer.gui.taking import Taking

FORMS: Final = {".csv": "csv", ".json": "json", ".html": "html", ".htm": "html", ".md": "markdown", ".txt": "lines"}
"""The form of a report by the suffix of its file."""
REPORT_FILTER: Final = (
    "Table of all pairs (*.csv);;JSON (*.json);;Page for a browser (*.html);;Markdown (*.md);;Text (*.txt)"
)


class Comparisons(QObject):
    """Works on the comparisons among the tabs of one window. `changed` tells that what is in front may look other."""

    changed = Signal()
    cursor_moved = Signal(str)
    job_changed = Signal(object, str, float)  # whose session, words, fraction
    menu_requested = Signal(object, object)  # page, place on the screen

    def __init__(self, window: QWidget, tabs: DocumentTabs, pool: NumbersPool, settings: Settings) -> None:
        super().__init__(window)
        self._window, self._tabs, self._pool, self._settings = window, tabs, pool, settings
        self.taking = Taking(window, tabs)
        self.open_paths: Any = lambda paths: None
        """Opens files in tabs of their own."""

    # What is compared

    @property
    def page(self) -> ComparePage | None:
        """The comparison in front."""
        page = self._tabs.currentWidget() if self._tabs.count() else None
        return page if isinstance(page, ComparePage) else None

    @property
    def session(self) -> ComparisonSession | None:
        """The session of the comparison in front."""
        page = self.page
        return page.session if page is not None else None

    def compare(self, a: str, b: str, recipe: str = "") -> ComparePage:
        """Compare two files in a tab of their own; a comparison that is open comes to the front."""
        for page in self._tabs.comparisons():
            session = page.session
            if (session.a, session.b, session.recipe) == (a, b, recipe):
                self._tabs.setCurrentWidget(page)
                return page
        log_for_tests("compare", f"{a} {b}")
        session = ComparisonSession(a, b, self._pool, recipe)
        page = ComparePage(session)
        self._connect(page)
        widgets.polish(page)
        self._tabs.add_page(page, "compare")
        session.warm_up()
        page.first_painted.connect(library().load)
        page.built.connect(session.open)
        page.build()
        self.changed.emit()
        return page

    def _connect(self, page: ComparePage) -> None:
        session = page.session
        for signal in (session.opened, session.open_failed, session.survey_changed, session.numbers_changed):
            signal.connect(self.changed)
        session.opened.connect(lambda: self._opened(page))
        session.selection_changed.connect(lambda node: self.changed.emit())
        session.facts_changed.connect(lambda facts: self.changed.emit())
        session.job_changed.connect(lambda words, fraction: self.job_changed.emit(session, words, fraction))
        page.close_requested.connect(lambda: self._tabs.close_requested.emit(page))
        page.cursor_moved.connect(self.cursor_moved)
        page.menu_requested.connect(lambda place: self.menu_requested.emit(page, place))
        page.file_chosen.connect(lambda path: self.open_paths([path]))
        page.other_requested.connect(lambda side: self._ask_other(page, side))

    def _opened(self, page: ComparePage) -> None:
        self._tabs.rename(page)
        for side in ("b", "a"):
            card = page.session.info[side]
            numbers = (int(card["tensors"]), int(card["parameters"]), int(card["size"]))
            self._settings.add_recent(str(card["path"]), *numbers)
            if numbers[1] >= WARM_FROM:
                self._pool.warm_up()

    def close(self, page: ComparePage) -> tuple[str, str]:
        """Take a comparison out of the window; the files that it was of."""
        self._tabs.removeTab(self._tabs.indexOf(page))
        page.session.close()
        page.deleteLater()
        self.changed.emit()
        return page.session.a, page.session.b

    def ask(self) -> None:
        """Ask which files are compared: that in front and another one."""
        front = self._tabs.currentWidget() if self._tabs.count() else None
        paths = [page.session.path for page in self._tabs.pages()]
        if isinstance(front, ComparePage):
            a, b = front.session.a, front.session.b
        else:
            a = front.session.path if isinstance(front, DocumentPage) else ""
            b = next((path for path in paths if path != a), "")
        self.ask_with(a, b)

    def ask_with(self, a: str, b: str = "") -> None:
        """Ask what a file is compared with."""
        known = [page.session.path for page in self._tabs.pages()]
        known += [recent.path for recent in self._settings.recents() if not recent.series]
        recipes = {page.session.path: page.session.recipe for page in self._tabs.pages()}
        steps = {path: sum(step.enabled for step in recipe.steps) for path, recipe in recipes.items()}
        chosen = compare_dialog.ask(self._window, known, a, b, self._browse, steps)
        if chosen is not None:
            a, b, carries_out = chosen
            self.compare(a, b, recipes[a].to_text() if carries_out else "")

    def _browse(self) -> str:
        folder = str(self._settings.get("files/last_folder"))
        path, _ = QFileDialog.getOpenFileName(self._window, "Choose a checkpoint", folder, OPEN_FILTER)
        if path:
            self._settings.set("files/last_folder", str(Path(path).parent))
        return path

    def _ask_other(self, page: ComparePage, side: str) -> None:
        path = self._browse()
        if path:
            a, b = page.session.a, page.session.b
            self.compare(*((path, b) if side == "a" else (a, path)))

    # The comparison in front

    def swap(self) -> None:
        """A is B and B is A."""
        if (session := self.session) is not None:
            session.swap()

    def next_difference(self) -> None:
        """Down to the next row that differs."""
        if (session := self.session) is not None:
            session.step(forwards=True)

    def previous_difference(self) -> None:
        """Up to the row before that differs."""
        if (session := self.session) is not None:
            session.step(forwards=False)

    def hide_alike(self) -> None:
        """Only what differs, or all again."""
        if (page := self.page) is not None:
            page.pairs.hide_alike(not page.pairs.hides_alike)

    def file_order(self) -> None:
        """As the tensors stand in A."""
        if (page := self.page) is not None:
            page.pairs.sort("natural", False)

    def take(self) -> None:
        """Take what is selected from B into the recipe of A."""
        if (page := self.page) is not None and page.session.can_take:
            self.taking.take(page, {"row": page.session.selected})

    def take_all(self) -> None:
        """Take all that differs."""
        if (page := self.page) is not None:
            self.taking.take(page, {"all": True})

    @property
    def followed(self) -> Session | None:
        """The document whose recipe the comparison in front shows."""
        return self.taking.followed(self.session)

    def export_report(self) -> None:
        """Write what was found into a file, in the form of its suffix."""
        session = self.session
        if session is None:
            return
        a, b = session.names
        proposed = Path(session.a).with_name(f"{a}_{b}.csv".replace("/", "_"))
        path = choose_place(self._window, "Export the comparison", proposed, REPORT_FILTER)
        if path:
            form = FORMS.get(Path(path).suffix.lower(), "lines")
            session.report(form, lambda made: write_file(session, path, made))

    def copy_summary(self) -> None:
        """A few lines, for a commit message."""
        self._copy("lines")

    def copy_markdown(self) -> None:
        """The same as Markdown."""
        self._copy("markdown")

    def _copy(self, form: str) -> None:
        if (session := self.session) is not None:
            session.report(form, lambda made: widgets.copy_text(made.decode()))

    def pair_by_hand(self) -> None:
        """Choose what the selected tensor is paired with."""
        session = self.session
        if session is None or not session.can_pair:
            return
        row, (a, b) = session.selected, session.facts["tensors"]
        in_a = int(a) >= 0
        dialog = PartnerDialog(self._window, session, row, "B" if in_a else "A")

        def choose(partner: int) -> None:
            chosen = (int(a), partner) if in_a else (partner, int(b))
            matching = session.matching
            hand = tuple(pair for pair in matching.hand if pair[0] != chosen[0] and pair[1] != chosen[1])
            broken = tuple(pair for pair in matching.broken if pair != chosen)
            session.match(replace(matching, hand=(*hand, chosen), broken=broken))

        dialog.partner_chosen.connect(choose)
        dialog.exec()
        dialog.deleteLater()

    def break_pair(self) -> None:
        """Take the selected pair apart."""
        session = self.session
        pair = _tensors(session)
        if session is None or pair is None:
            return
        matching = session.matching
        hand = tuple(made for made in matching.hand if made != pair)
        session.match(replace(matching, hand=hand, broken=(*matching.broken, pair)))


def _tensors(session: ComparisonSession | None) -> tuple[int, int] | None:
    """The tensors of the selected pair, None where it is none."""
    if session is None or not session.facts.get("pair"):
        return None
    a, b = (int(tensor) for tensor in session.facts["tensors"])
    return (a, b) if a >= 0 and b >= 0 else None


def comparison_words(session: ComparisonSession) -> str:
    """What the status bar says of a comparison."""
    parts = ["Both opened without running anything"]
    known, pairs = int(session.told.get("known", 0)), int(session.told.get("pairs", 0))
    if session.is_over:
        parts.append(f"All {text.plural(pairs, 'pair')} compared{session.took}")
    else:
        parts.append(f"{known:,} of {text.plural(pairs, 'pair')} compared")
    alone = [
        f"not compared in {side}: {words}" for side, words in zip("AB", session.info["alone"], strict=True) if words
    ]
    return "     ".join([*parts, *alone])
