"""Asking for one step of the recipe: fields at the top, what it would change below, live. Returns an Operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.errors import SDViewerError
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.preview import LIMIT, PreviewTable
from sdviewer.gui.mnemonics import follow_alt
from sdviewer.gui.session import Session
from sdviewer.repair.operations import Operation

_NOTHING = "No key changes."
TYPING_PAUSE = 120
"""Milliseconds without a key before the preview is asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line to fill in."""

    label: str
    text: str
    placeholder: str = ""


Make = Callable[[Sequence[str]], Operation]


class StepDialog(QDialog):
    """One step; `make` turns what is filled in into an Operation or raises UsageError."""

    def __init__(
        self,
        parent: QWidget,
        session: Session,
        title: str,
        entries: Sequence[Entry],
        make: Make,
        hint: str = "",
        state_dict: str = "",
    ) -> None:
        """`state_dict` is the one that a first step is for, "" for the one that the selection is in."""
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setModal(True)
        self.resize(820, 460)
        self._session = session
        self._state_dict = state_dict
        self._make = make
        self.operation: Operation | None = None
        self.fields: list[QLineEdit] = []
        grid = QGridLayout()
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(8)
        for row, entry in enumerate(entries):
            field = QLineEdit(entry.text)
            field.setPlaceholderText(entry.placeholder)
            field.setProperty("mono", True)
            field.setMinimumHeight(30)
            field.setAccessibleName(entry.label.replace("&", ""))
            field.textChanged.connect(self._typed)
            name = widgets.label(entry.label, "second")
            name.setBuddy(field)
            grid.addWidget(name, row, 0)
            grid.addWidget(field, row, 1)
            self.fields.append(field)
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        self._hint = widgets.label(hint, "hint")
        self._hint.setWordWrap(True)
        self._hint.setVisible(bool(hint))
        self.preview = PreviewTable()
        cancel = widgets.button("Cancel")
        cancel.clicked.connect(self.reject)
        self.add = widgets.button("Add step", "check", primary=True)
        self.add.setDefault(True)
        self.add.setEnabled(False)
        self.add.clicked.connect(self.accept)
        foot = QHBoxLayout()
        foot.addWidget(self._wrong, 1)
        foot.addWidget(cancel)
        foot.addWidget(self.add)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 16, 18, 14)
        column.setSpacing(10)
        column.addWidget(widgets.label(title.rstrip("…"), "path"))
        column.addLayout(grid)
        column.addWidget(self._hint)
        column.addWidget(self.preview, 1)
        column.addLayout(foot)
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        if self.fields:
            self.fields[0].selectAll()
        self._ask()

    def _typed(self) -> None:
        self.add.setEnabled(False)
        self._pause.start()

    def _ask(self) -> None:
        self.operation = None
        try:
            operation = self._make([field.text() for field in self.fields])
        except SDViewerError as error:
            filled = any(field.text() for field in self.fields)
            self._say(f"{error.message}. {error.remedy}".strip() if filled else "")
            self.preview.show_preview(None)
            return
        self._say("")
        self._session.preview(operation, LIMIT, lambda preview: self._show(operation, preview), self._state_dict)

    def _show(self, operation: Operation, preview: Any) -> None:
        self.preview.show_preview(preview)
        problems = list(preview.get("problems") or ())
        error = str(preview.get("error") or "")
        changes = int(preview["changed"]) + int(preview["dropped"])
        self.operation = operation if changes and not problems and not error else None
        self.add.setEnabled(self.operation is not None)
        if error or problems:
            self._say(error or str(problems[0]))
        elif not changes:
            self._say(_NOTHING)

    def _say(self, words: str) -> None:
        self._wrong.setText(text.visible(words, 400))
        widgets.set_property(self._wrong, "role", "error" if words != _NOTHING else "hint")
        widgets.set_property(self.fields[0], "wrong", bool(words) and words != _NOTHING) if self.fields else None

    def keyPressEvent(self, event: QKeyEvent) -> None:
        super().keyPressEvent(event)
        follow_alt(self, event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        super().keyReleaseEvent(event)
        follow_alt(self, event)

    def accept(self) -> None:
        if self.operation is not None:
            super().accept()


def run(dialog: StepDialog) -> Operation | None:
    """Ask, and give what was asked for, or None."""
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    operation = dialog.operation if accepted else None
    dialog.deleteLater()
    return operation
