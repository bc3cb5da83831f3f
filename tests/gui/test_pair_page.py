"""The page of a pair: which plots, what is said, and that numbers which come later leave the picture alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.engine.client import NumbersPool
from sdviewer.gui.jobs import Job, Jobs
from sdviewer.gui.panels.compare.pair_page import PairPage
from sdviewer.gui.panels.compare.pair_words import fact_words, place_of, sentence
from sdviewer.gui.plots.pair.difference import DifferencePlot
from tests.gui.plotted import facts_of

SEED = torch.Generator().manual_seed(3)
W = torch.randn(30, 20, generator=SEED)
A = {
    "blocks.0.fc.weight": W,
    "frozen": W + 1,
    "conv": torch.randn(4, 3, 5, 5, generator=SEED),
    "head": torch.randn(9, 4, generator=SEED),
    "bias": torch.randn(1, 30, generator=SEED),
    "mask": W > 0,
    "none": torch.zeros(0, 3),
    "gone": W[:3],
}
B = {
    **A,
    "mask": W < 0,
    "blocks.0.fc.weight": W * 2,
    "conv": A["conv"] * 2,
    "head": torch.zeros(3, 4),
    "bias": A["bias"][0] + 1,
}
del B["gone"]


class Asking(QObject):
    """Who asks for a comparison: nothing but its jobs and the pool."""

    def __init__(self, pool: NumbersPool, path: str) -> None:
        super().__init__()
        self.jobs, self.pool, self.path = Jobs(self), pool, path
        self.asked: list[str] = []

    def ask_numbers(self, name: str, params: Mapping[str, Any], done: Any, failed: Any, *, lane: str) -> Job:
        self.asked.append(name)
        return self.jobs.run(lane, lambda d, f, p: self.pool.request(name, params, d, f, p), done, failed, long=True)


Sides = tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    folder = tmp_path_factory.mktemp("page")
    return facts_of(folder / "a.pth", A), facts_of(folder / "b.pth", B)


@pytest.fixture(scope="module")
def pool() -> Iterator[NumbersPool]:
    made = NumbersPool(1)
    yield made
    made.stop()


@pytest.fixture
def asking(pool: NumbersPool, tmp_path: Path) -> Iterator[Asking]:
    made = Asking(pool, str(tmp_path / "a.pth"))
    yield made
    made.jobs.close()


@pytest.fixture
def page(app: QApplication, qtbot: QtBot, asking: Asking) -> PairPage:
    made = PairPage(asking, ("base", "epoch42"))
    qtbot.addWidget(made)
    made.resize(620, 700)
    made.show()
    return made


def pair(sides: Sides, key: str, status: str = "changed", **numbers: Any) -> dict[str, Any]:
    return {"a": sides[0].get(key), "b": sides[1].get(key), "status": status, "numbers": numbers, "relation": ""}


def turn_to(page: PairPage, facts: dict[str, Any], qtbot: QtBot) -> None:
    with qtbot.waitSignal(page.finished, timeout=30_000):
        page.show_pair(facts)


def names(page: PairPage) -> list[str]:
    return [plot.name for plot in page.shown()]


def test_that_a_pair_is_drawn_and_numbers_that_come_later_only_change_words(
    page: PairPage, sides: Sides, qtbot: QtBot, asking: Asking
) -> None:
    turn_to(page, pair(sides, "blocks.0.fc.weight", ""), qtbot)
    assert names(page) == ["difference", "distributions", "scatter"]
    assert sorted(asking.asked) == ["pair_histogram", "pair_scatter", "pair_slice"]
    later = pair(sides, "blocks.0.fc.weight", "changed", rel_l2=1.0, cosine=1.0, max_abs=3.5, max_at=43)
    page.show_pair(later)
    assert "100.00 %" in page.line.accessibleName() and "[2, 3]" in page.line.accessibleName()
    assert len(asking.asked) == 3 and not any(plot.pending for plot in page.shown())


def test_that_what_turns_out_identical_is_said_and_its_noise_taken_off(
    page: PairPage, sides: Sides, qtbot: QtBot
) -> None:
    turn_to(page, pair(sides, "frozen", ""), qtbot)
    assert names(page)[0] == "difference"
    turn_to(page, pair(sides, "frozen", "identical"), qtbot)
    assert names(page) == ["distributions", "sides"] or names(page) == ["sides", "distributions"]
    assert page._words.text() == "A and B are identical: 600 values, bit for bit the same."


def test_that_the_cursor_tells_a_b_and_the_difference_everywhere(page: PairPage, sides: Sides, qtbot: QtBot) -> None:
    turn_to(page, pair(sides, "blocks.0.fc.weight"), qtbot)
    difference = page.plots["difference"]
    with qtbot.waitSignal(page.cursor_moved, timeout=30_000) as told:
        difference.cell_moved.emit((4, 7))
    value = W[4, 7].item()
    parts = told.args[0].replace("\u2212", "-").split()
    assert parts[:2] == ["[4,", "7]"]
    said = dict(zip(parts[2::2], map(float, parts[3::2]), strict=True))
    assert said == {
        "A": pytest.approx(value, rel=1e-3),
        "B": pytest.approx(2 * value, rel=1e-3),
        "\u0394": pytest.approx(value, rel=1e-3),
    }
    assert "At [4, 7]: A" in difference.canvas.accessibleDescription()
    with qtbot.waitSignal(page.cursor_moved) as told:
        difference.cell_moved.emit(())
    assert told.args == [""]


def test_that_the_cursor_finds_its_element_where_one_side_has_a_dimension_more(
    page: PairPage, sides: Sides, qtbot: QtBot
) -> None:
    turn_to(page, pair(sides, "bias", "shape"), qtbot)
    with qtbot.waitSignal(page.cursor_moved, timeout=30_000) as told:
        page.plots["lines"].cell_moved.emit((0, 5))
    assert told.args[0].startswith("[0, 5]  A ") and told.args[0].endswith("  \u0394 1")


def test_that_a_scatter_that_is_drawn_above_is_not_drawn_below_too(page: PairPage, sides: Sides, qtbot: QtBot) -> None:
    turn_to(page, pair(sides, "blocks.0.fc.weight"), qtbot)
    difference = page.plots["difference"]
    difference.set_mode("scatter")
    assert sorted(names(page)) == ["difference", "distributions"]
    qtbot.waitUntil(lambda: not difference.pending)
    turn_to(page, pair(sides, "mask"), qtbot)
    assert sorted(names(page)) == ["difference", "distributions"], "flags have none at all"
    turn_to(page, pair(sides, "blocks.0.fc.weight"), qtbot)
    difference.set_mode("d")
    assert "scatter" in names(page)
    qtbot.waitUntil(lambda: not any(plot.pending for plot in page.shown()), timeout=30_000)


def test_that_the_strip_is_there_for_more_dimensions_alone(page: PairPage, sides: Sides, qtbot: QtBot) -> None:
    turn_to(page, pair(sides, "conv"), qtbot)
    assert page.strip.isVisible()
    turn_to(page, pair(sides, "blocks.0.fc.weight"), qtbot)
    assert not page.strip.isVisible()


def test_that_shapes_that_differ_say_how_they_may_relate(page: PairPage, sides: Sides, qtbot: QtBot) -> None:
    turn_to(page, pair(sides, "head", "shape"), qtbot)
    assert page._words.text() == "Shapes differ. A has three times the rows of B (as Q, K and V in one)."
    assert page.plots["sides"].isVisible()
    turn_to(page, {**pair(sides, "head", "shape"), "relation": "They are cousins"}, qtbot)
    assert page._words.text() == "Shapes differ. They are cousins."


def test_that_a_tensor_of_one_side_and_one_without_elements_are_shown_as_such(
    page: PairPage, sides: Sides, qtbot: QtBot
) -> None:
    turn_to(page, pair(sides, "gone", "only_a"), qtbot)
    assert page._words.text() == "Only A has this tensor."
    turn_to(page, pair(sides, "none", "identical"), qtbot)
    assert names(page) == [] and page._empty.text() == "There are no elements."
    page.show_pair(None)
    assert page._empty.text().startswith("Choose a pair") and not page.path.isVisible()


def test_that_names_that_differ_are_both_told_as_plain_text(page: PairPage, sides: Sides, qtbot: QtBot) -> None:
    b = {**sides[1]["frozen"], "key": "<b>module</b>.frozen\n"}
    turn_to(page, {**pair(sides, "frozen", "identical"), "b": b}, qtbot)
    assert page._other.isVisible() and page._other.text() == "in B: <b>module</b>.frozen\\n"
    assert page._words.textFormat() == Qt.TextFormat.PlainText


def test_that_a_file_that_is_gone_is_a_message_in_the_plots_place(
    page: PairPage, app: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "short.pth"
    about = facts_of(path, {"w": W})["w"]
    path.unlink()
    turn_to(page, {"a": about, "b": about, "status": "", "numbers": {}, "relation": ""}, qtbot)
    assert all(plot._note.isVisible() and plot._note.text() for plot in page.shown())


# What is said


def test_that_the_line_of_facts_tells_shape_type_and_how_far_apart(sides: Sides) -> None:
    facts = pair(sides, "blocks.0.fc.weight", rel_l2=0.1349, cosine=0.99104, max_abs=0.0732, max_at=43, sign_flips=2)
    words = [said for said, _ in fact_words(facts)]
    assert words == [
        *("30×20", "float32", "‖B−A‖ / ‖A‖ 13.49 %", "cos 0.9910", "max |Δ| 0.0732 at [2, 3]", "2 sign flips")
    ]


def test_that_numbers_that_are_not_known_are_left_out(sides: Sides) -> None:
    facts = pair(sides, "blocks.0.fc.weight", rel_l2=math.nan, cosine=None, max_abs=0.0, max_at=-1, nan_a=-1)
    assert [said for said, _ in fact_words(facts)] == ["30×20", "float32", "max |Δ| 0"]
    infinite = pair(sides, "blocks.0.fc.weight", rel_l2="inf", nan_b=3, nan_a=0, inf_a=2, inf_b=2)
    assert [said for said, _ in fact_words(infinite)][2:] == ["‖B−A‖ / ‖A‖ ∞", "3 NaN in B"]
    opposite = pair(sides, "blocks.0.fc.weight", cosine=-1.0)
    assert [said for said, _ in fact_words(opposite)][2:] == ["cos −1"]


def test_that_shapes_and_types_that_differ_are_told_from_a_to_b(sides: Sides) -> None:
    facts = pair(sides, "head", "shape")
    facts["b"] = {**facts["b"], "dtype": "float16"}
    assert [said for said, _ in fact_words(facts)] == ["9×4 → 3×4", "float32 → float16"]


@pytest.mark.parametrize(
    ("status", "numbers", "words"),
    [
        (
            "dtype",
            {"cast": "equal"},
            "Only the type differs: all values are equal, as float32 in A and as float32 in B.",
        ),
        ("dtype", {"cast": "rounded_b"}, "Only the type differs: B has the values of A rounded to float32."),
        ("close", {}, "A and B are close: all values are within the tolerance."),
        ("changed", {}, ""),
        (
            "changed",
            {"nonfinite_differs": 1},
            "NaN or infinity stands on one side only: what is marked has no difference.",
        ),
    ],
)
def test_that_a_sentence_says_what_no_picture_does(
    sides: Sides, status: str, numbers: dict[str, Any], words: str
) -> None:
    assert sentence(pair(sides, "frozen", status, **numbers)) == words


def test_that_a_place_is_told_in_each_dimension() -> None:
    assert place_of(43, (30, 20)) == [2, 3]
    assert place_of(7, ()) == [] and place_of(119, (4, 5, 6)) == [3, 4, 5]


def _cut(plot: DifferencePlot) -> list[str]:
    """The choices whose words have no room."""
    return [b.text() for b in plot.modes.buttons() if b.width() < b.fontMetrics().horizontalAdvance(b.text())]


def test_that_a_low_page_has_the_upper_plot_alone_and_a_high_one_all(
    page: PairPage, sides: Sides, qtbot: QtBot
) -> None:
    page.resize(420, 300)
    turn_to(page, pair(sides, "blocks.0.fc.weight"), qtbot)
    assert names(page) == ["difference"]
    plot = page.plots["difference"]
    assert isinstance(plot, DifferencePlot)
    qtbot.waitUntil(lambda: not _cut(plot))
    page.resize(620, 700)
    qtbot.waitUntil(lambda: names(page) == ["difference", "distributions", "scatter"])
    qtbot.waitUntil(lambda: not any(shown.pending for shown in page.shown()), timeout=30_000)
