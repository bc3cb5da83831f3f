"""The card that says what was understood of a target: its class, how its keys stand to the file, what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.details import Details
from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.wording import failure_words
from sdviewer.gui.widgets import Card, IconLabel

ICONS: Final = {
    "spark": ("spark", "accent"),
    "ok": ("checkc", "ok"),
    "info": ("info", "text2"),
    "warn": ("warn", "warn"),
}
COUNTS: Final = (
    ("missing", "onlyB", "B", "missing", "missing"),
    ("unexpected", "onlyA", "A", "unexpected", "unexpected"),
    ("mismatched", "shape", "S", "size mismatch", "size mismatches"),
)
"""Name, icon, its token, and what one and several are called."""
KINDS: Final = {
    "message": "load error",
    "keys": "list of keys",
    "checkpoint": "checkpoint",
    "class": "model class",
    "config": "config",
}
LEAST: Final = 152
"""Pixels of its height, so that the field above does not jump with each answer."""
PATIENCE: Final = 150
"""Milliseconds after which it is said that something is read: what is there sooner needs no word."""

Sentence = Sequence[str]


class UnderstoodCard(Card):
    """Waits, reads, tells, or says what is wrong. `cancel_requested` is of what takes long."""

    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("What was understood")
        self.column.setContentsMargins(14, 10, 14, 12)
        self.column.setSpacing(8)
        self._title = widgets.label("Understood", "strong")
        self._name = widgets.label("", "chip")
        self._about = widgets.label("", "note")
        head = QHBoxLayout()
        head.setSpacing(10)
        for part in (self._title, self._name, self._about):
            head.addWidget(part)
        head.addStretch(1)
        self._cancel = widgets.button("Cancel")
        widgets.set_property(self._cancel, "small", True)
        self._cancel.setAccessibleName("Stop building")
        self._cancel.clicked.connect(self.cancel_requested)
        head.addWidget(self._cancel)
        self.column.addLayout(head)
        self._progress = QProgressBar()
        self._progress.setTextVisible(False)
        self._progress.setRange(0, 0)
        self.column.addWidget(self._progress)
        self._counts = QWidget()
        self._numbers: dict[str, tuple[QLabel, QLabel]] = {}
        row = QHBoxLayout(self._counts)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for name, icon, token, *_ in COUNTS:
            number, words = widgets.label("0", "count"), widgets.label("", "second")
            self._numbers[name] = number, words
            row.addWidget(IconLabel(icon, 14, token))
            row.addWidget(number)
            row.addWidget(words)
            row.addSpacing(16)
        row.addStretch(1)
        self.column.addWidget(self._counts)
        self._sentences = QVBoxLayout()
        self._sentences.setSpacing(7)
        self.column.addLayout(self._sentences)
        self.details = Details(self, "What its code printed")
        widgets.set_property(self.details.button, "small", True)
        self.details.block.setFixedHeight(120)
        self.column.addWidget(self.details.button, 0, Qt.AlignmentFlag.AlignLeft)
        self.column.addWidget(self.details.block)
        self.column.addStretch(1)
        self.setMinimumHeight(LEAST)
        self._later = QTimer(self, interval=PATIENCE, singleShot=True)
        self._later.timeout.connect(lambda: self._show("Reading…", [], busy=True))
        self._said: list[str] = []

    # What it says

    def wait(self, sentences: Sequence[Sentence], name: str = "") -> None:
        """There is nothing yet; what could be given, or what would be done."""
        self._show("", sentences, name=name)

    def read(self) -> None:
        """Something is read; said where it takes a moment."""
        if not self._later.isActive():
            self._later.start()

    def build(self, name: str) -> None:
        """A model is built, which can be stopped."""
        self._show(f"Building {name}…", [], busy=True, stops=True)

    def tell(self, body: Body, more: Sequence[Sentence] = ()) -> None:
        """READ of engine.target_reading, and `more` sentences before its own."""
        name = str(body["model"] or (body["name"] if body["kind"] in ("checkpoint", "config") else ""))
        keys = body["keys"]
        about = KINDS[str(body["kind"])]
        if keys is not None:
            told = "not all keys are told" if body["incomplete"] else f"{text.plural(int(keys), 'key')} in the model"
            about = f"{about}, {told}"
        self._show("Understood", [*more, *body["sentences"]], name=name, about=about, counts=body["counts"])

    def fail(self, failure: Body, title: str = "Not understood") -> None:
        """What is wrong, and what can be done; details on request."""
        what, why = failure_words(failure)
        sentences = [("wrong", what), *([("info", why)] if why else [])]
        self._show(title, sentences, details=str(failure.get("details") or ""))

    def words(self) -> str:
        """All that it says, in a line."""
        return " ".join(self._said)

    def _show(
        self,
        title: str,
        sentences: Sequence[Sentence],
        *,
        name: str = "",
        about: str = "",
        counts: Body | None = None,
        busy: bool = False,
        stops: bool = False,
        details: str = "",
    ) -> None:
        self._later.stop()
        self._title.setText(title)
        self._title.setVisible(bool(title))
        self._name.setText(name)
        self._name.setVisible(bool(name))
        self._about.setText(about)
        self._about.setVisible(bool(about))
        self._cancel.setVisible(stops)
        self._progress.setVisible(busy)
        self._counts.setVisible(counts is not None)
        said = [title, name, about]
        for key, _, _, one, many in COUNTS if counts is not None else ():
            n = int((counts or {}).get(key, 0))
            words = one if n == 1 else many
            for label, shown in zip(self._numbers[key], (f"{n:,}", words), strict=True):
                label.setText(shown)
            said.append(f"{n:,} {words}")
        widgets.clear_layout(self._sentences)
        for kind, words in sentences:
            self._sentences.addWidget(self._sentence(kind, words))
            said.append(words)
        self.details.tell(details)
        self._said = [part for part in said if part]
        self.setAccessibleDescription(self.words())

    def _sentence(self, kind: str, words: str) -> QWidget:
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        icon, token = ICONS.get(kind, ("warn", "S"))
        row.addWidget(IconLabel(icon, 15, token), 0, Qt.AlignmentFlag.AlignTop)
        shown = widgets.label(words, "note" if kind == "info" else "")
        shown.setWordWrap(True)
        row.addWidget(shown, 1)
        return made
