"""Asking what a file has to fit: the text of the error that somebody saw, a list of keys, or another checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from sdviewer.gui import resources, widgets
from sdviewer.gui.widgets import KeyHint

PASTED = "pasted text"
"""What a target is called that lies in no file."""
MOST_PASTED = 4 << 20
"""Characters of the clipboard that are taken over."""
SIGNS = ("Missing key(s)", "Unexpected key(s)", "size mismatch for", "Error(s) in loading", "were not used when")
"""What the text of a load error holds."""


class TargetDialog(QDialog):
    """`target` is what was chosen (TARGET of engine.target_check), empty for nothing."""

    def __init__(self, parent: QWidget, name: str, browse: Callable[[], str]) -> None:
        super().__init__(parent)
        self.target: dict[str, Any] = {}
        self._browse = browse
        self.setWindowTitle("Repair to fit")
        self.setModal(True)
        self.resize(760, 480)
        self.text = QPlainTextEdit()
        self.text.setTabChangesFocus(True)
        self.text.setPlaceholderText("Paste the RuntimeError, or the keys of the model, one a line")
        self.text.setAccessibleName("The error your training script printed, or a list of keys")
        self.text.setFont(resources.font(resources.NOTE, mono=True))
        self.text.textChanged.connect(self._changed)
        self.use = widgets.button("Use as target", "arrow", primary=True)
        self.use.setShortcut("Ctrl+Return")
        self.use.clicked.connect(self._use_text)
        self.file = widgets.button("Another checkpoint…", "open")
        self.file.clicked.connect(self._use_file)
        cancel = widgets.button("Cancel")
        cancel.clicked.connect(self.reject)
        foot = QHBoxLayout()
        foot.setSpacing(8)
        foot.addWidget(widgets.label("Nothing is imported or run in this step.", "hint"), 1)
        for part in (self.file, cancel, self.use, KeyHint("Ctrl+Enter")):
            foot.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 16, 18, 14)
        column.setSpacing(10)
        column.addWidget(widgets.label(f"What should {name} fit?", "path"))
        column.addWidget(widgets.label("Paste the error your script printed, or choose a checkpoint", "strong"))
        column.addWidget(self.text, 1)
        column.addLayout(foot)
        said = QGuiApplication.clipboard().text()[:MOST_PASTED]
        if any(sign in said for sign in SIGNS):
            self.text.setPlainText(said)
        self._changed()

    def _changed(self) -> None:
        self.use.setEnabled(bool(self.text.toPlainText().strip()))

    def _use_text(self) -> None:
        self.target = {"name": PASTED, "text": self.text.toPlainText()}
        self.accept()

    def _use_file(self) -> None:
        if path := self._browse():
            self.target = {"name": path}
            self.accept()


def ask(parent: QWidget, name: str, browse: Callable[[], str]) -> dict[str, Any]:
    """What a file of this name has to fit; empty where nothing was chosen."""
    dialog = TargetDialog(parent, name, browse)
    chosen = dialog.target if dialog.exec() else {}
    dialog.deleteLater()
    return chosen
