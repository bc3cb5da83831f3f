from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import torch

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import Cancelled, CorruptCheckpoint, OpenError
from sdviewer.stats.decode import BLOCK
from sdviewer.stats.summary import Summary, summary, summary_of
from sdviewer.stats.sweep import KEPT, sweep
from tests.stats.reference import cases, differences, reference, wide_sum
from tests.stats.storages import Endless, Storage, array, lay


def assert_close(found: Summary, expected: Summary, rel: float = 1e-12) -> None:
    off = differences(found, expected)
    assert max(off.values()) <= rel, (off, found, expected)


FLOATS = ["float64", "float32", "float16", "bfloat16"]
FLOATS += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("size", [1, 1000, 1_100_000])
def test_that_floats_of_every_type_are_measured(name: str, size: int) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(getattr(torch, name))
    assert_close(summary(*lay(tensor)), reference(tensor.double().numpy()))


@pytest.mark.parametrize("name", ["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("size", [7, 1_100_000])
def test_that_integers_of_every_type_are_measured(name: str, size: int) -> None:
    limits = np.iinfo(name)
    chance = np.random.default_rng(1)
    values = chance.choice(chance.integers(limits.min, limits.max, 1000, name, endpoint=True), size)
    found = summary(*array(values))
    assert_close(found, reference(values))
    assert (found.min, found.max) == (int(values.min()), int(values.max()))
    assert isinstance(found.min, int) and isinstance(found.max, int)


@pytest.mark.parametrize("name", ["complex128", "complex64", "complex32"])
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_that_complex_values_are_measured_by_their_magnitude(name: str) -> None:
    half = {"complex128": torch.float64, "complex64": torch.float32}.get(name, torch.float16)
    tensor = torch.randn(500, 2).to(half)
    magnitudes = torch.view_as_complex(tensor.double()).abs().numpy()
    found, expected = summary(*lay(torch.view_as_complex(tensor))), reference(magnitudes)
    for name in ("min", "max", "mean", "std", "l2"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-14)


@pytest.mark.parametrize("size", [1200, 70_008])
def test_that_each_number_is_what_its_definition_says(size: int) -> None:
    for case in cases(size):
        expected = reference(case.values)
        for compiled in (True, False):
            off = differences(summary_of(sweep(case.source, case.layout, compiled=compiled)), expected)
            assert max(off.values()) <= 1e-12, (case.name, compiled, off)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda normal: normal,
        lambda normal: np.round(normal * 4) / 7,
        lambda normal: np.where(normal < 2, 0, normal),
        lambda normal: np.where(normal < -2.5, np.nan, np.where(normal > 2.5, -np.inf, normal + 1e4)),
        # A sample sees the beginning of each run, and what lies there says nothing of the rest.
        lambda normal: np.where(np.arange(normal.size) % 17000 < 1500, normal, normal * 1e-9 + 1e3),
    ],
)
def test_that_order_is_exact_where_values_are_read_twice(
    make: Callable[[np.ndarray], np.ndarray], compiled: bool
) -> None:
    values = make(np.random.default_rng(3).standard_normal(KEPT // 4 + 99)).astype(np.float32)
    found = summary_of(sweep(*array(values), compiled=compiled))
    finite = values[np.isfinite(values)].astype(np.float64)
    assert found.median == np.median(finite)
    assert found.std == pytest.approx(finite.std(), rel=1e-9)
    assert found.outliers == np.count_nonzero(np.abs(finite - finite.mean()) > 6 * finite.std())


def test_that_without_the_median_only_parts_with_outliers_are_read_twice() -> None:
    values = np.random.default_rng(3).standard_normal(KEPT // 4 + 99).astype(np.float32)
    values[7], values[-1] = 100, -100
    source, layout = array(values)
    found = summary(source, layout, median=False)
    assert (found.outliers, found.median) == (2, None)
    assert values.nbytes < source.read_bytes <= values.nbytes + 2 * BLOCK


def test_that_bool_counts_its_truths() -> None:
    found = summary(Storage(bytes([0, 1, 2, 0, 255])), TensorLayout("bool", (5,), (1,), 0))
    assert (found.count, found.zeros, found.min, found.max, found.mean) == (5, 2, 0, 1, 0.6)


def test_that_float4_counts_two_values_a_byte() -> None:
    codes = np.arange(256, dtype=np.uint8)
    halves = np.stack([codes & 15, codes >> 4], axis=1).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    found = summary(Storage(codes.tobytes()), TensorLayout("float4_e2m1fn_x2", (256,), (1,), 0))
    assert found.count == 512
    assert_close(found, reference(halves))


def test_that_bits_are_only_counted() -> None:
    assert summary(Storage(bytes(8)), TensorLayout("bits16", (4,), (1,), 0)) == Summary(4)


def test_that_nan_and_infinity_are_counted_and_left_out() -> None:
    values = np.random.default_rng(1).standard_normal(3_000_000).astype(np.float32)
    values[::1000], values[1::3000], values[2::5000], values[3::7000] = np.nan, np.inf, -np.inf, -0.0
    expected = reference(values)
    assert min(expected.nan or 0, expected.posinf or 0, expected.neginf or 0, expected.zeros or 0) > 400
    assert_close(summary(*array(values)), expected)
    assert_close(summary(*array(values[:1000])), reference(values[:1000]))


@pytest.mark.parametrize("values", [[np.nan], [np.inf, -np.inf], []])
def test_that_without_finite_values_there_are_no_numbers(values: list[float]) -> None:
    found = summary(*array(np.array(values, np.float32)))
    assert found == reference(np.array(values))
    assert found.to_json()["mean"] is None


def test_that_one_value_and_equal_values_have_no_deviation() -> None:
    assert summary(*array(np.float64(0.1))).std == 0
    found = summary(*array(np.full(3_000_000, 0.1)))
    assert (found.mean, found.std) == (0.1, 0)


def test_that_negative_zero_is_zero() -> None:
    found = summary(*array(np.array([-0.0, 1], np.float32)))
    assert (found.zeros, math.copysign(1, found.min or 0)) == (1, 1)
    large = np.zeros(3_000_000, np.float32)
    large[:] = -0.0
    found = summary(*array(large))
    assert [math.copysign(1, number) for number in (found.min, found.max) if number is not None] == [1, 1]


@pytest.mark.parametrize("scale", [1.7e308, 1e200, 1e-200, 1e-300, 5e-324])
@pytest.mark.parametrize("size", [100, 1_200_000])
def test_that_squares_neither_overflow_nor_vanish(scale: float, size: int) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, size) * scale
    found, expected = summary(*array(values)), reference(values)
    # Denormal results have few digits.
    tiny = 1e-307 if scale < 1e-290 else 0
    for name in ("std", "absmean"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9, abs=tiny)
    assert found.l2 == pytest.approx(expected.l2, rel=1e-9, abs=tiny)
    assert found.std and found.l2


def test_that_a_norm_beyond_float64_is_told_as_infinite() -> None:
    found = summary(*array(np.full(100, 1.7e308)))
    assert found.mean == 1.7e308
    assert found.to_json()["l2"] == "inf"


def test_that_huge_and_tiny_blocks_of_one_tensor_merge() -> None:
    values = np.ones(2_000_000)
    values[:500_000], values[1_000_000:] = 1e-300, 1e180
    assert_close(summary(*array(values)), reference(values), rel=1e-10)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.transpose(0, 1),
        lambda t: t[::2, ::3],
        lambda t: t[5],
        lambda t: t[:, 3:4].expand(-1, 50),
        lambda t: t[2, 3].expand(7, 5),
    ],
)
def test_that_strides_do_not_matter(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensor = view(torch.randn(60, 70))
    assert_close(summary(*lay(tensor)), reference(tensor.double().numpy()))


def test_that_an_expanded_bomb_is_counted_from_its_stored_elements() -> None:
    source = array(np.array([1.0, 0.0, np.nan, -3.0], np.float32))[0]
    found = summary(source, TensorLayout("float32", (4, 2**38), (1, 0), 0))
    assert source.read_bytes == 16
    assert (found.count, found.nan, found.zeros) == (2**40, 2**38, 2**38)
    assert (found.min, found.max, found.mean) == (-3, 1, pytest.approx(-2 / 3))
    assert found.l2 == pytest.approx(math.sqrt(10 * 2**38))


def test_that_a_tensor_that_passes_over_itself_is_counted_from_its_stored_elements() -> None:
    # 600 million elements over 22,787 stored ones, of which only every third is ever reached.
    shape, stride = (3000, 200, 1000), (6, 9, 3)
    times = np.ones(1)
    for size, step in zip(shape, stride, strict=True):
        comb = np.zeros((size - 1) * step + 1)
        comb[::step] = 1
        times = np.convolve(times, comb).round()
    values = np.random.default_rng(1).standard_normal(times.size)
    values[1::3] = 1e6
    found = summary(array(values)[0], TensorLayout("float64", shape, stride, 0))
    mean = np.average(values, weights=times)
    assert found.count == times.sum() == 600_000_000
    assert found.max == values[times > 0].max()
    assert found.mean == pytest.approx(mean, rel=1e-9)
    assert found.std == pytest.approx(math.sqrt(np.average((values - mean) ** 2, weights=times)), rel=1e-9)
    # 2**40 elements over 2**21 stored ones.
    values = np.arange(2**21 - 1, dtype=np.float64)
    found = summary(array(values)[0], TensorLayout("float64", (2**20, 2**20), (1, 1), 0))
    assert found.count == 2**40
    assert found.mean == pytest.approx(2**20 - 1, rel=1e-9)
    assert found.std == pytest.approx(math.sqrt((2**40 - 1) / 6), rel=1e-9)
    assert found.zeros == 1


def test_that_a_huge_tensor_that_passes_over_itself_is_refused() -> None:
    with pytest.raises(OpenError) as refusal:
        summary(Endless(1 << 33), TensorLayout("float32", (2**30, 2**30), (1, 1), 0))
    assert refusal.value.code == "too_large"


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int32"])
def test_that_a_large_tensor_takes_no_more_memory_than_a_small_one(name: str) -> None:
    source = Endless(96 << 20)
    itemsize = {"float32": 4, "float64": 8, "bfloat16": 2, "int32": 4}[name]
    layout = TensorLayout(name, (source.nbytes // itemsize,), (1,), 0)
    tracemalloc.start()
    summary(source, layout)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.largest_read <= BLOCK
    assert peak < 64 << 20


def test_that_measuring_stops_when_told_to() -> None:
    source = Endless(1 << 40)

    def stop(done: int, total: int) -> None:
        assert total == 1 << 40
        if done > 64 << 20:
            raise Cancelled

    with pytest.raises(Cancelled):
        summary(source, TensorLayout("float32", (1 << 38,), (1,), 0), progress=stop)


def test_that_measuring_goes_on_after_it_was_stopped() -> None:
    values = np.random.default_rng(1).standard_normal(2 << 20).astype(np.float32)
    source, layout = array(values)

    def stop(done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        summary(source, layout, progress=stop)
    reads = len(source.reads)
    assert_close(summary(source, layout), reference(values))
    # No thread of the first was still reading.
    assert len(source.reads) == reads + 4


def test_that_progress_ends_with_all_bytes() -> None:
    seen: list[tuple[int, int]] = []
    summary(Endless(64 << 20), TensorLayout("float32", (16 << 20,), (1,), 0), progress=lambda *at: seen.append(at))
    assert seen[-1] == (64 << 20, 64 << 20)
    assert seen == sorted(seen)


def test_that_a_source_that_breaks_off_is_told() -> None:
    class Broken(Endless):
        def read_into(self, start: int, buffer: memoryview) -> None:
            if start > self.nbytes // 2:
                raise CorruptCheckpoint("the file ends early")
            super().read_into(start, buffer)

    for name, size in (("float16", 64 << 20), ("float32", 8 << 20), ("float32", 64 << 20)):
        count = size // (2 if name == "float16" else 4)
        with pytest.raises(CorruptCheckpoint):
            summary(Broken(size), TensorLayout(name, (count,), (1,), 0))


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16", "float8_e5m2", "uint8", "int16"])
def test_that_the_compiled_loops_agree_with_numpy(name: str) -> None:
    values = np.random.default_rng(5).integers(0, 256, 6 << 20, dtype=np.uint8)
    if name == "float64":
        # Random bits are mostly huge or tiny numbers, which are NumPy's in both; and some blocks of usual ones.
        usual = np.random.default_rng(6).standard_normal(2 << 20) * 1e-3
        usual[7] = 0
        values = np.concatenate([values, usual.view(np.uint8)])
    elif name == "float32":
        usual32 = np.random.default_rng(6).standard_normal(4 << 20).astype(np.float32)
        usual32[7], usual32[8], usual32[9] = 0, 1e-45, 3e38
        values = np.concatenate([values, usual32.view(np.uint8)])
    itemsize = getattr(torch, name).itemsize
    layout = TensorLayout(name, (values.size // itemsize,), (1,), 0)
    source = Storage(values.tobytes())
    assert_close(
        summary_of(sweep(source, layout, compiled=True)),
        summary_of(sweep(source, layout, compiled=False)),
    )


def test_that_the_reference_adds_up_as_if_it_rounded_once() -> None:
    chance = np.random.default_rng(8)
    for n in (0, 1, 3, 1025, (3 << 16) + 7):
        wide = chance.standard_normal(n) * 10.0 ** chance.integers(-12, 12, n)
        for values in (wide, np.concatenate([wide, [0.25], -wide])):
            assert wide_sum(values) == pytest.approx(math.fsum(values), rel=1e-16, abs=1e-30 * np.abs(values).sum())
