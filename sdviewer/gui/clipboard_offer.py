"""A quiet offer: the clipboard holds a load error, and a file is open that could be made to fit.

The clipboard is looked at when the window comes to the front or a file was opened, once for each thing that is copied,
and only while there is a file that the offer would be about. What is read is forgotten at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication

from sdviewer.gui.clipboard import clipboard_text, holds_load_error
from sdviewer.gui.panels.document_page import DocumentPage

WORDS: Final = "The clipboard holds a load error: repair to fit?"
WHY: Final = "Its text tells which keys the model asks for. Nothing is imported or run."


class ClipboardOffer(QObject):
    """Tells it in the banner of a document. `repair` is asked with the path of its file."""

    def __init__(self, parent: QObject, repair: Callable[[str], None]) -> None:
        super().__init__(parent)
        self._repair = repair
        self._looked_at = False
        QGuiApplication.clipboard().dataChanged.connect(self._changed)

    def _changed(self) -> None:
        self._looked_at = False

    def look(self, page: DocumentPage | None, *, repaired: bool) -> None:
        """Make the offer to the file in front; `repaired`: it is made to fit something already."""
        if page is None or repaired or self._looked_at or page.session.state != "open":
            return
        if not page.banner.isHidden() or not page.window().isActiveWindow():
            return
        self._looked_at = True
        if QGuiApplication.clipboard().ownsClipboard() or not holds_load_error(clipboard_text()):
            return
        page.banner.tell("info", WORDS, WHY, buttons=[("Repair to fit…", lambda: self._take(page))])

    def _take(self, page: DocumentPage) -> None:
        page.banner.hide()
        self._repair(page.session.path)
