"""Zooming and moving in a plot, and what of the values no bin holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtWidgets import QApplication, QGraphicsView, QWidget
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.library import library
from sdviewer.gui.plots.scale import View, ticks
from sdviewer.gui.widgets import Chip


@pytest.fixture
def axes(app: QApplication, qtbot: QtBot) -> Axes:
    """A line from (0, 0) to (10, 1)."""
    made = Axes()
    qtbot.addWidget(made)
    made.resize(QSize(400, 300))
    made.add_levels([0.0, 0.5, 1.0])
    made.add_line([0.0, 10.0], [0.0, 1.0], "A")
    made.set_range((0.0, 10.0), (0.0, 1.0))
    made.show()
    return made


def pad(axes: Axes) -> QWidget:
    """What the pointer meets."""
    canvas = axes.findChild(QGraphicsView)
    assert canvas is not None
    return canvas.viewport()


def view(axes: Axes) -> View:
    assert axes.view is not None
    return axes.view


def turn_wheel(axes: Axes, modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    target = pad(axes)
    middle = QPointF(target.rect().center())
    phase = Qt.ScrollPhase.NoScrollPhase
    away = QPoint(0, 120)
    event = QWheelEvent(middle, middle, QPoint(), away, Qt.MouseButton.NoButton, modifiers, phase, False)
    QApplication.sendEvent(target, event)


def test_that_the_wheel_zooms_x_with_shift_y_and_a_double_click_shows_all_again(axes: Axes, qtbot: QtBot) -> None:
    home = view(axes)
    assert home == pytest.approx((0, 10, 0, 1))
    turn_wheel(axes)
    assert 0 < view(axes).left < view(axes).right < 10
    assert view(axes)[2:] == pytest.approx(home[2:])
    turn_wheel(axes, Qt.KeyboardModifier.ShiftModifier)
    assert 0 < view(axes).bottom < view(axes).top < 1
    qtbot.mouseDClick(pad(axes), Qt.MouseButton.LeftButton, pos=pad(axes).rect().center())
    assert view(axes) == pytest.approx(home)


def test_that_dragging_moves_what_is_shown_with_the_pointer(axes: Axes, qtbot: QtBot) -> None:
    target = pad(axes)
    start = target.rect().center()
    qtbot.mousePress(target, Qt.MouseButton.LeftButton, pos=start)
    for step in (30, 60):
        qtbot.mouseMove(target, start + QPoint(step, 0))
    assert view(axes).left < 0 < view(axes).right < 10
    qtbot.mouseRelease(target, Qt.MouseButton.LeftButton, pos=start + QPoint(60, 0))
    moved = view(axes)
    qtbot.mouseMove(target, start)
    assert view(axes) == moved


def test_that_zooming_ends_where_numbers_cannot_be_told_apart(axes: Axes) -> None:
    for _ in range(400):
        turn_wheel(axes)
    assert view(axes).right > view(axes).left
    assert not axes.grab().isNull()


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e308])
def test_that_values_of_any_size_are_drawn_alike(axes: Axes, size: float) -> None:
    def drawn(size: float) -> QImage:
        axes.start_over()
        axes.add_steps([-size, 0.0, size], [1.0, 0.5], 0.0)
        axes.add_line([-size, size], [0.0, 1.0], "text2")
        axes.set_range((-size, size), (0.0, 1.0))
        # Without the axis, whose numbers differ.
        return pad(axes).grab().toImage().copy(60, 20, 300, 200)

    assert drawn(size) == drawn(1.0)


def test_that_what_is_drawn_follows_the_theme_once_and_in_a_turn_of_its_own(
    axes: Axes, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdviewer.gui.plots.canvas import Canvas

    drawn: list[str] = []
    start = Canvas.start

    def counted(self: Canvas, *what: Any) -> None:
        drawn.append(resources.theme().name)
        start(self, *what)

    light = axes.grab().toImage()
    monkeypatch.setattr(Canvas, "start", counted)
    resources.theme().apply("dark")
    assert not drawn, "the change of theme itself has enough to do"
    qtbot.waitUntil(lambda: drawn == ["dark"])
    dark = axes.grab().toImage()
    with qtbot.waitSignal(resources.theme().changed):
        resources.theme().turn("light")
    qtbot.waitUntil(lambda: "light" in drawn and not resources.theme().is_turning)
    assert drawn == ["dark", "light"]
    assert dark != light
    assert axes.grab().toImage() == light


def test_that_what_was_drawn_before_the_library_came_is_shown(app: QApplication, qtbot: QtBot) -> None:
    def line(made: Axes) -> QImage:
        qtbot.addWidget(made)
        made.resize(QSize(400, 300))
        made.add_line([0.0, 10.0], [0.0, 1.0], "A")
        made.set_range((0.0, 10.0), (0.0, 1.0))
        library().loaded.emit()
        return made.grab().toImage()

    library().ready = False
    early = Axes()
    library().ready = True
    assert line(early) == line(Axes())


def test_that_numbers_of_levels_do_not_cover_each_other_where_the_plot_is_low(axes: Axes, qtbot: QtBot) -> None:
    def written(height: int) -> list[str]:
        axes.resize(400, height)
        axes.start_over()
        axes.add_levels([0.0, 1000.0, 2000.0, 3000.0, 4000.0])
        axes.add_line([0.0, 10.0], [0.0, 4000.0], "A")
        axes.set_range((0.0, 10.0), (0.0, 4000.0))
        axes.grab()
        canvas = axes.findChild(QGraphicsView)
        axis = canvas.left  # type: ignore[union-attr]
        ((_, values),) = axis.tickValues(0.0, 1.0, axis.height())
        return list(axis.tickStrings(values, 1.0, 1.0))

    assert len(written(300)) == 5
    few = written(75)
    assert few[0] == "0" and len(few) in (2, 3)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3e-30, 2e-30), (1e30, 1.1e30), (-5.0, 1e9), (0.1, 0.1)])
def test_that_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert len(found) <= 6
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in found)
    assert bool(found) == (high > low)


def shown_chips(plot: HistogramPlot) -> list[str]:
    return [chip.text() for chip in plot.findChildren(Chip) if chip.isVisibleTo(plot)]


def take(plot: HistogramPlot, **found: Any) -> None:
    """Give a histogram an answer of the pool, with these fields of it."""
    arrays = {name: np.asarray(found.pop(name, []), code) for name, code in
              (("edges", "<f8"), ("counts", "<i8"), ("value_counts", "<i8"))}  # fmt: skip
    histogram = {
        "count": 100, "below": 0, "above": 0, "zeros": 0, "nan": 0, "posinf": 0, "neginf": 0,
        "exact_range": True, "sampled": 100, "values": [], **found,
    }  # fmt: skip
    summary = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 0.5}
    body = json.loads(json.dumps({"summary": summary, "histogram": histogram}))
    plot.take(body, {name: memoryview(array.tobytes()) for name, array in arrays.items()})


@pytest.fixture
def histogram(app: QApplication, qtbot: QtBot) -> HistogramPlot:
    """A histogram without a tensor yet."""
    plot = HistogramPlot()
    qtbot.addWidget(plot)
    plot.resize(QSize(600, 320))
    return plot


def test_that_a_histogram_tells_what_no_bin_holds(histogram: HistogramPlot) -> None:
    bins = {"edges": [-1.0, 0.0, 1.0], "counts": [30, 40]}
    take(histogram, **bins)
    assert shown_chips(histogram) == []
    take(histogram, **bins, nan=2, posinf=3, neginf=1, zeros=24, below=5)
    assert sorted(shown_chips(histogram)) == ["1 −Inf", "2 NaN", "24 exact zeros", "3 Inf", "‹ 5 below"]


def test_that_exact_zeros_stand_out_as_a_spike(histogram: HistogramPlot) -> None:
    def picture() -> QImage:
        plot = histogram.findChild(Axes)
        assert plot is not None
        return plot.grab().toImage()

    bins = {"edges": [-1.0, 1.0], "counts": [40]}
    take(histogram, **bins, zeros=1)
    few = picture()
    take(histogram, **bins, zeros=40)
    assert picture() != few


def test_that_few_whole_numbers_have_a_bar_each_and_zero_is_one_of_them(histogram: HistogramPlot) -> None:
    take(histogram, edges=[-1.0, 1.0], counts=[40], values=[0, 1, 7], value_counts=[24, 10, 66], zeros=24)
    assert "exact zeros" not in " ".join(shown_chips(histogram))
    assert histogram.subtitle.text() == "counts of 3 values"


def test_that_a_range_from_a_sample_is_said_to_be_one(histogram: HistogramPlot) -> None:
    bins = {"edges": [-1.0, 1.0], "counts": [40]}
    take(histogram, **bins)
    assert "range from" not in histogram.subtitle.text()
    take(histogram, **bins, exact_range=False, sampled=1000)
    assert histogram.subtitle.text().endswith("range from 1,000 values")


def test_that_a_line_is_drawn_as_far_as_its_numbers_are_known(axes: Axes) -> None:
    """Neither through a number that is none, nor at all where there is no other one."""
    axes.start_over()
    axes.add_line([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.5, 0.5, np.nan, 0.5, 0.5, np.inf], "S", 3)
    axes.add_line([0.0, 10.0], [np.nan, 0.25], "S", 3)
    axes.set_range((0.0, 10.0), (0.0, 1.0))
    picture = pad(axes).grab().toImage()
    canvas = axes.findChild(QGraphicsView)
    assert canvas is not None
    area = canvas.area  # type: ignore[attr-defined]
    rect = canvas.mapFromScene(area.sceneBoundingRect()).boundingRect()
    red = resources.colour("S").rgb()

    def is_drawn(share: float) -> bool:
        x, y = round(rect.x() + share * rect.width()), round(rect.y() + rect.height() / 2)
        return any(picture.pixel(x, y + off) == red for off in (-1, 0, 1))

    assert [is_drawn(share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)] == [True, False, False, True, False]
