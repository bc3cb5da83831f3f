from __future__ import annotations

import numpy as np
import pytest

from sdviewer.stats import ranks
from sdviewer.stats.ranks import key_of, keys_of, value_of
from sdviewer.stats.summary import summary_of
from sdviewer.stats.sweep import KEPT, Wanted, sweep
from tests.stats.storages import array

TYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("name", TYPES)
def test_that_keys_are_in_the_order_of_the_values(name: str) -> None:
    dtype = np.dtype(name)
    if dtype.kind == "f":
        some = [-np.inf, -float(np.finfo(dtype).max), -1.5, -5e-324, 0, 5e-324, 1, 2.5, np.inf]
        values = np.unique(np.array(some).astype(dtype))
    else:
        limits = np.iinfo(dtype)
        values = np.unique(np.array([limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max], dtype))
    keys = keys_of(values).tolist()
    assert keys == sorted(set(keys))
    assert [value_of(key, dtype) for key in keys] == values.tolist()
    assert [key_of(value, dtype) for value in values.tolist()] == keys


@pytest.mark.parametrize(
    ("name", "compiled"), [("float32", True), ("float32", False), ("float64", True), ("uint64", False)]
)
@pytest.mark.parametrize("what", ["spread", "levels", "one level", "zeros", "two halves"])
def test_that_the_median_is_exact_where_too_many_values_lie_near_it_to_be_kept(
    name: str, what: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "MOST_KEPT", 100)
    normal = np.random.default_rng(2).standard_normal(KEPT // np.dtype(name).itemsize + 2)
    made = {
        "spread": normal * 1e6 + 3e7,
        "levels": np.round(normal) + 40,
        "one level": np.where(np.abs(normal) < 1, 7, 30 + normal),
        "zeros": np.where(normal < 0.3, 0, np.abs(normal) * 100),
        "two halves": np.where(np.arange(normal.size) % 2, 3, 9),
    }
    values = made[what].astype(name)
    found = summary_of(sweep(*array(values), compiled=compiled))
    assert found.median == np.median(values)


def test_that_a_chosen_range_does_not_change_the_median() -> None:
    for size in (70_000, KEPT // 4 + 1):
        values = np.random.default_rng(2).standard_normal(size).astype(np.float32)
        found = summary_of(sweep(*array(values), Wanted(140, (2.5, 3.0)), compiled=True))
        assert found.median == np.median(values.astype(np.float64))
