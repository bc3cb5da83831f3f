"""The band of a tensor's rows, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdviewer.stats import row_band as module
from sdviewer.stats.row_band import row_band
from tests.stats.made_tensors import odd_tensors, values_of
from tests.stats.storages import array, lay

ENDS = (0.05, 0.95)
ODD = {name: tensor for name, tensor in odd_tensors().items() if tensor.ndim > 1 and tensor.shape[0] >= 8}


def expected(rows: np.ndarray) -> dict[str, list[float]]:
    numbers = {
        "std": rows.std(axis=1),
        "norm": np.linalg.norm(rows, axis=1) * np.sqrt(len(rows)),
        "mean": rows.mean(axis=1),
        "largest": np.abs(rows).max(axis=1),
    }
    return {name: np.quantile(found, ENDS).tolist() for name, found in numbers.items()}


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e200])
def test_that_the_ends_are_the_quantiles_over_all_rows(scale: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 30)) * rng.uniform(0.1, 2, (40, 1)) * scale
    found = row_band(*array(values))
    assert found is not None
    assert (found.rows, found.sampled) == (40, 40)
    with np.errstate(all="ignore"):
        wanted = expected(values / scale)
    for name, ends in wanted.items():
        np.testing.assert_allclose(np.array(getattr(found, name)) / scale, ends, rtol=1e-9)


@pytest.mark.parametrize("name", ODD)
def test_that_every_dtype_and_layout_has_the_band_of_its_values(name: str) -> None:
    values = values_of(ODD[name])
    values = np.abs(values) if np.iscomplexobj(values) else values
    found = row_band(*lay(ODD[name]))
    assert found is not None
    for measure, ends in expected(values.reshape(len(values), -1).astype(float)).items():
        np.testing.assert_allclose(getattr(found, measure), ends, rtol=1e-9, atol=1e-12)


def test_that_a_norm_of_rows_stands_beside_that_of_the_whole() -> None:
    values = np.ones((16, 9))
    found = row_band(*array(values))
    assert found is not None
    np.testing.assert_allclose(found.norm, [np.linalg.norm(values)] * 2)


def test_that_nan_and_infinity_count_in_no_row() -> None:
    values = np.random.default_rng(0).normal(size=(20, 10))
    values[3, 4], values[5, 6], values[7] = np.nan, np.inf, np.nan
    found = row_band(*array(values))
    rows = [row[np.isfinite(row)] for at, row in enumerate(values) if at != 7]
    assert found is not None
    np.testing.assert_allclose(found.std, np.quantile([row.std() for row in rows], ENDS))
    np.testing.assert_allclose(found.largest, np.quantile([np.abs(row).max() for row in rows], ENDS))
    nothing = row_band(*array(np.full((20, 10), np.nan)))
    assert nothing is not None
    assert nothing.std is None


def test_that_the_rows_of_a_vector_are_its_values_and_have_no_deviation() -> None:
    values = np.random.default_rng(0).normal(size=(1, 50))
    found = row_band(*array(values))
    assert found is not None
    assert found.std is None
    np.testing.assert_allclose(found.mean, np.quantile(values, ENDS))
    np.testing.assert_allclose(found.largest, np.quantile(np.abs(values), ENDS))


def test_that_of_a_large_tensor_rows_all_over_it_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", 1 << 16)
    # Heads of 64 rows of which the first row is odd, and a second half that is larger.
    values = np.random.default_rng(0).normal(size=(4096, 128)).astype("f4")
    values[::64] *= 50
    values[2048:] *= 4
    found = row_band(*array(values))
    assert found is not None
    assert found.rows == 4096
    assert 400 <= found.sampled <= 512
    assert found.std is not None
    np.testing.assert_allclose(found.std, np.quantile(values.std(axis=1), ENDS), rtol=0.1)


def test_that_few_rows_and_very_long_ones_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert row_band(*array(np.ones((7, 100)))) is None
    assert row_band(*array(np.ones(()))) is None
    assert row_band(*lay(torch.zeros(10, 0))) is None
    monkeypatch.setattr(module, "LARGEST", 100)
    assert row_band(*array(np.ones((11, 10)))) is None
