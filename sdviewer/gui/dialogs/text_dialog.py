"""Asking for a text: a name on one line, or a value of several."""

from __future__ import annotations

from PySide6.QtWidgets import QDialog, QLineEdit, QPlainTextEdit, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog


class TextDialog(AskingDialog):
    """One text; plain, whatever it holds."""

    def __init__(self, parent: QWidget, title: str, text: str, *, one_line: bool = False) -> None:
        super().__init__(parent, title)
        self.resize(560, 120 if one_line else 340)
        self._line = QLineEdit(text)
        self._lines = QPlainTextEdit()
        self._lines.setPlainText(text)
        self._lines.setTabChangesFocus(True)
        self._one_line = one_line
        field: QWidget = self._line if one_line else self._lines
        field.setProperty("mono", True)
        field.setAccessibleName(title)
        ok = widgets.button("Add step" if not one_line else "Next", "check", primary=True)
        column = self.make_column(widgets.label(title, "path"))
        column.addWidget(field)
        column.addLayout(self.make_foot(ok))
        field.setFocus()

    def text(self) -> str:
        """What was typed."""
        return self._line.text() if self._one_line else self._lines.toPlainText()


def edit_text(parent: QWidget, title: str, text: str, *, one_line: bool = False) -> str | None:
    """Ask for a text, beginning with this one; None where nothing is wanted."""
    dialog = TextDialog(parent, title, text, one_line=one_line)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    found = dialog.text()
    dialog.deleteLater()
    return found if accepted else None
