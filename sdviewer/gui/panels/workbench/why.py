"""Why a row is what it is: what speaks for a pair, how the values are spread, and what can be done by hand."""

from __future__ import annotations

import math
from typing import Any, Final

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.workbench.choices import ChoicesView
from sdviewer.gui.widgets import Elided, IconLabel

TITLES: Final = {
    "collision": "Why do they collide?",
    "will_match": "Why this pair?",
    "match": "Why this pair?",
    "shape": "Why this pair?",
    "missing": "Why is it missing?",
    "unexpected": "Why is it unexpected?",
    "will_leave": "Why may it be missing?",
    "left": "Why may it be missing?",
    "will_drop": "Why does it go?",
    "dropped": "Why is it gone?",
}
ICONS: Final = {"ok": ("check", "ok"), "info": ("info", "text2"), "warn": ("warn", "warn")}
MOST: Final = 4
"""Reasons that have room."""


class SmallHistogram(QWidget):
    """A tensor's values in a few bars."""

    def __init__(self) -> None:
        super().__init__()
        self._shares: list[float] = []
        self.setFixedSize(162, 44)
        self.setAccessibleName("Distribution of the values")

    def show_counts(self, counts: list[int], words: str) -> None:
        """Bars of these heights."""
        most = max(counts, default=0)
        self._shares = [n / most for n in counts] if most else []
        self.setAccessibleDescription(words)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(162, 44)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(resources.colour("Af"))
        painter.setOpacity(0.62)
        high = self.height() - 1
        step = self.width() / max(len(self._shares), 1)
        for at, share in enumerate(self._shares):
            if share:
                tall = max(share * high, 1.0)
                painter.drawRect(QRectF(at * step, high - tall, step + 0.2, tall))
        painter.setOpacity(1.0)
        painter.fillRect(0, high, self.width(), 1, resources.colour("border2"))


class WhyPanel(QWidget):
    """Below the table."""

    def __init__(self) -> None:
        super().__init__()
        self.title = widgets.label("", "strong")
        self._rows = [(IconLabel("check", 15, "ok"), Elided("", "second")) for _ in range(MOST)]
        self.values = widgets.label("Values", "strong")
        self.numbers = widgets.label("", "note")
        self.histogram = SmallHistogram()
        self.rename = widgets.button("Rename this key…", "rename")
        self.pair = widgets.button("Pair with another key…", "link")
        self.drop = widgets.button("Drop this key", "trash")
        self.rename.setToolTip("Type what it is called (F2)")
        self.pair.setToolTip("Choose by hand what belongs to it (Ctrl+L)")
        self.drop.setToolTip("Leave it out of the saved copy: the model keeps its own (Del)")
        self.choices = ChoicesView()
        self._lay_out()
        self.setFixedHeight(124)
        self.forget()

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        for at, (icon, words) in enumerate(self._rows):
            grid.addWidget(icon, at, 0)
            grid.addWidget(words, at, 1)
        grid.setColumnStretch(1, 1)
        reasons = QVBoxLayout()
        reasons.setSpacing(4)
        reasons.addWidget(self.title)
        reasons.addLayout(grid)
        reasons.addStretch(1)
        spread = QVBoxLayout()
        spread.setSpacing(2)
        spread.addWidget(self.values)
        spread.addWidget(self.numbers)
        spread.addWidget(self.histogram)
        spread.addStretch(1)
        acts = QVBoxLayout()
        acts.setSpacing(6)
        for button in (self.rename, self.pair, self.drop):
            button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
            widgets.set_property(button, "small", True)
            acts.addWidget(button, 0, Qt.AlignmentFlag.AlignRight)
        acts.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 14, 6)
        row.setSpacing(24)
        row.addLayout(reasons, 5)
        self._spread = row.count()
        row.addLayout(spread, 2)
        row.addWidget(self.choices, 6)
        self._row = row
        self._gap = row.count()
        row.addStretch(1)
        row.addLayout(acts)

    def forget(self) -> None:
        """Nothing is selected."""
        self.title.setText("Select a row to see why it is what it is")
        for icon, words in self._rows:
            icon.hide()
            words.setText("")
        self.forget_values()
        for button in (self.rename, self.pair, self.drop):
            button.hide()
        self.choices.show_choices({}, [], -1)

    def forget_values(self) -> None:
        """Nothing is known of its values yet."""
        self.values.hide()
        self.numbers.setText("")
        self.histogram.hide()

    def show_why(self, why: Body, tried: int = -1) -> None:
        """Tell what is known of a row (WHY of engine.workbench); `tried` is the choice that is previewed."""
        if not why["status"]:
            self.forget()
            return
        self.title.setText(TITLES[str(why["status"])])
        for (icon, words), reason in zip(self._rows, [*why["reasons"], *[None] * MOST], strict=False):
            icon.setVisible(reason is not None)
            words.setText("" if reason is None else str(reason[1]))
            if reason is not None:
                icon.set_icon(*ICONS[str(reason[0])])
        self.forget_values()
        self.rename.setVisible(bool(why["edits"]) and why["status"] in ("collision", "unexpected"))
        self.pair.setVisible(bool(why["pairs"]))
        choices = list(why["choices"])
        self.drop.setVisible(bool(why["drops"]) and not choices)  # it is one of them
        self.choices.show_choices(why["about"], choices, tried)
        self._row.setStretch(self._gap, 0 if choices else 1)
        self._row.setStretch(self._spread, 0 if choices else 2)

    def show_values(self, body: Body, buffers: Buffers) -> None:
        """How the values of the file's tensor are spread (`glance` of engine.numbers)."""
        if self.choices.isVisibleTo(self):
            return  # there is no room for both
        summary, found = body["summary"], body["histogram"]
        parts = [f"{name} {_number(summary.get(name))}" for name in ("std", "mean") if summary.get(name) is not None]
        if int(found["nan"]):
            parts.append(f"{int(found['nan']):,} NaN")
        counts: Any = buffers["value_counts" if found["values"] else "counts"].cast("B").cast("q").tolist()
        words = ", ".join(parts)
        self.numbers.setText("   ".join(parts))
        self.histogram.show_counts(counts, words)
        self.values.show()
        self.histogram.setVisible(bool(counts))


def _number(value: object) -> str:
    number = float(value)  # type: ignore[arg-type]  # JSON has infinity as a word
    return text.value(number) if math.isfinite(number) else str(number)
