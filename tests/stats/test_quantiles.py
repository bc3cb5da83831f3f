"""Quantiles against NumPy's: sorted, counted by codes, counted by bits, sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import UsageError
from sdviewer.stats import quantiles as module
from sdviewer.stats.quantiles import Quantiles, quantiles
from tests.stats.made_tensors import odd_tensors, values_of
from tests.stats.storages import Endless, array, lay

ODD = odd_tensors()


def check(found: Quantiles, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)].ravel()
    assert (found.finite, found.left_out) == (finite.size, values.size - finite.size)
    largest = np.abs(finite).max()
    np.testing.assert_allclose(found.values, np.quantile(finite, found.probabilities), rtol=0, atol=largest * 1e-14)
    assert (found.values[0], found.values[-1]) == (finite.min(), finite.max())
    assert (np.diff(found.deviates) >= 0).all()


@pytest.mark.parametrize("way", ["sorted", "counted"])
@pytest.mark.parametrize("name", ODD)
def test_that_they_are_those_of_all_values(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "counted":
        monkeypatch.setattr(module, "SORTED", 10)
    values = values_of(ODD[name])
    check(quantiles(*lay(ODD[name])), np.abs(values) if np.iscomplexobj(values) else values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64])
def test_that_counting_bits_finds_each_value_of_wide_ranges(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", 10)
    # Few counts at a time: as many passes as the largest tensors take.
    monkeypatch.setattr(module, "MOST_COUNTS", 1 << 13)
    random = np.random.default_rng(4)
    if np.dtype(dtype).kind == "f":
        values = (random.standard_normal(5000) * 10.0 ** random.integers(-30, 30, 5000)).astype(dtype)
        values[::7], values[::11], values[::13] = 0, -0.0, values[0]
    else:
        limits = np.iinfo(dtype)
        values = random.integers(limits.min // 2, limits.max // 2, 5000, dtype=dtype)
        values[::3] = random.integers(0, 4, values[::3].size)
    check(quantiles(*array(values)), values.astype(np.float64))


@pytest.mark.parametrize("most", [10, 1 << 24])
def test_that_nan_and_infinity_are_left_out_and_told(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", most)
    values = np.linspace(-1, 1, 999, dtype=np.float32)
    values[[3, 500]], values[7], values[9] = np.nan, np.inf, -np.inf
    check(quantiles(*array(values)), values.astype(np.float64))


@pytest.mark.parametrize("most", [3, 1 << 24])
def test_that_nothing_finite_has_none(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", most)
    found = quantiles(*array(np.full(9, np.nan, np.float32)))
    assert (found.finite, found.left_out, found.values.size) == (0, 9, 0)
    assert quantiles(*array(np.zeros((0, 4)))).finite == 0


def test_that_repeated_elements_count_as_often_as_they_stand_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.arange(40.0).reshape(40, 1).expand(40, 30)
    check(quantiles(*lay(tensor)), values_of(tensor))
    monkeypatch.setattr(module, "SORTED", 10)
    check(quantiles(*lay(tensor)), values_of(tensor))


def test_that_a_single_value_is_all_its_quantiles() -> None:
    found = quantiles(*array(np.array([2.5])))
    assert set(found.values) == {2.5}


def test_that_the_deviates_are_those_of_the_probabilities() -> None:
    found = quantiles(*array(np.arange(1001.0)))
    middle = np.searchsorted(found.probabilities, 0.5)
    assert found.deviates[middle] == pytest.approx(0.0, abs=1e-9)
    assert found.deviates[-1] == pytest.approx(3.2907, abs=1e-3)  # half of one of 1001 from the end


def test_that_only_a_sample_of_the_very_largest_is_read_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", 1 << 16)
    count = 5_000_000_000
    source = Endless(4 * count)
    found = quantiles(source, TensorLayout("float32", (count,), (1,), 0))
    assert found.sampled == 1 << 16
    assert source.largest_read <= 4 * module.SAMPLE_RUN
    assert set(found.values) == {1.0}


def test_that_a_sample_is_spread_over_the_whole_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", 1 << 14)
    monkeypatch.setattr(module, "COUNTED", 1 << 15)
    monkeypatch.setattr(module, "SAMPLE_RUN", 64)
    values = np.arange(300_000.0, dtype=np.float32).reshape(1000, 300)
    found = quantiles(*array(values))
    assert found.sampled == 1 << 14
    np.testing.assert_allclose(found.values, found.probabilities * 299_999, atol=3000)


def test_that_a_sample_of_a_tensor_with_gaps_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SORTED", 1 << 14)
    monkeypatch.setattr(module, "COUNTED", 1 << 15)
    monkeypatch.setattr(module, "SAMPLE_RUN", 64)
    tensor = torch.arange(640_000.0).reshape(20_000, 32)[:, :16]
    found = quantiles(*lay(tensor))
    assert (found.sampled, found.finite, found.left_out) == (1 << 14, 1 << 14, 0)
    np.testing.assert_allclose(found.values, found.probabilities * 640_000, atol=6000)


@pytest.mark.parametrize("times", [2**53, 2**60, 2**62 - 1])
def test_that_a_tensor_of_more_values_than_a_float_can_count_has_them_too(times: int) -> None:
    found = quantiles(*lay(torch.tensor([[1.0], [2.0]]).expand(2, times)))
    assert found.finite == 2 * times
    assert (found.values[0], found.values[-1]) == (1.0, 2.0)
    assert np.isfinite(found.deviates).all()


def test_that_zero_has_no_sign() -> None:
    assert not np.signbit(quantiles(*array(np.full(3, -0.0))).values).any()


def test_that_bits_have_no_order() -> None:
    with pytest.raises(UsageError):
        quantiles(*array(np.zeros(4, np.uint8), "bits8"))
