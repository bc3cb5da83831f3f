"""One value on each side, and what was added to A to get B."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.heatmap import cell_text
from sdviewer.gui.plots.pair.pair_plot import PairPlot, is_scalar, measured
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Facts

_LINES = (("a", "A"), ("b", "B"), ("d", f"B {text.MINUS} A"))


class ScalarsPlot(PairPlot):
    """Two numbers and their difference, large."""

    name = "scalars"
    title = "Value"
    heading = "Value"
    icon = "scalar"
    main = True

    def __init__(self) -> None:
        super().__init__()
        body = QWidget()
        grid = QGridLayout(body)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        self._heads = {side: widgets.label(words, "second") for side, words in _LINES}
        self.numbers = {side: widgets.label("", "heading") for side, _ in _LINES}
        for row, (side, _) in enumerate(_LINES):
            grid.addWidget(self._heads[side], row, 0)
            grid.addWidget(self.numbers[side], row, 1)
            self.numbers[side].setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        grid.setRowStretch(len(_LINES), 1)
        self.set_body(body)
        self._exact: dict[str, str] = {}

    @staticmethod
    def score(facts: Facts) -> int:
        return 80 if measured(facts) and is_scalar(facts) else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        shown = self.sources(facts)
        places = [[0] * len(facts[side]["shape"]) if side in shown else None for side in ("a", "b")]
        return "pair_value", {"places": places}

    def clear(self) -> None:
        self._exact = {}
        for label in self.numbers.values():
            label.setText("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._exact = {side: str(body[side]) for side, _ in _LINES if body[side]}
        said = []
        for place, (side, name) in enumerate(_LINES):
            there = side in self._exact
            words = cell_text(self._exact[side], float(body["numbers"][place])) if there else ""
            self.numbers[side].setText(words)
            self.numbers[side].setAccessibleName(f"{name}: {words}")
            self.numbers[side].setToolTip(self._exact.get(side, ""))
            self._heads[side].setVisible(there)
            self.numbers[side].setVisible(there)
            if there:
                said.append(f"{name}: {words}")
        self.setAccessibleDescription(", ".join(said))

    def data(self) -> list[Column]:
        """The exact values."""
        return [(name, [self._exact[side]]) for side, name in _LINES if side in self._exact]
