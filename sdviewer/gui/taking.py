"""Take from B: what a comparison shows of B becomes a step of A's recipe, in A's own tab.

From then on the comparison is of A with its recipe carried out: it follows every change of that, an undo too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QWidget

from sdviewer.core import text
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.compare.page import ComparePage
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.tabs import DocumentTabs
from sdviewer.gui.session import Session
from sdviewer.repair.history import Step


class Taking(QObject):
    """The takes of one window's comparisons, and what they follow."""

    def __init__(self, window: QWidget, tabs: DocumentTabs) -> None:
        super().__init__(window)
        self._tabs = tabs
        self.open_paths: Callable[[list[str]], None] = lambda paths: None
        self.save: Callable[[Session], None] = lambda session: None
        self._followed: dict[ComparisonSession, Session] = {}

    def take(self, page: ComparePage, what: Mapping[str, object]) -> None:
        """Take what differs in B, at and below a row or everywhere, into A's recipe; `what` as the worker wants it."""
        comparison = page.session
        document = self._document_of(comparison)
        session = document.session

        def found(body: Body, buffers: Buffers) -> None:
            if _recipe_of(session) != comparison.recipe:
                self._tell_other_recipe(page, session)
                return
            step = Step(body["step"], str(body["label"]))
            session.trouble.connect(page.tell_trouble, Qt.ConnectionType.UniqueConnection)
            session.apply(step, str(body["state_dict"]), lambda: self._taken(page, session, int(body["n"])))

        def ask() -> None:
            comparison.ask("take", what, found, lane="take")

        if session.state == "open":
            ask()
        else:
            session.opened.connect(ask, Qt.ConnectionType.SingleShotConnection)
            session.open_failed.connect(
                lambda: page.tell_trouble(session.failure), Qt.ConnectionType.SingleShotConnection
            )

    def _document_of(self, comparison: ComparisonSession) -> DocumentPage:
        """A's own tab, opened behind the comparison where there is none."""
        front = self._tabs.currentWidget()
        known = next((page for page in self._tabs.pages() if page.session.path == comparison.a), None)
        if known is None:
            self.open_paths([comparison.a])
            known = next(page for page in self._tabs.pages() if page.session.path == comparison.a)
            if front is not None:
                self._tabs.setCurrentWidget(front)
        return known

    def _taken(self, page: ComparePage, session: Session, tensors: int) -> None:
        session.trouble.disconnect(page.tell_trouble)
        comparison = page.session

        def tell() -> None:
            what = f"{text.plural(tensors, 'tensor')} of B {'is' if tensors == 1 else 'are'} taken into A's recipe."
            buttons: list[tuple[str, Callable[[], None]]] = [
                ("Undo", session.undo),
                ("Show A", lambda: self.open_paths([comparison.a])),
                ("Save repaired as…", lambda: self.save(session)),
            ]
            why = "A is shown as it will be saved; the file itself stays as it is."
            page.banner.tell("info", what, why, "", buttons, primary="Save repaired as…")

        comparison.opened.connect(tell, Qt.ConnectionType.SingleShotConnection)
        self._follow(comparison, session)

    def _follow(self, comparison: ComparisonSession, session: Session) -> None:
        if comparison not in self._followed:
            self._followed[comparison] = session
            session.recipe_changed.connect(lambda: self._recipe_changed(comparison, session))
            comparison.closed.connect(lambda: self._followed.pop(comparison, None))
        self._recipe_changed(comparison, session)

    def _recipe_changed(self, comparison: ComparisonSession, session: Session) -> None:
        if self._followed.get(comparison) is session and comparison.a == session.path:
            comparison.carry_out(_recipe_of(session))

    def followed(self, comparison: ComparisonSession | None) -> Session | None:
        """Whose recipe a comparison shows: its undo is that of the comparison."""
        session = self._followed.get(comparison) if comparison is not None else None
        return session if session is not None and comparison is not None and comparison.a == session.path else None

    def _tell_other_recipe(self, page: ComparePage, session: Session) -> None:
        def compare() -> None:
            self._follow(page.session, session)

        why = "Compare with them carried out, then take from B."
        page.banner.tell(
            "warn", "A has edits that are not in this comparison.", why, "", [("Compare with them", compare)]
        )


def _recipe_of(session: Session) -> str:
    """What is carried out on a document, as text; "" for nothing."""
    return session.recipe.to_text() if any(step.enabled for step in session.recipe.steps) else ""
