"""Edits that a crash left unsaved: kept while somebody edits, offered at the next opening, never put in unasked.

Writing and reading them is the work of the journals' own thread (engine.journal).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from shiboken6 import isValid

from sdviewer.core import text
from sdviewer.engine.journal import Document, Journals, Recovered
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.session import Session

MOST_LISTED = 200
"""Steps that the details of an offer name."""


class Recovery(QObject):
    """The journals of one window; without a folder nothing is kept and nothing is offered."""

    left_behind = Signal(object)  # {path: edits that are not saved}, of files that are open nowhere
    _found = Signal(object)
    _refused = Signal(str)

    def __init__(self, folder: Path | None, parent: QObject) -> None:
        super().__init__(parent)
        self._pages: list[DocumentPage] = []
        self.journals = Journals(folder, self._tell) if folder is not None else None
        self._found.connect(self._offer_all)
        self._refused.connect(self._tell_refused)

    def watch(self, page: DocumentPage) -> None:
        """Keep the edits of a document, and offer those that are left of it."""
        if self.journals is not None:
            self._pages.append(page)
            page.session.opened.connect(self.look)
            page.session.recipe_changed.connect(lambda: self._note(page.session))

    def forget(self, session: Session) -> None:
        """A document is closed, its edits saved or given up by somebody who was asked."""
        if self.journals is not None:
            self._pages = [page for page in self._pages if page.session is not session]
            self.journals.forget(session)

    def look(self) -> None:
        """Look for what was left behind."""
        if self.journals is not None:
            self.journals.find(self._found.emit)

    def close(self) -> None:
        """Write what is to be written, and end."""
        if self.journals is not None:
            self.journals.close()

    def _note(self, session: Session) -> None:
        assert self.journals is not None
        document = Document(_whole_path(session), session.info["identity"])
        self.journals.note(session, document, session.history)

    def _tell(self, error: OSError) -> None:  # on the journals' thread
        self._refused.emit(error.strerror or str(error))

    def _tell_refused(self, reason: str) -> None:
        for page in self._pages[-1:]:
            message = f"Your edits are not kept for the case that sdviewer ends suddenly: {reason}"
            page.session.trouble.emit({"message": message, "remedy": "Save a copy or the recipe now and then."})

    def _offer_all(self, found: Sequence[Recovered]) -> None:
        left: dict[str, int] = {}
        for recovered in found:  # the newest first
            path = recovered.document.path
            left.setdefault(path, len(recovered.history.steps))
        self.left_behind.emit(left)
        for page in self._pages:
            if isValid(page) and page.session.state == "open" and not page.offer.isVisibleTo(page):
                path = _whole_path(page.session)
                mine = next((recovered for recovered in found if recovered.document.path == path), None)
                if mine is not None:
                    self._offer(page, mine)

    def _offer(self, page: DocumentPage, left: Recovered) -> None:
        session, steps = page.session, left.history.steps
        n = len(steps)
        same = session.info["identity"] == left.document.identity
        edits = f"{text.plural(n, 'step')} of a recipe {'was' if n == 1 else 'were'}"
        why = (
            f"The last one, {_when(left.written)}: {text.visible(left.history.draft.steps[-1].label, 120)}."
            if n
            else ""
        )
        why += "" if left.whole else " What came after it could not be read."
        why += "" if same else " The file has changed since; the steps go by the names of its keys."
        listed = "\n".join(f"{i}  {text.visible(step.label, 200)}" for i, step in enumerate(steps[:MOST_LISTED], 1))
        back = ("Bring them back" if n != 1 else "Bring it back") if same else "Apply by name"
        page.offer.tell(
            "info",
            f"{edits} not saved when sdviewer ended.",
            why.strip(),
            listed,
            ((back, partial(self._bring_back, page, left)), ("Discard", partial(self._discard, page, left))),
            primary=back,
            icon="history",
        )

    def _bring_back(self, page: DocumentPage, left: Recovered) -> None:
        page.offer.hide()
        page.session.bring_back(left.history, partial(self._take_away, left))

    def _discard(self, page: DocumentPage, left: Recovered) -> None:
        page.offer.hide()
        self._take_away(left)

    def _take_away(self, left: Recovered) -> None:
        assert self.journals is not None
        self.journals.discard(left)
        self.look()  # an older one may be left


def _whole_path(session: Session) -> str:
    return os.path.abspath(session.path)  # noqa: PTH100  as it is handed over: without ".."


def _when(written: float) -> str:
    then = time.localtime(written)
    today = time.strftime("%x", then) == time.strftime("%x")
    return f"at {time.strftime('%H:%M', then)}" if today else f"on {time.strftime('%d %b, %H:%M', then)}"
