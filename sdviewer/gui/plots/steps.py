"""Lines over the steps of a series: a step is chosen with the pointer or the keys, a line is named at its end."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QFontMetrics, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.scale import Mark, TickText, apart, plain_number, ticks

DOTTED: Final = 40
"""Steps up to which points are drawn on a line."""

DECADES: Final = 1.5
"""Powers of ten between the least and the most from which the axis is logarithmic."""

LABELS: Final = 0.26
"""Share of the width that the names at the ends of lines take at most."""

MARGIN: Final = 0.025
"""The same where no line is named."""

MEASURED: Final = 40
"""Labels whose widths are measured, to know how many fit."""

CROWDED: Final = 24
"""Lines from which each is thin: they are told apart better, and painted in a third of the time."""

SHADES: Final = 12
"""Colours of amounts that lines are drawn in."""

COLUMN: Final = 4
"""Pixels across of which the least and the most are drawn where a line has more points: all of 2,000 take 100 ms."""

NEAR: Final = 40
"""Pixels up and down within which a line is the one that is pointed at."""


class StepLine(NamedTuple):
    """One line: a number for each step that is drawn (NaN where there is none), its colour (a token, or a share of the
    colours of amounts), whether it is named at its end, and words at its end where it stands out."""

    name: str
    values: Sequence[float]
    token: str | float
    named: bool = False
    stands_out: str = ""


class StepMark(NamedTuple):
    """A step that is pointed out for good: in words at its lower end, or at a ring where there is a height."""

    step: int
    words: str
    token: str
    ring: float | None = None
    above: bool = True


class StepPlot(QWidget):
    """The lines. `step_chosen` fires when a step is clicked or chosen with Enter, `pointed` says what is pointed at."""

    step_chosen = Signal(int)
    pointed = Signal(str)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(name)
        self.setMinimumHeight(110)
        self.axes = Axes(plain_number)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.axes)
        self.lines: list[StepLine] = []
        self.steps: list[int] = []
        """The steps that the values are of."""
        self.at = -1
        """Place among them where the keyboard is."""
        self.line = 0
        self._total = 0
        self._marks: list[StepMark] = []
        self._selected: list[int] = []
        self._label: Callable[[int], str] = str
        self._short: Callable[[int], str] = str
        self._number: Callable[[float], str] = text.value
        self._tick_text: TickText = plain_number
        self._said = ""
        self._log = False
        self._span = (0.0, 1.0)
        self._resized = QTimer(self, interval=120, singleShot=True)
        self._resized.timeout.connect(self._draw)
        self.axes.pointed.connect(self._pointed_at)
        self.axes.pressed.connect(self._pressed)

    def show_lines(
        self,
        lines: Sequence[StepLine],
        steps: Sequence[int],
        total: int,
        said: str,
        *,
        label: Callable[[int], str],
        short: Callable[[int], str],
        marks: Sequence[StepMark] = (),
        number: Callable[[float], str] = text.value,
        tick_text: TickText = plain_number,
    ) -> None:
        """Draw other lines over so many steps; `said` is the sentence that describes them.

        `label` is what a step is called, `short` what stands below the axis; `number` writes a value, `tick_text` one
        beside the axis.
        """
        self._label, self._short, self._said = label, short, said
        self._number, self._tick_text = number, tick_text
        self.lines, self.steps, self._total, self._marks = list(lines), list(steps), total, list(marks)
        self.at = min(self.at, len(self.steps) - 1)
        self.line = min(self.line, max(len(self.lines) - 1, 0))
        self._draw()

    def select(self, steps: Sequence[int]) -> None:
        """Show which steps are selected."""
        self._selected = list(steps)
        self._point_out()

    # Drawing

    def _draw(self) -> None:
        axes = self.axes
        axes.start_over()
        numbers = [value for line in self.lines for value in line.values if math.isfinite(value)]
        self.setAccessibleDescription(self._said)
        axes.setAccessibleDescription(self._said)
        if not self.steps or self._total < 1:
            return
        low, high = self._scale(numbers)
        axes.add_columns(self._columns())
        last = max(self._total - 1, 1)
        for mark in self._marks:
            axes.add_mark(float(mark.step), mark.token, dashed=True)
        self._add_shaded()
        for line in sorted(self.lines, key=lambda line: bool(line.stands_out)):
            if isinstance(line.token, str):
                x, y = [float(step) for step in self.steps], [self._height(value) for value in line.values]
                axes.add_line(*thinned(x, y, self.width() // COLUMN), line.token, 2.4 if line.stands_out else 1.5)
                if len(x) <= DOTTED:
                    axes.add_points(x, y, 6, line.token)
        for mark in self._marks:
            self._add_mark(mark, last, low)
        for line in self.lines:
            self._add_words_of(line)
        for words, height, token in self._names():
            axes.add_words(last * 1.015, height, words, token)
        # The names' share is of all that is shown, and what is shown begins a little before the first step.
        room = self._name_room() / max(self.axes.width() - 60, 80)
        axes.set_range((-0.02 * last, last * (1 + 1.04 * room / (1 - room))), (low, high))
        self._point_out()

    def _add_mark(self, mark: StepMark, last: int, low: float) -> None:
        step = float(mark.step)
        beyond = mark.step > last * 0.6
        height = math.nan if mark.ring is None else self._height(mark.ring)
        if not math.isfinite(height):
            self.axes.add_words(step, low, f" {mark.words} ", mark.token, (1.0 if beyond else 0.0, 1.0))
            return
        self.axes.add_rings([step], [height], mark.token)
        side = 1.0 if mark.step > last * 0.85 else 0.0 if mark.step < last * 0.15 else 0.5
        self.axes.add_words(step, height, mark.words, mark.token, (side, 1.55 if mark.above else -0.5))

    def _add_words_of(self, line: StepLine) -> None:
        """What is said of a line that stands out, above its end."""
        known = [at for at, value in enumerate(line.values) if math.isfinite(self._height(value))]
        if line.stands_out and known:
            at = known[-1]
            place, height = float(self.steps[at]), self._height(line.values[at])
            self.axes.add_words(place, height, line.stands_out, str(line.token), (1.0, 1.5))

    def _name_room(self) -> float:
        """Pixels that the names at the ends of lines take."""
        metrics = QFontMetrics(resources.font(resources.SMALL))
        widest = max([metrics.horizontalAdvance(line.name) for line in self.lines if line.named], default=0)
        return min(widest + 16.0, self.width() * LABELS) if widest else self.width() * MARGIN

    def _add_shaded(self) -> None:
        """The lines in the colours of amounts: those of about one shade as one item, as many items are slow to draw."""
        shades: dict[float, tuple[list[float], list[float]]] = {}
        alone: tuple[list[float], list[float]] = [], []
        steps = [float(step) for step in self.steps]
        for line in self.lines:
            if isinstance(line.token, str):
                continue
            x, y = shades.setdefault(round(line.token * SHADES) / SHADES, ([], []))
            heights = [self._height(value) for value in line.values]
            x += [*steps, steps[-1]]
            y += [*heights, math.nan]  # which parts it from the next
            for at in lone(heights):
                alone[0].append(steps[at])
                alone[1].append(heights[at])
        width = 1.5 if len(self.lines) < CROWDED else 1
        for shade, (x, y) in shades.items():
            self.axes.add_line(x, y, shade, width)
        if alone[0]:
            self.axes.add_points(*alone, 4, "neutral")

    def _scale(self, numbers: Sequence[float]) -> tuple[float, float]:
        """Choose a linear or a logarithmic axis, label it; where it begins and ends."""
        positive = [value for value in numbers if value > 0]
        self._log = bool(positive) and min(numbers) >= 0 and math.log10(max(positive) / min(positive)) > DECADES
        if not numbers:
            self._span = 0.0, 1.0
        else:
            self._span = self._powers(min(positive), max(positive)) if self._log else self._linear(numbers)
        return self._span

    def _powers(self, least: float, most: float) -> tuple[float, float]:
        """A logarithmic axis, with room for the words at a line that stands out."""
        bottom, top = math.log10(least), math.log10(most)
        pad = (top - bottom) * 0.08
        low, high = bottom - pad, top + pad * (2.2 if any(line.stands_out for line in self.lines) else 1)
        powers = range(math.floor(low), math.ceil(high) + 1)
        factors = (1, 2, 5) if high - low < 3 else (1,)
        every = max(1, len(powers) // 6)
        levels = [math.log10(factor) + power for power in powers[::every] for factor in factors]
        self.axes.add_levels([y for y in levels if low <= y <= high], lambda y: self._tick_text(round_power(y)))
        return low, high

    def _linear(self, numbers: Sequence[float]) -> tuple[float, float]:
        """A linear axis, with room for the words at a ring or at a line that stands out."""
        bottom, top = min(numbers), max(numbers)
        pad = (top - bottom) * 0.1 or abs(top) * 0.1 or 0.5
        rings = [mark.above for mark in self._marks if mark.ring is not None]
        above = True in rings or any(line.stands_out for line in self.lines)
        low, high = bottom - pad * (2 if False in rings else 1), top + pad * (2 if above else 1)
        self.axes.add_levels(ticks(low, high, 4), self._tick_text)
        return low, high

    def _height(self, value: float) -> float:
        if not self._log:
            return value
        return math.log10(value) if value > 0 else math.nan

    def _columns(self) -> list[tuple[float, str]]:
        """Names of steps below the axis, as many as there is room for."""
        metrics = QFontMetrics(resources.font(resources.SMALL))
        room = max(self.width() - self._name_room() - 50, 60)
        return [(float(at), words) for at, words in labels_along(self._total, self._short, metrics, room)]

    def _names(self) -> list[tuple[str, float, str]]:
        """The names at the ends of lines, moved apart where they would cover each other."""
        metrics = QFontMetrics(resources.font(resources.SMALL))
        ends: list[tuple[float, str, str]] = []
        for line in self.lines:
            known = [self._height(value) for value in line.values if math.isfinite(value)]
            if line.named and known and math.isfinite(known[-1]):
                words = metrics.elidedText(line.name, Qt.TextElideMode.ElideMiddle, round(self._name_room()) - 10)
                ends.append((known[-1], words, line.token if isinstance(line.token, str) else "text2"))
        ends.sort(key=lambda end: -end[0])
        low, high = self._span
        step = (high - low) * (metrics.height() - 1) / max(self.axes.height() - 30, 60)
        places = apart([end[0] for end in ends], step, low, high)
        return [(words, y, token) for y, (_, words, token) in zip(places, ends, strict=True)]

    # Pointer and keys

    def words_at(self, place: int, line: int) -> str:
        """What a line is at a place."""
        if not 0 <= place < len(self.steps) or not 0 <= line < len(self.lines):
            return ""
        value = self.lines[line].values[place]
        number = self._number(value) if math.isfinite(value) else "not known"
        return f"{self._label(self.steps[place])}: {self.lines[line].name} {number}"

    def _place_at(self, x: float) -> int:
        if not self.steps or not math.isfinite(x) or not -0.5 <= x <= self._total - 0.5:
            return -1
        return min(range(len(self.steps)), key=lambda at: abs(self.steps[at] - x))

    def _pointed_at(self, x: float) -> None:
        place = self._place_at(x)
        if place < 0:
            self._point_out()
            self.pointed.emit("")
            return
        self._point_out(self.steps[place])
        step = self._label(self.steps[place])
        told = [line for line in self.lines if line.stands_out or len(self.lines) <= 3]
        known = [
            f"{line.name} {self._number(line.values[place])}" for line in told if math.isfinite(line.values[place])
        ]
        self.pointed.emit(f"{step}: {', '.join(known)}" if known else step)

    def _pressed(self, x: float, y: float) -> None:
        place = self._place_at(x)
        if place >= 0:
            self.at = place
            self.line = self._line_near(place, y)
            self.pointed.emit(self.words_at(place, self.line))
            self.step_chosen.emit(self.steps[place])

    def _line_near(self, place: int, y: float) -> int:
        low, high = self._span
        far = [abs(self._height(line.values[place]) - y) / (high - low) for line in self.lines]
        near = min(range(len(far)), key=lambda at: far[at] if math.isfinite(far[at]) else math.inf, default=0)
        return near if far and far[near] * max(self.axes.height() - 30, 1) < NEAR else self.line

    def _point_out(self, hovered: int = -1) -> None:
        marks = [Mark(float(step), self._short(step), "accent") for step in self._selected]
        if hovered >= 0 and hovered not in self._selected:
            marks.append(Mark(float(hovered), self._label(hovered), "edge"))
        if self.hasFocus() and 0 <= self.at < len(self.steps):
            words = self.words_at(self.at, self.line)
            marks.append(Mark(float(self.steps[self.at]), words, "text"))
        self.axes.point_out(marks)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        if not self.steps or not self.lines:
            super().keyPressEvent(event)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.step_chosen.emit(self.steps[max(self.at, 0)])
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Home, Qt.Key.Key_End):
            last = len(self.steps) - 1
            places = {Qt.Key.Key_Left: self.at - 1, Qt.Key.Key_Right: self.at + 1, Qt.Key.Key_Home: 0}
            self._move(min(max(places.get(Qt.Key(key), last), 0), last), self.line)
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            down = 1 if key == Qt.Key.Key_Down else -1
            self._move(max(self.at, 0), min(max(self.line + down, 0), len(self.lines) - 1))
        else:
            super().keyPressEvent(event)

    def _move(self, place: int, line: int) -> None:
        self.at, self.line = place, line
        words = self.words_at(place, line)
        widgets.describe(self, words)
        self.pointed.emit(words)
        self._point_out()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.at = max(self.at, 0)
        self._point_out()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.setAccessibleDescription(self._said)
        self._point_out()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.steps:
            self._resized.start()  # names and numbers stand by pixels


def thinned(x: Sequence[float], y: Sequence[float], columns: int) -> tuple[list[float], list[float]]:
    """At most the least and the most of each of so many columns, with a gap where nothing is known in one."""
    if len(x) <= 2 * columns:
        return list(x), list(y)
    across: list[float] = []
    heights: list[float] = []
    for column in range(columns):
        start, stop = column * len(x) // columns, (column + 1) * len(x) // columns
        known = [at for at in range(start, stop) if math.isfinite(y[at])]
        ends = sorted({min(known, key=y.__getitem__), max(known, key=y.__getitem__)}) if known else [start]
        across += [x[at] for at in ends]
        heights += [y[at] for at in ends]
    return across, heights


def lone(values: Sequence[float]) -> list[int]:
    """Places of numbers between two that are none, which would not be seen in a line."""
    there = [False, *map(math.isfinite, values), False]
    return [at for at in range(len(values)) if there[at + 1] and not there[at] and not there[at + 2]]


def round_power(y: float) -> float:
    """The number whose logarithm stands on an axis, without what rounding has added: 0.2, not 0.19999999."""
    return float(f"{10**y:.6g}")


def labels_along(total: int, short: Callable[[int], str], metrics: QFontMetrics, room: float) -> list[tuple[int, str]]:
    """So many of the labels of steps as fit side by side, evenly."""
    words = [short(step) for step in range(total)]
    # Measured are only the longest: all of 2,000 take 5 ms.
    widest = max(map(metrics.horizontalAdvance, heapq.nlargest(MEASURED, words, key=len)), default=8)
    widest = min(widest, round(room / 3)) + 12
    steps = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500)
    every = next((step for step in steps if total / step * widest <= room), 1000)
    # Counted so that numbers stand below which are round.
    offset = max(range(min(every, total)), key=lambda at: (_zeros(words[at]), -at), default=0)
    return [
        (at, metrics.elidedText(words[at], Qt.TextElideMode.ElideMiddle, widest - 8))
        for at in range(offset, total, every)
    ]


def _zeros(words: str) -> int:
    """How round a number is that a label says."""
    return len(words) - len(words.rstrip("0")) if words.isdecimal() else 0
