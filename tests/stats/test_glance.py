from __future__ import annotations

import numpy as np
import pytest
import torch

from sdviewer.stats.extremes import extreme
from sdviewer.stats.glance import glance
from sdviewer.stats.histogram import summary_and_histogram
from tests.stats.storages import Storage, array, lay


def test_that_a_glance_at_a_large_tensor_is_near_the_truth_and_says_that_it_is_no_more() -> None:
    tensor = torch.randn(3000, 1000, generator=torch.Generator().manual_seed(1)) * 0.04
    tensor[:, 500:] = 0
    storage, layout = lay(tensor)
    found = glance(storage, layout)
    assert storage.read_bytes < storage.nbytes / 4
    exact, histogram = summary_and_histogram(Storage(storage.data), layout)
    assert found.summary.count == exact.count == 3_000_000
    assert found.summary.std == pytest.approx(exact.std, rel=0.02)
    assert found.summary.l2 == pytest.approx(exact.l2, rel=0.02)
    assert found.histogram.zeros == pytest.approx(histogram.zeros, rel=0.02)
    assert found.histogram.counts.sum() == pytest.approx(histogram.counts.sum(), rel=0.02)
    assert not found.histogram.exact_range
    said = found.summary_json()
    assert {"min", "max", "mean", "std", "zeros", "nan"} <= set(said["approximate"])
    assert "count" not in said["approximate"]
    assert said["sampled"] == found.sampled < 300_000


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(0, 5),
        torch.tensor(3),
        torch.full((4,), float("nan")),
        torch.ones(3, 3, dtype=torch.complex64),
        torch.arange(100).expand(7, 100),
    ],
)
def test_that_a_glance_at_a_small_or_odd_tensor_holds(tensor: torch.Tensor) -> None:
    assert glance(*lay(tensor)).summary.count == tensor.numel()


@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("turned", [False, True])
def test_that_an_extreme_value_is_found_where_it_stands(which: str, turned: bool) -> None:
    tensor = torch.randn(3, 400, 700, generator=torch.Generator().manual_seed(1))
    tensor = tensor.transpose(0, 2) if turned else tensor
    tensor[2, 1, 0] = float("nan")
    tensor[1, 1, 1] = float("inf")
    tensor[1, 1, 2] = -float("inf")
    clean = torch.nan_to_num(tensor, 0, 0, 0)
    found = extreme(*lay(tensor), which)  # type: ignore[arg-type]
    assert found is not None
    assert tensor[found] == (clean.min() if which == "min" else clean.max())


def test_that_the_first_of_equal_extremes_is_found() -> None:
    assert extreme(*array(np.array([[1, 5], [5, 0]])), "max") == (0, 1)
    assert extreme(*lay(torch.arange(3).expand(4, 3)), "max") == (0, 2)
    assert extreme(*array(np.full(3, np.nan)), "max") is None
    assert extreme(*array(np.empty((0, 3))), "max") is None
    assert extreme(*lay(torch.tensor(7)), "min") == ()
