"""A plot taken out of the window: as a picture, and as the numbers it is drawn from."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.plots.heatmap import HeatmapPlot
from sdviewer.gui.plots.plot import Plot
from tests.gui.conftest import Opened


@pytest.fixture
def plots(window: MainWindow, opened: Opened, checkpoint: Path, qtbot: QtBot) -> dict[str, Plot]:
    """The plots of a tensor of 8 by 8 values, 0 to 63."""
    session = opened(checkpoint)
    sheet, page = session.sheet, window.current_page()
    assert sheet is not None
    assert page is not None
    row = next(row for row in range(len(sheet)) if sheet.shape(row) == "8×8")
    with qtbot.waitSignal(page.detail.settled, timeout=30_000):
        session.reveal(row)
    made = page.detail.tensor_page.plots
    qtbot.waitUntil(lambda: bool(made["histogram"].data()), timeout=30_000)
    return made


def test_that_a_plot_is_copied_as_a_picture(plots: dict[str, Plot]) -> None:
    plot = plots["histogram"]
    plot.menu.copy_image()
    image = QGuiApplication.clipboard().image()
    assert image.width() == plot.width() * 2
    assert not plot.menu.button.isHidden()
    colours = {image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, image.height(), 7)}
    assert len(colours) > 3


def test_that_a_plot_is_saved_as_png_with_its_description(plots: dict[str, Plot], qtbot: QtBot, tmp_path: Path) -> None:
    plot = plots["histogram"]
    out = tmp_path / "plot.png"
    file = plot.menu.write(str(out), "png")
    qtbot.waitUntil(lambda: plot.subtitle.text() == "saved as plot.png", timeout=30_000)
    assert file is not None
    image = QImage(str(out))
    assert image.width() == plot.width() * 2
    assert "63" in image.text("Description")


def test_that_a_plot_is_saved_as_svg_with_lines_and_words(plots: dict[str, Plot], qtbot: QtBot, tmp_path: Path) -> None:
    plot = plots["histogram"]
    out = tmp_path / "plot.svg"
    plot.menu.write(str(out), "svg")
    qtbot.waitUntil(lambda: plot.subtitle.text() == "saved as plot.svg", timeout=30_000)
    root = ElementTree.parse(out).getroot()
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert {"path", "text", "desc"} <= names
    assert any("Distribution" in (element.text or "") for element in root.iter())


def test_that_a_place_that_cannot_be_written_is_told(plots: dict[str, Plot], qtbot: QtBot, tmp_path: Path) -> None:
    plot = plots["histogram"]
    plot.menu.write(str(tmp_path / "nowhere" / "plot.png"), "png")
    qtbot.waitUntil(lambda: "plot.png was not saved" in plot.subtitle.text(), timeout=30_000)


def test_that_what_is_drawn_is_copied_as_columns(plots: dict[str, Plot]) -> None:
    plots["histogram"].menu.copy_data()
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0] == "from\tto\tcount\texact zeros"
    assert sum(int(line.split("\t")[2]) for line in lines[1:]) == 63
    assert lines[1].split("\t")[3] == "1"
    assert float(lines[1].split("\t")[0]) == 1.0


def test_that_every_plot_has_the_menu_with_its_data(plots: dict[str, Plot]) -> None:
    for plot in plots.values():
        menu = QMenu()
        plot.menu.fill(menu)
        said = [action.text().replace("&", "") for action in menu.actions() if action.text()]
        assert said == ["Copy image", "Copy data", "Save as PNG…", "Save as SVG…"]
        assert menu.actions()[1].isEnabled() == plot.can_be_copied()
        assert plot.head.itemAt(plot.head.count() - 1).widget() is plot.menu.button
    assert plots["heatmap"].can_be_copied()


def test_that_a_picture_is_copied_as_its_numbers_by_key_too(
    plots: dict[str, Plot], qtbot: QtBot, window: MainWindow
) -> None:
    plot = plots["heatmap"]
    assert isinstance(plot, HeatmapPlot)
    QGuiApplication.clipboard().clear()
    plot.canvas.setFocus()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: bool(QGuiApplication.clipboard().text()), timeout=30_000)
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0].endswith(": rows 0 to 7, columns 0 to 7, every value")
    assert lines[1].split("\t") == ["", *(str(column) for column in range(8))]
    assert lines[9].split("\t") == ["7", *(f"{value}.0" for value in range(56, 64))]
    assert "every value" in window.status._cursor.text()


def test_that_what_was_drawn_is_copied_also_where_another_tensor_is_shown_by_then(
    plots: dict[str, Plot], qtbot: QtBot
) -> None:
    plot = plots["heatmap"]
    key, clipboard = plot.key, QGuiApplication.clipboard()
    clipboard.clear()
    plot.copy_data()
    plot._facts, plot._answer = {**plot._facts, "key": "another"}, None
    qtbot.waitUntil(lambda: bool(clipboard.text()), timeout=30_000)
    lines = clipboard.text().splitlines()
    assert lines[0] == f"# {key}: rows 0 to 7, columns 0 to 7, every value"
    assert lines[9].split("\t")[8] == "63.0"


def test_that_what_cannot_be_read_is_told_where_it_was_to_be_copied(plots: dict[str, Plot], qtbot: QtBot) -> None:
    plot = plots["heatmap"]
    plot._facts = {**plot._facts, "source": {**plot._facts["source"], "path": "/nowhere/x.pth"}}
    with qtbot.waitSignal(plot.cursor_moved, timeout=30_000) as said:
        plot.copy_data()
    assert said.args[0].startswith("Not copied: ")
