"""What `load_state_dict` would say of the file as the recipe makes it, in torch's own words, while one works."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.widgets import CodeBlock, IconLabel
from sdviewer.gui.workbench import WorkbenchSession


class StrictView(QWidget):
    """Asks for the text as long as it is in front."""

    def __init__(self, session: WorkbenchSession) -> None:
        super().__init__()
        self._session = session
        self._shown = False
        self._icon = IconLabel("warn", 16, "S")
        self.said = widgets.label("", "strong")
        self.copy = widgets.button("Copy", "copy")
        self.copy.clicked.connect(lambda: session.strict(lambda shown, whole: widgets.copy_text(whole)))
        self.text = CodeBlock("")
        self.text.setLineWrapMode(CodeBlock.LineWrapMode.WidgetWidth)
        self.text.setAccessibleName("What load_state_dict would say")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._icon)
        head.addWidget(self.said)
        head.addStretch(1)
        head.addWidget(self.copy)
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 10, 14, 12)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.text, 1)
        session.counts_changed.connect(self._ask)

    def begin(self) -> None:
        """It is in front: show what is said now, and follow."""
        self._shown = True
        self._ask()

    def end(self) -> None:
        """It is not in front any more."""
        self._shown = False

    def _ask(self) -> None:
        if self._shown:
            self._session.strict(self._show)

    def _show(self, shown: str, whole: str) -> None:
        problems = self._session.problems
        self._icon.set_icon(*(("warn", "S") if problems else ("checkc", "ok")))
        n = text.plural(problems, "problem")
        said = f"A strict load fails: {n}" if problems else "A strict load goes through, by names and shapes"
        if self._session.collisions:
            said = "Nothing can be loaded: no copy can be saved"
        self.said.setText(said)
        if shown != self.text.toPlainText():
            self.text.setPlainText(shown)
