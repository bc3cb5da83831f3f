"""The plots of a pair: what they ask, what they draw of A, B and their difference, and what they say of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources
from sdviewer.gui.plots import colours
from sdviewer.gui.plots.pair import PAIR_PLOTS
from sdviewer.gui.plots.pair.difference import BLINK, DifferencePlot
from sdviewer.gui.plots.pair.histograms import HistogramsPlot
from sdviewer.gui.plots.pair.lines import LinesPlot
from sdviewer.gui.plots.pair.pair_plot import index_in, pair_facts
from sdviewer.gui.plots.pair.scalars import ScalarsPlot
from sdviewer.gui.plots.pair.scatter import ScatterPlot, in_words
from sdviewer.gui.plots.pair.sides import SidesPlot
from sdviewer.gui.plots.picture import description_of
from tests.gui.plotted import answer, ask, facts_of, shown

SEED = torch.Generator().manual_seed(1)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=SEED)


W = normal(40, 60)
A = {
    "w": W,
    "same": normal(5, 6),
    "halves": normal(8, 8),
    "nan": normal(6, 6),
    "conv": normal(4, 3, 5, 5),
    "mask": normal(9, 9) > 0,
    "ids": torch.arange(40).reshape(5, 8) % 7,
    "bias": normal(50),
    "squeezed": normal(1, 50),
    "head": normal(10, 6),
    "head.bias": normal(10),
    "step": torch.tensor(3),
    "rate": torch.tensor(0.5),
    "words": torch.zeros(0, 4),
    "gone": normal(7, 5),
    "const": torch.ones(30),
}
NAN = A["nan"].clone()
NAN[2, 3] = math.nan
B = {
    **A,
    "w": W * 1.5 + 0.25,
    "halves": A["halves"].half(),
    "nan": NAN,
    "conv": A["conv"] + 1,
    "mask": ~A["mask"],
    "ids": A["ids"] + 1,
    "bias": A["bias"] * -1,
    "squeezed": A["squeezed"][0] + 1,
    "head": normal(4, 6),
    "head.bias": normal(4),
    "step": torch.tensor(10),
    "rate": torch.tensor(0.25),
    "const": torch.full((30,), 2.0),
    "new": normal(6, 4),
}
del B["gone"]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("pair")
    return facts_of(folder / "a.pth", A), facts_of(folder / "b.pth", B)


Sides = tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]


def pair(sides: Sides, key: str, status: str = "changed", **numbers: Any) -> dict[str, Any]:
    return pair_facts({"a": sides[0].get(key), "b": sides[1].get(key), "status": status, "numbers": numbers})


def drawn(plot: Any, about: Any, qtbot: QtBot, size: QSize = QSize(620, 360)) -> Any:  # noqa: B008
    return shown(plot, about, qtbot, size)


# Which plots a pair has


@pytest.mark.parametrize(
    ("key", "status", "main", "below"),
    [
        ("w", "changed", "difference", ["distributions", "scatter"]),
        ("halves", "dtype", "difference", ["distributions", "scatter"]),
        ("conv", "changed", "difference", ["distributions", "scatter"]),
        ("mask", "changed", "difference", ["distributions"]),
        ("bias", "changed", "lines", ["distributions", "scatter"]),
        ("squeezed", "shape", "lines", ["distributions", "scatter"]),
        ("head", "shape", "sides", ["distributions"]),
        ("head.bias", "shape", "lines", ["distributions"]),
        ("step", "changed", "scalars", []),
        ("same", "identical", "sides", ["distributions"]),
        ("gone", "only_a", "sides", ["distributions"]),
        ("new", "only_b", "sides", ["distributions"]),
        ("words", "identical", "", []),
    ],
)
def test_that_a_pair_has_the_plots_that_suit_it(
    app: QApplication, sides: Sides, key: str, status: str, main: str, below: list[str]
) -> None:
    about = pair(sides, key, status)
    scores = {kind.name: kind.score(about) for kind in PAIR_PLOTS}
    best = max((kind for kind in PAIR_PLOTS if kind.main), key=lambda kind: scores[kind.name])
    assert (best.name if scores[best.name] else "") == main
    assert [kind.name for kind in PAIR_PLOTS if not kind.main and scores[kind.name]] == below


def test_that_equal_values_of_another_type_are_one_picture_and_not_noise(app: QApplication, sides: Sides) -> None:
    about = pair(sides, "halves", "dtype", cast="equal")
    assert DifferencePlot.score(about) == 0 and SidesPlot.score(about) > 0
    assert list(SidesPlot.sources(about)) == ["a"]


@pytest.mark.parametrize(
    ("cell", "of", "other", "there"),
    [
        ((3, 4), (10, 6), (10, 6), (3, 4)),
        ((3, 4), (10, 6), (4, 6), (3, 4)),
        ((5, 4), (10, 6), (4, 6), None),
        ((0, 7), (1, 50), (50,), (7,)),
        ((7,), (50,), (1, 50, 1), (0, 7, 0)),
        ((3, 4), (10, 6), (60,), None),
        ((), (), (1,), (0,)),
    ],
)
def test_that_an_element_is_found_on_the_other_side(cell: Any, of: Any, other: Any, there: Any) -> None:
    assert index_in(cell, of, other) == there


# The picture of both


@pytest.fixture
def plot(app: QApplication, qtbot: QtBot, sides: Sides) -> DifferencePlot:
    made: DifferencePlot = drawn(DifferencePlot, pair(sides, "w"), qtbot)
    return made


def test_that_one_answer_gives_a_b_and_the_difference_and_a_has_the_limits_of_b(
    plot: DifferencePlot, sides: Sides
) -> None:
    both, difference = plot._limits
    assert plot.canvas._shown is not None and plot.canvas._shown.limit == difference
    assert "colours from" in plot.canvas.accessibleDescription() and "B minus A" in plot.canvas.accessibleDescription()
    for mode in ("a", "b"):
        plot.set_mode(mode)
        assert plot.canvas._shown.limit == both and not plot.pending
    magnitudes = np.abs(np.stack([A["w"].numpy(), B["w"].numpy()]))
    assert both == pytest.approx(float(np.quantile(magnitudes, 0.997)))
    assert difference == pytest.approx(float(np.quantile(np.abs((B["w"] - A["w"]).numpy()), 0.997)), rel=1e-5)


def test_that_a_lies_left_and_b_right_of_the_divider_which_is_dragged_and_moved_with_keys(
    plot: DifferencePlot, qtbot: QtBot
) -> None:
    plot.set_mode("split")
    canvas = plot.canvas
    rect = canvas._picture()

    def seen(row: int, column: int) -> Any:
        x, y = canvas._x(column + 0.5, rect), canvas._y(row + 0.5, rect)
        return canvas.grab().toImage().pixelColor(QPoint(round(x), round(y)))

    def wanted(side: dict[str, torch.Tensor], row: int, column: int) -> Any:
        shade = round(min(max(float(side["w"][row, column]) / plot._limits[0], -1), 1) * 127 + 127)
        return colours.colour((shade - 127) / 127)

    assert seen(20, 12) == wanted(A, 20, 12) and seen(20, 45) == wanted(B, 20, 45)
    start = QPoint(round(canvas.divider_x()), rect.center().y() + 40)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(canvas, QPoint(rect.left() + rect.width() // 10, start.y()))
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(rect.left() + rect.width() // 10, start.y()))
    assert canvas.divider == pytest.approx(0.1, abs=0.01)
    assert seen(20, 12) == wanted(B, 20, 12)
    assert plot.place.window is None, "the picture itself was not moved"
    qtbot.keyClicks(canvas, "]]")
    assert canvas.divider == pytest.approx(0.2, abs=0.01)
    qtbot.keyClicks(canvas, "[" * 20)
    assert canvas.divider == 0.0


def test_that_space_shows_a_and_b_in_turn_while_it_is_held(plot: DifferencePlot, qtbot: QtBot) -> None:
    pictures = plot._pictures
    canvas = plot.canvas
    canvas.setFocus()
    QTest.keyPress(canvas, Qt.Key.Key_Space)
    assert canvas._shown is pictures["a"] and canvas._corners == ("A",)
    plot._turn()
    assert canvas._shown is pictures["b"] and canvas._corners == ("B",)
    for _ in range(3):  # a held key that is repeated by a display which does not say so
        QTest.keyRelease(canvas, Qt.Key.Key_Space)
        QTest.keyPress(canvas, Qt.Key.Key_Space)
        assert canvas._shown is pictures["b"]
    QTest.keyRelease(canvas, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: canvas._shown is pictures["d"])
    assert not plot._blink.isActive()
    assert BLINK >= 334, "no faster than three times a second"
    plot.set_mode("a")
    plot.blink(True)
    assert canvas._shown is plot._pictures["b"], "from A to B at once"
    plot.blink(False)
    qtbot.waitUntil(lambda: canvas._shown is plot._pictures["a"])


def test_that_colours_are_kept_for_the_next_pair(plot: DifferencePlot, sides: Sides) -> None:
    plot.lock.click()
    _, params = plot.request(pair(sides, "halves"))
    assert params["limits"] == list(plot._limits) and "limit" not in params
    plot.lock.click()
    assert "limits" not in plot.request(pair(sides, "halves"))[1]


def test_that_a_difference_with_nan_is_marked_and_told(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(DifferencePlot, pair(sides, "nan"), qtbot)
    rect = plot.canvas._picture()
    at = QPointF(plot.canvas._x(3.5, rect), plot.canvas._y(2.5, rect)).toPoint()
    assert plot.canvas.grab().toImage().pixelColor(at) == resources.colour("S")
    assert "1 of 36 values differ" in plot.canvas.accessibleDescription()


def test_that_a_pair_without_a_difference_is_said_in_words(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(DifferencePlot, pair(sides, "same", ""), qtbot)
    assert plot._note.isVisible() and plot._note.text() == "No value differs."


def test_that_the_slice_that_is_compared_is_the_one_of_the_strip(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    about = pair(sides, "conv")
    plot = drawn(DifferencePlot, about, qtbot)
    plot.place.move(1, 2)
    _, params = plot.request(about)
    assert params["index"][1] == 2
    body, _ = answer(plot, about)
    assert body["index"][1] == 2 and body["limit_d"] == pytest.approx(1.0, abs=1e-6)


def test_that_a_scatter_is_drawn_large_and_flags_have_none(plot: DifferencePlot, sides: Sides, qtbot: QtBot) -> None:
    about = pair(sides, "w")
    plot.set_mode("scatter")
    assert plot.request(about)[0] == "pair_scatter"
    plot.take(*answer(plot, about))
    assert plot.axes.isVisible() and not plot.canvas.isVisible()
    assert "slope 1.5" in plot.subtitle.text()
    assert "50.00 % steeper" in description_of(plot)
    assert [len(column) for _, column in plot.data()] == [2400, 2400]
    plot.set_mode("d")
    plot.take(*answer(plot, about))
    assert plot.canvas.isVisible() and not plot.axes.isVisible()
    plot.set_mode("scatter")
    plot.begin(pair(sides, "mask"))
    assert plot.mode == "d" and not plot.modes.buttons()[4].isVisible()


@pytest.mark.parametrize(
    ("r", "slope", "words"),
    [
        (0.995, 1.25, "B follows A closely (r 0.9950), 25.00 % steeper than the diagonal (slope 1.25)"),
        (-0.8, -0.5, "B follows A loosely, turned round (r −0.8000), 50.00 % flatter than the diagonal"),
        (1.0, 1.0, "B follows A exactly (r 1), as steep as the diagonal (slope 1), from a sample of 90."),
        (0.01, 0.01, "B does not follow A"),
    ],
)
def test_that_r_and_slope_are_told_in_words(r: float, slope: float, words: str) -> None:
    body = {"r": r, "slope": slope, "offset": 0.0, "looked": 90, "count": 1000, "equal": 45, "finite": 90}
    assert in_words(body).startswith(words)
    assert in_words(body).endswith("50.00 % are equal.")


def copied(plot: Any, about: Any, most: int = 10_000) -> tuple[list[list[str]], str]:
    """What "Copy data" would put on the clipboard: the lines, and what is said of them."""
    wanted = plot.wanted_table()
    assert wanted is not None and plot.can_be_copied()
    body, buffers = ask(wanted[0], {**plot.sources(about), **wanted[1], "most": most})
    lines = [line.split("\t") for line in str(buffers["lines"], "ascii").split("\n")]
    return lines, plot.table_remark()(body)


def test_that_what_the_picture_shows_is_copied_as_a_table(plot: DifferencePlot, sides: Sides) -> None:
    about = pair(sides, "w")
    lines, remark = copied(plot, about)
    assert remark == f"B {chr(0x2212)} A, rows 0 to 39, columns 0 to 59, every value"
    assert lines[0][1:] == [str(column) for column in range(60)] and [line[0] for line in lines[1:]] == [
        str(row) for row in range(40)
    ]
    difference = B["w"].double() - A["w"].double()
    assert float(lines[4][8]) == difference[3, 7].item()
    plot.set_mode("a")
    lines, _ = copied(plot, about)
    assert np.float32(lines[4][8]) == A["w"][3, 7].item(), "the value as it is stored"
    plot.set_mode("split")
    lines, remark = copied(plot, about)
    assert remark.startswith("A and B, ") and lines[0] == ["A"] and ["B"] in lines
    lines, remark = copied(plot, about, most=200)
    assert sum(len(line) - 1 for line in lines) < 400 and "fewer than drawn" in remark


def test_that_both_sides_of_unlike_shapes_are_copied(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    about = pair(sides, "head", "shape")
    plot = drawn(SidesPlot, about, qtbot)
    lines, remark = copied(plot, about)
    assert remark == "A: rows 0 to 9, columns 0 to 5, every value; B: rows 0 to 3, columns 0 to 5, every value"
    assert lines[0] == ["A"] and len(lines) == 1 + 11 + 1 + 1 + 5
    about = pair(sides, "new", "only_b")
    lines, _ = copied(drawn(SidesPlot, about, qtbot), about)
    assert np.float32(lines[1][1]) == B["new"][0, 0].item()


# Below and instead of it


def test_that_two_distributions_are_drawn_over_one_range(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(HistogramsPlot, pair(sides, "w"), qtbot)
    a, b = plot._counted["a"], plot._counted["b"]
    assert a.edges == b.edges and sum(a.counts) <= 2400
    assert not plot._shares
    assert "A: 2,400 values" in description_of(plot) and "B: 2,400 values" in description_of(plot)
    assert [name for name, _ in plot.data()][:3] == ["from in A", "to in A", "count in A"]


def test_that_sides_of_another_size_are_compared_by_shares(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(HistogramsPlot, pair(sides, "head", "shape"), qtbot)
    assert plot._shares and plot.words.text() == "share of each side"


def test_that_whole_numbers_are_counted_value_by_value(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(HistogramsPlot, pair(sides, "ids"), qtbot)
    assert plot._counted["a"].values == list(range(7)) and plot._counted["b"].values == list(range(1, 8))
    plot = drawn(HistogramsPlot, pair(sides, "mask"), qtbot)
    assert plot._counted["a"].counts == plot._counted["b"].counts[::-1]


def test_that_nan_of_a_side_is_told_beside_the_distributions(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(HistogramsPlot, pair(sides, "nan"), qtbot)
    assert plot.words.text() == "B has 1 NaN" and "1 NaN" in description_of(plot)


def test_that_one_side_alone_has_its_own_distribution(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(HistogramsPlot, pair(sides, "new", "only_b"), qtbot)
    assert list(plot._counted) == ["b"] and not plot._badges["a"].isVisible() and plot._badges["b"].isVisible()


def test_that_a_scatter_says_how_b_follows_a(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(ScatterPlot, pair(sides, "bias"), qtbot)
    assert plot.words.text() == f"r {chr(0x2212)}1 · slope {chr(0x2212)}1 · B follows A exactly, turned round"
    plot = drawn(ScatterPlot, pair(sides, "const"), qtbot)
    assert plot.words.text() == "no line: a side is constant"


def test_that_vectors_are_drawn_over_each_other_and_as_their_difference(
    app: QApplication, qtbot: QtBot, sides: Sides
) -> None:
    plot = drawn(LinesPlot, pair(sides, "squeezed", "shape"), qtbot)
    assert plot._shown() == ["a", "b"] and "50 differ" in plot.subtitle.text()
    plot.set_mode("d")
    assert plot._shown() == ["d"]
    assert [low for low, _ in plot._lines["d"]] == pytest.approx([1.0] * 50, abs=1e-6)
    told: list[Any] = []
    plot.cell_moved.connect(told.append)
    plot._pointed(7.2)
    assert told == [(0, 7)]


def test_that_vectors_of_other_lengths_have_no_difference(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    plot = drawn(LinesPlot, pair(sides, "bias"), qtbot)
    plot.set_mode("d")
    about = pair(sides, "head.bias", "shape")
    plot._facts = about
    plot.begin(about)
    plot.take(*answer(plot, about))
    assert plot.mode == "both" and not plot.modes.buttons()[3].isVisible()
    assert plot._count == 10 and set(plot._lines) == {"a", "b"}
    plot._pointed(8.0)
    assert "B" not in plot._axes._marks[0].words, "B has no ninth value"


def test_that_shapes_that_differ_stand_beside_each_other_in_one_scale(
    app: QApplication, qtbot: QtBot, sides: Sides
) -> None:
    plot = drawn(SidesPlot, pair(sides, "head", "shape"), qtbot)
    views = plot.views
    assert views["a"].isVisible() and views["b"].isVisible()
    assert views["a"].canvas._shown.limit == views["b"].canvas._shown.limit
    assert views["a"].head.text() == "10×6" and views["b"].head.text() == "4×6"
    plot._hovered("a", 2, 3)
    assert views["b"].canvas._cursor == (2, 3)
    plot._hovered("a", 8, 3)
    assert views["b"].canvas._cursor is None, "B has no ninth row"
    views["b"].canvas.zoom(3, 1, 1)
    sizes = plot.request(pair(sides, "head", "shape"))[1]["sides"]
    assert "window" in sizes[1] and "window" not in sizes[0]


@pytest.mark.parametrize(("key", "status", "side"), [("gone", "only_a", "a"), ("new", "only_b", "b")])
def test_that_a_tensor_of_one_side_is_shown_alone(
    app: QApplication, qtbot: QtBot, sides: Sides, key: str, status: str, side: str
) -> None:
    plot = drawn(SidesPlot, pair(sides, key, status), qtbot)
    other = {"a": "b", "b": "a"}[side]
    assert plot.views[side].isVisible() and not plot.views[other].isVisible()
    assert f"Heatmap of {side.upper()}" in plot.views[side].canvas.accessibleDescription()


def test_that_what_is_identical_is_read_and_shown_once(app: QApplication, qtbot: QtBot, sides: Sides) -> None:
    about = pair(sides, "same", "identical")
    plot = drawn(SidesPlot, about, qtbot)
    assert list(plot.sources(about)) == ["a"]
    assert plot.views["a"].head.text().startswith("A and B, the same") and not plot.views["b"].isVisible()


def test_that_single_values_are_large_numbers_with_their_difference(
    app: QApplication, qtbot: QtBot, sides: Sides
) -> None:
    plot = drawn(ScalarsPlot, pair(sides, "step"), qtbot)
    assert [label.text() for label in plot.numbers.values()] == ["3", "10", "7"]
    plot = drawn(ScalarsPlot, pair(sides, "rate"), qtbot)
    assert [label.text() for label in plot.numbers.values()] == ["0.5", "0.25", f"{chr(0x2212)}0.25"]
    assert "B: 0.25" in plot.accessibleDescription()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", PAIR_PLOTS)
def test_that_each_plot_is_drawn_in_both_themes_with_names_and_a_picture_to_take_away(
    app: QApplication, qtbot: QtBot, sides: Sides, kind: Any, theme: Any, tmp_path: Path
) -> None:
    about = next(a for key in A if kind.score(a := pair(sides, key, "shape" if key == "head" else "changed")))
    resources.theme().apply(theme)
    plot = drawn(kind, about, qtbot)
    assert description_of(plot)
    assert plot.data() or kind in (DifferencePlot, SidesPlot)
    file = plot.menu.write(str(tmp_path / "plot.png"), "png")
    qtbot.waitUntil(lambda: (tmp_path / "plot.png").exists() and file not in plot.menu._files)
    plot.clear()
    resources.theme().apply("light")


def test_that_a_file_that_is_gone_is_named_in_the_place_of_the_picture(
    app: QApplication, qtbot: QtBot, sides: Sides
) -> None:
    plot = drawn(SidesPlot, pair(sides, "head", "shape"), qtbot)
    plot.fail({"message": "there is no such file", "path": "/somewhere/del.pth", "code": "not_found"})
    assert plot._note.text() == "del.pth: there is no such file."
