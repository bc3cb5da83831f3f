"""A text that most people do not want to see, behind a button."""

from __future__ import annotations

from PySide6.QtCore import QObject

from sdviewer.gui import widgets
from sdviewer.gui.widgets import CodeBlock


class Details(QObject):
    """The button and the text, for the layout of whoever shows them. Both are hidden while there is nothing to say."""

    def __init__(self, parent: QObject, name: str = "Details") -> None:
        super().__init__(parent)
        self.block = CodeBlock("")
        self.block.setAccessibleName(name)
        self.button = widgets.button("Details")
        self.button.clicked.connect(lambda: self._open(self.block.isHidden()))
        self.tell("")

    def tell(self, words: str) -> None:
        """Another text, which is opened on request; "" for none."""
        self.go_on(words)
        self._open(False)

    def go_on(self, words: str) -> None:
        """More of the same text: who has it open sees its end."""
        if words != self.block.toPlainText():
            self.block.setPlainText(words)
            bar = self.block.verticalScrollBar()
            bar.setValue(bar.maximum())
        self.button.setVisible(bool(words))

    def _open(self, on: bool) -> None:
        self.block.setVisible(on)
        self.button.setText("Hide details" if on else "Details")
