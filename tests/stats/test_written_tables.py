"""The numbers behind pictures, as text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdviewer.errors import UsageError
from sdviewer.stats.slices import How
from sdviewer.stats.written_tables import kernel_table, slice_table
from tests.stats.storages import array, lay


def cells(lines: str) -> list[list[str]]:
    return [line.split("\t") for line in lines.splitlines()]


@pytest.mark.parametrize("how", ["mean", "max_abs", "rms"])
def test_that_cells_say_where_they_begin_and_what_they_come_to(how: How) -> None:
    values = np.random.default_rng(0).normal(size=(10, 9))
    found = slice_table(*array(values), (2, 3, 8, 6), rows=4, columns=2, how=how, most=1000)
    assert (found.window, found.block) == ((2, 3, 8, 6), (2, 3))
    head, *rows = cells(found.lines)
    assert head == ["", "3", "6"]
    assert [row[0] for row in rows] == ["2", "4", "6", "8"]
    parts = values[2:, 3:].reshape(4, 2, 2, 3).swapaxes(1, 2).reshape(4, 2, 6)
    largest = np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)[..., 0]
    expected = {"mean": parts.mean(axis=2), "max_abs": largest, "rms": np.sqrt((parts**2).mean(axis=2))}[how]
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), expected)


def test_that_single_values_keep_their_own_digits() -> None:
    tensor = torch.tensor([[0.1, float("nan")], [-float("inf"), 3e-5]], dtype=torch.bfloat16)
    found = slice_table(*lay(tensor), (0, 0, 2, 2), rows=50, columns=50, most=1000)
    assert found.block == (1, 1)
    assert [row[1:] for row in cells(found.lines)[1:]] == [["0.100097656", "nan"], ["-inf", "3.0040741e-05"]]
    volume = torch.arange(24).reshape(2, 3, 4)
    found = slice_table(*lay(volume), (0, 1, 2, 2), x=2, y=0, index=[0, 2, 0], rows=9, columns=9, most=1000)
    assert cells(found.lines) == [["", "1", "2"], ["0", "9", "10"], ["1", "21", "22"]]


@pytest.mark.parametrize("shape", [(300, 500), (1, 4000), (4000, 1), (3, 2000)])
def test_that_no_more_is_written_than_asked_for(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    found = slice_table(*array(values), (0, 0, *shape), rows=shape[0], columns=shape[1], most=1000)
    numbers = [number for row in cells(found.lines)[1:] for number in row[1:]]
    assert 300 <= len(numbers) <= 1000
    assert found.block != (1, 1)
    with pytest.raises(UsageError):
        slice_table(*array(values), (0, 0, 0, 5), rows=10, columns=10, most=1000)


def test_that_kernels_are_written_row_by_row_and_no_more_than_asked_for() -> None:
    weight = torch.arange(5 * 3 * 2 * 2, dtype=torch.float32).reshape(5, 3, 2, 2)
    found = kernel_table(*lay(weight), first=1, channel=2, most=1000)
    assert (found.kernels, found.shown) == (4, 4)
    assert cells(found.lines)[:3] == [
        ["kernel", "input", "row", "0", "1"],
        ["1", "2", "0", "20.0", "21.0"],
        ["1", "2", "1", "22.0", "23.0"],
    ]
    colours = kernel_table(*lay(weight), rgb=True, most=30)
    assert (colours.kernels, colours.shown) == (2, 5)
    rows = cells(colours.lines)[1:]
    assert [row[:3] for row in rows[:7]] == [
        *([kernel, channel, row] for kernel in "0" for channel in "012" for row in "01"),
        ["1", "0", "0"],
    ]
    assert [float(value) for row in rows for value in row[3:]] == list(range(24))
