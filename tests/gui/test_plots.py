"""What every plot passes the day it is registered: real numbers of every kind of tensor, in both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PySide6.QtCore import QSize
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources
from sdviewer.gui.plots import PLOTS
from sdviewer.gui.plots.axes import Axes
from sdviewer.gui.plots.histogram import HistogramPlot
from sdviewer.gui.plots.plot import Plot
from tests.gui.plotted import answer, facts_of, shown

TENSORS = {
    "matrix": torch.linspace(-1, 1, 600).reshape(20, 30),
    "wide": torch.randn(3, 5000, generator=torch.Generator().manual_seed(1)),
    "kernels": torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1)),
    "vector": torch.linspace(0, 1, 40),
    "long": torch.sin(torch.arange(100_000.0)),
    "scalar": torch.tensor(3),
    "counts": torch.arange(12).reshape(3, 4) % 5,
    "flags": torch.tensor([True, False, True]),
    "constant": torch.full((4, 4), 7.0),
    "zeros": torch.zeros(8, 8),
    "holes": torch.tensor([[float("nan"), 1.0], [float("inf"), -2.0]]),
    "nothing but nan": torch.full((3, 3), float("nan")),
    "empty": torch.empty(0, 5),
    "half": torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).bfloat16(),
    "complex": torch.complex(torch.ones(3, 3), torch.ones(3, 3)),
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the window knows of each tensor before it asks for numbers."""
    return facts_of(tmp_path_factory.mktemp("plots") / "tensors.pth", TENSORS)


def picture(plot: Plot) -> QImage:
    return plot.grab().toImage()


def with_heads(about: dict[str, Any]) -> dict[str, Any]:
    """A tensor of 20 rows in which somebody guessed four heads."""
    return {**about, "role": {"heads": {"axis": 0, "count": 4, "size": 5}, "parts": []}}


@pytest.mark.parametrize("kind", PLOTS, ids=lambda plot: plot.name)
class TestPlot:
    """One entry of PLOTS."""

    def test_that_it_has_a_name_of_its_own_and_words_for_people(self, kind: type[Plot]) -> None:
        assert [other.name for other in PLOTS].count(kind.name) == 1
        assert kind.title[0].isupper()
        assert kind.heading

    @pytest.mark.parametrize("tensor", TENSORS)
    def test_that_it_draws_what_it_bids_for(
        self, app: QApplication, qtbot: QtBot, kind: type[Plot], facts: dict[str, dict[str, Any]], tensor: str
    ) -> None:
        about = facts[tensor]
        score = kind.score(about)
        assert 0 <= score <= 100
        if not score:
            return
        for theme in ("light", "dark"):
            resources.theme().apply(theme)  # type: ignore[arg-type]
            plot = kind()
            qtbot.addWidget(plot)
            plot.resize(QSize(420, 320))
            plot.show()
            blank = picture(plot)
            plot.begin(about)
            plot.take(*answer(plot, about))
            assert not plot.pending
            assert picture(plot) != blank, "nothing was drawn"
            assert all(part.accessibleName() for part in plot.findChildren(Axes))
            said = " ".join(part.accessibleDescription() for part in [plot, *plot.findChildren(QWidget)])
            assert any(sign.isdigit() for sign in said) or plot._note.text(), "who does not see it is told"
        resources.theme().apply("light")

    def test_that_a_failure_leaves_nothing_of_the_tensor_before(
        self, app: QApplication, qtbot: QtBot, kind: type[Plot], facts: dict[str, dict[str, Any]]
    ) -> None:
        about = next((about for about in facts.values() if kind.score(about)), None) or with_heads(facts["matrix"])
        plot = shown(kind, about, qtbot)

        def told() -> list[str]:
            said = [part.accessibleDescription() for part in [plot, *plot.findChildren(QWidget)]]
            return [words for words in said if any(sign.isdigit() for sign in words)]

        before = picture(plot)
        assert told()
        plot._facts = {**about}
        plot.begin(plot._facts)
        plot.fail({"message": "It cannot be read", "remedy": "Look at the disk"})
        qtbot.waitUntil(lambda: not told())
        assert "It cannot be read" in plot._note.text()
        assert picture(plot) != before

    def test_that_it_does_not_bid_for_a_tensor_without_bytes(self, kind: type[Plot]) -> None:
        assert kind.score({"shape": [2, 3], "dtype": "float32", "source": None}) == 0


def test_that_no_plot_is_offered_that_could_only_fail() -> None:
    def offered(dtype: str, layout: dict[str, Any]) -> set[str]:
        about = {"shape": [2, 32], "dtype": dtype, "source": {"layout": layout}}
        return {plot.name for plot in PLOTS if plot.score(about)}

    assert not offered("q4_k", {"opaque": 18}), "only the container knows what these bytes are"
    assert offered("bits8", {}) == {"values"}, "they are no numbers"


def test_that_every_tensor_has_a_plot(facts: dict[str, dict[str, Any]]) -> None:
    for about in facts.values():
        assert any(plot.score(about) for plot in PLOTS) or about["shape"] == [0, 5]


def test_that_every_number_of_a_first_look_is_marked(
    app: QApplication, qtbot: QtBot, facts: dict[str, dict[str, Any]]
) -> None:
    plot = shown(HistogramPlot, facts["matrix"], qtbot)
    body, buffers = answer(plot, facts["matrix"])
    histogram = {**body["histogram"], "zeros": 20, "below": 3}
    summary = {**body["summary"], "zeros": 20, "approximate": ["zeros", "mean"], "sampled": 100}
    plot.take({"summary": summary, "histogram": histogram}, buffers)
    zeros = plot._odd["zeros"]
    assert zeros.text() == "≈ 20 exact zeros"
    assert zeros.toolTip() == "≈ 20 of 600 values, ≈ 3.33 %"
    plot.point_out("zeros", None)
    (mark,) = plot._axes._marks
    assert mark.words.strip() == "≈ 20 exact zeros"


def test_that_few_bars_have_their_values_below_them_and_nothing_else(
    app: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    tensors = {
        "mask": torch.tensor([True, False, True]),
        "ids": torch.tensor([3, 3, 4, 6]),
        "far": torch.tensor([0, 1, 99]),
    }
    known = facts_of(tmp_path / "m.pth", tensors)
    labels = {name: shown(HistogramPlot, known[name], qtbot)._axes._columns for name in tensors}
    assert labels == {"mask": [(0.0, "false"), (1.0, "true")], "ids": [(3.0, "3"), (4.0, "4"), (6.0, "6")], "far": []}
