from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.stats import kernels
from sdviewer.stats.binning import FloatBins, choose_bins, tally
from sdviewer.stats.histogram import BINS, Histogram, histogram, histogram_of, summary_and_histogram
from sdviewer.stats.summary import summary, summary_of
from sdviewer.stats.sweep import KEPT, Wanted, sweep
from tests.stats.storages import Storage, array, lay


def assert_counts(found: Histogram, values: np.ndarray) -> None:
    """Every value is in its bin, by the edges, or counted apart."""
    v = values.reshape(-1).astype(np.float64)
    finite = v[np.isfinite(v) & (v != 0)]
    inside = finite[(finite >= found.edges[0]) & (finite <= found.edges[-1])]
    np.testing.assert_array_equal(found.counts, np.histogram(inside, found.edges)[0])
    assert (found.below, found.above) == ((finite < found.edges[0]).sum(), (finite > found.edges[-1]).sum())
    assert (found.count, found.zeros, found.nan) == (v.size, (v == 0).sum(), np.isnan(v).sum())
    total = found.counts.sum() + found.below + found.above + found.zeros + found.nan + found.posinf + found.neginf
    assert total == found.count


@pytest.mark.parametrize("size", [3, 500, 5000, 1 << 16, (1 << 16) + 1, 1_000_000, 3_000_000, 5_000_000])
def test_that_every_value_is_counted_once(size: int) -> None:
    values = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    values[::97], values[1::101] = 0, np.nan
    found = histogram(*array(values))
    assert_counts(found, values)
    assert found.exact_range == (size <= 1 << 16)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_that_16_bit_floats_are_counted_with_an_exact_range(name: str) -> None:
    tensor = torch.randn(2_000_000, generator=torch.Generator().manual_seed(1)).to(getattr(torch, name))
    found = histogram(*lay(tensor))
    assert_counts(found, tensor.double().numpy())
    some = np.sort(np.abs(tensor.double().numpy()))
    assert found.exact_range
    assert some[-5000] < found.edges[-1] < some[-1000]


def test_that_the_range_is_the_middle_of_the_values() -> None:
    values = np.linspace(1, 3, 50_001)
    values[:25], values[-25:] = -1e30, 1e30
    found = histogram(*array(values))
    assert found.edges[0] == pytest.approx(1.002)
    assert found.edges[-1] == pytest.approx(2.998)
    assert found.below == found.above == 50


def test_that_a_range_that_holds_zero_is_symmetric() -> None:
    found = histogram(*array(np.linspace(-1, 3, 10_001)))
    assert found.edges[0] == -found.edges[-1] == pytest.approx(-2.9964)
    assert found.edges.size == BINS + 1


def test_that_exact_zeros_do_not_squeeze_the_range() -> None:
    values = np.zeros(100_000, np.float32)
    values[:90] = np.linspace(-2, 2, 90)
    found = histogram(*array(values))
    assert found.zeros == 99_910
    assert found.edges[-1] == 2
    assert found.counts.sum() == 90


def test_that_few_values_get_few_bins() -> None:
    values = np.random.default_rng(1).standard_normal(2000)
    sizes = [histogram(*array(values[:n])).counts.size for n in (5, 100, 500, 1999, 2000)]
    assert sizes == [8, 31, 70, 140, 140]


def test_that_a_given_range_is_kept() -> None:
    values = np.random.default_rng(1).standard_normal(10_000)
    found = histogram(*array(values), 50, span=(float(values.min()), float(values.max())))
    assert (found.below, found.above, found.counts.sum(), found.counts.size) == (0, 0, 10_000, 50)
    assert_counts(found, values)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25, 1e-310, 1.7e308, -3e-39])
def test_that_equal_values_have_a_range_too(value: float) -> None:
    found = histogram(*array(np.full(3000, value)))
    assert found.counts.sum() == (0 if value == 0 else 3000)
    assert np.isfinite(found.edges).all()
    assert found.edges[0] < found.edges[-1]


@pytest.mark.parametrize("scale", [1.79e308, 1e-310, 1e-30])
def test_that_huge_and_denormal_ranges_spread_over_the_bins(scale: float) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 50_000) * scale
    found = histogram(*array(values))
    assert found.counts.min() > 250
    assert found.counts.sum() + found.below + found.above == 50_000


@pytest.mark.parametrize("values", [[], [np.nan, np.inf]])
def test_that_without_finite_values_there_are_no_bins(values: list[float]) -> None:
    found = histogram(*array(np.array(values, np.float32)))
    assert found.edges.size == found.counts.size == 0
    assert found.count == found.nan + found.posinf


def test_that_bits_have_no_bins() -> None:
    found = histogram(Storage(bytes(8)), TensorLayout("bits8", (8,), (1,), 0))
    assert (found.count, found.counts.size) == (8, 0)


