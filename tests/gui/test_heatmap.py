"""The heatmap: what it asks for when somebody zooms, moves, locks its colours or reduces in another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources
from sdviewer.gui.plots.boundaries import head_edges
from sdviewer.gui.plots.heatmap import LARGE, HeatmapPlot
from sdviewer.gui.plots.heatmap_canvas import HeatmapCanvas
from tests.gui.plotted import answer, facts_of, shown

TENSORS = {
    "w": torch.randn(700, 900, generator=torch.Generator().manual_seed(1)),
    "small": torch.arange(-6.0, 6.0).reshape(3, 4),
    "kernels": torch.randn(16, 3, 5, 4, generator=torch.Generator().manual_seed(1)),
    "qkv": torch.randn(96, 32, generator=torch.Generator().manual_seed(1)),
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return facts_of(tmp_path_factory.mktemp("heatmap") / "tensors.pth", TENSORS)


@pytest.fixture
def plot(app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]) -> HeatmapPlot:
    """The large matrix."""
    made: HeatmapPlot = shown(HeatmapPlot, facts["w"], qtbot)
    return made


def turn_wheel(canvas: HeatmapCanvas, at: QPointF, turns: int) -> None:
    phase, none = Qt.ScrollPhase.NoScrollPhase, Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(at, at, QPoint(), QPoint(0, 120 * turns), Qt.MouseButton.NoButton, none, phase, False)
    QApplication.sendEvent(canvas, event)


def middle(canvas: HeatmapCanvas) -> QPointF:
    return QPointF(canvas._picture().center())


def test_that_the_wheel_asks_for_a_finer_slice_around_the_pointer(
    plot: HeatmapPlot, facts: dict[str, dict[str, Any]]
) -> None:
    assert "window" not in plot.request(facts["w"])[1]
    before = plot.canvas.cell_at(middle(plot.canvas))
    turn_wheel(plot.canvas, middle(plot.canvas), 12)
    _, params = plot.request(facts["w"])
    row, _, rows, columns = params["window"]
    assert rows < 700 / 10 and columns < 900 / 10
    after = plot.canvas.cell_at(middle(plot.canvas))
    assert before is not None and after is not None
    assert abs(after[0] - before[0]) <= 3 and abs(after[1] - before[1]) <= 3, "what was below the pointer still is"
    body, buffers = answer(plot, facts["w"])
    assert body["block"] == [1, 1]
    plot.take(body, buffers)
    assert plot.reduction.text() == "every cell"
    assert f"{row}:{row + rows}" in plot.subtitle.text()
    turn_wheel(plot.canvas, middle(plot.canvas), -40)
    assert plot.place.window is None


def test_that_zooming_ends_at_a_few_elements_and_a_double_click_shows_all(plot: HeatmapPlot, qtbot: QtBot) -> None:
    turn_wheel(plot.canvas, middle(plot.canvas), 200)
    assert plot.place.window is not None and min(plot.place.window[2:]) >= 4
    assert not plot.grab().isNull()
    qtbot.mouseDClick(plot.canvas, Qt.MouseButton.LeftButton, pos=middle(plot.canvas).toPoint())
    assert plot.place.window is None


def test_that_dragging_moves_an_enlarged_picture_and_stays_inside(plot: HeatmapPlot, qtbot: QtBot) -> None:
    turn_wheel(plot.canvas, middle(plot.canvas), 6)
    before = plot.place.window
    assert before is not None
    start = middle(plot.canvas).toPoint()
    qtbot.mousePress(plot.canvas, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(plot.canvas, start + QPoint(30, 20))
    moved = plot.place.window
    assert moved is not None
    assert moved[0] < before[0] and moved[1] < before[1] and moved[2:] == before[2:]
    qtbot.mouseMove(plot.canvas, start + QPoint(3000, 3000))
    assert plot.place.window is not None and plot.place.window[:2] == (0, 0)


def test_that_keys_move_the_element_and_take_the_picture_along(plot: HeatmapPlot, qtbot: QtBot) -> None:
    told: list[Any] = []
    plot.cell_moved.connect(told.append)
    plot.canvas.setFocus()
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Right):
        qtbot.keyClick(plot.canvas, key)
    assert told[-1] == (1, 2)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_End, Qt.KeyboardModifier.ControlModifier)
    assert told[-1] == (699, 899)
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Down)
    assert told[-1] == (699, 899), "it ends at the edge"
    for _ in range(8):
        qtbot.keyClick(plot.canvas, "+")
    window = plot.place.window
    assert window is not None and window[0] + window[2] == 700 and window[1] + window[3] == 900
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Home, Qt.KeyboardModifier.ControlModifier)
    assert told[-1] == (0, 0)
    assert plot.place.window is not None and plot.place.window[:2] == (0, 0), "the picture follows"
    qtbot.keyClick(plot.canvas, "0")  # and Ctrl is up again for the tests to come
    assert plot.place.window is None


def test_that_the_pointer_tells_the_element_below_it_in_the_whole_tensor(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HeatmapPlot, facts["kernels"], qtbot)
    plot.place.move(1, 2)
    told: list[Any] = []
    plot.cell_moved.connect(told.append)
    rect = plot.canvas._picture()
    qtbot.mouseMove(plot.canvas, QPoint(rect.left() + 2, rect.bottom() - 2))
    assert told == [(15, 2, 0, 0)]
    qtbot.mouseMove(plot.canvas, QPoint(1, 1))
    assert told[-1] == ()


@pytest.mark.parametrize("how", ["mean", "max_abs", "rms"])
def test_that_cells_are_reduced_as_it_is_said(plot: HeatmapPlot, facts: dict[str, dict[str, Any]], how: str) -> None:
    menu = QMenu()
    plot.fill_menu(menu)
    menu.actions()[["mean", "max_abs", "rms"].index(how)].trigger()
    body, buffers = answer(plot, facts["w"])
    assert body["how"] == how
    plot.take(body, buffers)
    rows, columns = body["block"]
    assert plot.reduction.text() == {"mean": "mean", "max_abs": "largest", "rms": "RMS"}[how] + f" of {rows}×{columns}"
    said = plot.canvas.accessibleDescription()
    assert "700 by 900" in said and plot.reduction.text() in said
    assert ("from 0 to" in said) == (how == "rms")


def test_that_locked_colours_are_kept_for_another_tensor(
    plot: HeatmapPlot, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    limit = answer(plot, facts["w"])[0]["limit"]
    plot.lock.click()
    plot.begin(facts["small"])
    body, buffers = answer(plot, facts["small"])
    assert body["limit"] == limit
    plot.take(body, buffers)
    assert "locked" in plot.canvas.accessibleDescription()
    assert np.frombuffer(buffers["shades"], np.uint8)[0] == 0, "what is beyond the limit has its colour"
    plot.lock.click()
    assert answer(plot, facts["small"])[0]["limit"] == pytest.approx(6, abs=0.1)


def test_that_what_is_on_the_screen_has_the_place_of_its_element(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HeatmapPlot, facts["small"], qtbot)
    image = plot.canvas.grab().toImage()
    rect = plot.canvas._picture()
    ratio = image.devicePixelRatio()

    def colour(row: int, column: int) -> tuple[int, int]:
        x = (rect.left() + (column + 0.5) / 4 * rect.width()) * ratio
        y = (rect.top() + (row + 0.5) / 3 * rect.height()) * ratio
        pixel = image.pixelColor(int(x), int(y))
        return pixel.red(), pixel.blue()

    assert colour(0, 0)[1] > colour(0, 0)[0], "negative is blue"
    assert colour(2, 3)[0] > colour(2, 3)[1], "positive is red"
    assert abs(colour(1, 2)[0] - colour(1, 2)[1]) < 4, "zero is neither"


def test_that_known_boundaries_are_drawn(app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]) -> None:
    def picture(about: dict[str, Any]) -> QImage:
        return shown(HeatmapPlot, about, qtbot).canvas.grab().toImage()

    parts = [{"axis": 0, "name": name, "start": 32 * i, "stop": 32 * i + 32} for i, name in enumerate("QKV")]
    known = {**facts["qkv"], "role": {"words": "fused", "parts": parts, "heads": None}}
    assert picture(known) != picture(facts["qkv"])
    heads = {**known, "role": {**known["role"], "heads": {"axis": 0, "count": 2, "size": 16}}}
    assert picture(heads) != picture(known)


def test_that_an_extreme_value_is_ringed_where_it_stands(
    plot: HeatmapPlot, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    before = plot.canvas.grab().toImage()
    plot.canvas.point_out((350, 450), "max 4.2")
    assert plot.canvas.grab().toImage() != before
    plot.point_out("", None)
    assert plot.canvas.grab().toImage() == before


def test_that_a_row_that_is_pointed_at_elsewhere_has_one_line(plot: HeatmapPlot) -> None:
    before = plot.canvas.grab().toImage()
    plot.mark((350, -1))
    row = plot.canvas.grab().toImage()
    plot.mark((350, 450))
    assert before != row != plot.canvas.grab().toImage()
    plot.mark(())
    assert plot.canvas.grab().toImage() == before


def test_that_a_very_large_slice_is_looked_at_in_part_first_and_marked(
    plot: HeatmapPlot, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    huge = {**facts["w"], "shape": [LARGE, 2]}
    plot.begin(huge)
    assert "most" in plot.request(huge)[1]
    plot.begin(facts["w"])
    body, buffers = answer(plot, facts["w"])
    plot.take({**body, "sampled": True}, buffers)
    assert plot.reduction.text().startswith("≈ ")


def test_that_it_follows_the_theme(plot: HeatmapPlot) -> None:
    light = plot.canvas.grab().toImage()
    resources.theme().apply("dark")
    dark = plot.canvas.grab().toImage()
    resources.theme().apply("light")
    assert dark != light
    assert plot.canvas.grab().toImage() == light


def test_that_it_is_drawn_at_another_size_of_window(plot: HeatmapPlot) -> None:
    for size in (QSize(160, 130), QSize(1500, 220)):
        plot.resize(size)
        assert not plot.grab().isNull()


def test_that_heads_beyond_number_have_no_borders() -> None:
    def edges(size: int) -> list[int]:
        return head_edges({"shape": [size, 4], "role": {"heads": {"axis": 0, "count": size // 2, "size": 2}}}, 0)

    assert edges(8) == [2, 4, 6]
    assert edges(1 << 50) == [], "the shape of a sparse tensor may be anything"
