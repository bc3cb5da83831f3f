"""A tensor of one value, large; and of none, in words."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots.heatmap import cell_text
from sdviewer.gui.plots.numbers import floats, has_values
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Facts, Plot

_SIZE = 44


class BigNumber(QWidget):
    """One line of text as large as it fits."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(resources.px(_SIZE) * 2)
        self._words = ""

    def say(self, words: str) -> None:
        """Show this."""
        self._words = words
        self.setAccessibleName(words)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(resources.colour("text"))
        size = _SIZE
        painter.setFont(resources.font(size, 500))
        while painter.fontMetrics().horizontalAdvance(self._words) > self.width() and size > resources.BASE:
            size -= 2
            painter.setFont(resources.font(size, 500))
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), self._words)


class ScalarPlot(Plot):
    """One big number, below it the exact one as it is stored."""

    name = "scalar"
    title = "Value"
    heading = "Value"
    icon = "scalar"

    def __init__(self) -> None:
        super().__init__()
        self.big = BigNumber()
        self._exact = widgets.label("", "mono")
        self._exact.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._exact.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._exact.setWordWrap(True)
        self._scale = widgets.label("", "second")
        self._scale.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._scale.hide()
        self._copy = widgets.button("Copy", "copy")
        self._copy.clicked.connect(lambda: widgets.copy_text(self._exact.text()))
        self._copy.hide()
        self.add_control(self._copy)
        body = QWidget()
        column = QVBoxLayout(body)
        column.addStretch(1)
        column.addWidget(self.big)
        column.addWidget(self._exact)
        column.addWidget(self._scale)
        column.addStretch(1)
        self.set_body(body)

    @staticmethod
    def score(facts: Facts) -> int:
        return 85 if has_values(facts) and math.prod(facts.get("shape") or ()) <= 1 else 0

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        shape = facts.get("shape") or ()
        axes = {"x": None, "y": None} if not shape else {"x": len(shape) - 1, "y": None}
        return "values", {**axes, "index": [0] * len(shape), "row0": 0, "rows": 1, "col0": 0, "cols": 1}

    def data(self) -> list[Column]:
        """The one value, all its digits."""
        texts = self._answer[0]["texts"] if self._answer is not None else []
        return [("value", [str(words) for words in texts])] if texts else []

    def clear(self) -> None:
        for part in (self._copy, self.big, self._exact, self._scale):
            part.hide()
        self.big.say("")
        self.setAccessibleDescription("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        shape = tuple(self._facts.get("shape") or ())
        dtype = text.visible(str(self._facts.get("dtype") or ""), 40)
        self.subtitle.setText(f"{text.shape(shape)}, {dtype}" if shape else dtype)
        texts = [str(words) for words in body["texts"]]
        self._copy.setVisible(bool(texts))
        self.big.setVisible(bool(texts))
        self._exact.setVisible(bool(texts))
        if not texts:
            sentence = f"A tensor of shape {text.shape(shape)} holds no values."
            self.say(sentence)
        else:
            exact, number = texts[0], floats(buffers["numbers"])[0]
            whole = exact.lstrip("-").isdigit() and len(exact) < 24
            self.big.say(text.value(int(exact)) if whole else cell_text(exact, number))
            self._exact.setText(text.visible(exact, 200))
            sentence = f"The value is {exact}{self._say_scale(number)}"
        self.setAccessibleDescription(text.visible(sentence, 200))

    def _say_scale(self, number: float) -> str:
        """What a number that scales something only when divided comes to, as for an alpha by the rank of its pair."""
        over = int((self._facts.get("role") or {}).get("over") or 0)
        words = f"{text.value(number)} / {text.count(over)} = {text.value(number / over)}" if over else ""
        self._scale.setText(f"scale {words}")
        self._scale.setVisible(bool(over))
        return f", the scale {words}" if over else ""
