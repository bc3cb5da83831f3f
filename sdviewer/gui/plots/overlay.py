"""The distributions of a few tensors over each other: shares of the values in bins of a common range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QWidget

from sdviewer.core import text
from sdviewer.gui import resources, widgets
from sdviewer.gui.jobs import Body, Buffers, is_cancelled
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.numbers import called, floats, whole_numbers, with_zeros
from sdviewer.gui.plots.picture import as_text
from sdviewer.gui.plots.picture_card import PictureCard
from sdviewer.gui.plots.plot import Facts
from sdviewer.gui.plots.scale import plain_number, ticks
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Elided

MOST: Final = len(resources.SERIES)
"""Tensors that are drawn over each other."""
BINS: Final = 100
DASHES: Final[tuple[tuple[float, ...], ...]] = ((), (6, 2), (2, 2), (8, 2, 2, 2), (1, 1.5), (8, 2, 2, 2, 2, 2))
"""A pattern of its own for each line, so that none is told by its colour alone."""


@dataclass
class _Entry:
    """One tensor: what is known of it, its own range, its histogram over the common one."""

    facts: Facts
    span: tuple[float, float] | None = None
    found: Body | None = None
    counts: tuple[int, ...] = ()
    edges: tuple[float, ...] = ()
    why: str = ""


class _Sample(QWidget):
    """A piece of the line of one series."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.setFixedSize(QSize(30, 16))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        pen = QPen(resources.colour(resources.SERIES[self._number]), 2)
        if DASHES[self._number]:
            pen.setDashPattern(list(DASHES[self._number]))
        painter.setPen(pen)
        painter.drawLine(1, self.height() // 2, self.width() - 1, self.height() // 2)


class OverlaidHistograms(PictureCard):
    """Asks for the facts of a few rows, their ranges, then their histograms over all of these; and draws them."""

    name = "distributions"
    title = "the distributions"

    def __init__(self) -> None:
        super().__init__("Distributions", " ")
        self._session: Session | None = None
        self._entries: list[_Entry] = []
        self._rows: list[int] = []
        self._open = 0
        self._axes = Axes(lambda share: f"{plain_number(100 * share)} %")
        self._axes.setAccessibleName("Distributions")
        self._legend = QWidget()
        self._legend.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._grid = QGridLayout(self._legend)
        self._grid.setContentsMargins(0, 0, 0, 2)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._grid.setColumnStretch(3, 1)
        self.column.addWidget(self._legend)
        self.set_body(self._axes)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setMinimumHeight(300)

    def forget(self) -> None:
        """Nothing of this is wanted any more."""
        if self._session is not None:
            for i in range(MOST):
                self._session.jobs.drop(f"overlay facts {i}")
        self._drop_measures()
        self._rows, self._entries = [], []

    def show_rows(self, session: Session, rows: Sequence[int]) -> None:
        """Draw the tensors of at most `MOST` rows over each other; others among the rows are left out.

        Asked again about the same tensors it goes on with what it measures, and shows what they are called now.
        """
        if list(rows) != self._rows:
            self.forget()
            self._session, self._rows = session, list(rows)
            self._start_over()
        found: dict[int, Body] = {}

        def known(i: int, facts: Body) -> None:
            found[i] = facts
            if len(found) == len(rows):
                self._show_facts([found[i] for i in sorted(found) if found[i].get("shape") is not None])

        for i, row in enumerate(rows):
            session.ask("facts", {"row": row}, lambda facts, _, i=i: known(i, facts), lane=f"overlay facts {i}")

    def _show_facts(self, found: Sequence[Facts]) -> None:
        """Measure these tensors, unless they are those that are drawn or measured."""
        same = [entry.facts.get("source") for entry in self._entries] == [facts.get("source") for facts in found]
        if same and self._entries:
            for entry, facts in zip(self._entries, found, strict=True):
                entry.facts = facts
            self._show_legend()
            return
        self._drop_measures()
        self._start_over()
        self._entries = [_Entry(facts) for facts in found]
        self._show_legend()
        self._measure(None)

    def _start_over(self) -> None:
        self._axes.start_over()
        self.subtitle.setText("Reading numbers…")

    def _drop_measures(self) -> None:
        if self._session is not None:
            for i in range(MOST):
                self._session.jobs.drop(f"overlay {i}")

    def _measure(self, span: tuple[float, float] | None) -> None:
        """Ask for the histograms, over their own ranges to find the common one, or over that."""
        session, wanted = self._session, [entry for entry in self._entries if entry.facts.get("source")]
        assert session is not None
        self._open = len(wanted)
        if not wanted:
            self.subtitle.setText("None of them has numbers.")
        for i, entry in enumerate(wanted):
            params = {"source": entry.facts["source"], "bins": BINS}
            if span is not None:
                params["span"] = list(span)

            def answered(body: Body, buffers: Buffers, entry: _Entry = entry) -> None:
                entry.found = body["histogram"]
                entry.edges = tuple(floats(buffers["edges"]))
                entry.counts = tuple(whole_numbers(buffers["counts"]))
                entry.span = (entry.edges[0], entry.edges[-1]) if entry.edges else None
                self._answered(span)

            def failed(failure: Body, entry: _Entry = entry) -> None:
                if not is_cancelled(failure):
                    entry.why = text.visible(str(failure.get("message", "")))
                    self._answered(span)

            session.ask_numbers("overview", params, answered, failed, lane=f"overlay {i}")

    def _answered(self, span: tuple[float, float] | None) -> None:
        self._open -= 1
        if self._open:
            return
        spans = [entry.span for entry in self._entries if entry.span is not None]
        if span is None and len(spans) > 1:
            self._measure((min(low for low, _ in spans), max(high for _, high in spans)))
        else:
            self._draw()

    def _draw(self) -> None:
        self._axes.start_over()
        drawn = [(number, entry) for number, entry in enumerate(self._entries) if entry.counts and entry.found]
        shares = {number: _shares(entry) for number, entry in drawn}
        top = max((max(found, default=0.0) for found in shares.values()), default=0.0)
        if not drawn or not top:
            self.subtitle.setText("No finite values.")
            return
        self._axes.add_levels([level for level in ticks(0, top * 1.08, 5) if level > 0])
        low, high = drawn[0][1].edges[0], drawn[0][1].edges[-1]
        if low < 0 < high:
            self._axes.add_mark(0.0)
        for number, entry in drawn:
            self._axes.add_outline(entry.edges, shares[number], resources.SERIES[number], DASHES[number])
        self._axes.set_range((low, high), (0.0, top * 1.08))
        self.subtitle.setText(f"share of the values in each {BINS}th of one range")
        self._show_legend()
        said = "; ".join(self._said(entry) for _, entry in drawn)
        self._axes.setAccessibleDescription(
            f"{text.plural(len(drawn), 'histogram')} over each other, from {text.value(low)} to {text.value(high)}: "
            + said
        )

    # Taking it out

    @property
    def key(self) -> str:
        """The keys that are drawn: the first of them, and how many others."""
        names = [called(entry.facts, 120) for entry in self._entries] or ["tensors"]
        return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]

    @property
    def folder(self) -> str:
        return "" if self._session is None else str(Path(self._session.path).parent)

    def can_be_copied(self) -> bool:
        return not self._open and any(entry.counts for entry in self._entries)

    def copy_data(self) -> None:
        """A line a bin of each tensor: its key, where the bin is, how many values it has, and the share that is drawn.

        A tensor of few values has fewer and wider bins than the others, so that their bins are no columns beside each
        other. Exact zeros count to the bin of zero.
        """
        if not self.can_be_copied():
            return
        rows = [
            (called(entry.facts, 500), *bin_)
            for entry in self._entries
            if entry.found and entry.counts
            for bin_ in zip(entry.edges[:-1], entry.edges[1:], _whole_counts(entry), _shares(entry), strict=True)
        ]
        headings = ("tensor", "from", "to", "count", f"share in a {BINS}th of the range")
        widgets.copy_text(as_text(list(zip(headings, zip(*rows, strict=True), strict=True))))

    def _said(self, entry: _Entry) -> str:
        counts, edges = entry.counts, entry.edges
        most = max(range(len(counts)), key=counts.__getitem__)
        return f"{called(entry.facts, 120)} highest near {text.value((edges[most] + edges[most + 1]) / 2)}"

    def _show_legend(self) -> None:
        """A line, a name and what is not drawn, two tensors a row."""
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for number, entry in enumerate(self._entries):
            row, column = divmod(number, 2)
            words = called(entry.facts, 120)
            if entry.why or not entry.facts.get("source"):
                words = f"{words}: {entry.why or 'no numbers'}"
            label = Elided(words, "note", Qt.TextElideMode.ElideMiddle)
            self._grid.addWidget(_Sample(number), row, 2 * column)
            self._grid.addWidget(label, row, 2 * column + 1)


def _shares(entry: _Entry) -> list[float]:
    """Of all values that are numbers, the share in each `BINS`-th of the range.

    A tensor of few values has fewer and wider bins. Exact zeros are in none and count to the bin of zero.
    """
    assert entry.found is not None
    found, counts = entry.found, _whole_counts(entry)
    odd = sum(int(found[field] or 0) for field in ("nan", "posinf", "neginf"))
    total = max(int(found["count"]) - odd, 1)
    return [count / total * len(counts) / BINS for count in counts]


def _whole_counts(entry: _Entry) -> list[int]:
    """The values in each bin, exact zeros in that of zero."""
    return with_zeros(entry.edges, entry.counts, int((entry.found or {}).get("zeros") or 0))
