"""The recipe as a program, or in the words of a loader: seen before it is copied or written."""

from __future__ import annotations

from typing import Final

from PySide6.QtWidgets import QHBoxLayout, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.wording import failure_words
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import CodeBlock, Segments
from sdviewer.repair.export import EXPORTS

PROGRAM: Final = ""
SAYS: Final = {PROGRAM: "A program that needs only torch: it reads the file and writes the copy."} | {
    one.name: f"{one.says[:1].upper()}{one.says[1:]}." for one in EXPORTS
}
"""What each form is, by its name (`repair.export`)."""


class ScriptDialog(AskingDialog):
    """`text` is what is shown, "" where the recipe cannot be said so, and `why`; `form` is its name."""

    def __init__(self, parent: QWidget, session: Session) -> None:
        super().__init__(parent, "Export as a script")
        self.resize(780, 560)
        self._session = session
        self.form, self.text, self.why = PROGRAM, "", ""
        forms = [(PROGRAM, "Python program", ""), *[(one.name, one.name, "") for one in EXPORTS]]
        self.forms = Segments(forms, "What is exported")
        self.forms.choose(PROGRAM)
        self.forms.chosen.connect(self.show_form)
        self._says = widgets.label("", "hint")
        self._says.setWordWrap(True)
        self.code = CodeBlock("")
        self.code.setAccessibleName("The script")
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        self.copy = widgets.button("Copy", "copy")
        self.copy.clicked.connect(lambda: widgets.copy_text(self.text))
        self.save = widgets.button("Save as…", "save", primary=True)
        top = QHBoxLayout()
        top.addWidget(self.forms)
        top.addStretch(1)
        top.addWidget(self.copy)
        column = self.make_column(widgets.label("Export as a script", "path"))
        column.addLayout(top)
        column.addWidget(self._says)
        column.addWidget(self.code, 1)
        column.addLayout(self.make_foot(self.save, self._wrong))
        self.show_form(PROGRAM)
        self.code.setFocus()  # from where Return saves

    def show_form(self, name: str) -> None:
        """Have the recipe said so, or why it cannot be."""
        self.form = name
        self._says.setText(SAYS[name])
        self._show("")
        params = {"recipe": self._session.recipe.to_text(), "as": name}
        self._session.ask("script", params, self._made, self._failed, lane="script")

    def _made(self, body: Body, buffers: Buffers) -> None:
        self._show(str(body["text"]))

    def _failed(self, failure: Body) -> None:
        what, why = failure_words(failure)
        self._show("", f"{what} {why}".strip())

    def _show(self, words: str, why: str = "") -> None:
        self.text, self.why = words, why
        self.code.setPlainText(words)
        self._wrong.setText(why)
        for button in (self.copy, self.save):
            button.setEnabled(bool(words))
