"""How many values of a bool tensor are true and how many false: masks, flags."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.numbers import has_numbers, long_axes, whole_numbers
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Facts, Plot

_HEIGHT = 26
_GAP = 14


class TruthBars(QWidget):
    """Two bars with their counts and shares; told apart by their names, not by their colours."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("True and false")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(150, 2 * _HEIGHT + _GAP)
        self._counts: tuple[int, int] = (0, 0)

    def show_counts(self, true: int, false: int) -> None:
        """How many are true and how many false."""
        self._counts = (true, false)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        total = sum(self._counts)
        if not total:
            return
        painter.setFont(resources.font(resources.BASE))
        metrics = painter.fontMetrics()
        said = [f"{text.count(n)}  ·  {text.percent(n / total)}" for n in self._counts]
        left = metrics.horizontalAdvance("False") + 12
        right = max(metrics.horizontalAdvance(words) for words in said) + 12
        top = (self.height() - 2 * _HEIGHT - _GAP) / 2
        for row, (name, n, token) in enumerate(zip(("True", "False"), self._counts, ("Af", "neutral"), strict=True)):
            y = top + row * (_HEIGHT + _GAP)
            painter.setPen(resources.colour("text"))
            middle = int(Qt.AlignmentFlag.AlignVCenter)
            painter.drawText(QRectF(0, y, left - 12, _HEIGHT), middle | int(Qt.AlignmentFlag.AlignRight), name)
            track = QRectF(left, y, max(self.width() - left - right, 20), _HEIGHT)
            painter.drawText(QRectF(track.right() + 12, y, right, _HEIGHT), middle, said[row])
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(resources.colour("sunk"))
            painter.drawRoundedRect(track, 4, 4)
            if n:
                # A count of one among a million is still seen.
                painter.setBrush(resources.colour(token))
                painter.drawRoundedRect(
                    QRectF(track.topLeft(), track.size()).adjusted(
                        0, 0, -track.width() * (1 - max(n / total, 2 / track.width())), 0
                    ),
                    4,
                    4,
                )


class TruthPlot(Plot):
    """Counts of true and false with their shares."""

    name = "truth"
    title = "True & false"
    heading = "True and false"
    icon = "check"

    def __init__(self) -> None:
        super().__init__()
        self._bars = TruthBars()
        self._counts = (0, 0)
        self.set_body(self._bars)

    @staticmethod
    def score(facts: Facts) -> int:
        return 82 if facts.get("dtype") == "bool" and has_numbers(facts) and long_axes(facts) else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        return "overview", {"bins": 2}

    def data(self) -> list[Column]:
        """Both counts with their shares."""
        if self._answer is None:
            return []
        total = max(sum(self._counts), 1)
        return [
            ("value", [True, False]),
            ("count", list(self._counts)),
            ("share", [count / total for count in self._counts]),
        ]

    def clear(self) -> None:
        self._bars.show_counts(0, 0)
        self._bars.setAccessibleDescription("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        found = body["histogram"]
        counts = dict(zip(found["values"], whole_numbers(buffers["value_counts"]), strict=True))
        true, false = self._counts = counts.get(1, 0), counts.get(0, 0)
        self._bars.show_counts(true, false)
        self.subtitle.setText(text.plural(true + false, "value"))
        share = text.percent(true / max(true + false, 1))
        self._bars.setAccessibleDescription(
            f"{text.count(true)} true ({share}) and {text.count(false)} false of {text.count(true + false)} values"
        )
