"""The whole recipe as text: steps, what the file must look like, what is expected; checked while it is typed."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QDialog, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog
from sdviewer.gui.dialogs.step_dialog import TYPING_PAUSE
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import CodeBlock
from sdviewer.repair.history import Draft

START = """format = "sdviewer-recipe/1"

# [source]
# require = ["head.weight"]   a key that must be there
# forbid = ["model.**"]       one that must not
# tensors = 152

# [[step]]
# op = "strip"
# prefix = "module."
"""


class RecipeTextDialog(AskingDialog):
    """Edit the recipe as TOML; `draft` is what was read from it, or None."""

    def __init__(self, parent: QWidget, session: Session) -> None:
        super().__init__(parent, "Recipe as text")
        self.resize(860, 620)
        self._session = session
        self.draft: Draft | None = None
        self.text = CodeBlock("")
        self.text.setReadOnly(False)
        self.text.setFont(resources.font(resources.BASE, mono=True))
        self.text.setAccessibleName("Recipe as TOML")
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        self.apply = widgets.button("Apply", "check", primary=True)
        self.apply.setEnabled(False)
        hint = widgets.label(
            "[source] says what the file must look like: require, forbid (patterns), tensors. Every step may have "
            "keys, why and expect = { matched, changed, dead_rules }.",
            "hint",
        )
        hint.setWordWrap(True)
        column = self.make_column(widgets.label("Recipe as text", "path"))
        column.addWidget(hint)
        column.addWidget(self.text, 1)
        column.addLayout(self.make_foot(self.apply, self._wrong, default=False))
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        if session.recipe.is_empty:
            self._begin(START)
        else:
            session.recipe_text(session.recipe, self._begin, lane="recipe text")

    def _begin(self, toml: str) -> None:
        self.text.setPlainText(toml)
        self.text.textChanged.connect(self._typed)
        self.text.setFocus()

    def _typed(self) -> None:
        self.apply.setEnabled(False)
        self._pause.start()

    def _ask(self) -> None:
        def answered(body: Body, buffers: Buffers) -> None:
            self._take(Draft.from_body(body["draft"]), "")

        def failed(failure: Body) -> None:
            self._take(None, f"{failure['message']}. {failure['remedy']}".strip())

        self._session.ask("read_recipe", {"text": self.text.toPlainText()}, answered, failed, lane="recipe text")

    def _take(self, draft: Draft | None, wrong: str) -> None:
        if self._pause.isActive():
            return
        self.draft = draft
        self.apply.setEnabled(draft is not None)
        self._wrong.setText(text.visible(wrong, 400))
        widgets.set_property(self.text, "wrong", bool(wrong))

    def done(self, result: int) -> None:
        self._pause.stop()
        self._session.jobs.drop("recipe text")
        super().done(result)


def edit_as_text(parent: QWidget, session: Session) -> None:
    """Ask, and put what was written in the place of the recipe."""
    dialog = RecipeTextDialog(parent, session)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    if dialog.exec() == QDialog.DialogCode.Accepted and dialog.draft is not None:
        session.put_recipe(dialog.draft, "Edit the recipe as text")
    dialog.deleteLater()
