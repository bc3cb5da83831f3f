from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.panels.statistics import Statistics

SUMMARY = {
    "count": 1_769_472, "nan": 0, "posinf": 1, "neginf": 2, "zeros": 0, "tiny": 48, "outliers": 788,
    "min": -0.5892, "max": 0.6097, "mean": -3.73e-05, "std": 0.04116, "median": -3.507e-05, "absmean": 0.03074,
    "kurtosis": 3.073, "l2": 54.75,
}  # fmt: skip


@pytest.fixture
def column(app: QApplication, qtbot: QtBot) -> Statistics:
    made = Statistics()
    qtbot.addWidget(made)
    made.show()
    return made


def said(column: Statistics) -> dict[str, str]:
    return {
        line.words: line.accessibleName().removeprefix(line.words + " ")
        for line in column._lines.values()
        if not line.isHidden()
    }


def test_that_values_health_and_norms_have_a_line_each(column: Statistics) -> None:
    column.show_numbers(SUMMARY)
    assert list(said(column)) == [
        "min", "max", "mean", "std", "median", "mean |x|", "kurtosis",
        "NaN", "±Inf", "exact zeros", "|x| < 1e−6", "outliers > 6σ", "L2 norm",
    ]  # fmt: skip
    assert said(column)["±Inf"] == "3"
    assert said(column)["outliers > 6σ"] == "788"
    assert "normal distribution" in column._lines["kurtosis"].toolTip()
    assert "3.073" in column._lines["kurtosis"].toolTip()


def test_that_what_is_approximate_says_so_and_from_how_many_values(column: Statistics) -> None:
    column.show_numbers({**SUMMARY, "approximate": ["median"], "sampled": 65_536})
    assert said(column)["median"].startswith("≈ ")
    assert "65,536 of 1,769,472" in column._lines["median"].toolTip()
    assert not said(column)["mean"].startswith("≈")


def test_that_a_line_is_copied_with_all_digits(column: Statistics, qtbot: QtBot) -> None:
    column.show_numbers(SUMMARY)
    column._lines["median"].setFocus()
    qtbot.keyClick(column._lines["median"], Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == "-3.507e-05"


def test_that_who_points_at_a_line_is_told(column: Statistics, qtbot: QtBot) -> None:
    column.show_numbers(SUMMARY)
    with qtbot.waitSignal(column.hovered) as told:
        column._lines["max"].setFocus()
    assert told.args == ["max"]


def test_that_a_rank_that_is_only_known_to_be_beyond_is_copied_as_such(app: QApplication, qtbot: QtBot) -> None:
    column = Statistics()
    qtbot.addWidget(column)
    known = {"kind": "randomised", "known": 1200, "spectral": 3.0, "stable_rank": 40.0, "rank90": None}
    column.show_spectrum(known)
    column._lines["rank90"].copy()
    assert QApplication.clipboard().text() == ">1200"
