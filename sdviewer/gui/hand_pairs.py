"""Pairs that somebody makes by hand in a workbench: with Ctrl+L, or by dragging one key onto another."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

from sdviewer.core import text
from sdviewer.gui.dialogs.lesson_dialog import LessonDialog
from sdviewer.gui.dialogs.palette import CommandPalette, Hit
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.workbench.dragging import KeyDrag
from sdviewer.gui.panels.workbench.page import WorkbenchPage
from sdviewer.gui.workbench import WorkbenchSession

MOST_PARTNERS: Final = 60


class HandPairs(QObject):
    """Asks what belongs together and what that means; the answer becomes steps of the document's recipe."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window

    def follow(self, page: WorkbenchPage) -> None:
        """Let keys be dragged in the table of a workbench, once that is made."""
        drag = KeyDrag(page.pairs.view, page.pairs.model)
        drag.dropped.connect(lambda node, onto: self._learn(page.session, {"row": node, "onto": onto}))

    def choose(self, session: WorkbenchSession) -> None:
        """Ask what the selected key is paired with."""
        dialog = KeyPartnerDialog(self._window, session)
        dialog.node_chosen.connect(lambda place: self._learn(session, {"row": session.selected, "partner": place}))
        dialog.exec()
        dialog.deleteLater()

    def _learn(self, session: WorkbenchSession, pair: Body) -> None:
        session.ask("lesson", pair, lambda body, buffers: self._offer(session, body, buffers), lane="act")

    def _offer(self, session: WorkbenchSession, lesson: Body, buffers: Buffers) -> None:
        """Take what a pair means, asked for where it can mean more than itself."""
        variants = lesson["variants"]
        if len(variants) == 1:
            session.take(variants[0])
            return
        dialog = LessonDialog(self._window, lesson)
        if dialog.exec():
            session.take(dialog.variant)
        dialog.deleteLater()


class KeyPartnerDialog(CommandPalette):
    """Which key of the other side belongs to the selected one; what fits comes first. `node_chosen` tells its place."""

    def __init__(self, parent: QWidget, session: WorkbenchSession) -> None:
        self._workbench = session
        super().__init__(parent, session, ())
        other = "file" if session.why.get("status") == "missing" else "target"
        words = f"Pair with a key of the {other}"
        self.setWindowTitle(words)
        self.field.setPlaceholderText(words)
        self.field.setAccessibleName(words)

    def _find(self, wanted: str) -> None:
        def answered(body: Any, buffers: Any) -> None:
            if self.field.text() == wanted:
                self._show([_hit(*found) for found in body["rows"]])

        params = {"row": self._workbench.selected, "text": wanted, "limit": MOST_PARTNERS}
        self._workbench.ask("partners", params, answered, lane="partners")


def _hit(place: int, key: str, shape: str, fits: bool, now: str) -> Hit:
    note = shape if not now else f"{shape}, now with {text.visible(now, 40)}"
    return Hit(key, "tensor" if fits else "shape", int(place), note=note)