@pytest.mark.parametrize("size", [1000, 3_000_000])
@pytest.mark.parametrize("name", ["int64", "int32", "uint8", "bool"])
def test_that_few_distinct_integers_become_bars(size: int, name: str) -> None:
    values = np.random.default_rng(1).integers(0, 2 if name == "bool" else 60, size).astype(name)
    found = histogram(*array(values))
    distinct, counts = np.unique(values, return_counts=True)
    assert list(found.values) == distinct.astype(int).tolist()
    np.testing.assert_array_equal(found.value_counts, counts)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_that_many_distinct_integers_become_bins_of_equal_width(size: int) -> None:
    values = np.arange(size) % 1000 + 2**60
    found = histogram(*array(values))
    assert not found.values
    assert found.value_counts.size == 0
    assert set(found.counts[1:-1].tolist()) == {found.counts[1]}
    assert found.counts.sum() + found.below + found.above == size


def test_that_a_sixty_fifth_value_outside_of_the_sample_ends_the_bars() -> None:
    values = (np.arange(3_000_000) % 64).astype(np.int32)
    assert len(histogram(*array(values)).values) == 64
    # The sample takes runs of 16, one of 45; this is in none of them.
    values[2000] = 99
    found = histogram(*array(values))
    assert not found.values
    assert found.above == 1


