"""What plots show of two tensors: checked against torch and NumPy over the whole arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdviewer.errors import UsageError
from sdviewer.stats import pair_views
from sdviewer.stats.pair_views import (
    Side,
    pair_histograms,
    pair_line,
    pair_slice,
    pair_value,
    scatter,
    slices_beside,
)
from tests.stats.made_tensors import odd_tensors, values_of
from tests.stats.storages import Endless, lay

ODD = odd_tensors()


def side(tensor: torch.Tensor) -> Side:
    return Side(*lay(tensor))


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, tensor in ODD.items() if tensor.ndim == 2])
def test_that_each_cell_of_the_difference_is_b_minus_a_whatever_the_type_and_stride(name: str) -> None:
    a = ODD[name]
    b = (normal(*a.shape, seed=3) * 3).to(torch.int64 if not a.is_floating_point() else a.dtype)
    found = pair_slice(side(a), side(b), rows=1000, columns=1000)
    first, second = values_of(a), values_of(b)
    difference = np.abs(second - first) if a.is_complex() else second - first
    near(found.cells[0], np.abs(first) if a.is_complex() else first)
    near(found.cells[1], second)
    near(found.cells[2], difference)
    assert found.changed == np.count_nonzero(first != second)


@pytest.mark.parametrize("turned", [False, True])
def test_that_tensors_of_unlike_strides_and_types_are_read_at_the_same_places(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_views, "AT_ONCE", 100)
    a, b = normal(40, 33).T, normal(33, 40, seed=2).bfloat16()
    if turned:
        a, b = b, a
    found = pair_slice(side(a), side(b), rows=11, columns=10)
    assert found.block == (3, 4)
    blocks = (values_of(b) - values_of(a)).reshape(11, 3, 10, 4)
    near(found.cells[2], blocks.mean((1, 3)))
    largest = pair_slice(side(a), side(b), rows=11, columns=10, how="max_abs")
    near(np.abs(largest.cells[2]), np.abs(blocks).max((1, 3)))


def test_that_both_sides_have_one_limit_and_the_difference_its_own() -> None:
    a = normal(50, 50)
    found = pair_slice(side(a), side(a * 1.01), rows=50, columns=50)
    assert found.limit == pytest.approx(float(np.quantile(np.abs(np.stack(found.cells[:2])), 0.997)))
    assert found.limit_d == pytest.approx(float(np.quantile(np.abs(found.cells[2]), 0.997)))
    assert 0 < found.limit_d < 0.011 * found.limit
    kept = pair_slice(side(a), side(a * 1.01), rows=50, columns=50, limits=(2.0, 0.5))
    assert (kept.limit, kept.limit_d) == (2.0, 0.5)
    assert kept.shades()["d"].max() < 140 and kept.shades()["a"].max() == 254


def test_that_a_slice_of_more_dimensions_and_a_window_of_it_are_compared() -> None:
    a, b = normal(4, 9, 3, 8), normal(4, 9, 3, 8, seed=2)
    found = pair_slice(side(a), side(b), x=3, y=1, index=[2, 0, 1, 0], rows=99, columns=99, window=[2, 1, 5, 6])
    near(found.cells[2], (values_of(b) - values_of(a))[2, 2:7, 1, 1:7])


def test_that_nan_on_one_side_is_a_difference_without_a_number_and_on_both_none() -> None:
    a, b = normal(4, 4), normal(4, 4)
    a[0, 0] = b[0, 0] = math.nan
    b[1, 2] = math.nan
    found = pair_slice(side(a), side(b), rows=4, columns=4)
    assert found.changed == 1
    assert found.shades()["d"][1, 2] == 255 and found.shades()["a"][1, 2] != 255
    assert found.limit_d == 0.0


def test_that_a_first_look_reads_a_part_of_each_cell_of_both() -> None:
    a, b = normal(64, 64), normal(64, 64, seed=2)
    sides = side(a), side(b)
    found = pair_slice(*sides, rows=8, columns=8, most=1024)
    assert found.sampled and found.block == (8, 8)
    difference = values_of(b) - values_of(a)
    near(found.cells[2], difference.reshape(8, 8, 8, 8)[:, :2].mean((1, 3)))
    for one in sides:
        assert one.source.read_bytes == 1024 * 4
    turned = pair_slice(side(a.T), side(b.T), rows=8, columns=8, most=1024)
    near(turned.cells[2], found.cells[2].T)


def test_that_rows_that_repeat_on_both_sides_are_counted_once_and_read_once() -> None:
    a, b = normal(1, 8).expand(5, 8), normal(1, 8, seed=2).expand(5, 8)
    found = pair_slice(side(a), side(b), rows=5, columns=8)
    near(found.cells[2], values_of(b) - values_of(a))
    assert found.changed == 40


def test_that_other_shapes_are_not_compared_cell_by_cell() -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        pair_slice(side(normal(3, 4)), side(normal(4, 3)), rows=4, columns=4)
    with pytest.raises(UsageError, match="no elements at the same places"):
        scatter(side(normal(3, 4)), side(normal(4, 3)))


def test_that_slices_of_other_shapes_stand_beside_each_other_with_one_limit() -> None:
    a, b = normal(6, 4), normal(3, 9) * 7
    asked = {"rows": 20, "columns": 20}
    first, second = slices_beside([side(a), side(b)], [asked, asked])
    assert first.cells.shape == (6, 4) and second.cells.shape == (3, 9)
    everything = np.concatenate([np.abs(values_of(a)).ravel(), np.abs(values_of(b)).ravel()])
    assert first.limit == second.limit == pytest.approx(float(np.quantile(everything, 0.997)))
    (alone,) = slices_beside([side(a)], [asked])
    assert alone.limit < first.limit


# Lines


def test_that_vectors_have_a_line_each_and_one_of_their_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_views, "AT_ONCE", 13)
    a, b = normal(1, 100), normal(200, seed=2)[::2].half()
    found = pair_line(side(a), side(b), 50)
    assert found.d is not None and found.d.block == 2 and found.changed == 100
    difference = (values_of(b) - values_of(a)[0]).reshape(50, 2)
    near(found.d.low, difference.min(1))
    near(found.d.high, difference.max(1))
    assert set(found.arrays()) == {f"{name}_{which}" for name in ("low", "high", "flags") for which in "abd"}


def test_that_vectors_of_other_lengths_and_one_alone_are_drawn_without_a_difference() -> None:
    found = pair_line(side(normal(10)), side(normal(7)), 50)
    assert found.a is not None and found.b is not None and found.d is None and found.changed == -1
    alone = pair_line(None, side(normal(7)), 50)
    assert alone.a is None and alone.b is not None and alone.to_json()["a"] is None


# Distributions


def test_that_two_histograms_have_the_same_edges_and_count_all_values() -> None:
    a, b = normal(5000), normal(40, 60, seed=2) * 3 + 1
    first, second = pair_histograms([side(a), side(b)])
    np.testing.assert_array_equal(first.edges, second.edges)
    for found, values in ((first, values_of(a)), (second, values_of(b).ravel())):
        assert found.counts.sum() + found.below + found.above == values.size
        np.testing.assert_array_equal(found.counts, np.histogram(values, found.edges)[0])
    assert first.edges[-1] > 5


def test_that_a_side_of_one_value_does_not_widen_the_range() -> None:
    values = normal(3000) * 0.001
    first, second = pair_histograms([side(torch.zeros(3000)), side(values)])
    assert first.zeros == 3000 and second.edges[-1] < 0.01
    np.testing.assert_array_equal(first.edges, second.edges)
    same = pair_histograms([side(torch.ones(9)), side(torch.ones(5))])
    np.testing.assert_array_equal(same[0].edges, same[1].edges)


@pytest.mark.parametrize(("n", "m"), [(1000, 37), (1999, 5000), (3, 1500), (1, 2)])
def test_that_a_side_of_fewer_values_has_the_bins_of_the_other(n: int, m: int) -> None:
    first, second = pair_histograms([side(normal(n)), side(normal(m, seed=2))])
    np.testing.assert_array_equal(first.edges, second.edges)
    assert first.count == n and second.count == m


def test_that_integers_of_few_values_are_counted_one_by_one_on_both_sides() -> None:
    a, b = torch.tensor([1, 1, 2, 5]), torch.tensor([2, 2, 9, 1])
    first, second = pair_histograms([side(a), side(b)])
    assert dict(zip(first.values, first.value_counts.tolist(), strict=True)) == {1: 2, 2: 1, 5: 1}
    assert dict(zip(second.values, second.value_counts.tolist(), strict=True)) == {1: 1, 2: 2, 9: 1}


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor([True, False, True]), torch.zeros(9), torch.full((4,), math.nan), torch.empty(0), normal(3) * 1j],
)
def test_that_histograms_of_odd_tensors_count_all_of_them(tensor: torch.Tensor) -> None:
    first, second = pair_histograms([side(tensor), side(normal(9))])
    assert first.count == tensor.numel() and second.count == 9
    assert first.nan == int(tensor.isnan().sum())


def test_that_a_glance_at_large_tensors_reads_little_of_them() -> None:
    layout = lay(normal(1))[1]
    large = Side(Endless(4 << 26), type(layout)("float32", (1 << 26,), (1,), 0))
    (found,) = pair_histograms([large], glance=True)
    assert 0 < found.count < 1 << 20


# B against A


def test_that_the_line_through_a_scatter_is_the_least_squares_of_all_values() -> None:
    a = normal(200, 50).T
    b = a * 0.75 + 0.1 + 0.05 * normal(50, 200, seed=2)
    found = scatter(side(a), side(b))
    x, y = values_of(a).ravel(), values_of(b).ravel()
    slope, offset = np.polyfit(x, y, 1)
    assert (found.looked, found.finite, len(found.x)) == (10_000, 10_000, 3000)
    assert found.r == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)
    assert (found.slope, found.offset) == (pytest.approx(slope, rel=1e-9), pytest.approx(offset, rel=1e-9))
    pairs = set(zip(x.tolist(), y.tolist(), strict=True))
    assert set(zip(found.x.tolist(), found.y.tolist(), strict=True)) <= pairs, "points are elements of both"


def test_that_a_large_scatter_looks_at_runs_all_over_both_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_views, "ALL", 1000)
    monkeypatch.setattr(pair_views, "RUN", 16)
    monkeypatch.setattr(pair_views, "RUNS", 20)
    a = torch.arange(100_000.0).reshape(100, 1000)
    found = scatter(side(a), side(a.T.contiguous().T + 1), 64)
    assert found.count == 100_000 and 200 <= found.looked <= 320 and len(found.x) == 64
    near(found.y, found.x + 1)
    assert np.diff(found.x).max() < 12_000 and found.x[-1] > 90_000, "no stretch is left out"


@pytest.mark.parametrize(
    ("a", "b"),
    [(torch.ones(5), normal(5)), (normal(5), torch.zeros(5)), (normal(1), normal(1)), (normal(0), normal(0))],
)
def test_that_no_line_is_told_where_a_side_is_constant(a: torch.Tensor, b: torch.Tensor) -> None:
    found = scatter(side(a), side(b))
    assert (found.r, found.slope, found.offset) == (None, None, None)
    assert found.finite == len(found.x) == a.numel()


def test_that_what_is_not_finite_is_no_point_and_equal_ones_are_counted() -> None:
    a, b = normal(10), normal(10)
    a[0], b[1], a[2], b[2] = math.nan, math.inf, math.nan, math.nan
    b[3] += 1
    found = scatter(side(a), side(b))
    assert found.finite == 7 and found.equal == 7  # one of these is NaN on both sides, another differs


def test_that_a_line_is_found_through_huge_and_through_tiny_values() -> None:
    for scale in (1e-300, 1e300):
        a = normal(50).double() * scale
        found = scatter(side(a), side(a * 0.5))
        assert found.r == pytest.approx(1) and found.slope == pytest.approx(0.5)


# One element


def test_that_the_values_at_a_place_are_exact_with_their_difference() -> None:
    a, b = normal(3, 4, 5), normal(3, 4, 5, seed=2).half()
    found = pair_value([side(a), side(b)], [[2, 1, 3], [2, 1, 3]])
    assert np.float32(found.a) == a[2, 1, 3].item() and np.float16(found.b) == b[2, 1, 3].item()
    assert float(found.d) == b[2, 1, 3].item() - a[2, 1, 3].item()
    scalars = pair_value([side(torch.tensor(2**62)), side(torch.tensor(2**62 + 1))], [[], []])
    assert scalars.d == "1", "integers beyond float64 are exact"
    flags = pair_value([side(torch.tensor([False])), side(torch.tensor([True]))], [[0], [0]])
    assert (flags.a, flags.b) == ("False", "True")


def test_that_a_side_that_is_not_there_has_no_value_and_no_difference() -> None:
    found = pair_value([None, side(normal(3))], [None, [1]])
    assert found.a == "" and found.d == "" and math.isnan(found.numbers[2])
    apart = pair_value([side(normal(3)), side(normal(9))], [[1], None])
    assert apart.a and not apart.b and not apart.d
