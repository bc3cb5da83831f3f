from __future__ import annotations

import numpy as np
import pytest

from sdviewer.stats.summary import summary
from sdviewer.stats.table import COLUMNS, KNOWN, NOT_YET, StatisticsTable, none_measured, write_row
from tests.stats.storages import array


def columns_of(*tensors: np.ndarray) -> dict[str, np.ndarray]:
    columns = none_measured(len(tensors))
    for place, values in enumerate(tensors):
        write_row(columns, place, summary(*array(values)), zero_rows=place)
    return columns


def test_that_measured_tensors_are_known_and_the_others_are_not() -> None:
    table = StatisticsTable(4)
    table.put([3, 1], columns_of(np.array([1.0, np.nan, -3.0]), np.array([2, 2], np.int64)))
    assert table.known().tolist() == [False, True, False, True]
    assert table["state"].tolist() == [NOT_YET, KNOWN, NOT_YET, KNOWN]
    assert table["nan"].tolist() == [-1, 0, -1, 1]
    assert table["constant"].tolist() == [0, 1, 0, 0]
    assert table["zero_rows"].tolist() == [-1, 1, -1, 0]
    assert table["mean"][[1, 3]].tolist() == [2, -1]
    assert np.isnan(table["mean"][[0, 2]]).all()


def test_that_one_value_or_one_with_nan_among_them_is_not_constant() -> None:
    found = columns_of(np.array([3.0]), np.array([3.0, np.nan]), np.array([np.nan] * 2), np.zeros(0), np.zeros(2))
    assert found["constant"].tolist() == [0, 0, 0, 0, 1]


def test_that_a_table_comes_back_from_its_bytes() -> None:
    table = StatisticsTable(3)
    table.put([2], columns_of(np.arange(7.0)))
    sent = {name: bytes(column) for name, column in table.to_buffers().items()}
    back = StatisticsTable.from_buffers(sent, 3)
    for name in COLUMNS:
        np.testing.assert_array_equal(back[name], table[name])
    back.put([0], columns_of(np.arange(3.0)))
    assert back.known().tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["state", "mean"])
def test_that_columns_of_another_length_are_no_table(name: str) -> None:
    sent = {name: bytes(column) for name, column in StatisticsTable(3).to_buffers().items()}
    with pytest.raises(ValueError, match=name):
        StatisticsTable.from_buffers({**sent, name: sent[name][:-8]}, 3)
    with pytest.raises(ValueError, match=name):
        StatisticsTable.from_buffers({**sent, name: sent[name][:-1]}, 3)
    del sent[name]
    with pytest.raises(ValueError, match=name):
        StatisticsTable.from_buffers(sent, 3)
