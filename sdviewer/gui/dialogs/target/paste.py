"""Pasted text: the error that a script printed, or the keys of a model. A long one is shown in part and read whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import QMimeData, Qt, Signal
from PySide6.QtGui import QTextOption
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.clipboard import text_in
from sdviewer.gui.dialogs.target.page import Browse, Question, TargetPage

MOST_SHOWN: Final = 16_000
"""Characters of a text that the field shows: one that is laid out whole would stop the window."""
TEXT_FILTER: Final = "Text and JSON (*.txt *.log *.json *.keys *.out *.err);;All files (*)"
ERRORS: Final = (
    (
        "info",
        "The RuntimeError of load_state_dict, the warnings or the report of from_pretrained, and what diffusers, "
        "mmengine, fvcore, timm and Lightning print. Log prefixes and line breaks do not matter.",
    ),
)
LISTS: Final = (
    (
        "info",
        "One key a line, with its shape behind it where it is known: conv1.weight [64, 3, 7, 7]. Or JSON: "
        '{"conv1.weight": [64, 3, 7, 7]}, or what print(model.state_dict().keys()) says.',
    ),
)


class PasteField(QPlainTextEdit):
    """Takes texts of any length. `taken` is what is in it, as UTF-8; one that is too long to be shown is not edited."""

    file_dropped = Signal(str)

    def __init__(self, placeholder: str, name: str) -> None:
        super().__init__()
        self._whole: bytes | None = None
        self.setTabChangesFocus(True)
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(name)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setProperty("sunk", True)
        self.setFont(resources.font(resources.NOTE, mono=True))

    @property
    def taken(self) -> bytes:
        """All of the text."""
        return self.toPlainText().encode("utf-8", "replace") if self._whole is None else self._whole

    @property
    def hidden(self) -> int:
        """Bytes that are read and not shown."""
        return 0 if self._whole is None else len(self._whole) - len(self.toPlainText().encode("utf-8", "replace"))

    def take(self, raw: bytes) -> None:
        """Put a text in the place of what is there."""
        if len(raw) <= MOST_SHOWN:
            self.begin()
            self.setPlainText(raw.decode("utf-8", "replace"))
            return
        self._whole = raw
        self.setReadOnly(True)
        self.setPlainText(raw[:MOST_SHOWN].decode("utf-8", "ignore"))

    def begin(self) -> None:
        """Nothing is in it, and it can be written in."""
        self._whole = None
        self.setReadOnly(False)
        self.clear()

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        return source.hasText() or source.hasUrls()

    def insertFromMimeData(self, source: QMimeData) -> None:
        if source.hasUrls() and (path := source.urls()[0].toLocalFile()):
            self.file_dropped.emit(path)
            return
        raw = text_in(source)
        inserted = len(raw) + (0 if self.textCursor().hasSelection() else self.document().characterCount())
        if self._whole is not None or inserted > MOST_SHOWN:
            self.take(raw)
        else:
            self.textCursor().insertText(raw.decode("utf-8", "replace"))


class PastePage(TargetPage):
    """A field, and below it how much of a long text is not shown."""

    def __init__(
        self, placeholder: str, name: str, hints: Sequence[Sequence[str]], browse: Browse | None = None
    ) -> None:
        super().__init__()
        self._hints = hints
        self._path = ""
        self._browse = browse
        self.field = PasteField(placeholder, name)
        self.field.textChanged.connect(self._changed)
        self.note = widgets.label("", "note")
        self.again = widgets.button("Clear")
        widgets.set_property(self.again, "small", True)
        self.again.clicked.connect(self.begin)
        below = QHBoxLayout()
        below.setSpacing(8)
        below.addWidget(self.note)
        below.addStretch(1)
        below.addWidget(self.again)
        if browse is not None:
            choose = widgets.button("Choose a file…", "open")
            widgets.set_property(choose, "small", True)
            choose.clicked.connect(self._choose)
            below.addWidget(choose)
        self.column.addWidget(self.field, 1)
        self.column.addLayout(below)
        self._show_note()

    def question(self) -> Question | None:
        if self._path:
            return Question(path=self._path)
        return Question(text=self.field.taken) if self.field.document().characterCount() > 1 else None

    def hints(self) -> Sequence[Sequence[str]]:
        return self._hints

    def take(self, raw: bytes) -> None:
        """A text from the clipboard or a drop."""
        self._path = ""
        self.field.take(raw)

    def take_file(self, path: str) -> None:
        """A file of keys, or of an error, which the worker reads."""
        self.field.begin()
        self._path = path
        self.field.setReadOnly(True)
        self._show_note()
        self.changed.emit()

    def begin(self) -> None:
        """Nothing is given."""
        self._path = ""
        self.field.begin()
        self.field.setFocus()
        self._changed()

    def _choose(self) -> None:
        assert self._browse is not None
        if path := self._browse("Choose a list of keys", TEXT_FILTER):
            self.take_file(path)

    def _changed(self) -> None:
        self._show_note()
        self.changed.emit()

    def _show_note(self) -> None:
        words = ""
        if self._path:
            words = f"Read from {text.visible(self._path, 100)}"
        elif hidden := self.field.hidden:
            words = f"Read whole; the last {text.size(hidden)} are not shown"
        self.note.setText(words)
        self.note.setVisible(bool(words))
        self.again.setVisible(bool(words))
