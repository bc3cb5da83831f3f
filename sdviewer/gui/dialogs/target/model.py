"""A model class as the target: where it is, its arguments, the folder that it is imported from, and a time limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from PySide6.QtWidgets import QFileDialog, QGridLayout, QHBoxLayout, QLineEdit, QPushButton, QSpinBox

from sdviewer.core import text
from sdviewer.engine.model_names import model_of_name
from sdviewer.engine.models import TIMEOUT
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.target.page import Browse, Order, Question, TargetPage
from sdviewer.gui.jobs import Body
from sdviewer.gui.widgets import Choice

PYTHON: Final = "Python files (*.py)"
LONGEST: Final = 3600
FOOT: Final = "Building it imports and runs your code, in a process of its own."
HINTS: Final = (("info", "models.vit.VisionTransformer, or vit.py:build_model. Nothing is run before you say so."),)


class ModelPage(TargetPage):
    """Fields that name a class or a function. Nothing is imported here."""

    def __init__(self, browse: Browse, folder: str) -> None:
        super().__init__()
        self._browse = browse
        self.name = _field("models.vit.VisionTransformer   or   vit.py:build_model", "Class or function")
        self.arguments = _field("depth=12, num_classes=37", "Arguments, as in Python or as JSON")
        self.folder = _field("the folder sdviewer was started in", "Folder on the import path")
        self.folder.setText(folder)
        self.seconds = QSpinBox()
        self.seconds.setRange(1, LONGEST)
        self.seconds.setValue(int(TIMEOUT))
        self.seconds.setSuffix(" s")
        self.seconds.setFixedSize(96, 30)
        self.seconds.setAccessibleName("Time limit in seconds")
        self.names = Choice("What the file defines")
        self.names.activated.connect(self._take_name)
        self._names_label = widgets.label("Defined there", "second")
        grid = QGridLayout()
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        choose = _button("Choose a file…", "Choose the Python file of the model")
        choose.clicked.connect(self._choose)
        other = _button("Choose…", "Choose the folder on the import path")
        other.clicked.connect(self._choose_folder)
        limit = QHBoxLayout()
        limit.addWidget(self.seconds)
        limit.addStretch(1)
        for row, (words, part, button) in enumerate(
            (
                ("Class", self.name, choose),
                ("Arguments", self.arguments, None),
                ("Import from", self.folder, other),
            )
        ):
            grid.addWidget(widgets.label(words, "second"), row, 0)
            grid.addWidget(part, row, 1)
            if button is not None:
                grid.addWidget(button, row, 2)
        grid.addWidget(self._names_label, 3, 0)
        grid.addWidget(self.names, 3, 1)
        grid.addWidget(widgets.label("Time limit", "second"), 4, 0)
        grid.addLayout(limit, 4, 1)
        self.column.addLayout(grid)
        self.column.addStretch(1)
        self._show_names("", [])
        for part in (self.name, self.arguments, self.folder):
            part.textChanged.connect(lambda words: self.changed.emit())
        self.seconds.valueChanged.connect(lambda n: self.changed.emit())

    def question(self) -> Question | None:
        path = self.name.text().strip()
        return Question(path=path) if path.lower().endswith(".py") else None

    def order(self) -> Order | None:
        """The model as it is named; None where it is no name.

        Raises:
            UsageError: the arguments are none.
        """
        name, arguments = with_colon(self.name.text().strip()), self.arguments.text().strip()
        if model_of_name(name, arguments) is None:
            return None
        target = {
            "name": f"{name}({arguments})" if arguments else name,
            "run": True,
            "timeout": self.seconds.value(),
            "folder": self.folder.text().strip(),
        }
        where, _, called = name.rpartition(":")
        is_file = where.lower().endswith(".py")
        shown = f"{PurePath(where).name}:{called}" if is_file else f"{where}.{called}"
        limit = f"{self.seconds.value():,} s"
        called_at = f"{PurePath(where).name if is_file else where} is imported, and {called} is called"
        warning = f"This runs your code: {called_at}. Do it only with code that you trust."
        how = "It runs in a process of its own, on the meta device: no weights, no memory."
        return Order(target, shown, (("warn", warning), ("info", f"{how} It ends after {limit}, or when you cancel.")))

    def hints(self) -> Sequence[Sequence[str]]:
        return HINTS

    def foot(self) -> str:
        return FOOT

    def take_file(self, path: str) -> None:
        """A Python file, of which something is to be chosen."""
        self.name.setText(path)
        self.name.setFocus()

    def show_answer(self, body: Body) -> None:
        self._show_names(self.name.text().strip(), body["names"])

    def _show_names(self, path: str, names: Sequence[Sequence[str]]) -> None:
        self.names.clear()
        if names:
            self.names.addItem("Choose a class or a function", "")
        for name, kind in names:
            self.names.addItem(f"{text.visible(name, 80)}  —  {kind}", f"{path}:{name}")
        for part in (self.names, self._names_label):
            part.setVisible(bool(names))

    def _take_name(self, at: int) -> None:
        if chosen := str(self.names.itemData(at) or ""):
            self.name.setText(chosen)

    def _choose(self) -> None:
        if path := self._browse("Choose the Python file of the model", PYTHON):
            self.take_file(path)

    def _choose_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Import from", self.folder.text()):
            self.folder.setText(path)


def with_colon(name: str) -> str:
    """`package.module:Class`, also where somebody wrote a dot before the class."""
    head, bracket, rest = name.partition("(")
    if ":" in head or head.lower().endswith(".py") or "." not in head:
        return name
    where, _, called = head.rpartition(".")
    return f"{where}:{called}{bracket}{rest}"


def _field(placeholder: str, name: str) -> QLineEdit:
    made = QLineEdit()
    made.setPlaceholderText(placeholder)
    made.setAccessibleName(name)
    made.setProperty("mono", True)
    made.setFixedHeight(30)
    return made


def _button(words: str, name: str) -> QPushButton:
    made = widgets.button(words, "open")
    made.setAccessibleName(name)
    return made
