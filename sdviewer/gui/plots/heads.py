"""Attention heads as cells: which is dead, which dominates?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent

from sdviewer.core import text
from sdviewer.gui import resources
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.boundaries import Part, parts_along
from sdviewer.gui.plots.cell_grid import CellGrid
from sdviewer.gui.plots.cell_plot import CellPlot
from sdviewer.gui.plots.numbers import floats, has_numbers, whole_numbers
from sdviewer.gui.plots.picture import Column
from sdviewer.gui.plots.plot import Facts, Index, SlicePart
from sdviewer.gui.widgets import Chip, Segments

MOST_CELLS = 2048
_FOOT = 18
_GAP = 3.0
_MEASURES = {"norms": "mean row norm per head", "stds": "std per head"}


class Head(NamedTuple):
    """A run of rows along an axis: the head number `number` of the part in row `row` of the picture."""

    row: int
    number: int
    start: int
    stop: int


class HeadGrid(CellGrid):
    """A row for each of Q, K and V, a column for each head; each cell has its number in it."""

    def __init__(self) -> None:
        super().__init__("Attention heads")
        self._names: list[str] = []
        self._places: dict[int, int] = {}
        self._values: list[float] = []
        self._columns = 0

    def show_heads(self, names: list[str], heads: list[Head], values: list[float]) -> None:
        """The rows' names, and the value of each head."""
        self._names, self._values = names, values
        self._columns = max((head.number + 1 for head in heads), default=0)
        self._places = {head.row * self._columns + head.number: i for i, head in enumerate(heads)}
        self.update()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._names), self._columns

    def has_cell(self, cell: int) -> bool:
        return cell in self._places

    def head_of(self, cell: int) -> int:
        """Which head a cell shows."""
        return self._places[cell]

    def cell_of(self, head: int) -> int:
        """Where a head is shown, -1 for none."""
        return next((cell for cell, i in self._places.items() if i == head), -1)

    def _area(self) -> QRectF:
        metrics = self.fontMetrics()
        left = max((metrics.horizontalAdvance(name) for name in self._names), default=0)
        return QRectF(self.rect()).adjusted(left + 12 if left else 0, 0, 0, -_FOOT)

    def cell_rect(self, cell: int) -> QRectF:
        row, column = divmod(cell, self._columns)
        area = self._area()
        gap = _GAP if area.width() / self._columns >= 12 else 1.0
        width = (area.width() - gap * (self._columns - 1)) / self._columns
        height = (area.height() - _GAP * (len(self._names) - 1)) / len(self._names)
        return QRectF(area.left() + column * (width + gap), area.top() + row * (height + _GAP), width, height)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        most = max((value for value in self._values if math.isfinite(value)), default=0.0)
        font = resources.font(resources.NOTE)
        painter.setFont(font)
        texts = texts_of(self._values)
        widest = max((painter.fontMetrics().horizontalAdvance(words) for words in texts), default=0)
        for cell, i in self._places.items():
            rect, value = self.cell_rect(cell), self._values[i]
            fill = colours.amount(0.75 * value / most if most else 0) if math.isfinite(value) else resources.colour("S")
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(fill)
            painter.drawRoundedRect(rect, 3, 3)
            if widest + 4 <= rect.width():
                painter.setPen(colours.readable(fill))
                painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter), texts[i])
        self._paint_names(painter)
        self.paint_current(painter)

    def _paint_names(self, painter: QPainter) -> None:
        if not self._columns:
            return
        painter.setPen(resources.colour("text2"))
        painter.setFont(resources.font(resources.NOTE))
        for row, name in enumerate(self._names):
            rect = self.cell_rect(row * self._columns)
            place = QRectF(0, rect.top(), max(rect.left() - 8, 0), rect.height())
            painter.drawText(place, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), name)
        painter.setFont(resources.font(resources.SMALL))
        room = painter.fontMetrics().horizontalAdvance(f"{self._columns - 1}") + 8
        step = next((n for n in (1, 2, 4, 8, 16, 32, 64) if self.cell_rect(0).width() * n >= room), self._columns)
        for column in range(0, self._columns, step):
            middle = self.cell_rect(column).center().x()
            place = QRectF(middle - 20, self.height() - _FOOT + 3, 40, _FOOT - 3)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop), str(column))


