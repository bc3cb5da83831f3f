"""All commands with their keys, from the table of actions."""

from __future__ import annotations

from PySide6.QtWidgets import QDialog, QFrame, QGridLayout, QScrollArea, QVBoxLayout, QWidget

from sdviewer.gui import widgets
from sdviewer.gui.actions import ACTIONS, MENUS, sequences
from sdviewer.gui.widgets import KeyHint

TREE_KEYS = (
    ("Expand, or go in", "Right"),
    ("Collapse, or go to the parent", "Left"),
    ("Expand all below", "*"),
    ("Collapse all below", "-"),
    ("Find by typing", "A … Z"),
    ("Views of a tensor", "1 … 5"),
)

RECIPE_KEYS = (
    ("Switch a step off or on", "Space"),
    ("Edit a step", "Return"),
    ("Take a step out", "Del"),
    ("Move a step", "Alt+Up   Alt+Down"),
)


class ShortcutsDialog(QDialog):
    """A list to read."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Shortcuts")
        self.resize(460, 620)
        grid = QGridLayout()
        grid.setContentsMargins(18, 14, 18, 14)
        grid.setVerticalSpacing(6)
        row = 0
        for menu in MENUS:
            entries = [entry for entry in ACTIONS if entry.menu == menu and sequences(entry)]
            row = self._group(
                grid,
                row,
                menu.replace("&", ""),
                [
                    (
                        entry.text.replace("&", "").rstrip("…"),
                        "   ".join(key.toString(key.SequenceFormat.NativeText) for key in sequences(entry)),
                    )
                    for entry in entries
                ],
            )
        row = self._group(grid, row, "Tree", list(TREE_KEYS))
        self._group(grid, row, "Recipe", list(RECIPE_KEYS))
        grid.setColumnStretch(0, 1)
        inside = QWidget()
        inside.setLayout(grid)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setWidget(inside)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scroll)

    def _group(self, grid: QGridLayout, row: int, title: str, entries: list[tuple[str, str]]) -> int:
        grid.addWidget(widgets.label(title, "title"), row, 0)
        for offset, (words, keys) in enumerate(entries, 1):
            grid.addWidget(widgets.label(words), row + offset, 0)
            grid.addWidget(KeyHint(keys), row + offset, 1)
        grid.setRowMinimumHeight(row + len(entries) + 1, 8)
        return row + len(entries) + 2
