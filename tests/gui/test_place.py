"""Where in a tensor one looks, what somebody types to go there, and what is copied from it."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from sdviewer.gui.panels.overview_grid import ALONE, Cell, in_order, places
from sdviewer.gui.panels.view_bar import ViewBar
from sdviewer.gui.plots.boundaries import Part, head_edges, inner_edges, parts_along
from sdviewer.gui.plots.copying import as_numpy, as_table
from sdviewer.gui.plots.goto import WrongIndex, parse_index
from sdviewer.gui.plots.place import Place, picture_axes
from sdviewer.gui.plots.slices import SliceStrip


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((), None), ((5,), None), ((5, 1), (0, 1)), ((1, 197, 768), (1, 2)), ((64, 3, 7, 7), (0, 2)), ((0, 5), (0, 1))],
)
def test_that_the_two_largest_dimensions_are_the_picture(shape: tuple[int, ...], axes: tuple[int, int] | None) -> None:
    assert picture_axes(shape) == axes


def test_that_a_place_is_kept_for_tensors_of_its_shape_and_found_again(app: QApplication) -> None:
    place = Place()
    place.begin((64, 3, 7, 7))
    place.move(1, 2)
    place.cell = (5, 6)
    place.show_window((0, 0, 10, 5))
    place.begin((64, 3, 7, 7))
    assert (place.index, place.cell, place.window) == ([0, 2, 0, 0], (5, 6), (0, 0, 10, 5))
    place.begin((10,))
    assert (place.cell, place.window) == ((0, 0), None)
    place.begin((64, 3, 7, 7))
    assert (place.index, place.cell, place.window) == ([0, 2, 0, 0], (5, 6), (0, 0, 10, 5))


def test_that_a_dimension_that_leaves_the_picture_stands_where_the_element_is(app: QApplication) -> None:
    place = Place()
    place.begin((8, 9, 3))
    place.cell = (4, 5)
    place.set_axes(0, 2)
    assert place.axes == (0, 2)
    assert place.full_index(1, 2) == (1, 5, 2)
    assert place.cell == (4, 0)
    place.set_axes(2, 2)
    assert place.axes == (2, 0), "a dimension chosen twice swaps the two"


def test_that_an_element_of_the_tensor_is_found_in_its_slice_only(app: QApplication) -> None:
    place = Place()
    place.begin((8, 3, 9))
    place.move(1, 2)
    assert place.full_index(4, 5) == (4, 2, 5)
    assert place.in_slice((4, 2, 5)) == (4, 5)
    assert place.in_slice((4, 0, 5)) is None
    assert place.in_slice((4, -1, -1)) == (4, -1), "a row of all slices"
    place.go((7, 0, 8))
    assert place.in_slice((7, 0, 8)) == place.cell == (7, 8)
    place.begin((5,))
    assert place.full_index(3, 0) == (3,) and place.in_slice((3,)) == (3, 0)
    place.begin(())
    assert place.full_index(0, 0) == () and place.in_slice(()) == (0, 0)


def test_that_a_copy_of_a_place_goes_its_own_way(app: QApplication) -> None:
    place = Place()
    place.begin((8, 3, 9))
    place.lock(0.5)
    other = place.copy()
    place.move(1, 2)
    assert other.index == [0, 0, 0]
    assert other.locked == 0.5


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("[920, 478]", (920, 478)),
        ("920 478", (920, 478)),
        ("(3,)", (3, 7)),
        ("[-1, −1]", (2303, 767)),
        ("[0]", (0, 7)),
        ("[2303, 767]", (2303, 767)),
    ],
)
def test_that_an_index_is_read_as_people_write_it(typed: str, index: tuple[int, ...]) -> None:
    assert parse_index(typed, (2304, 768), (5, 7)) == index


@pytest.mark.parametrize("typed", ["", "[]", "a", "1.5e", "2304", "-2305", "0, 768", "1, 2, 3", "9" * 40])
def test_that_what_is_no_place_is_refused_with_a_reason(typed: str) -> None:
    with pytest.raises(WrongIndex, match=r"[a-z]"):
        parse_index(typed, (2304, 768), (0, 0))


def test_that_an_empty_tensor_has_no_place() -> None:
    with pytest.raises(WrongIndex, match="empty"):
        parse_index("0", (0, 5), (0, 0))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([[1.5, -2e-30], [0.1, np.nan]], np.float32), "float32"),
        (np.array([[1, -2], [3, 4]], np.int64), "int64"),
        (np.array([[True], [False]]), "bool"),
        (np.array([[np.inf, -np.inf, 1.0]]), "float64"),
        (np.array([[complex(1, np.nan), 2 + 1j]], np.complex64), "complex64"),
        (np.array([[7]], np.uint8), "uint8"),
    ],
)
def test_that_copied_numpy_makes_the_same_values(array: np.ndarray, dtype: str) -> None:
    flat = array.reshape(-1)
    texts = [str(value) for value in (flat if flat.dtype.kind in "fc" else flat.tolist())]
    made = eval(as_numpy(texts, array.shape[1], dtype), {"np": np})  # what somebody pastes
    assert made.dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(made).reshape(array.shape), array)


def test_that_a_copied_table_has_tabs_and_one_value_alone_is_itself() -> None:
    assert as_table(["1", "2", "3", "4"], 2) == "1\t2\n3\t4"
    assert as_table(["-3.730e-05"], 1) == "-3.730e-05"


# The overview


def test_that_the_places_of_the_overview_are_fixed() -> None:
    matrix = {"histogram": 80, "heatmap": 70, "values": 40, "rows": 65, "spectrum": 60, "quantiles": 50}
    assert places(matrix) == {
        "histogram": Cell(0, 0, 1, 2),
        "heatmap": Cell(1, 0, 2, 1),
        "rows": Cell(1, 1, 1, 1),
        "spectrum": Cell(2, 1, 1, 1),
    }


def test_that_a_place_falls_to_the_best_of_what_there_is() -> None:
    vector = {"histogram": 80, "line": 90, "values": 40}
    assert places(vector) == {
        "histogram": Cell(0, 0, 1, 2),
        "line": Cell(1, 0, 2, 1),
        "values": Cell(1, 1, 2, 1),
    }
    assert places({"values": 40}) == {"values": ALONE}
    assert set(places({"scalar": 90, "values": 40})) == {"scalar", "values"}


@pytest.mark.parametrize("n", range(1, 9))
def test_that_no_two_plots_stand_over_each_other(n: int) -> None:
    names = ["heatmap", "rows", "spectrum", "line", "histogram", "values", "quantiles", "heads"][:n]
    taken = [
        (row, column)
        for cell in places(dict.fromkeys(names, 50)).values()
        for row in range(cell.row, cell.row + cell.rows)
        for column in range(cell.column, cell.column + cell.columns)
    ]
    assert len(taken) == len(set(taken)) == 6, "and no room is left over"


def test_that_views_are_offered_in_a_fixed_order_and_then_by_how_well_they_suit() -> None:
    scores = {"heads": 30, "rows": 65, "values": 40, "kernels": 35, "histogram": 80}
    assert in_order(scores) == ["histogram", "values", "rows", "kernels", "heads"]


def test_that_views_without_room_are_in_a_menu_and_the_chosen_one_never(app: QApplication, qtbot: QtBot) -> None:
    bar = ViewBar([(name, name.title(), "hist") for name in ("a" * 9, "b" * 9, "c" * 9, "d" * 9)])
    qtbot.addWidget(bar)
    bar.offer(["a" * 9, "b" * 9, "c" * 9, "d" * 9])
    bar.choose("a" * 9)
    bar.resize(900, 40)
    bar.show()
    assert bar.in_menu() == []
    bar.resize(320, 40)
    assert bar.in_menu() == bar._offered[-len(bar.in_menu()) :], "the last of them"
    assert bar.segments.width() + bar.more.width() <= 320
    menu = QMenu()
    bar.fill_menu(menu)
    with qtbot.waitSignal(bar.chosen) as told:
        menu.actions()[-1].trigger()
    assert told.args == ["d" * 9]
    bar.choose("d" * 9)
    assert "d" * 9 not in bar.in_menu()


# The axis strip


def test_that_the_strip_moves_the_place_and_follows_it(app: QApplication, qtbot: QtBot) -> None:
    place = Place()
    strip = SliceStrip(place)
    qtbot.addWidget(strip)
    place.begin((64, 3, 7, 7))
    assert strip.needed
    assert sorted(strip.fields) == [1, 3]
    strip.sliders[3].setValue(6)
    strip.fields[1].setValue(2)
    assert place.index == [0, 2, 0, 6]
    place.go((0, 1, 0, 5))
    assert (strip.fields[1].value(), strip.sliders[3].value()) == (1, 5)
    menu = QMenu()
    strip.fill_menu(menu, 1)
    next(action for action in menu.actions() if action.text().startswith("dim 3")).trigger()
    assert place.axes == (0, 3)
    assert sorted(strip.fields) == [1, 2]
    assert "dim 3" in strip.columns.text()


@pytest.mark.parametrize("shape", [(), (5,), (5, 1), (1, 197, 768), (0, 5), (2304, 768)])
def test_that_a_tensor_of_two_dimensions_has_no_strip(app: QApplication, qtbot: QtBot, shape: tuple[int, ...]) -> None:
    place = Place()
    strip = SliceStrip(place)
    qtbot.addWidget(strip)
    place.begin(shape)
    assert not strip.needed


def test_that_a_tensor_of_very_many_dimensions_has_a_strip_that_can_be_used(app: QApplication, qtbot: QtBot) -> None:
    place = Place()
    strip = SliceStrip(place)
    qtbot.addWidget(strip)
    place.begin((2,) * 60)
    assert len(strip.fields) == 16 and not strip.sliders
    strip.fields[9].setValue(1)
    assert place.index[9] == 1


# Known boundaries

ROLE = {
    "parts": [
        {"axis": 0, "name": "Q", "start": 0, "stop": 768},
        {"axis": 0, "name": "K", "start": 768, "stop": 1536},
        {"axis": 0, "name": "V", "start": 1536, "stop": 2304},
        {"axis": 0, "name": "wrong", "start": 2000, "stop": 9000},
    ],
    "heads": {"axis": 0, "count": 12, "size": 64},
}


def test_that_boundaries_come_from_the_role_and_only_those_that_are_inside() -> None:
    facts = {"shape": [2304, 768], "role": ROLE}
    parts = parts_along(facts, 0)
    assert parts == [Part("Q", 0, 768), Part("K", 768, 1536), Part("V", 1536, 2304)]
    assert inner_edges(parts, 2304) == [768, 1536]
    assert len(head_edges(facts, 0)) == 35 and head_edges(facts, 0)[0] == 64
    assert parts_along(facts, 1) == head_edges(facts, 1) == []
    for unknown in ({"shape": [2304, 768]}, {"shape": [2304, 768], "role": None}, {"shape": []}):
        assert parts_along(unknown, 0) == head_edges(unknown, 0) == []
