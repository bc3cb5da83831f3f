"""What the spectrum, rows and columns, quantiles, kernels, heads, true and false and scalar plots draw and say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PySide6.QtCore import QPoint, QSize, Qt
from PySide6.QtGui import QColor, QGuiApplication
from PySide6.QtWidgets import QApplication, QGraphicsView, QLabel, QWidget
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources
from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.heads import HeadsPlot, heads_of, texts_of
from sdviewer.gui.plots.heatmap import HeatmapPlot
from sdviewer.gui.plots.kernels import KernelsPlot
from sdviewer.gui.plots.line import LinePlot
from sdviewer.gui.plots.plot import SlicePart
from sdviewer.gui.plots.quantiles import QuantilesPlot
from sdviewer.gui.plots.rows import RowsPlot
from sdviewer.gui.plots.scalar import ScalarPlot
from sdviewer.gui.plots.spectrum import SpectrumPlot
from sdviewer.gui.plots.truth import TruthPlot
from sdviewer.stats import spectrum as spectrum_module
from tests.gui.conftest import Opened, write_checkpoint
from tests.gui.plotted import answer, ask, facts_of, shown
from tests.gui.test_tensor_page import turn_to

RANDOM = torch.Generator().manual_seed(8)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM)


MATRIX = normal(60, 40)
DEAD = normal(30, 20)
DEAD[[4, 11]] = 0
DEAD[7, 3] = float("nan")
QKV = normal(24, 10)
QKV[8:12] = 0
KERNELS = normal(20, 3, 5, 5)
KERNELS[2] = 0

TENSORS = {
    "matrix": MATRIX,
    "low rank": normal(50, 3) @ normal(3, 40),
    "nan": torch.full((4, 5), float("nan")),
    "dead": DEAD,
    "tall": normal(5000, 4),
    "qkv": QKV,
    "kernels": KERNELS,
    "deep": normal(1500, 6, 3, 3),
    "mask": torch.rand(30, 40, generator=RANDOM) < 0.2,
    "false": torch.zeros(9, 9, dtype=torch.bool),
    "step": torch.tensor(1234567),
    "small": torch.tensor([[-0.000123456789]]),
    "empty": torch.empty(0, 768),
    "infinite": torch.tensor(float("-inf")),
}
ROLE = {
    "words": "",
    "kind": "parameter",
    "parts": [{"axis": 0, "name": name, "start": 8 * i, "stop": 8 * i + 8} for i, name in enumerate("QKV")],
    "heads": {"axis": 0, "count": 2, "size": 4, "sure": True},
    "related": [],
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found = facts_of(tmp_path_factory.mktemp("plots") / "tensors.pth", TENSORS)
    found["qkv"]["role"] = ROLE
    return found


def curves(plot: QWidget) -> list[tuple[np.ndarray, np.ndarray]]:
    """The lines on a plot's axes as (x, y), in the data's own numbers."""
    axes = plot.findChild(Axes)
    canvas = plot.findChild(QGraphicsView)
    assert axes is not None
    assert axes.view is not None
    found = []
    for item in canvas.area.addedItems:  # type: ignore[union-attr]
        if not hasattr(item, "getData"):
            continue
        x, y = item.getData()
        left, right, bottom, top = axes.view
        found.append((left + np.asarray(x) * (right - left), bottom + np.asarray(y) * (top - bottom)))
    return found


def spoken(plot: QWidget) -> str:
    """What a screen reader is told of what a plot shows."""
    said = [inner.accessibleDescription() for inner in (plot, *plot.findChildren(QWidget))]
    return next(words for words in said if words)


def singular(tensor: torch.Tensor) -> np.ndarray:
    found: np.ndarray = np.linalg.svd(tensor.double().numpy(), compute_uv=False)
    return found


class TestSpectrum:
    def test_that_the_curve_is_that_of_the_singular_values(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(SpectrumPlot, facts["matrix"], qtbot)
        ((x, y),) = curves(plot)
        np.testing.assert_allclose(x, np.arange(1, 41), atol=1e-9)
        np.testing.assert_allclose(y, singular(MATRIX), rtol=1e-9)
        assert plot.subtitle.text() == "40 of 40, exact"
        energy = np.cumsum(singular(MATRIX) ** 2)
        rank = int(np.searchsorted(energy, 0.9 * energy[-1])) + 1
        assert f"90 % of the energy in the first {rank}" in spoken(plot)
        assert f"the largest {singular(MATRIX)[0]:.4g}" in spoken(plot)

    def test_that_a_logarithmic_axis_leaves_out_what_cannot_be_told_from_zero(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(SpectrumPlot, facts["low rank"], qtbot, QSize(700, 360))
        plot.scale.buttons()[1].click()
        ((x, y),) = curves(plot)
        true = singular(TENSORS["low rank"])
        known = int((true > true[0] * 1e-7).sum())
        assert len(x) <= known + 1
        np.testing.assert_allclose(10 ** y[:3], true[:3], rtol=1e-6)

    def test_that_kernels_are_told_as_which_matrix_they_were_taken(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(SpectrumPlot, facts["kernels"], qtbot)
        assert plot.subtitle.text() == "20 of 20, exact · as 20×75"

    def test_that_it_says_why_there_are_none(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(SpectrumPlot, facts["nan"], qtbot)
        assert plot._note.text() == "No singular values: it holds NaN or infinity."
        assert plot.exactly.isHidden()

    def test_that_what_takes_long_is_randomised_and_offered_exactly_with_its_time(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spectrum_module, "AT_ONCE", 0.01)
        monkeypatch.setattr(spectrum_module, "speeds", lambda: (1e12, 1e5))
        monkeypatch.setattr(spectrum_module, "SKETCHES", ((8, 2),))
        monkeypatch.setattr(spectrum_module, "SPARE", 4)
        plot = shown(SpectrumPlot, facts["matrix"], qtbot)
        ((x, _),) = curves(plot)
        assert len(x) == 8
        assert plot.subtitle.text() == "≈ first 8 of 40, randomised"
        assert not plot.exactly.isHidden()
        assert plot.exactly.text() == "Compute exactly (about 1 s)"
        assert plot.cancel.isHidden()
        assert "about" in spoken(plot)

    def test_that_what_takes_very_long_is_only_offered(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spectrum_module, "speeds", lambda: (2e2, 1e3))
        plot = shown(SpectrumPlot, facts["matrix"], qtbot)
        assert "would take a while" in plot._note.text()
        assert "min" in plot.exactly.text()
        assert not plot.leading.isHidden()

    def test_that_the_statistics_have_its_norm_and_its_ranks_until_the_next_tensor(
        self, window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
    ) -> None:
        session = opened(write_checkpoint(tmp_path / "two.safetensors", {"a": (30, 20), "b": (20,)}))
        document = window.current_page()
        assert document is not None
        column = document.detail.tensor_page.statistics

        def said() -> dict[str, str]:
            lines = (column._lines[field] for field in ("spectral", "stable_rank", "rank90"))
            return {line.words: line.accessibleName() for line in lines if not line.isHidden()}

        turn_to(window, session, qtbot, "a", "spectrum")
        largest = singular(torch.arange(600.0).reshape(30, 20))[0]
        assert said()["spectral"] == f"spectral {largest:.4g}"
        assert said()["rank for 90 %"] == "rank for 90 % 1"
        turn_to(window, session, qtbot, "b")
        assert said() == {}

    def test_that_computing_exactly_can_be_cancelled_and_what_was_drawn_stays(
        self, window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
    ) -> None:
        session = opened(write_checkpoint(tmp_path / "large.safetensors", {"a": (900, 900)}))
        page = turn_to(window, session, qtbot, "a", "spectrum")
        plot = page.plots["spectrum"]
        assert isinstance(plot, SpectrumPlot)
        before = curves(plot)[0][1]
        plot._compute("exact")
        assert not plot.cancel.isHidden()
        plot.scale.buttons()[1].click()
        plot.scale.buttons()[0].click()
        assert not plot.cancel.isHidden(), "drawn on another scale meanwhile"
        plot.cancel.click()
        qtbot.waitUntil(lambda: not session.jobs.busy(), timeout=30_000)
        assert plot.cancel.isHidden()
        np.testing.assert_array_equal(curves(plot)[0][1], before)
        assert not plot._note.text()


class TestRows:
    def test_that_rows_and_columns_have_the_norms_of_the_tensor(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(RowsPlot, facts["matrix"], qtbot, QSize(900, 360))
        values = MATRIX.double().numpy()
        np.testing.assert_allclose(curves(plot)[0][1], np.linalg.norm(values, axis=1), rtol=1e-6)
        plot.axis.buttons()[1].click()
        np.testing.assert_allclose(curves(plot)[0][1], np.linalg.norm(values, axis=0), rtol=1e-6)
        assert (plot.title_label.text(), plot.subtitle.text()) == ("Column norms", "L2 per input column")
        plot.measure.buttons()[1].click()
        np.testing.assert_allclose(curves(plot)[0][1], values.mean(axis=0), atol=1e-6)
        plot.measure.buttons()[2].click()
        plot.sorted.click()
        np.testing.assert_allclose(curves(plot)[0][1], np.sort(values.std(axis=0)), rtol=1e-6)

    def test_that_where_rows_share_a_pixel_the_band_reaches_from_the_smallest_to_the_largest(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(RowsPlot, facts["tall"], qtbot)
        norms = np.linalg.norm(TENSORS["tall"].double().numpy(), axis=1)
        ((_, y),) = curves(plot)
        assert (y.min(), y.max()) == (pytest.approx(norms.min(), rel=1e-6), pytest.approx(norms.max(), rel=1e-6))
        assert "range of each 5" in plot.subtitle.text()

    def test_that_dead_rows_and_rows_with_nan_are_told_by_index(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(RowsPlot, facts["dead"], qtbot)
        assert plot._dead.text() == "2 dead rows: 4, 11"
        assert plot._odd.text() == "1 row with NaN or Inf: 7"
        assert "2 rows all zero: 4, 11" in spoken(plot)

    def test_that_a_narrow_plot_keeps_what_it_says_and_leaves_out_what_can_be_chosen(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(RowsPlot, facts["dead"], qtbot, QSize(420, 200))
        assert plot._dead.isVisibleTo(plot)
        assert not plot.measure.isVisibleTo(plot)
        assert plot._dead.mapTo(plot, QPoint()).y() < plot.title_label.geometry().bottom()
        plot.resize(900, 360)
        assert plot.measure.isVisibleTo(plot)
        assert plot._dead.isVisibleTo(plot)
        qtbot.waitUntil(lambda: plot._dead.mapTo(plot, QPoint()).y() > plot.title_label.geometry().bottom())

    def test_that_boundaries_known_from_the_role_are_named_below(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(RowsPlot, facts["qkv"], qtbot)
        axis = plot.findChild(QGraphicsView).bottom
        _, places = axis.tickValues(0, 1, 400)[0]
        assert [words for words in axis.tickStrings(places, 1, 1) if words] == ["0", "8", "16", "23"]

    def test_that_the_row_under_the_pointer_is_told_and_marked_where_another_plot_points(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(RowsPlot, facts["matrix"], qtbot)
        cells: list[Any] = []
        words: list[str] = []
        plot.cell_moved.connect(cells.append)
        plot.cursor_moved.connect(words.append)
        plot._pointed(17.3)
        norm = np.linalg.norm(MATRIX.double().numpy(), axis=1)[17]
        assert (cells, words) == ([(17, -1)], [f"output row 17: L2 {norm:.4g}"])
        plot.mark((17, 3))
        (mark,) = plot._axes._marks
        assert (mark.x, mark.words) == (17.0, "17")
        plot.mark(())
        assert not plot._axes._marks


class TestQuantiles:
    def test_that_the_curve_is_the_value_over_its_probability(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(QuantilesPlot, facts["matrix"], qtbot)
        ((x, y),) = curves(plot)
        np.testing.assert_allclose(y, np.quantile(MATRIX.double().numpy(), np.clip(x, 0, 1)), atol=1e-6)
        middle = np.median(MATRIX.double().numpy())
        assert f"50% at most {middle:.4g}".replace("-", "−") in spoken(plot)

    def test_that_normal_values_are_a_straight_line_on_normal_deviates_beside_the_normal(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(QuantilesPlot, facts["matrix"], qtbot, QSize(700, 360))
        plot.show_summary({"mean": 0.25, "std": 2.0})
        plot.scale.buttons()[1].click()
        (x, y), (along, values) = curves(plot)
        np.testing.assert_allclose(y, 0.25 + 2.0 * x, atol=1e-6)
        assert np.corrcoef(along, values)[0, 1] > 0.99
        axis = plot.findChild(QGraphicsView).bottom
        _, places = axis.tickValues(0, 1, 600)[0]
        assert "50 %" in axis.tickStrings(places, 1, 1)


class TestKernels:
    def test_that_each_kernel_is_where_it_belongs_in_its_own_colours(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(KernelsPlot, facts["kernels"], qtbot, QSize(900, 500))
        picture = plot.grid.grab().toImage()
        for out in (0, 7, 19):
            kernel = KERNELS[out].double().numpy()
            expected = np.rint(kernel / np.abs(kernel).max() * 127 + 127)
            rect = plot.grid.cell_rect(out)
            size = rect.width() / 5
            for row, column in ((1, 1), (2, 3), (3, 2)):
                at = QPoint(int(rect.left() + (column + 0.5) * size), int(rect.top() + (row + 0.5) * size))
                colour = QColor(picture.pixel(at * picture.devicePixelRatio()))
                found = [colour.red(), colour.green(), colour.blue()]
                np.testing.assert_allclose(found, expected[:, row, column], atol=1)
        assert plot._note_chip.text() == "1 all zero"
        assert "20 kernels 5×5" in spoken(plot)

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_that_one_input_is_in_the_diverging_colours_also_after_the_theme_changed(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]], theme: resources.ThemeName
    ) -> None:
        plot = shown(KernelsPlot, facts["deep"], qtbot, QSize(1600, 900))
        plot.grid.grab()
        resources.theme().apply(theme)
        try:
            kernel = TENSORS["deep"][3, 0].double().numpy()
            rect = plot.grid.cell_rect(3)
            at = QPoint(int(rect.left() + rect.width() / 2), int(rect.top() + rect.height() / 2))
            found = QColor(plot.grid.grab().toImage().pixel(at))
            shade = round(kernel[1, 1] / np.abs(kernel).max() * 127 + 127)
            expected = QColor(colours.table()[shade])
        finally:
            resources.theme().apply("light")
        assert (found.red(), found.green(), found.blue()) == (expected.red(), expected.green(), expected.blue())

    def test_that_a_page_begins_at_the_kernel_and_the_input_that_are_asked_for(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(KernelsPlot, facts["deep"], qtbot, QSize(1200, 700))
        assert not plot.page.isHidden()
        plot.page.stepUp()
        plot.channel.setValue(4)
        assert plot.request(facts["deep"])[1] == {"first": 1024, "channel": 4, "rgb": False, "common": False}
        assert plot.colour.isHidden()

    def test_that_a_click_asks_the_heatmap_for_that_kernel(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(KernelsPlot, facts["kernels"], qtbot, QSize(900, 500))
        with qtbot.waitSignal(plot.slice_wanted) as wanted:
            qtbot.mouseClick(plot.grid, Qt.MouseButton.LeftButton, pos=plot.grid.cell_rect(13).center().toPoint())
        assert wanted.args == [SlicePart((2, 3), (13, 0, 0, 0), (0, 5), (0, 5))]

    def test_that_the_arrow_keys_go_through_the_kernels(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(KernelsPlot, facts["kernels"], qtbot, QSize(900, 500))
        _, columns = plot.grid.shape
        seen: list[int] = []
        plot.grid.pointed.connect(seen.append)
        for key in (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Left, Qt.Key.Key_Left):
            qtbot.keyClick(plot.grid, key)
        assert seen == [0, 1, 1 + columns, columns]
        with qtbot.waitSignal(plot.slice_wanted) as wanted:
            qtbot.keyClick(plot.grid, Qt.Key.Key_Return)
        assert wanted.args is not None
        assert wanted.args[0].place[0] == columns

    def test_that_the_kernel_of_an_element_pointed_at_elsewhere_is_framed(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(KernelsPlot, facts["kernels"], qtbot, QSize(900, 500))
        plot.mark((6, 2, 0, 0))
        assert plot.grid.current == 6
        plot.mark(())
        assert plot.grid.current == -1


class TestHeads:
    @pytest.mark.parametrize(
        ("values", "texts"),
        [
            ([0.5, 1.5, 20.0, 3000.0, math.nan, 0.001, -0.25], ["0.50", "1.5", "20", "3e3", "–", "1e−3", "−0.25"]),
            ([1.4013, 1.4022, 1.4111, 1.3987], ["1.401", "1.402", "1.411", "1.399"]),
            ([2.0, 2.0, 2.0], ["2.0", "2.0", "2.0"]),
        ],
    )
    def test_that_heads_nearly_alike_get_the_digits_that_tell_them_apart(
        self, values: list[float], texts: list[str]
    ) -> None:
        assert texts_of(values) == texts

    def test_that_a_tensor_without_heads_has_no_such_plot(self, facts: dict[str, dict[str, Any]]) -> None:
        assert HeadsPlot.score(facts["matrix"]) == 0
        assert HeadsPlot.score(facts["qkv"]) > 0

    def test_that_each_cell_holds_the_number_of_its_head(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(HeadsPlot, facts["qkv"], qtbot, QSize(700, 360))
        values = QKV.double().numpy()
        expected = [np.linalg.norm(values[4 * i : 4 * i + 4], axis=1).mean() for i in range(6)]
        np.testing.assert_allclose(plot._values, expected, rtol=1e-6)
        assert plot.grid.shape == (3, 2)
        assert plot._dead.text() == "1 dead head"
        assert "K 0" in spoken(plot)
        plot.measure.buttons()[1].click()
        np.testing.assert_allclose(plot._values, [values[4 * i : 4 * i + 4].std() for i in range(6)], rtol=1e-6)

    def test_that_pointing_at_heads_of_the_tensor_before_says_nothing_while_the_next_is_read(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(HeadsPlot, facts["qkv"], qtbot, QSize(700, 360))
        said: list[Any] = []
        plot.cursor_moved.connect(said.append)
        plot.slice_wanted.connect(said.append)
        role = {"heads": {"axis": 0, "count": 1, "size": 4}, "parts": []}
        plot._facts, plot._answer = {**facts["matrix"], "shape": [4, 8], "role": role}, None
        plot.begin(plot._facts)
        plot.grid.pointed.emit(5)
        plot.grid.chosen.emit(5)
        assert not any(said)

    def test_that_the_name_of_a_part_is_no_html_in_a_tooltip(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        part = {"axis": 0, "name": "<b>Q</b>", "start": 0, "stop": 8}
        about = {**facts["qkv"], "role": {**facts["qkv"]["role"], "parts": [part]}}
        plot = shown(HeadsPlot, about, qtbot, QSize(700, 360))
        plot.grid.pointed.emit(0)
        assert "&lt;b&gt;Q" in plot.grid.toolTip()

    def test_that_fewer_keys_than_queries_have_fewer_cells(self) -> None:
        parts = [("Q", 0, 32), ("K", 32, 40), ("V", 40, 48)]
        about = {
            "shape": [48, 10],
            "role": {
                "parts": [{"axis": 0, "name": name, "start": start, "stop": stop} for name, start, stop in parts],
                "heads": {"axis": 0, "count": 8, "size": 4},
            },
        }
        names, found = heads_of(about)
        assert names == ["Q", "K", "V"]
        assert [sum(head.row == row for head in found) for row in range(3)] == [8, 2, 2]
        assert (found[-1].start, found[-1].stop) == (44, 48)

    def test_that_a_click_asks_the_heatmap_for_that_block(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(HeadsPlot, facts["qkv"], qtbot, QSize(700, 360))
        with qtbot.waitSignal(plot.slice_wanted) as wanted:
            qtbot.mouseClick(plot.grid, Qt.MouseButton.LeftButton, pos=plot.grid.cell_rect(5).center().toPoint())
        assert wanted.args == [SlicePart((0, 1), (0, 0), (20, 24), (0, 10))]

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_that_the_numbers_stand_out_on_every_amount(self, app: QApplication, theme: resources.ThemeName) -> None:
        resources.theme().apply(theme)
        try:
            for share in np.linspace(0, 1, 41):
                fill = colours.amount(float(share))
                assert contrast(colours.readable(fill), fill) >= 4.5, share
        finally:
            resources.theme().apply("light")

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_that_amounts_run_one_way_in_lightness(self, app: QApplication, theme: resources.ThemeName) -> None:
        resources.theme().apply(theme)
        try:
            light = np.array([luminance(colours.amount(float(share))) for share in np.linspace(0, 1, 41)])
        finally:
            resources.theme().apply("light")
        steps = np.diff(light)
        assert (steps > 0).all() or (steps < 0).all()


def luminance(colour: QColor) -> float:
    """Relative luminance as WCAG 2 defines it."""
    shares = [colour.redF(), colour.greenF(), colour.blueF()]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: QColor, other: QColor) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


class TestOneValue:
    def test_that_a_scalar_is_shown_large_and_copied_exactly(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(ScalarPlot, facts["step"], qtbot)
        assert plot.big.accessibleName() == "1,234,567"
        plot._copy.click()
        assert QGuiApplication.clipboard().text() == "1234567"

    def test_that_a_tensor_of_one_element_is_one_too(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(ScalarPlot, facts["small"], qtbot)
        assert plot.big.accessibleName() == "−0.0001235"
        assert spoken(plot) == "The value is -0.00012345679"
        assert plot.subtitle.text() == "1×1, float32"

    def test_that_infinity_has_its_sign(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        assert shown(ScalarPlot, facts["infinite"], qtbot).big.accessibleName() == "−Inf"

    def test_that_an_empty_tensor_is_a_sentence(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(ScalarPlot, facts["empty"], qtbot)
        assert plot._note.text() == "A tensor of shape 0×768 holds no values."
        assert plot.big.isHidden()


class TestTruth:
    def test_that_true_and_false_are_counted_with_their_share(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(TruthPlot, facts["mask"], qtbot)
        true = int(TENSORS["mask"].sum())
        assert spoken(plot) == f"{true} true ({true / 12:.2f} %) and {1200 - true} false of 1,200 values"

    def test_that_nothing_true_is_counted_too(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        assert spoken(shown(TruthPlot, facts["false"], qtbot)) == "0 true (0 %) and 81 false of 81 values"


def test_that_an_alpha_shows_the_scale_that_it_makes(
    app: QApplication, qtbot: QtBot, tmp_path: Path, facts: dict[str, dict[str, Any]]
) -> None:
    alpha = facts_of(tmp_path / "lora.pth", {"l.alpha": torch.tensor(4.0)})["l.alpha"]
    plot = shown(ScalarPlot, {**alpha, "role": {"words": "LoRA alpha of l", "over": 16}}, qtbot)
    assert "scale 4 / 16 = 0.25" in [label.text() for label in plot.findChildren(QLabel) if label.isVisible()]
    assert spoken(plot) == "The value is 4.0, the scale 4 / 16 = 0.25"
    plot._facts = facts["step"]
    plot.take(*answer(plot, facts["step"]))
    assert not any("scale" in label.text() for label in plot.findChildren(QLabel) if label.isVisible())


class TestData:
    """What is drawn, as it goes to the clipboard."""

    def copied(self, plot: Any) -> list[list[str]]:
        QGuiApplication.clipboard().clear()
        wanted = plot.wanted_table()
        assert plot.can_be_copied()
        if wanted is None:
            plot.copy_data()
        else:
            name, params = wanted
            body, buffers = ask(name, {"source": plot._facts["source"], **params, "most": 50_000})
            plot._copied(plot.key, str(buffers["lines"], "ascii"), plot.table_remark()(body))
        return [line.split("\t") for line in QGuiApplication.clipboard().text().splitlines()]

    def test_that_a_reduced_heatmap_says_so_in_its_first_line(
        self, app: QApplication, qtbot: QtBot, tmp_path: Path
    ) -> None:
        tensor = torch.arange(600 * 500, dtype=torch.float32).reshape(600, 500)
        plot = shown(HeatmapPlot, facts_of(tmp_path / "m.pth", {"w\n": tensor})["w\n"], qtbot)
        block = plot._answer[0]["block"]
        first, head, *rows = self.copied(plot)
        assert first == [f"# w\\n: rows 0 to 599, columns 0 to 499, mean of {block[0]}×{block[1]} values each"]
        assert len(rows) * (len(head) - 1) <= 50_000
        np.testing.assert_allclose(float(rows[0][1]), tensor[: block[0], : block[1]].mean())
        plot.set_reduction("max_abs")
        plot.take(*answer(plot, plot._facts))
        first, _, *rows = self.copied(plot)
        assert "largest of" in first[0]
        assert float(rows[-1][-1]) == 299999.0

    def test_that_fewer_cells_than_drawn_are_said(self, app: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
        plot = shown(
            HeatmapPlot, facts_of(tmp_path / "m.pth", {"w": torch.zeros(700, 600)})["w"], qtbot, QSize(900, 900)
        )
        (words,) = self.copied(plot)[0]
        assert words.endswith("values each, fewer than drawn: at most 50,000 are copied")

    def test_that_kernels_are_copied_as_they_are_stored(self, app: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
        weight = normal(300, 3, 8, 8)
        plot = shown(KernelsPlot, facts_of(tmp_path / "m.pth", {"w": weight})["w"], qtbot)
        (first,), head, *rows = self.copied(plot)
        assert first.startswith("# w: values as they are stored, not scaled, the first 260 of 300 kernels drawn")
        assert head[:4] == ["kernel", "input", "row", "0"]
        assert np.array_equal(np.array([row[3:] for row in rows], "f4"), weight[:260].reshape(-1, 8).numpy())

    def test_that_heads_counts_and_one_value_are_columns(
        self, app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
    ) -> None:
        plot = shown(HeadsPlot, facts["qkv"], qtbot)
        head, *rows = self.copied(plot)
        assert head == ["block", "head", "first row", "last row", "mean row norm", "dead rows"]
        assert rows[3][:4] == ["K", "1", "12", "15"]
        assert float(rows[3][4]) == plot._values[3]
        plot = shown(TruthPlot, facts["mask"], qtbot)
        head, yes, no = self.copied(plot)
        assert (head, yes[0], no[0]) == (["value", "count", "share"], "True", "False")
        assert float(yes[2]) + float(no[2]) == pytest.approx(1)
        assert self.copied(shown(ScalarPlot, facts["step"], qtbot)) == [["value"], ["1234567"]]
        assert not shown(ScalarPlot, facts["empty"], qtbot).can_be_copied()

    def test_that_points_of_several_values_say_so(self, app: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
        plot = shown(LinePlot, facts_of(tmp_path / "m.pth", {"b": torch.arange(9000.0)})["b"], qtbot)
        (first,), head, *_ = self.copied(plot)
        assert first == f"# b: lowest and highest of {plot._block:,} values each"
        assert head == ["low", "high"]
