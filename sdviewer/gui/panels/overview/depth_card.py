"""Across depth: one number of each component over the blocks of a model, a line a component, named at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent, QFontMetrics, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.scale import Mark, apart, plain_number, ticks
from sdviewer.gui.widgets import Card, Choice, Segments

MEASURES: Final = (("std", "std", ""), ("norm", "Norm", ""), ("mean", "Mean", ""), ("largest", "Max |x|", ""))
KINDS: Final = (("weights", "Weights", ""), ("vectors", "Vectors", ""))
WORDS: Final = {"std": "std", "norm": "L2 norm", "mean": "mean", "largest": "largest |x|"}
TOKENS: Final = resources.SERIES
"""One for each line, in the order of the largest."""
DOTTED: Final = 64
"""Blocks up to which points are drawn on the lines."""
LABELS: Final = 0.16
"""Share of the width that the names at the ends of the lines take."""
NEAR: Final = 14
"""Pixels from a point within which a click means it."""
BEYOND: Final = 1.0
"""How far a band may widen what is shown to each side, in spans of the lines: else all of them would be flat."""

Ends = tuple[float, float]
Bands = Mapping[int, Body | None]
"""Place -> what `stats.row_band` tells of the tensor there."""


class DepthCard(Card):
    """The lines of one series. `asked` fires when another series, number or kind is wanted.

    `band_asked` fires when another line is to have its band: of the chosen line, between what numbers the middle nine
    tenths of the rows lie.
    """

    asked = Signal()
    band_asked = Signal()
    row_chosen = Signal(int)
    pointed = Signal(str)
    measure_chosen = Signal(str)

    def __init__(self, measure: str) -> None:
        super().__init__("Across depth")
        self.measure = measure if measure in WORDS else "std"
        self.kind = "weights"
        self.number = 0
        self.band: Bands = {}
        self._body: Body = {}
        self._mark: Body | None = None
        self.series = Choice("Blocks")
        self.series.setFixedWidth(180)
        self.kinds = Segments(KINDS, "Which tensors")
        self.kinds.choose(self.kind)
        self.measures = Segments(MEASURES, "Which number")
        self.measures.choose(self.measure)
        self._nothing = widgets.label("", "second")
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._nothing.setWordWrap(True)
        self._nothing.hide()
        for control in (self.series, self.kinds, self.measures):
            self.add_control(control)
            control.hide()
        self.column.addWidget(self._nothing, 1)
        self.series.activated.connect(self._choose_series)
        self.kinds.chosen.connect(self._choose_kind)
        self.measures.chosen.connect(self._choose_measure)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @cached_property
    def plot(self) -> DepthPlot:
        """Where the lines are drawn; made a turn later than the rest."""
        made = DepthPlot()
        widgets.polish(made)
        made.row_chosen.connect(self.row_chosen)
        made.pointed.connect(self.pointed)
        made.line_chosen.connect(self._choose_line)
        self.column.insertWidget(1, made, 1)
        return made

    def _choose_series(self, number: int) -> None:
        self.number = number
        self.asked.emit()

    def _choose_kind(self, kind: str) -> None:
        self.kind = kind
        self.asked.emit()

    def _choose_measure(self, measure: str) -> None:
        self.measure = measure
        self.measure_chosen.emit(measure)
        self.asked.emit()

    def _choose_line(self) -> None:
        self.band = {}
        self._show_band()
        self.band_asked.emit()

    @property
    def line(self) -> int:
        """The line that has the band, -1 where there is none."""
        return min(self.plot.chosen, len(self.plot.lines) - 1)

    def show_band(self, band: Bands) -> None:
        """Show the band of the chosen line; empty while it is not known."""
        self.band = band
        self._show_band()

    def _show_band(self) -> None:
        self.plot.show_band(ends_of(self.band, self.measure))
        if self._body:
            self._say(self._body)

    def mark(self, point: Body | None) -> None:
        """Go to the line of a tensor and mark its block there; None for no tensor."""
        self._mark = point
        if point is not None:
            self.number, self.kind = int(point["series"]), str(point["kind"])
        self.asked.emit()

    def forget_mark(self) -> None:
        """Mark nothing any more; what is drawn follows."""
        self._mark = None

    def _marked(self) -> tuple[int, int]:
        """Place and line that are marked, as far as they are of what is shown."""
        mark, body = self._mark, self._body
        if mark is None or (mark["series"], mark["kind"]) != (body["chosen"], body["kind"]):
            return -1, -1
        return int(mark["place"]), int(mark["line"])

    def show_depth(self, body: Body) -> None:
        """Show the lines of a series (engine.overview, overview_depth)."""
        series = [(str(name), int(blocks)) for name, blocks in body["series"]]
        there = bool(series)
        self.plot.setVisible(there)
        self._nothing.setVisible(not there)
        self.measures.setVisible(there)
        self.series.setVisible(len(series) > 1)
        self.kinds.setVisible(len(body["kinds"]) > 1)
        if not there:
            self._nothing.setText("No module of numbered blocks is in it: there is no depth to look across.")
            self.subtitle.setText("")
            self._body = {}
            return
        if self._body and _which(body) != _which(self._body):
            self.band, self.plot.chosen = {}, 0
        self._body = body
        marked = self._marked()
        if marked != self.plot.marked and marked[1] not in (-1, self.plot.chosen):
            self.band, self.plot.chosen = {}, marked[1]
        self.number, self.kind = int(body["chosen"]), str(body["kind"])
        self.kinds.choose(self.kind)
        labels = [f"{name or 'the top'} · {blocks:,}" for name, blocks in series]
        if labels != [self.series.itemText(at) for at in range(self.series.count())]:
            self.series.clear()
            self.series.addItems(labels)
        self.series.setCurrentIndex(self.number)
        self.plot.show_lines(body, WORDS[self.measure], ends_of(self.band, self.measure), marked)
        self._say(body)

    def _say(self, body: Body) -> None:
        name = str(body["series"][self.number][0])
        blocks = [str(block) for block in body["blocks"]]
        what = "weight" if self.kind == "weights" else "vector"
        said = [f"{WORDS[self.measure]} of each {what}, {name or 'block'} {_last(blocks[0])} to {_last(blocks[-1])}"]
        if "*" in name:
            said = [f"{WORDS[self.measure]} of each {what}, {blocks[0]} to {blocks[-1]}"]
        if int(body["every"]) > 1:
            said.append(f"every {int(body['every']):,}th block")
        if int(body["more"]):
            said.append(f"{int(body['more']):,} smaller ones not drawn")
        band, why = self._band_words()
        self.subtitle.setText(" · ".join([*said, band] if band else said))
        self.subtitle.set_hint(why)

    def _band_words(self) -> tuple[str, str]:
        """What the band is of, in few words and in many."""
        told = [one for at in self.plot.band if (one := self.band.get(at)) is not None]
        if not told:
            return "", ""
        name, rows = str(self.plot.lines[self.line]["name"]), "rows" if self.kind == "weights" else "values"
        part = [one for one in told if one["sampled"] < one["rows"]]
        why = f"Nine tenths of the {rows} of {name} lie in the band. Click the name of another line for its band."
        if self.measure == "norm":
            why += f" A norm of {rows} is taken times the root of their number, to stand beside that of the tensor."
        if part:
            why += f" ≈ from {int(part[0]['sampled']):,} of {int(part[0]['rows']):,} {rows}."
        return f"band: {'≈ ' if part else ''}5–95 % of {name} {rows}", why


def _which(body: Body) -> tuple[Any, ...]:
    """What the lines are of, so that those of other numbers keep their band."""
    return body["chosen"], body["kind"], body["blocks"], [line["name"] for line in body["lines"]]


def ends_of(band: Bands, measure: str) -> dict[int, Ends]:
    """Lower and upper end of one number at each place that has them."""
    ends = {at: one[measure] for at, one in band.items() if one is not None and one[measure] is not None}
    return {at: (float(low), float(high)) for at, (low, high) in ends.items()}


def _last(block: str) -> str:
    return block.rpartition(".")[2]


class DepthPlot(QWidget):
    """The lines, and what pointer and keys do among them: left and right a block, up and down a line, Enter chooses.

    `line_chosen` fires when another line is `chosen` to have its band: by its name at the end, or with up and down.
    """

    row_chosen = Signal(int)
    line_chosen = Signal()
    pointed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Across depth")
        self.axes = Axes(plain_number)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.axes)
        self.lines: list[Any] = []
        self.blocks: list[str] = []
        self.at = (-1, -1)
        """Place and line that the keyboard is at."""
        self.chosen = 0
        self.band: dict[int, Ends] = {}
        self.marked = (-1, -1)
        """Place and line that somebody wanted to see from elsewhere."""
        self._words = ""
        self._span = (0.0, 1.0)
        self._resized = QTimer(self, interval=120, singleShot=True)
        self._resized.timeout.connect(self._draw)
        self.axes.pointed.connect(self._pointed_at)
        self.axes.pressed.connect(self._pressed)
        self.setMinimumHeight(120)

    def show_band(self, band: Mapping[int, Ends]) -> None:
        """Draw another band."""
        if band != self.band:
            self.band = dict(band)
            self._draw()

    def show_lines(self, body: Body, words: str, band: Mapping[int, Ends], marked: tuple[int, int] = (-1, -1)) -> None:
        """Draw other lines; `words` says what their number is."""
        lines, blocks = list(body["lines"]), [str(block) for block in body["blocks"]]
        shown = (self.lines, self.blocks, self._words, self.band, self.marked)
        if (lines, blocks, words, band, marked) == shown:
            return
        self.marked = marked
        self.lines, self.blocks, self._words, self.band = lines, blocks, words, dict(band)
        place, line = self.at
        self.at = (place, line) if place < len(blocks) and line < len(lines) else (-1, -1)
        self._draw()

    def _draw(self) -> None:
        axes, n = self.axes, len(self.blocks)
        axes.start_over()
        numbers = [value for line in self.lines for value in line["values"] if value is not None]
        if not n:
            return
        bottom, top = self._ends(numbers) if numbers else (0.0, 1.0)
        pad = (top - bottom) * 0.08 or abs(top) * 0.08 or 0.5
        low, high = bottom - pad, top + pad
        self._span = (low, high)
        axes.add_levels(ticks(low, high, 4) if numbers else [])
        axes.add_columns(self._columns())
        self._draw_band()
        for at, (line, token) in enumerate(zip(self.lines, TOKENS, strict=False)):
            points = [(place, value) for place, value in zip(line["places"], line["values"], strict=True)]
            drawn = [(float(place), math.nan if value is None else float(value)) for place, value in points]
            if not any(math.isfinite(y) for _, y in drawn):
                continue
            x, y = [x for x, _ in drawn], [y for _, y in drawn]
            axes.add_line(x, y, token, 2.4 if at == self.chosen and self.band else 1.6)
            if n <= DOTTED:
                axes.add_points(x, y, 6, token)
        self._draw_mark()
        last = max(n - 1, 1)
        for words, place, token in self._labels():
            axes.add_words(last * 1.012, place, words, token)
        axes.set_range((-0.02 * last, last * (1 + LABELS)), (low, high))
        self._describe(numbers)
        self._show_place()

    def _ends(self, numbers: Sequence[float]) -> Ends:
        """From where to where it is looked: all lines, and of a far wider band what is near them."""
        bottom, top = min(numbers), max(numbers)
        most = (top - bottom or abs(top)) * BEYOND
        low = min((low for low, _ in self.band.values()), default=bottom)
        high = max((high for _, high in self.band.values()), default=top)
        return max(min(bottom, low), bottom - most), min(max(top, high), top + most)

    def _draw_band(self) -> None:
        places = sorted(self.band)
        if places and self.chosen < len(self.lines):
            low, high = ([self.band[place][end] for place in places] for end in (0, 1))
            self.axes.add_spread(places, low, high, TOKENS[self.chosen])

    def _marked_value(self) -> float | None:
        """The number of the point that is marked; None where none is, or it is not known."""
        place, line = self.marked
        if not 0 <= line < len(self.lines) or place not in self.lines[line]["places"]:
            return None
        value: float | None = self.lines[line]["values"][self.lines[line]["places"].index(place)]
        return value

    def _draw_mark(self) -> None:
        place, line = self.marked
        if place >= 0:
            self.axes.add_mark(float(place), "edge", dashed=True)
        value = self._marked_value()
        if value is not None:
            self.axes.add_rings([float(place)], [value], TOKENS[line])

    def _columns(self) -> list[tuple[float, str]]:
        """Names of blocks below the axis, as many as there is room for."""
        metrics = QFontMetrics(resources.font(resources.SMALL))
        short = [block if block.isdigit() else ".".join(block.split(".")[-2:]) for block in self.blocks]
        widest = max((metrics.horizontalAdvance(words) for words in short), default=10) + 14
        room = max(self.width() * (1 - LABELS) - 40, 60)
        step = next((step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200) if len(short) / step * widest <= room), 400)
        return [(float(at), short[at]) for at in range(0, len(short), step)]

    def _labels(self) -> list[tuple[str, float, str]]:
        """The names at the ends of the lines, moved apart where they would cover each other."""
        metrics = QFontMetrics(resources.font(resources.SMALL))
        ends: list[tuple[float, str, str]] = []
        for line, token in zip(self.lines, TOKENS, strict=False):
            known = [value for value in line["values"] if value is not None]
            if known:
                name = str(line["name"])
                # The last parts of a name tell most.
                words = metrics.elidedText(name, Qt.TextElideMode.ElideLeft, round(self.width() * LABELS * 0.86) - 12)
                ends.append((float(known[-1]), words, token))
        ends.sort(key=lambda end: -end[0])
        low, high = self._span
        step = (high - low) * (metrics.height() - 1) / max(self.axes.height() - 30, 60)
        places = apart([end[0] for end in ends], step, low, high)
        return [(words, y, token) for y, (_, words, token) in zip(places, ends, strict=True)]

    def _describe(self, numbers: Sequence[float]) -> None:
        if not numbers:
            self.setAccessibleDescription("No numbers yet")
            return
        said = []
        for line in self.lines:
            known = [value for value in line["values"] if value is not None]
            if known:
                said.append(f"{line['name']} from {text.value(known[0])} to {text.value(known[-1])}")
        if self.band and self.chosen < len(self.lines):
            first, last = min(self.band), max(self.band)
            ends = [f"{_between(self.band[place])} at {self.blocks[place]}" for place in dict.fromkeys((first, last))]
            said.append(f"band of {self.lines[self.chosen]['name']}, 5 to 95 %: {', '.join(ends)}")
        if self._marked_value() is not None:
            said.append(f"marked: {self.words_at(*self.marked)}")
        self.setAccessibleDescription(f"{self._words} over {text.plural(len(self.blocks), 'block')}: {'; '.join(said)}")

    # Pointer and keys

    def words_at(self, place: int, only: int = -1) -> str:
        """What is at a block, or of one line there."""
        said = []
        for at, line in enumerate(self.lines):
            if place in line["places"] and (only < 0 or at == only):
                value = line["values"][line["places"].index(place)]
                beside = ""
                if at == self.chosen and place in self.band:
                    beside = f" (5–95 %: {_between(self.band[place])})"
                said.append(f"{line['name']} {text.value(value)}{beside}")
        return f"{self.blocks[place]}: {self._words} " + ", ".join(said)

    def _pointed_at(self, x: float) -> None:
        place = round(x) if math.isfinite(x) else -1
        if not 0 <= place < len(self.blocks):
            self.axes.point_out([])
            self.pointed.emit("")
            return
        self.axes.point_out([Mark(float(place), self.blocks[place], "edge")])
        self.pointed.emit(self.words_at(place))

    def _pressed(self, x: float, y: float) -> None:
        place = min(max(round(x), 0), len(self.blocks) - 1)
        view = self.axes.view
        if view is None or not self.blocks:
            return
        high = max(self.axes.height() - 30, 1)
        if x > len(self.blocks) - 1 + 0.005 * len(self.blocks):
            self._choose_name(y, (view.top - view.bottom) / high * NEAR)
            return
        best, least = -1, float(NEAR)
        for at, line in enumerate(self.lines):
            if place in line["places"]:
                value = line["values"][line["places"].index(place)]
                if value is not None:
                    far = abs(value - y) / (view.top - view.bottom) * high
                    if far < least:
                        best, least = at, far
        if best >= 0:
            self._choose(place, best)

    def _choose_name(self, y: float, near: float) -> None:
        """Give the line whose name is at this height the band."""
        far, token = min(((abs(place - y), token) for _, place, token in self._labels()), default=(near, ""))
        if far < near:
            self._choose_line(TOKENS.index(token))

    def _choose_line(self, line: int) -> None:
        if line != self.chosen:
            self.chosen = line
            self.line_chosen.emit()

    def _choose(self, place: int, line: int) -> None:
        places = self.lines[line]["places"]
        row = int(self.lines[line]["rows"][places.index(place)]) if place in places else -1
        if row >= 0:
            self.row_chosen.emit(row)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        place, line = self.at
        key = event.key()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space) and place >= 0:
            self._choose(place, line)
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down) and self.lines:
            across = (key == Qt.Key.Key_Right) - (key == Qt.Key.Key_Left)
            down = (key == Qt.Key.Key_Down) - (key == Qt.Key.Key_Up)
            self.at = (
                min(max(place + across, 0), len(self.blocks) - 1),
                min(max(line + down, 0), len(self.lines) - 1),
            )
            if down:
                self._choose_line(self.at[1])
            self._show_place()
        else:
            super().keyPressEvent(event)

    def _show_place(self) -> None:
        place, line = self.at
        if not self.hasFocus() or place < 0 or not self.lines:
            self.axes.point_out([])
            return
        words = self.words_at(place, line)
        self.axes.point_out([Mark(float(place), f"{self.blocks[place]} {self.lines[line]['name']}", TOKENS[line])])
        self.setAccessibleDescription(words)
        self.pointed.emit(words)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.at = (max(self.at[0], 0), max(self.at[1], 0))
        self._show_place()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.axes.point_out([])

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.blocks:
            self._resized.start()  # names and numbers stand by pixels


def _between(ends: Ends) -> str:
    return f"{text.value(ends[0])} to {text.value(ends[1])}"