class HeadsPlot(CellPlot):
    """Q, K and V of each head, where the tensor's role knows where these are."""

    name = "heads"
    title = "Heads"
    heading = "Attention heads"
    icon = "dict"

    def __init__(self) -> None:
        super().__init__()
        self._measure = "norms"
        self._names: list[str] = []
        self._heads: list[Head] = []
        self._values: list[float] = []
        self._dead = Chip("", "warn", "warn")
        self._what = Chip("").only_says()
        self.measure = Segments((("norms", "Row norm", ""), ("stds", "std", "")), "What is measured")
        self.measure.choose("norms")
        self.measure.chosen.connect(self._set_measure)
        self.add_note(self._dead)
        self.add_choice(self._what, self.measure)
        self.grid = HeadGrid()
        self.set_grid(self.grid)

    @staticmethod
    def score(facts: Facts) -> int:
        shape = facts.get("shape") or ()
        return 72 if len(shape) == 2 and has_numbers(facts) and heads_of(facts)[1] else 0

    def begin(self, facts: Facts) -> None:
        self._names, self._heads = heads_of(facts)

    def request(self, facts: Facts) -> tuple[str, dict[str, Any]]:
        spans = [[head.start, head.stop] for head in self._heads]
        return "heads", {"axis": facts["role"]["heads"]["axis"], "spans": spans}

    def clear(self) -> None:
        self.grid.show_heads([], [], [])
        self.grid.setAccessibleDescription("")

    def draw(self, body: Body, buffers: Buffers) -> None:
        self._values = floats(buffers[self._measure])
        dead = whole_numbers(buffers["dead"])
        self.grid.show_heads(self._names, self._heads, self._values)
        heads = self._facts.get("role", {}).get("heads") or {}
        several = "rows" if heads.get("axis") == 0 else "columns"
        self.subtitle.setText(_MEASURES[self._measure].replace("row", several[:-1]))
        self._what.setText(f"{int(heads.get('count', 0)):,} × {int(heads.get('size', 0)):,} {several}")
        whole = sum(n == head.stop - head.start for n, head in zip(dead, self._heads, strict=True))
        self._dead.setText(f"{text.plural(whole, 'dead head')}")
        self._dead.setVisible(whole > 0)
        self.grid.setAccessibleDescription(self._description(whole))

    def data(self) -> list[Column]:
        """Of each head where it lies, what is drawn of it, and its dead rows."""
        if self._answer is None:
            return []
        several = "row" if int(self._facts["role"]["heads"]["axis"]) == 0 else "column"
        heads = self._heads
        return [
            ("block", [self._names[head.row] for head in heads]),
            ("head", [head.number for head in heads]),
            (f"first {several}", [head.start for head in heads]),
            (f"last {several}", [head.stop - 1 for head in heads]),
            (_MEASURES[self._measure].replace("row", several).removesuffix(" per head"), self._values),
            (f"dead {several}s", whole_numbers(self._answer[1]["dead"])),
        ]

    def _description(self, dead: int) -> str:
        words = f"{text.plural(len(self._heads), 'block')} of attention heads, {_MEASURES[self._measure]}"
        finite = [(value, head) for value, head in zip(self._values, self._heads, strict=True) if math.isfinite(value)]
        if finite:
            (least, first), (most, last) = min(finite), max(finite)
            words += (
                f", from {text.value(least)} in {self._called(first)} to {text.value(most)} in {self._called(last)}"
            )
        return f"{words}, {text.plural(dead, 'dead head')}" if dead else words

    def _called(self, head: Head) -> str:
        name = self._names[head.row]
        return f"{name} {head.number}" if name else f"head {head.number}"

    def _set_measure(self, measure: str) -> None:
        self._measure = measure
        self._draw_answer()

    def mark(self, cell: Index) -> None:
        """Show the head of an element that is pointed at elsewhere."""
        if self._answer is None:
            return
        axis = (self._facts.get("role") or {}).get("heads", {}).get("axis", 0) if self._heads else 0
        at = cell[axis] if axis < len(cell) else -1
        place = next((i for i, head in enumerate(self._heads) if head.start <= at < head.stop), -1)
        self.grid.show_current(self.grid.cell_of(place))

    def words_of(self, cell: int) -> str:
        place = self.grid.head_of(cell)
        head = self._heads[place]
        what = _MEASURES[self._measure].removesuffix(" per head")
        axis = int(self._facts["role"]["heads"]["axis"])
        which = ("rows", "columns")[axis]
        return f"{self._called(head)}, {which} {head.start} – {head.stop - 1}: {what} {text.value(self._values[place])}"

    def slice_of(self, cell: int) -> SlicePart:
        head = self._heads[self.grid.head_of(cell)]
        along = (head.start, head.stop)
        rows, columns = (int(size) for size in self._facts["shape"])
        by_rows = int(self._facts["role"]["heads"]["axis"]) == 0
        part = (along, (0, columns)) if by_rows else ((0, rows), along)
        return SlicePart((0, 1), (0, 0), *part)


def heads_of(facts: Facts) -> tuple[list[str], list[Head]]:
    """The names of the rows of the picture, and the heads, from what is known of a tensor's role."""
    heads = (facts.get("role") or {}).get("heads")
    shape = facts.get("shape") or ()
    if not heads or not 0 <= int(heads["axis"]) < len(shape) or int(heads["size"]) < 1:
        return [], []
    axis, size, length = int(heads["axis"]), int(heads["size"]), int(shape[int(heads["axis"])])
    parts = parts_along(facts, axis) or [Part("", 0, min(int(heads["count"]) * size, length))]
    found = [
        Head(row, number, start + number * size, start + (number + 1) * size)
        for row, (_, start, stop) in enumerate(parts)
        for number in range((stop - start) // size)
    ]
    return ([name for name, _, _ in parts], found) if len(found) <= MOST_CELLS else ([], [])


def texts_of(values: Sequence[float]) -> list[str]:
    """Numbers of as few digits, two to four, as tell most of them apart: heads are often nearly alike."""
    different = len({value for value in values if math.isfinite(value)})
    texts = [_text(value, 2) for value in values]
    for digits in (3, 4):
        if 4 * len(set(texts)) < 3 * different:
            texts = [_text(value, digits) for value in values]
    return texts


def _text(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 0.01 or abs(value) >= 1000:
        words = f"{value:.{digits - 2}e}".replace("e-0", "e-").replace("e+0", "e")
    else:
        whole = len(f"{abs(value):.0f}") if abs(value) >= 1 else 0
        words = f"{value:.{max(digits - whole, 0)}f}"
    return words.replace("-", text.MINUS)
