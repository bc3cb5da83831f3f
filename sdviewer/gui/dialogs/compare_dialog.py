"""Asking which two files are compared: those that are open, those opened before, or any other. Returns two paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.badge import Badge
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Choice

MOST_OFFERED = 16
"""Files that are offered without a file dialog."""


class CompareDialog(QDialog):
    """A and B; `browse` asks for any file and answers with its path or ""."""

    def __init__(
        self,
        parent: QWidget,
        known: Sequence[str],
        a: str,
        b: str,
        browse: Callable[[], str],
        steps: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`steps`: how many steps the recipe of an open file has, which can be carried out on A first."""
        super().__init__(parent)
        self._steps = steps
        self.with_recipe = QCheckBox()
        self.with_recipe.setChecked(True)
        self.setWindowTitle("Compare")
        self.setModal(True)
        self.setMinimumWidth(620)
        self._browse = browse
        self._fields = {"A": self._field("A", known, a), "B": self._field("B", known, b)}
        self.compare = widgets.button("Compare", "compare", primary=True)
        self.compare.setDefault(True)
        self.compare.clicked.connect(self.accept)
        cancel = widgets.button("Cancel")
        cancel.clicked.connect(self.reject)
        grid = QGridLayout()
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(8)
        for row, (letter, field) in enumerate(self._fields.items()):
            grid.addWidget(Badge(letter), row, 0)
            grid.addWidget(field, row, 1)
            other = widgets.button("Choose…", "open")
            other.setAccessibleName(f"Choose a file as {letter}")
            other.clicked.connect(lambda _=False, letter=letter: self._choose(letter))
            grid.addWidget(other, row, 2)
        grid.addWidget(self.with_recipe, len(self._fields), 1)
        grid.setColumnStretch(1, 1)
        foot = QHBoxLayout()
        hint = widgets.label("Both files are only read, and nothing in them is run.", "hint")
        foot.addWidget(hint, 1)
        foot.addWidget(cancel)
        foot.addWidget(self.compare)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 16, 18, 14)
        column.setSpacing(14)
        column.addWidget(widgets.label("Compare two checkpoints", "path"))
        column.addLayout(grid)
        column.addLayout(foot)
        self._changed()

    def _field(self, letter: str, known: Sequence[str], chosen: str) -> Choice:
        field = Choice(f"File {letter}")
        field.addItem("Choose a file", "")
        for path in list(dict.fromkeys([*([chosen] if chosen else []), *known]))[:MOST_OFFERED]:
            self._offer(field, path)
        field.setCurrentIndex(max(field.findData(chosen), 0))
        field.currentIndexChanged.connect(self._changed)
        return field

    def _offer(self, field: Choice, path: str) -> None:
        name, folder = Path(path).name or path, str(Path(path).parent)
        field.addItem(text.visible(f"{name}  —  {folder}", 160), path)
        field.setItemData(field.count() - 1, plain_tip(text.visible(path, 400)), Qt.ItemDataRole.ToolTipRole)

    def _choose(self, letter: str) -> None:
        path = self._browse()
        if not path:
            return
        field = self._fields[letter]
        if field.findData(path) < 0:
            self._offer(field, path)
        field.setCurrentIndex(field.findData(path))

    def _changed(self) -> None:
        if hasattr(self, "compare"):
            self.compare.setEnabled(all(self.paths()))
            n = self._steps.get(self.paths()[0], 0)
            self.with_recipe.setVisible(bool(n))
            self.with_recipe.setText(f"&Carry out the recipe of A first ({text.plural(n, 'step')})")

    def paths(self) -> tuple[str, str]:
        """A and B, "" for one that is not chosen."""
        a, b = (str(field.currentData() or "") for field in self._fields.values())
        return a, b

    @property
    def carries_out(self) -> bool:
        """Whether the recipe of A is carried out on it first."""
        return self.with_recipe.isChecked() and self._steps.get(self.paths()[0], 0) > 0


def ask(
    parent: QWidget, known: Sequence[str], a: str, b: str, browse: Callable[[], str], steps: Mapping[str, int]
) -> tuple[str, str, bool] | None:
    """Both paths and whether the recipe of A is carried out first; None where nothing is compared."""
    dialog = CompareDialog(parent, known, a, b, browse, steps)
    chosen = (*dialog.paths(), dialog.carries_out) if dialog.exec() else None
    dialog.deleteLater()
    return chosen
