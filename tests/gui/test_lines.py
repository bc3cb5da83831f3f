"""Histogram, line and table of values of one tensor: choices, marks, and what is told in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QGraphicsView, QMenu
from pytestqt.qtbot import QtBot

from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.line import MOST_SORTED, LinePlot
from sdviewer.gui.plots.plot import Plot
from sdviewer.gui.plots.values import ValuesPlot
from tests.gui.plotted import answer, ask, facts_of, shown

_normal = torch.Generator().manual_seed(1)
TENSORS = {
    "vector": torch.randn(200, generator=_normal),
    "far": torch.cat([torch.randn(199, generator=_normal), torch.tensor([40.0])]),
    "decades": torch.logspace(-5, 0, 60),
    "column": torch.randn(300, 1, generator=_normal),
    "one": torch.tensor([2.5]),
    "long": torch.randn(50_000, generator=_normal),
    "nan": torch.full((30,), float("nan")),
    "matrix": torch.randn(400, 300, generator=_normal),
    "sparse": torch.randn(4000, generator=_normal) * (torch.rand(4000, generator=_normal) > 0.6),
    "cube": torch.arange(120.0).reshape(5, 4, 6),
    "ints": torch.arange(12).reshape(3, 4),
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return facts_of(tmp_path_factory.mktemp("lines") / "tensors.pth", TENSORS)


def axes(plot: Plot) -> Axes:
    found = plot.findChild(Axes)
    assert found is not None
    return found


def picture(plot: Plot) -> QImage:
    return axes(plot).grab().toImage()


# The line


@pytest.mark.parametrize("tensor", ["vector", "far", "decades", "column", "long", "nan"])
@pytest.mark.parametrize("shape", ["points", "line", "sorted"])
def test_that_a_vector_is_drawn_in_each_shape(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]], tensor: str, shape: str
) -> None:
    plot = shown(LinePlot, facts[tensor], qtbot)
    plot.set_shape(shape)
    body, buffers = answer(plot, facts[tensor])
    plot.take(body, buffers)
    said = axes(plot).accessibleDescription()
    if tensor == "nan":
        assert "none of them finite" in said
        return
    assert f"{TENSORS[tensor].numel():,} values" in said
    assert ("sorted" in said) == (shape == "sorted")
    if shape == "sorted":
        low = np.frombuffer(buffers["low"])
        assert (np.diff(low) >= 0).all()


def test_that_points_and_line_differ(app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]) -> None:
    plot = shown(LinePlot, facts["vector"], qtbot)
    points = picture(plot)
    plot.set_shape("line")
    assert picture(plot) != points


def test_that_positive_values_over_decades_are_logarithmic_until_somebody_says_no(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(LinePlot, facts["decades"], qtbot)
    assert plot.log.isVisibleTo(plot)
    assert "logarithmic" in axes(plot).accessibleDescription()
    view = axes(plot).view
    assert view is not None and view.bottom < -5 < 0 < view.top
    plot.log.click()
    assert "logarithmic" not in axes(plot).accessibleDescription()
    assert not shown(LinePlot, facts["vector"], qtbot).log.isVisibleTo(plot)


def test_that_an_outlier_is_told_with_its_index(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(LinePlot, facts["far"], qtbot)
    assert "outliers: [199] 40" in axes(plot).accessibleDescription()
    body, buffers = answer(plot, facts["far"])
    labelled = picture(plot)
    plot.take({**body, "outliers": []}, buffers)
    assert picture(plot) != labelled


def test_that_the_pointer_over_a_line_tells_the_element(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(LinePlot, facts["column"], qtbot)
    told: list[Any] = []
    plot.cell_moved.connect(told.append)
    canvas = axes(plot).findChild(QGraphicsView)
    assert canvas is not None
    qtbot.mouseMove(canvas.viewport(), canvas.viewport().rect().center())
    assert len(told[-1]) == 2 and 100 < told[-1][0] < 200 and told[-1][1] == 0
    qtbot.mouseMove(canvas.viewport(), QPoint(1, 1))
    assert told[-1] == ()


@pytest.mark.parametrize("cell", [(7, 0), ()])
def test_that_an_element_that_is_pointed_at_elsewhere_is_marked(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]], cell: tuple[int, ...]
) -> None:
    plot = shown(LinePlot, facts["column"], qtbot)
    before = picture(plot)
    plot.mark(cell)
    assert (picture(plot) != before) == bool(cell)
    plot.mark(())
    assert picture(plot) == before


def test_that_boundaries_of_a_bias_are_drawn(app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]) -> None:
    parts = [{"axis": 0, "name": "Q", "start": 0, "stop": 100}, {"axis": 0, "name": "K", "start": 100, "stop": 200}]
    known = {**facts["vector"], "role": {"words": "", "parts": parts, "heads": None}}
    plain, divided = shown(LinePlot, facts["vector"], qtbot), shown(LinePlot, known, qtbot)
    assert picture(plain) != picture(divided)


def test_that_what_is_too_long_is_not_offered_sorted(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(LinePlot, facts["vector"], qtbot)
    plot.set_shape("sorted")
    huge = {**facts["vector"], "shape": [MOST_SORTED + 1]}
    plot.begin(huge)
    assert plot.request(huge)[1]["sort"] is False
    assert not plot.shape.buttons()[2].isEnabled()


# The histogram


def test_that_a_statistic_that_is_pointed_at_is_shown_where_it_stands(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HistogramPlot, facts["matrix"], qtbot)
    before = picture(plot)
    seen = [before]
    for statistic, value in (("mean", 0.0), ("max", 9.0), ("std", 1.0), ("zeros", 0)):
        plot.point_out(statistic, value)
        seen.append(picture(plot))
    assert all(seen.count(image) == 1 for image in seen)
    plot.point_out("", None)
    assert picture(plot) == before


def test_that_many_zeros_warn_and_are_told_with_their_share(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HistogramPlot, facts["sparse"], qtbot)
    zeros = int((TENSORS["sparse"] == 0).sum())
    chip = plot._odd["zeros"]
    assert chip.text() == f"{zeros:,} exact zeros"
    assert chip.property("tone") == "warn"
    assert f"{zeros:,} exact zeros" in axes(plot).accessibleDescription()


def test_that_a_first_look_from_a_sample_is_marked_and_the_exact_one_is_not(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HistogramPlot, facts["matrix"], qtbot)
    assert "≈" not in plot.subtitle.text()
    plot.take(*ask("glance", {"source": facts["matrix"]["source"]}))
    assert plot.subtitle.text().startswith("≈ ")
    assert axes(plot).accessibleDescription().startswith("Approximate")
    chips = [chip.text() for chip in (plot._below, plot._above)]
    assert all("≈" in words for words in chips)
    plot.take(*answer(plot, facts["matrix"]))
    assert "≈" not in plot.subtitle.text() + plot._below.text()


def test_that_the_range_opens_and_closes_with_the_chips(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HistogramPlot, facts["matrix"], qtbot)
    assert plot._below.isVisibleTo(plot) and not plot._robust.isVisibleTo(plot)
    robust = answer(plot, facts["matrix"])
    plot._below.click()
    body, buffers = answer(plot, facts["matrix"])
    edges = np.frombuffer(buffers["edges"])
    assert (edges[0], edges[-1]) == (body["summary"]["min"], body["summary"]["max"])
    plot.take(body, buffers)
    assert plot._robust.isVisibleTo(plot) and not plot._below.isVisibleTo(plot)
    plot._robust.click()
    assert answer(plot, facts["matrix"])[1]["edges"] == robust[1]["edges"]


# The table of values


def test_that_going_to_an_index_shows_it_and_a_wrong_one_says_why(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["matrix"], qtbot)
    plot.goto.setText("[-1, 150]")
    qtbot.keyClick(plot.goto, Qt.Key.Key_Return)
    assert plot.grid.cell == (399, 150)
    row, column, rows, columns = plot.grid.window()
    assert row <= 399 < row + rows and column <= 150 < column + columns
    plot.goto.setText("400, 0")
    qtbot.keyClick(plot.goto, Qt.Key.Key_Return)
    assert plot._wrong.isVisibleTo(plot) and "399" in plot._wrong.text()
    assert plot.grid.cell == (399, 150)


def test_that_going_to_an_index_of_another_slice_turns_to_it(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["cube"], qtbot)
    plot.goto.setText("4 3 5")
    qtbot.keyClick(plot.goto, Qt.Key.Key_Return)
    assert plot.place.index == [0, 3, 0]
    plot.take(*answer(plot, facts["cube"]))
    assert plot.grid.exact_text(4, 5) == "119.0"
    assert plot.subtitle.text().startswith("[:, 3, :]")


def test_that_numbers_that_the_recipe_writes_are_found_in_every_slice_the_last_one_last(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["cube"], qtbot)
    rows = [f"{n}" for n in range(24)]
    writes: list[tuple[list[int], list[str]]] = [
        ([2], rows), ([4, 3, 5], ["x"]), ([2, 1], ["y"]), ([4, 0, 0], ["z"]), ([2, 1, 3], ["w"])
    ]  # fmt: skip
    plot._facts = {**facts["cube"], "made": {"writes": [list(write) for write in writes]}}
    plot.begin(plot._facts)

    def expected(index: tuple[int, ...]) -> str:
        found = ""
        for where, texts in writes:
            if list(index[: len(where)]) == where:
                found = texts[index[1] * 6 + index[2]] if len(texts) > 1 else texts[0]
        return found

    for axes, turned in (((0, 2), 1), ((1, 2), 0), ((2, 1), 0)):
        plot.place.set_axes(*axes)
        for at in range(TENSORS["cube"].shape[turned]):
            plot.place.move(turned, at)
            row, column, high, wide = 1, 0, plot.place.size[0] - 1, plot.place.size[1]
            wanted = {
                r * wide + c: words
                for r in range(high)
                for c in range(wide)
                if (words := expected(plot.place.full_index(row + r, column + c)))
            }
            assert plot._written(row, column, high, wide) == wanted


def test_that_a_place_is_kept_for_a_tensor_of_the_same_shape(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["matrix"], qtbot)
    plot.grid.go(200, 100)
    shows = plot.grid.window()
    plot.begin({**facts["matrix"], "key": "another"})
    assert plot.grid.cell == (200, 100) and plot.grid.window() == shows
    plot.begin(facts["vector"])
    assert plot.grid.cell == (0, 0) and plot.grid.window()[:2] == (0, 0)
    plot.begin(facts["matrix"])
    assert plot.grid.cell == (200, 100) and plot.grid.window() == shows


def test_that_keys_and_pointer_select_a_block(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["matrix"], qtbot)
    grid = plot.grid
    grid.go(3, 1)
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Right):
        qtbot.keyClick(grid, key, Qt.KeyboardModifier.ShiftModifier)
    assert grid.selected() == (3, 1, 3, 2)
    qtbot.keyClick(grid, Qt.Key.Key_Up)
    assert grid.selected() == (4, 2, 1, 1)
    qtbot.mousePress(grid.viewport(), Qt.MouseButton.LeftButton, pos=grid.cell_rect(2, 0).center())
    qtbot.mouseMove(grid.viewport(), grid.cell_rect(4, 2).center())
    qtbot.mouseRelease(grid.viewport(), Qt.MouseButton.LeftButton, pos=grid.cell_rect(4, 2).center())
    assert grid.selected() == (2, 0, 3, 3)
    qtbot.keyClick(grid, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert grid.selected() == (0, 0, 400, 300)
    qtbot.keyClick(grid, Qt.Key.Key_Shift)  # else Ctrl stays down for the tests to come


def test_that_the_menu_names_what_is_copied(app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]) -> None:
    plot = shown(ValuesPlot, facts["ints"], qtbot)
    menu = QMenu()
    plot.grid.fill_menu(menu)
    assert menu.actions()[0].text() == "Copy value"
    plot.grid.select_all()
    menu = QMenu()
    plot.grid.fill_menu(menu)
    assert menu.actions()[0].text() == "Copy 3 × 4 values as a table"


def test_that_too_much_is_not_copied(app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]) -> None:
    plot = shown(ValuesPlot, facts["matrix"], qtbot)
    QGuiApplication.clipboard().setText("before")
    plot.grid.select_all()
    plot.copy("table")
    assert "too many" in plot._wrong.text()
    assert QGuiApplication.clipboard().text() == "before"


def test_that_a_locked_limit_tints_the_values(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["matrix"], qtbot)
    before = plot.grid.grab().toImage()
    plot.place.lock(100.0)
    assert plot.grid.grab().toImage() != before
    plot.place.lock(None)
    assert plot.grid.grab().toImage() == before


def test_that_an_element_pointed_at_elsewhere_comes_into_sight(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(ValuesPlot, facts["matrix"], qtbot)
    plot.mark((390, 2))
    row, _, rows, _ = plot.grid.window()
    assert row <= 390 < row + rows
    assert plot.grid.cell == (0, 0), "it is framed, not chosen"
