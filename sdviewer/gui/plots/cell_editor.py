"""Editing one number of a tensor in place, over its cell."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRect
from PySide6.QtWidgets import QWidget

from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.key_editor import InPlace
from sdviewer.gui.session import Session
from sdviewer.repair.history import Step


class CellEditor(InPlace):
    """The number at `at` of the tensor that is selected. What its dtype does not have is said before it is taken."""

    def __init__(self, parent: QWidget, session: Session, at: Sequence[int], shown: str) -> None:
        place = ", ".join(map(str, at))
        super().__init__(parent, session, shown, f"New number at {place}" if place else "New number")
        self._row = int(session.facts["row"])
        self._at = list(at)

    def show_at(self, cell: QRect, inside: QRect) -> None:
        """Stand over a cell, wide enough for all digits."""
        wide = min(max(cell.width() + 2, 170), inside.width())
        left = min(cell.left(), inside.right() - wide)
        self.setGeometry(left, cell.top() - 2, wide, cell.height() + 4)
        self.place()

    def look(self, typed: str) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            step = None if body["step"] is None else Step(body["step"], str(body["label"]))
            self.found(step, str(body["error"]), str(body["warning"]))

        params = {"row": self._row, "at": self._at, "text": typed}
        self._session.ask("cell", params, answered, lane="preview")
