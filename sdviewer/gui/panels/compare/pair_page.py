"""One pair of tensors in detail: how they differ, in words, in numbers and in plots."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.panels.compare.pair_cursor import PairCursor
from sdviewer.gui.panels.compare.pair_words import GLYPHS, fact_words, sentence
from sdviewer.gui.panels.facts_line import FactsLine
from sdviewer.gui.panels.path_bar import PathBar
from sdviewer.gui.plots.numbers import called
from sdviewer.gui.plots.pair import PAIR_PLOTS
from sdviewer.gui.plots.pair.difference import DifferencePlot
from sdviewer.gui.plots.pair.pair_plot import SIDES, PairPlot, pair_facts
from sdviewer.gui.plots.pair.scatter import ScatterPlot
from sdviewer.gui.plots.place import Place
from sdviewer.gui.plots.plot import Asker, Plot
from sdviewer.gui.plots.slices import SliceStrip
from sdviewer.gui.widgets import Elided, IconLabel

_SHARES: Final = {"distributions": 3, "scatter": 2}
"""The widths of the plots below, in proportion."""
_LOW: Final = 330
"""Pixels of height below which the upper plot has all of it, as in a small window."""
_UPPER: Final = 10
_LOWER: Final = 9
"""The heights of the upper plot and of those below, in proportion."""


class PairPage(QWidget):
    """`cursor_moved` is for the status bar, "" when nobody points at anything; `finished` fires when all is drawn.

    `node_chosen` tells the row of a part of the path that was clicked.
    """

    cursor_moved = Signal(str)
    finished = Signal()
    node_chosen = Signal(int)

    def __init__(self, session: Asker, names: tuple[str, str] = ("A", "B")) -> None:
        """`session` asks the numbers pool; `names` are those of the two files, as they are shown."""
        super().__init__()
        self._session, self.names = session, names
        self._facts: dict[str, Any] = {}
        self._low = False
        self.plots: dict[str, PairPlot] = {}
        self.place = Place()
        self.linked = PairCursor(self.place, self.shown)
        self.linked.said.connect(self.cursor_moved)
        self.path = PathBar()
        self.path.node_chosen.connect(self.node_chosen)
        self.line = FactsLine()
        self._icon = IconLabel("eq", 14)
        self._words = widgets.label("", "second")
        self._words.setWordWrap(True)
        self._other = Elided("", "note")
        self._note = QWidget()
        note = QHBoxLayout(self._note)
        note.setContentsMargins(2, 0, 0, 0)
        note.setSpacing(6)
        note.addWidget(self._icon)
        note.addWidget(self._words, 1)
        self.strip = SliceStrip(self.place)
        self._upper, self._lower = QVBoxLayout(), QHBoxLayout()
        self._upper.setSpacing(10)
        self._lower.setSpacing(10)
        self._empty = widgets.label("", "second")
        self._empty.setWordWrap(True)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for widget in (self.path, self.line, self._other, self._note, self.strip, self._empty):
            column.addWidget(widget)
        column.addLayout(self._upper, _UPPER)
        column.addLayout(self._lower, _LOWER)
        self._tail = QWidget()
        column.addWidget(self._tail)
        self._say_nothing("Choose a pair to see it in detail.")

    def shown(self) -> list[Plot]:
        """The plots in sight."""
        return [plot for plot in self.plots.values() if not plot.isHidden()]

    def set_names(self, names: tuple[str, str]) -> None:
        """What the two files are called, as when they are swapped."""
        self.names = names
        for plot in self.plots.values():
            plot.names = names

    # What is shown

    def show_pair(self, facts: Mapping[str, Any] | None) -> None:
        """Show a pair: {"a": facts | None, "b": facts | None, "status", "numbers": {column: value}, "relation": text}.

        The columns are those of `stats.pair_table`, "cast" as its word. Numbers that come later for the pair that is
        shown are put in their places; None shows nothing.
        """
        if facts is None or not (facts.get("a") or facts.get("b")):
            self._facts = {}
            self.forget()
            self._say_nothing("Choose a pair to see it in detail.")
            return
        made = pair_facts(facts)
        if self._facts and all(_source(self._facts, side) == _source(made, side) for side in SIDES):
            self._facts.update(made)  # what is drawn stays
        else:
            self._facts = made
        self._show_words()
        self._show_plots(self._choose())

    def forget(self) -> None:
        """Nothing is wanted any more of the pair."""
        for plot in self.plots.values():
            plot.forget()
        self.linked.stop()

    def blink(self, on: bool) -> None:
        """Show A and B in turn in the picture while a key is held that another part of the window got."""
        plot = self.plots.get(DifferencePlot.name)
        if isinstance(plot, DifferencePlot) and not plot.isHidden():
            plot.blink(on)

    def _say_nothing(self, words: str) -> None:
        self._show_rows(named=False)
        for plot in self.plots.values():
            plot.hide()
        self._empty.setText(words)
        self._empty.show()

    def _show_rows(self, *, named: bool) -> None:
        self.path.setVisible(named)
        self.line.setVisible(named)
        for part in (self._other, self._note, self.strip):
            part.hide()
        self._empty.hide()
        self._tail.show()
        self._column.setStretchFactor(self._tail, 1)

    def _show_words(self) -> None:
        """The path, the facts, and the sentence, of a pair."""
        facts = self._facts
        a, b = facts["a"], facts["b"]
        self._show_rows(named=True)
        one = a or b
        if one.get("path"):
            self.path.show_path(one)
        else:
            self.path.show_sentence(called(one, 160))
        self.line.show_facts(fact_words(facts))
        if a and b and called(a, 400) != called(b, 400):
            self._other.setText(f"in B: {called(b, 400)}")
            self._other.show()
        words = sentence(facts)
        icon = GLYPHS.get(str(facts["status"]))
        if words:
            self._icon.set_icon(*(icon or ("info", "text2")))
            self._words.setText(words)
            self._note.show()

    # The plots

    def _choose(self) -> list[str]:
        """The names of the plots that suit the pair: the best that stands alone, then those below."""
        scores = {kind.name: kind.score(self._facts) for kind in PAIR_PLOTS}
        upper = [kind.name for kind in PAIR_PLOTS if kind.main and scores[kind.name]]
        below = [kind.name for kind in PAIR_PLOTS if not kind.main and scores[kind.name]]
        best = sorted(upper, key=lambda name: -scores[name])[:1]
        if best == [DifferencePlot.name] and self._mode == "scatter":
            below = [name for name in below if name != ScatterPlot.name]  # it is drawn above
        return best if best and self._low else [*best, *below]

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        low = event.size().height() < _LOW
        if low != self._low:
            self._low = low
            QTimer.singleShot(0, self, self._arrange)

    @property
    def _mode(self) -> str:
        plot = self.plots.get(DifferencePlot.name)
        return plot.mode if isinstance(plot, DifferencePlot) else ""

    def _arrange(self) -> None:
        """Show the plots that there is room for, and that are wanted, now."""
        if self._facts:
            self._show_plots(self._choose())

    def _show_plots(self, chosen: list[str]) -> None:
        for name, plot in self.plots.items():
            if name not in chosen:
                plot.forget()
                plot.hide()
        self.place.begin(self._facts.get("shape") or ())
        if self.linked.facts is not self._facts:
            self.linked.begin(self._session, self._facts)
        if not chosen:
            self._show_why()
            QTimer.singleShot(0, self, self._check_finished)
            return
        made = [self._made(name) for name in chosen]
        uses_slice = any(plot.uses_slice for plot in made)
        self.strip.setVisible(uses_slice and self.strip.needed)
        below = len(chosen) > 1
        self._column.setStretchFactor(self._lower, _LOWER if below else 0)
        self._column.setStretchFactor(self._tail, 0)
        self._tail.hide()
        for plot in made:
            plot.show()
        # Before anything is asked for that depends on how large it is.
        self._column.activate()
        for plot in made:
            if not plot.shows(self._facts):
                plot.mark(())
                plot.show_tensor(self._session, self._facts)

    def _show_why(self) -> None:
        """Why there is nothing to draw."""
        sides = [side for side in (self._facts["a"], self._facts["b"]) if side]
        empty = all(0 in (side.get("shape") or ()) for side in sides)
        kinds = " and ".join(dict.fromkeys(text.visible(str(side.get("dtype") or "?"), 40) for side in sides))
        self._empty.setText("There are no elements." if empty else f"Values of type {kinds} are not drawn.")
        self._empty.show()

    def _made(self, name: str) -> PairPlot:
        if name not in self.plots:
            kind = next(kind for kind in PAIR_PLOTS if kind.name == name)
            plot = self.plots[name] = kind()
            plot.names = self.names
            plot.setMinimumHeight(0)
            plot.hide()
            widgets.polish(plot)
            plot.share(self.place)
            plot.finished.connect(self._check_finished)
            plot.cursor_moved.connect(self.cursor_moved)
            plot.cell_moved.connect(partial(self._cell_moved, plot))
            if isinstance(plot, DifferencePlot):
                plot.mode_chosen.connect(self._arrange)
            if kind.main:
                self._upper.addWidget(plot)
            else:
                self._lower.addWidget(plot, _SHARES.get(name, 1))
        return self.plots[name]

    def _cell_moved(self, plot: Plot, cell: tuple[int, ...]) -> None:
        self.linked.move(plot, cell)

    @property
    def is_finished(self) -> bool:
        """Whether all that is shown is drawn."""
        return not any(plot.pending for plot in self.shown())

    def _check_finished(self) -> None:
        if self.is_finished:
            self.finished.emit()


def _source(facts: Mapping[str, Any], side: str) -> Any:
    return (facts.get(side) or {}).get("source")
