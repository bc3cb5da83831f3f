"""Editing a key in the table of a workbench, where it stands: what is typed is tried by the worker."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from sdviewer.core import text
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.key_editor import InPlace
from sdviewer.gui.workbench import WorkbenchSession
from sdviewer.repair.history import Step


class RowEditor(InPlace):
    """The key of what the file has in the selected row; of a missing one, which key of the file it is."""

    def __init__(self, parent: QWidget, session: WorkbenchSession) -> None:
        key = str(session.why["edits"])
        wanted = text.visible(str(session.why["key_b"]), 80)
        super().__init__(parent, session.document, key, "New key" if key else f"Key of the file that is {wanted}")
        self._workbench = session
        self._row = session.selected
        self._answer: Body = {}
        last = key.rpartition(".")[2]
        self.setSelection(len(key) - len(last), len(last))
        if not key:
            self.setPlaceholderText(self.accessibleName())

    def look(self, typed: str) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            steps = body["steps"]
            if not self._over:
                self._answer = body
                self.found(Step(steps[0][0], str(steps[0][1])) if steps else None, str(body["problem"]))

        self._workbench.ask("rename", {"row": self._row, "key": typed}, answered, lane="rename")

    def take(self, step: Step) -> None:
        self._workbench.take(self._answer)
