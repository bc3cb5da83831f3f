"""How many pairs have which status, and how many another name in B; a click shows only those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from sdviewer.core import text
from sdviewer.gui.flow import FlowLayout
from sdviewer.gui.models.compare_model import BY_NAME
from sdviewer.gui.plain import plain_tip
from sdviewer.gui.widgets import Chip

TITLES: Final[Mapping[str, str]] = {
    "changed": "Changed",
    "identical": "Identical",
    "close": "Close",
    "shape": "Shape differs",
    "dtype": "Type differs",
    "only_a": "Only in A",
    "only_b": "Only in B",
    "value": "Values",
    "ignored": "Ignored",
    "unreadable": "Unreadable",
    "renamed": "Renamed",
}
"""Those that are renamed have a status too: with chips of both kinds what is shown is both."""
ICONS: Final[Mapping[str, str]] = {"renamed": "rename"}
BY: Final[Mapping[str, str]] = {
    "prefix": "after an exchange of prefixes",
    "content": "by equal content",
    "hand": "by hand",
}
"""In words what paired tensors of different names."""
TONES: Final[Mapping[str, str]] = {"shape": "shape", "only_a": "a", "only_b": "b", "unreadable": "shape"}
ALWAYS: Final = ("changed", "identical")
ROOM_FOR_ALL_DIGITS: Final = 10_000


class StatusChips(QWidget):
    """`chosen` tells what is to be shown alone, by the names of `TITLES`; none for all."""

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        row = FlowLayout(6)
        self.setLayout(row)
        self.all = Chip("All")
        self.all.setCheckable(True)
        self.all.setChecked(True)
        self.all.clicked.connect(lambda: self.choose(()))
        row.addWidget(self.all)
        self.chips: dict[str, Chip] = {}
        for name, title in TITLES.items():
            chip = self.chips[name] = Chip(title, TONES.get(name, ""), ICONS.get(name) or BY_NAME[name].icon)
            chip.setCheckable(True)
            chip.clicked.connect(self._clicked)
            if name not in ALWAYS:
                chip.hide()
            row.addWidget(chip)

    def show_counts(self, counts: Mapping[str, int], pairs: int) -> None:
        """How many there are of each."""
        self.all.setText(f"All  {self._number(pairs)}")
        for name, chip in self.chips.items():
            n = int(counts.get(name, 0))
            words = f"{TITLES[name]}  {self._number(n)}"
            if chip.text() != words:
                chip.setText(words)
                chip.setAccessibleName(f"{TITLES[name]}, {text.plural(n, 'value' if name == 'value' else 'pair')}")
            chip.setVisible(bool(n) or name in ALWAYS or chip.isChecked())

    def show_renamed(self, by: Mapping[str, int]) -> None:
        """Say what paired those of different names."""
        lines = [f"{text.plural(n, 'pair')} {BY[name]}" for name, n in by.items() if name in BY]
        self.chips["renamed"].setToolTip(plain_tip("\n".join(["Another name in B", *lines])))

    def _number(self, n: int) -> str:
        return text.count(n) if n < 100 * ROOM_FOR_ALL_DIGITS else text.short_count(n)

    def choose(self, names: tuple[str, ...]) -> None:
        """Show only pairs of these statuses."""
        for name, chip in self.chips.items():
            chip.setChecked(name in names)
        self._clicked()

    def showing(self) -> list[str]:
        """The statuses that are shown alone."""
        return [name for name, chip in self.chips.items() if chip.isChecked()]

    def _clicked(self) -> None:
        names = self.showing()
        self.all.setChecked(not names)
        self.chosen.emit(names)
