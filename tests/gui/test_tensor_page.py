"""The page of a tensor in a window: what the plots of one share, and what of it stays for the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.main_window import MainWindow
from sdviewer.gui.panels.tensor_page import TensorPage
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.overlay import _shares
from sdviewer.gui.session import Session
from tests.gui.conftest import Opened, write_checkpoint

SHAPES = {"a.weight": (40, 30), "a.bias": (40,), "b.weight": (40, 30), "c.conv": (6, 4, 3, 3), "d.one": (1,)}


@pytest.fixture
def session(window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot) -> Session:
    qtbot.keyClick(window, Qt.Key.Key_Shift)  # a test before may have left Ctrl down
    made = opened(write_checkpoint(tmp_path / "page.safetensors", SHAPES))
    with qtbot.waitSignal(made.rows_changed):
        made.expand_all()
    return made


def page(window: MainWindow) -> TensorPage:
    document = window.current_page()
    assert document is not None
    return document.detail.tensor_page


def node_of(session: Session, key: str) -> int:
    sheet = session.sheet
    assert sheet is not None

    def dotted(node: int) -> str:
        above = sheet.columns["parent"][node]
        return (f"{dotted(above)}." if above >= 0 else "") + sheet.name(node)

    return next(node for node in range(len(sheet)) if dotted(node).endswith(key))


def turn_to(window: MainWindow, session: Session, qtbot: QtBot, key: str, view: str = "") -> TensorPage:
    document = window.current_page()
    assert document is not None
    node = node_of(session, key)
    if session.selection != [node]:
        with qtbot.waitSignal(document.detail.settled, timeout=30_000):
            session.reveal(node)
    qtbot.waitUntil(lambda: session.facts.get("row") == node)
    if view:
        document.detail._choose_view(view)
    qtbot.waitUntil(lambda: not any(plot.pending for plot in page(window).shown()))
    return page(window)


def values(made: TensorPage) -> Any:
    return made.plots["values"]


def heatmap(made: TensorPage) -> Any:
    return made.plots["heatmap"]


def test_that_an_element_that_is_chosen_is_told_exactly_and_the_other_plots_follow(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "overview")
    told: list[tuple[int, ...]] = []
    others = [plot for plot in made.shown() if plot.name != "heatmap"]
    for plot in others:
        plot.mark = told.append  # type: ignore[method-assign]
    canvas = heatmap(made).canvas
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_Down)
    qtbot.keyClick(canvas, Qt.Key.Key_Right)
    assert told[-len(others) :] == [(1, 1)] * len(others)
    qtbot.waitUntil(lambda: "[1, 1] = 31" in window.status._cursor.text())
    assert "At [1, 1]: 31" in canvas.accessibleDescription()
    qtbot.keyClick(canvas, Qt.Key.Key_End, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: "[39, 29] = 1199" in window.status._cursor.text())
    qtbot.keyClick(canvas, Qt.Key.Key_Shift)  # else Ctrl stays down for the tests to come


def test_that_slice_and_element_are_shared_by_heatmap_and_values(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "c.conv", "heatmap")
    assert made.strip.isVisibleTo(window)
    made.strip.fields[2].setValue(1)
    heatmap(made).canvas._choose(5, 3)
    turn_to(window, session, qtbot, "c.conv", "values")
    grid = values(made).grid
    assert grid.cell == (5, 3)
    qtbot.waitUntil(lambda: grid.exact_text(5, 3) == f"{float(5 * 36 + 3 * 9 + 1 * 3)}")


def test_that_the_place_stays_for_a_tensor_of_the_same_shape_and_the_kind_for_all(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "heatmap")
    made.place.show_window((10, 5, 20, 15))
    turn_to(window, session, qtbot, "b.weight")
    assert [plot.name for plot in made.shown()] == ["heatmap"]
    qtbot.waitUntil(lambda: "[10:30, 5:20]" in heatmap(made).subtitle.text())
    turn_to(window, session, qtbot, "a.bias")
    assert "heatmap" not in [plot.name for plot in made.shown()], "a vector has none"
    turn_to(window, session, qtbot, "a.weight")
    assert [plot.name for plot in made.shown()] == ["heatmap"], "and it is back where there is one"
    assert "[10:30, 5:20]" in heatmap(made).subtitle.text()


def test_that_locked_colours_go_along_to_another_shape(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "heatmap")
    limit = heatmap(made)._limit
    heatmap(made).lock.click()
    turn_to(window, session, qtbot, "c.conv")
    assert heatmap(made)._limit == limit
    assert "locked" in heatmap(made).canvas.accessibleDescription()


def test_that_a_pinned_plot_stays_beside_the_next(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "overview")
    assert not made.pin.isEnabled()
    turn_to(window, session, qtbot, "a.weight", "histogram")
    made.pin.click()
    pinned = made.pinned
    assert pinned is not None
    qtbot.waitUntil(lambda: not pinned.plot.pending)
    turn_to(window, session, qtbot, "a.bias")
    axes = [plot.findChild(Axes) for plot in (pinned.plot, made.plots["histogram"])]
    assert pinned.isVisibleTo(window)
    assert ["1,200 values" in shown.accessibleDescription() for shown in axes if shown] == [True, False]
    assert "a.weight" in pinned.accessibleName()
    made.pin.click()
    assert made.pinned is None and not pinned.isVisibleTo(window)


def test_that_a_few_selected_tensors_are_drawn_over_each_other(
    window: MainWindow, session: Session, qtbot: QtBot, tmp_path: Path
) -> None:
    document = window.current_page()
    assert document is not None
    rows = [node_of(session, key) for key in ("a.weight", "b.weight", "c.conv")]
    session.select(rows)
    overlay = document.detail.overlay
    qtbot.waitUntil(lambda: "share of the values" in overlay.subtitle.text(), timeout=30_000)
    assert overlay.isVisibleTo(window)
    said = overlay._axes.accessibleDescription()
    assert "3 histograms" in said and "b.weight" in said
    assert len({(entry.edges[0], entry.edges[-1]) for entry in overlay._entries}) == 1, "one range for all"
    heights = [max(_shares(entry)) for entry in overlay._entries]
    assert heights[0] == pytest.approx(heights[1]), "shares, not counts"
    assert heights[2] > 4 * heights[0], "the third has a fifth of the range and all of its values there"
    overlay.menu.copy_data()
    lines = [line.split("\t") for line in QGuiApplication.clipboard().text().splitlines()]
    assert lines[0][:4] == ["tensor", "from", "to", "count"]
    assert {line[0] for line in lines[1:]} == {"a.weight", "b.weight", "c.conv"}
    shares = [float(line[4]) for line in lines[1:] if line[0] == "c.conv"]
    assert max(shares) == heights[2] and len(shares) == len(overlay._entries[2].counts)
    out = tmp_path / "overlay.svg"
    overlay.menu.write(str(out), "svg")
    qtbot.waitUntil(lambda: overlay.subtitle.text() == "saved as overlay.svg", timeout=30_000)
    assert "3 histograms over each other" in out.read_text(encoding="utf-8")
    # While all tensors are measured the sums come each second.
    asked: list[Any] = []
    overlay._measure = asked.append  # type: ignore[method-assign]
    with qtbot.waitSignal(session.totals_changed):
        session.request_totals()
    qtbot.waitUntil(lambda: not session.jobs.busy())
    assert not asked and overlay._axes.accessibleDescription() == said, "it measured them once more"


def test_that_a_part_that_another_plot_names_is_enlarged_in_the_heatmap(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    from sdviewer.gui.plots.plot import SlicePart

    made = turn_to(window, session, qtbot, "c.conv", "overview")
    made.plots["histogram"].slice_wanted.emit(SlicePart((2, 3), (5, 2, 0, 0), (0, 3), (0, 3)))
    qtbot.waitUntil(lambda: [plot.name for plot in made.shown()] == ["heatmap"])
    qtbot.waitUntil(lambda: not heatmap(made).pending)
    assert made.place.full_index(0, 0) == (5, 2, 0, 0)
    assert "3 by 3" in heatmap(made).canvas.accessibleDescription()


def test_that_the_histogram_is_there_in_a_view_that_was_turned_to_later(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    turn_to(window, session, qtbot, "a.bias", "values")
    made = turn_to(window, session, qtbot, "a.weight")
    turn_to(window, session, qtbot, "a.weight", "histogram")
    histogram = made.plots["histogram"]
    assert not histogram.pending and histogram.shows(session.facts)
    before = histogram.grab().toImage()
    histogram.scale.buttons()[1].click()  # type: ignore[attr-defined]
    assert histogram.grab().toImage() != before


def test_that_nobody_points_at_anything_in_the_next_tensor(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "heatmap")
    untouched = heatmap(made).canvas.grab().toImage()
    heatmap(made).canvas._choose(3, 4)
    assert heatmap(made).canvas.grab().toImage() != untouched
    turn_to(window, session, qtbot, "c.conv")
    assert heatmap(made).canvas._cursor is None


def test_that_a_statistic_that_is_pointed_at_is_shown_in_the_plots(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "overview")
    qtbot.waitUntil(lambda: not session.jobs.busy("overview"))
    axes = made.plots["histogram"].findChild(Axes)
    assert axes is not None
    canvas = heatmap(made).canvas
    made.statistics._lines["max"].setFocus()
    qtbot.waitUntil(lambda: canvas._pointed is not None)
    assert canvas._pointed[0] == (39, 29), "where the largest value stands"
    assert [(mark.x, mark.words.split()[0]) for mark in axes._marks] == [(1199.0, "max")]
    canvas.setFocus()
    canvas.clearFocus()
    assert canvas._pointed is None
    assert axes._marks == []


def test_that_an_answer_about_another_slice_is_not_drawn(window: MainWindow, session: Session, qtbot: QtBot) -> None:
    made = turn_to(window, session, qtbot, "c.conv", "values")
    plot = values(made)
    drawn: list[str] = []
    draw = plot.draw

    def told(body: Any, buffers: Any) -> None:
        draw(body, buffers)
        drawn.append(plot.grid.exact_text(0, 0))

    plot.draw = told
    plot.ask()
    made.place.move(2, 1)
    qtbot.waitUntil(lambda: not plot.pending)
    assert drawn == ["3.0"]


def test_that_what_is_pointed_at_is_not_told_once_a_row_without_numbers_is_selected(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "heatmap")
    heatmap(made).cell_moved.emit((1, 2))
    document = window.current_page()
    assert document is not None
    with qtbot.waitSignal(document.detail.settled):
        session.reveal(node_of(session, "a"))
    assert made.linked.at == ()
    assert not made.linked.waits and not session.jobs.busy("cell")


def test_that_the_place_of_the_largest_value_is_not_shown_in_the_next_tensor(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "heatmap")
    canvas = heatmap(made).canvas
    heatmap(made).point_out("max", 1199.0)
    heatmap(made).show_tensor(session, {**session.facts})
    qtbot.waitUntil(lambda: not session.jobs.busy("extreme"))
    assert canvas._pointed is None


def test_that_of_values_that_are_not_decoded_it_is_said_why_nothing_is_drawn(
    window: MainWindow, opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    np.savez(tmp_path / "texts.npz", texts=np.array(["a", "bc"]), numbers=np.arange(4.0))
    session = opened(tmp_path / "texts.npz")
    made = turn_to(window, session, qtbot, "texts")
    qtbot.waitUntil(lambda: made._note.isVisibleTo(window))
    assert "not decoded" in made._why.text()
    assert not made.shown()
    turn_to(window, session, qtbot, "numbers")
    assert made.shown() and not made._note.isVisibleTo(window)


def test_that_numbers_of_the_tensor_before_do_not_stay_where_the_next_takes_a_while(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight")
    document = window.current_page()
    assert document is not None
    mean = made.statistics._lines["mean"]
    assert mean.isVisibleTo(made)
    document.detail._ask_overview(session.facts)
    document.detail._late.timeout.emit()
    assert not mean.isVisibleTo(made)
    assert made.statistics._note.text() == "Reading numbers…"
    qtbot.waitUntil(lambda: mean.isVisibleTo(made))
    assert not made.statistics._note.isVisibleTo(made)


def test_that_a_pinned_heatmap_says_that_its_colours_are_kept(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    made = turn_to(window, session, qtbot, "a.weight", "heatmap")
    heatmap(made).lock.click()
    qtbot.waitUntil(lambda: not heatmap(made).pending)
    made.pin.click()
    assert made.pinned is not None
    kept: Any = made.pinned.plot
    assert kept.lock.isChecked() and "Colours kept" in kept.lock.accessibleName()
    made.unpin()


def test_that_in_the_smallest_window_a_plot_alone_has_its_choices_and_no_words_are_cut(
    window: MainWindow, session: Session, qtbot: QtBot
) -> None:
    window.resize(1024, 700)
    made = turn_to(window, session, qtbot, "a.weight", "rows")
    rows: Any = made.plots["rows"]
    qtbot.waitUntil(lambda: rows.axis.isVisibleTo(made) and rows.measure.isVisibleTo(made))
    assert rows.measure.mapTo(rows, rows.measure.rect().topRight()).x() <= rows.width()
    turn_to(window, session, qtbot, "a.weight", "overview")
    chip = heatmap(made).reduction
    qtbot.waitUntil(lambda: heatmap(made).width() < 300)
    assert chip.width() >= chip.sizeHint().width()
    assert chip.mapTo(heatmap(made), chip.rect().topRight()).x() < heatmap(made).width()
    assert not rows.axis.isVisibleTo(made), "no room in a quarter of it"
