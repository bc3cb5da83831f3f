"""The config of a model as the target: which file, and what is needed to build it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit

from sdviewer.gui import widgets
from sdviewer.gui.dialogs.target.page import Browse, Question, TargetPage

CONFIGS: Final = "Configs (*.json);;All files (*)"
FOOT: Final = "Building it runs the installed library, and no code that the config names."
HINTS: Final = (
    (
        "info",
        "A config.json with model_type (transformers), _class_name (diffusers) or architecture (timm), or the folder "
        "that has one. No weights are needed.",
    ),
    ("info", "The library that it is for must be installed beside sdviewer. It is not given the network."),
)


class ConfigPage(TargetPage):
    """A path. The worker reads the fields of what is there."""

    def __init__(self, browse: Browse) -> None:
        super().__init__()
        self._browse = browse
        self.path = QLineEdit()
        self.path.setPlaceholderText("config.json, or the folder of the model")
        self.path.setAccessibleName("Path of the config")
        self.path.setProperty("mono", True)
        self.path.setFixedHeight(30)
        self.path.textChanged.connect(lambda words: self.changed.emit())
        choose, folder = widgets.button("Choose a file…", "open"), widgets.button("Choose a folder…", "open")
        choose.clicked.connect(self._choose)
        folder.clicked.connect(self._choose_folder)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.path, 1)
        row.addWidget(choose)
        row.addWidget(folder)
        self.column.addLayout(row)
        self.column.addStretch(1)

    def question(self) -> Question | None:
        path = self.path.text().strip()
        return Question(path=path) if path else None

    def hints(self) -> Sequence[Sequence[str]]:
        return HINTS

    def foot(self) -> str:
        return FOOT

    def take_file(self, path: str) -> None:
        """A config, or a folder with one."""
        self.path.setText(path)

    def _choose(self) -> None:
        if path := self._browse("Choose the config of the model", CONFIGS):
            self.take_file(path)

    def _choose_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Choose the folder of the model", self.path.text()):
            self.take_file(path)