def test_that_a_sixty_fifth_value_across_blocks_ends_the_bars() -> None:
    # Sorted, so that each block has few values; the sample passes over the five that are set below.
    values = (np.arange(3_000_000) * 60 // 3_000_000).astype(np.int32)
    values[[1 << 10, 3 << 10, 4 << 10, 6 << 10]] = 100, 101, 102, 103
    assert len(histogram(*array(values)).values) == 64
    values[7 << 10] = 104
    assert not histogram(*array(values)).values


def test_that_integers_at_both_ends_of_their_type_are_counted() -> None:
    for name in ("int64", "uint64"):
        limits = np.iinfo(name)
        values = np.concatenate([np.full(100, limits.min, name), np.arange(100, dtype=name), [limits.max] * 50])
        found = histogram(*array(values.astype(name)))
        assert found.counts.sum() + found.below + found.above + found.zeros == 250


def test_that_an_expanded_tensor_has_the_histogram_of_all_its_elements() -> None:
    source, _ = array(np.array([1.0, 2.0, 0.0, np.nan], np.float32))
    found = histogram(source, TensorLayout("float32", (4, 2**38), (1, 0), 0))
    assert (found.count, found.zeros, found.nan, found.counts.sum()) == (2**40, 2**38, 2**38, 2**39)


EXACT = 1 << 16


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "uint8"])
@pytest.mark.parametrize("size", [1000, EXACT, EXACT + 1, 1_000_003, "kept", "streamed"])
def test_that_the_compiled_loops_count_as_numpy_does(name: str, size: int | str) -> None:
    dtype = getattr(torch, name)
    whole = KEPT // dtype.itemsize
    n = {"kept": whole, "streamed": whole + 1}[size] if isinstance(size, str) else size
    usual = torch.randn(n, generator=torch.Generator().manual_seed(2)).mul(40)
    usual[::5] = usual[::5].round()
    if name != "uint8":
        # Some blocks have what the loops leave to NumPy.
        usual[: n // 3 : 1000] = torch.nan
        usual[1 : n // 4 : 2000], usual[2 : n // 4 : 500] = torch.inf, -torch.inf
    source, layout = lay(usual.abs().to(dtype) if name == "uint8" else usual.to(dtype))
    compiled, plain = (sweep(source, layout, Wanted(BINS), compiled=choice) for choice in (True, False))
    assert summary_of(compiled).to_json() == pytest.approx(summary_of(plain).to_json(), rel=1e-12, nan_ok=True)
    found, expected = histogram_of(compiled), histogram_of(plain)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.edges, expected.edges)
    assert found.to_json() == expected.to_json()
    assert found.exact_range == (n <= EXACT or dtype.itemsize <= 2)


@pytest.mark.parametrize("low", [0.0, 1e-9, -1.0, -0.37])
def test_that_the_compiled_loops_sort_values_at_the_edges_as_numpy_does(low: float) -> None:
    loops = kernels.load()
    assert loops is not None
    for bins in range(2, 200):
        chosen = FloatBins(low, low + bins * 0.013, bins)
        edges = chosen.edges()
        values = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
        narrow = np.concatenate([values.astype(np.float32), np.nextafter(edges.astype(np.float32), np.float32(-9))])
        for sort, some in ((loops.bin64, values), (loops.bin32, narrow)):
            # More than are sorted together, and a rest.
            some = np.resize(some, kernels.SUB_BLOCK + some.size)
            tallies = np.zeros((4, bins + 2), np.int64)
            slots = np.empty(kernels.SUB_BLOCK, np.int32)
            sort(some, chosen.low, chosen.high, *chosen.constants, bins, tallies, slots)
            np.testing.assert_array_equal(tallies.sum(axis=0), tally(chosen, some))


def odd_values(n: int) -> list[np.ndarray]:
    """Values whose middle is easy to miss."""
    random = np.random.default_rng(4)
    normal = random.standard_normal(n)
    spread = normal * 10.0 ** random.integers(-300, 300, n)
    ties = random.integers(-3, 4, n) * 0.25
    broken = np.where(random.random(n) < 0.5, np.nan, np.where(random.random(n) < 0.5, -np.inf, normal))
    lonely = np.zeros(n)
    lonely[n // 2] = -3e-5
    return [normal, spread, ties, broken, lonely, -np.abs(normal), np.full(n, -0.0), np.full(n, 5e-324)]


@pytest.mark.parametrize("n", [1, 2, 999, 1001, 20_001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_that_the_compiled_loops_choose_the_range_that_numpy_does(n: int, dtype: type) -> None:
    loops = kernels.load()
    assert loops is not None
    for values in odd_values(n):
        with np.errstate(over="ignore", under="ignore"):
            values = values.astype(dtype)
        assert choose_bins(values, None, BINS, None, loops) == choose_bins(values, None, BINS, None)


@pytest.mark.parametrize("columns", [1000, 1024, 3072])
@pytest.mark.parametrize("rows", [1024, 8192])
def test_that_the_sample_sees_all_columns(rows: int, columns: int) -> None:
    # One column in a hundred is larger than all others, in places that a regular sample would keep to or pass over.
    values = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
    values[:, 40 : 40 + columns // 100] *= 100
    found = histogram(*array(values))
    exact = np.quantile(values, [0.001, 0.999])
    assert not found.exact_range
    assert found.edges[-1] == pytest.approx(max(-exact[0], exact[1]), rel=0.15)


@pytest.mark.parametrize("size", [1_000_000, 6_000_000])
def test_that_finite_values_that_the_sample_missed_are_counted(size: int) -> None:
    values = np.full(size, np.nan, np.float32)
    values[[2000, 2001]] = 1, 3
    found = histogram(*array(values))
    assert (found.count, found.nan) == (size, size - 2)
    assert found.counts.sum() + found.below + found.above == 2


def test_that_summary_and_histogram_come_from_one_pass() -> None:
    # In one reading up to 16 MiB; beyond, the sample is read before.
    for size, sample in ((4 << 20, 0), (5 << 20, 1 << 20)):
        values = np.random.default_rng(1).standard_normal(size).astype(np.float32)
        source, layout = array(values)
        numbers, found = summary_and_histogram(source, layout)
        # Once more beyond 16 MiB, for the median.
        assert source.read_bytes == values.nbytes + (sample and values.nbytes + sample)
        source.reads.clear()
        summary_and_histogram(source, layout, median=False)
        assert source.read_bytes == values.nbytes + sample
        assert numbers == summary(source, layout)
        assert_counts(found, values)
    source, layout = array(values[:5000])
    summary_and_histogram(source, layout)
    assert source.reads == [(0, 20_000)]


@pytest.mark.parametrize("name", ["float32", "float16", "int32", "complex64"])
def test_that_a_tensor_of_few_bytes_is_read_by_the_calling_thread_alone(name: str) -> None:
    class Watched(Storage):
        def read_into(self, start: int, buffer: memoryview) -> None:
            readers.add(threading.current_thread())
            super().read_into(start, buffer)

    readers: set[threading.Thread] = set()
    whole = KEPT // np.dtype(name).itemsize
    found = histogram(Watched(bytes(KEPT)), TensorLayout(name, (whole,), (1,), 0))
    assert found.zeros == whole
    assert readers == {threading.current_thread()}


@pytest.mark.parametrize("name", ["float32", "float16", "int64"])
def test_that_the_number_of_threads_changes_no_digit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).standard_normal(6_000_000 if name == "float32" else 10_000_000) * 1000
    source, layout = array(values.astype(name))
    found = []
    for threads in (1, 4):
        monkeypatch.setattr("sdviewer.stats.sweep.THREADS", threads)
        numbers, counted = summary_and_histogram(source, layout)
        found.append((numbers, counted.to_json(), counted.edges.tolist(), counted.counts.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [1000, 100_000])
def test_that_bool_has_two_values_whatever_its_bytes_are(size: int) -> None:
    raw = (np.arange(size) % 256).astype(np.uint8)
    found = histogram(*array(raw, "bool"))
    assert found.values == (0, 1)
    assert found.value_counts.tolist() == [int((raw == 0).sum()), int((raw != 0).sum())]
