"""Rows and columns, and heads, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats import rows as module
from sdviewer.stats import tiles
from sdviewer.stats.rows import axis_sums, band, heads, profiles
from tests.stats.made_tensors import odd_tensors, values_of
from tests.stats.storages import Endless, array, lay

ODD = odd_tensors()


def along(values: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


@pytest.mark.parametrize("name", ODD)
def test_that_norm_mean_and_deviation_of_every_axis_are_right(name: str) -> None:
    values = values_of(ODD[name])
    values = np.abs(values) if np.iscomplexobj(values) else values
    axes = list(range(values.ndim))
    for sums in axis_sums(*lay(ODD[name]), axes):
        rows = along(values, sums.axis)
        np.testing.assert_allclose(sums.measure("norm"), np.linalg.norm(rows, axis=1), rtol=1e-12)
        np.testing.assert_allclose(sums.measure("mean"), rows.mean(axis=1), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(sums.measure("std"), rows.std(axis=1), rtol=1e-10, atol=1e-12)
        assert sums.size == rows.shape[1]


def test_that_tiles_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: axis_sums(*lay(tensor), range(tensor.ndim)) for name, tensor in ODD.items()}
    small = tiles.tiles
    monkeypatch.setattr(module, "tiles", lambda elements, nbytes: small(elements, 100))
    for name, tensor in ODD.items():
        for before, sums in zip(whole[name], axis_sums(*lay(tensor), range(tensor.ndim)), strict=True):
            for measure in module.MEASURES:
                np.testing.assert_allclose(sums.measure(measure), before.measure(measure), rtol=1e-11, atol=1e-13)


def test_that_a_small_spread_around_a_large_mean_is_not_lost() -> None:
    values = 1e9 + np.random.default_rng(1).standard_normal((4, 5000))
    (sums,) = axis_sums(*array(values), [0])
    np.testing.assert_allclose(sums.measure("std"), values.std(axis=1), rtol=1e-6)


def test_that_rows_far_from_each_other_keep_their_own_spread() -> None:
    values = np.random.default_rng(1).standard_normal((5, 300)) + np.array([[0.0], [1e8], [-1e8], [3.0], [1e3]])
    values[3] = 7
    (sums,) = axis_sums(*array(values), [0])
    np.testing.assert_allclose(sums.measure("std"), values.std(axis=1), rtol=1e-7, atol=1e-300)


@pytest.mark.parametrize("scale", [1e-300, 1e200])
def test_that_squares_neither_vanish_nor_overflow(scale: float) -> None:
    values = np.random.default_rng(1).standard_normal((6, 7))
    (sums,) = axis_sums(*array(values * scale), [1])
    np.testing.assert_allclose(sums.measure("norm") / scale, np.linalg.norm(values, axis=0), rtol=1e-12)


def test_that_dead_rows_are_counted_and_named_but_not_those_with_nan() -> None:
    values = np.ones((50, 6), np.float32)
    values[:, 4] = 0
    values[[3, 17]] = 0
    values[20] = -0.0
    values[30] = np.nan
    values[31, 2] = np.inf
    rows, columns = profiles(*array(values), 100)
    assert (rows.dead, rows.dead_at) == (3, (3, 17, 20))
    assert (rows.odd, rows.odd_at) == (2, (30, 31))
    # Column 4 holds NaN in row 30: it cannot be said to be all zero.
    assert (columns.dead, columns.odd) == (0, 6)


def test_that_one_value_anywhere_keeps_a_row_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiles.tiles
    monkeypatch.setattr(module, "tiles", lambda elements, nbytes: small(elements, 40))
    values = np.zeros((4, 50), np.float32)
    values[1, 3] = values[2, 49] = 1
    (rows,) = axis_sums(*array(values), [0])
    assert rows.dead.tolist() == [True, False, False, True]


def test_that_values_too_small_to_square_do_not_make_a_row_dead() -> None:
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = 1e-45
    assert profiles(*array(values), 10)[0].dead_at == (0, 2)


def test_that_measures_are_over_the_finite_values() -> None:
    values = np.array([[3.0, np.nan, 4.0], [np.nan, np.inf, np.nan]])
    (sums,) = axis_sums(*array(values), [0])
    assert sums.measure("norm")[0] == 5.0
    assert np.isnan(sums.measure("norm")[1])


def test_that_a_band_holds_the_smallest_and_the_largest_of_each_point() -> None:
    random = np.random.default_rng(2)
    values = random.standard_normal((1000, 3))
    norms = np.linalg.norm(values, axis=1)
    found = profiles(*array(values), 90)[0]
    assert found.block == 12
    low, high = found.bands["norm.ordered.low"], found.bands["norm.ordered.high"]
    assert len(low) == len(high) == 84
    np.testing.assert_allclose(low[5], norms[60:72].min())
    np.testing.assert_allclose(high[-1], norms[996:].max())
    np.testing.assert_allclose(found.bands["norm.sorted.low"][0], norms.min())
    np.testing.assert_allclose(found.bands["norm.sorted.high"][-1], norms.max())
    assert found.ends["norm"] is not None
    assert found.ends["norm"][1] == [int(norms.argmax()), pytest.approx(norms.max())]


def test_that_a_point_without_a_finite_value_is_a_gap() -> None:
    low, high = band(np.array([1.0, np.nan, np.nan, np.nan, 5.0]), 3)
    np.testing.assert_array_equal(low, [1.0, np.nan, 5.0])
    np.testing.assert_array_equal(high, [1.0, np.nan, 5.0])


def test_that_the_first_two_long_axes_are_shown() -> None:
    assert [found.axis for found in profiles(*lay(torch.ones(1, 4, 1, 3, 2)), 10)] == [1, 3]


def test_that_an_axis_of_too_many_indexes_is_left_out() -> None:
    source = Endless(4 * (module.MOST_INDEXES + 1) * 2)
    layout = TensorLayout("float32", (module.MOST_INDEXES + 1, 2), (2, 1), 0)
    (columns,) = profiles(source, layout, 10)
    assert columns.axis == 1
    np.testing.assert_allclose(columns.bands["norm.ordered.low"], np.sqrt(module.MOST_INDEXES + 1.0))
    with pytest.raises(UsageError):
        axis_sums(source, layout, [0])


class TestHeads:
    def test_that_each_block_has_the_mean_norm_of_its_rows_and_the_deviation_of_its_values(self) -> None:
        values = np.random.default_rng(3).standard_normal((24, 10)) + 1
        values[8:12] = 0
        spans = [(0, 4), (4, 8), (8, 12), (20, 24)]
        found = heads(*array(values), 0, spans)
        for i, (start, stop) in enumerate(spans):
            block = values[start:stop]
            assert found.norms[i] == pytest.approx(np.linalg.norm(block, axis=1).mean(), rel=1e-12)
            assert found.stds[i] == pytest.approx(block.std(), rel=1e-12)
        assert found.dead.tolist() == [0, 0, 4, 0]

    def test_that_heads_may_lie_along_the_columns(self) -> None:
        values = np.random.default_rng(3).standard_normal((5, 12))
        found = heads(*array(values), 1, [(6, 12)])
        assert found.norms[0] == pytest.approx(np.linalg.norm(values[:, 6:], axis=0).mean(), rel=1e-12)

    def test_that_a_block_of_nan_has_none(self) -> None:
        values = np.full((4, 3), np.nan)
        assert np.isnan(heads(*array(values), 0, [(0, 4)]).norms).all()

    @pytest.mark.parametrize("span", [(0, 25), (-1, 3), (4, 4)])
    def test_that_rows_that_are_not_there_are_refused(self, span: tuple[int, int]) -> None:
        with pytest.raises(UsageError):
            heads(*array(np.ones((24, 2))), 0, [span])
