"""What tells two tensors apart, against the same numbers from NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import OpenError
from sdviewer.stats import decode, pairs, sweep
from sdviewer.stats.pair_metrics import METRICS
from sdviewer.stats.pair_sums import PairSums, Tolerance
from sdviewer.stats.pair_table import CASTS, COLUMNS, NOTHING, STATUSES, PairTable, none_compared
from sdviewer.stats.pairs import compare, write_row
from sdviewer.stats.table import KNOWN, NOT_YET
from tests.stats.made_tensors import odd_tensors, values_of
from tests.stats.storages import Endless, Storage, array, lay

RELATIVE = 1e-12
ODD = odd_tensors()


def row(a: Any, b: Any, tolerance: Tolerance | None = None, *, compiled: bool = False) -> dict[str, Any]:
    """The columns of one pair: of two torch tensors, or of two storages with their layouts."""
    one, other = (lay(side) if isinstance(side, torch.Tensor) else side for side in (a, b))
    columns = none_compared(1)
    with pytest.MonkeyPatch.context() as patched:
        if compiled:
            patched.setattr(pairs, "TINY", 0)  # small tensors take the way of large ones, block by block
        found = compare(*one, *other, tolerance, compiled=compiled)
    write_row(columns, 0, found, dtypes_differ=one[1].dtype != other[1].dtype)
    result = {name: column[0].item() for name, column in columns.items()}
    return {**result, "status": STATUSES[result["status"]], "cast": CASTS[result["cast"]]}


def reference(x: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Over the positions that are finite on both sides, from the plain formulas."""
    finite = np.isfinite(x) & np.isfinite(y)
    apart = np.abs(np.where(finite, y, 0) - np.where(finite, x, 0))
    p, q = x[finite], y[finite]
    d = np.abs(q - p)
    norm_a, norm_b, norm_d = np.linalg.norm(p), np.linalg.norm(q), np.linalg.norm(q - p)
    dot = np.vdot(p, q).real
    return {
        "count": x.size, "finite": p.size, "changed": np.count_nonzero(p != q),
        "max_abs": d.max(), "max_at": apart.argmax(), "mean_abs": d.mean(), "rel_l2": norm_d / norm_a,
        "cosine": dot / norm_a / norm_b, "changed_share": np.mean(p != q),
        "norm_a": norm_a, "norm_b": norm_b, "norm_d": norm_d, "dot": dot,
    }  # fmt: skip


def assert_like(found: dict[str, Any], x: NDArray[Any], y: NDArray[Any]) -> None:
    for name, value in reference(x, y).items():
        assert found[name] == pytest.approx(value, rel=RELATIVE, abs=0), name


def moved(tensor: torch.Tensor) -> torch.Tensor:
    """Another one of its shape, type and strides."""
    random = torch.Generator().manual_seed(11)
    if 0 in tensor.stride():
        base = torch.randn([1 if step == 0 else size for size, step in zip(tensor.shape, tensor.stride(), strict=True)])
        return base.expand(tensor.shape)
    if tensor.dtype == torch.bool:
        new = ~tensor
    elif tensor.is_floating_point() or tensor.is_complex():
        new = (tensor.to(torch.complex128 if tensor.is_complex() else torch.float64) * 1.1).to(tensor.dtype)
        new = (new.double() if not tensor.is_complex() else new) + torch.randn(tensor.shape, generator=random) * 0.05
        new = new.to(tensor.dtype)
    else:
        new = tensor + torch.randint(-3, 4, tensor.shape, generator=random).to(tensor.dtype)
    like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return like.copy_(new)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("compiled", [False, True])
def test_that_numbers_are_those_of_float64(name: str, compiled: bool) -> None:
    a = ODD[name]
    b = moved(a)
    assert_like(row(a, b, compiled=compiled), values_of(a), values_of(b))


@pytest.mark.parametrize("name", ODD)
def test_that_strides_and_types_of_both_sides_may_differ(name: str) -> None:
    a = ODD[name]
    b = moved(a).contiguous()
    assert_like(row(a, b), values_of(a), values_of(b))
    assert_like(row(b, a), values_of(b), values_of(a))
    if not a.is_complex():
        wide = moved(a).double().contiguous()
        assert_like(row(a, wide), values_of(a), values_of(wide))
        assert row(a, wide)["status"] == ("changed" if name == "float64" else "dtype")


@pytest.mark.parametrize("name", ODD)
def test_that_equal_bits_are_identical_whatever_the_strides(name: str) -> None:
    a = ODD[name]
    for b in (a, a.contiguous().clone()):
        found = row(a, b)
        assert (found["status"], found["changed"], found["max_abs"], found["max_at"]) == ("identical", 0, 0, -1)
        assert (found["rel_l2"], found["mean_abs"], found["cosine"], found["norm_d"]) == (0, 0, 1, 0)


def large(size: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("compiled", [False, True])
def test_that_several_threads_tell_what_one_tells(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    a = large(1 << 19, 1)
    b = a + large(1 << 19, 2) / 64
    a[[1000, 300_000, 520_000]], b[[1000, 300_000, 520_000]] = 1, 9  # the first of three that are the largest
    monkeypatch.setattr(decode, "BLOCK", 1 << 15)
    alone = row(array(a), array(b), compiled=compiled)
    monkeypatch.setattr(sweep, "KEPT", 0)
    monkeypatch.setattr(sweep, "THREADS", 4)
    assert row(array(a), array(b), compiled=compiled) == alone
    assert_like(alone, a.astype(float), b.astype(float))
    assert alone["max_at"] == 1000


@pytest.mark.parametrize("block", [1 << 10, 1 << 20])
def test_that_the_first_of_the_largest_is_found_whatever_the_order_of_the_storage(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(decode, "BLOCK", block)
    a = torch.zeros(8, 6, 9, 7).to(memory_format=torch.channels_last)
    b = a.clone()
    for place in ((7, 5, 8, 6), (3, 0, 8, 0), (3, 1, 0, 0), (5, 0, 0, 0)):
        b[place] = 2
    assert b.stride() == a.stride()
    found = row(a, b)
    assert np.unravel_index(found["max_at"], a.shape) == (3, 0, 8, 0)
    assert np.unravel_index(row(a, b.contiguous())["max_at"], a.shape) == (3, 0, 8, 0)
    everywhere = row(a, a + 1)
    assert everywhere["max_at"] == 0


def test_that_more_dimensions_than_numpy_has_are_gone_through() -> None:
    ones = (1,) * 70
    layout = TensorLayout("float32", (*ones, 3, 4), (*ones, 1, 3), 0)
    a, b = np.arange(12, dtype=np.float32), np.arange(12, dtype=np.float32)
    b[[5, 7]] += 2
    found = row((Storage(a.tobytes()), layout), (Storage(b.tobytes()), layout))
    assert found["max_at"] == min(2 * 4 + 1, 1 * 4 + 2)


def test_that_what_one_thread_sees_is_no_cast_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.randn(1 << 16, generator=torch.Generator().manual_seed(3))
    other = a.clone()
    other[-1] += 1
    monkeypatch.setattr(decode, "BLOCK", 1 << 12)
    monkeypatch.setattr(sweep, "KEPT", 0)
    monkeypatch.setattr(sweep, "THREADS", 4)
    assert row(a, a.half())["cast"] == "rounded_b"
    assert row(other, a.half())["cast"] == ""


def test_that_compiled_loops_and_numpy_tell_the_same() -> None:
    for dtype in (np.float32, np.float64):
        a = large(100_003, 3).astype(dtype)
        b = (a + np.where(np.arange(a.size) % 3, 0, large(a.size, 4))).astype(dtype)
        a[50], b[50], a[51], b[51] = 0.0, -0.0, -0.0, 1.0
        tolerance = Tolerance(0.1, 0.01)
        compiled, plain = (row(array(a), array(b), tolerance, compiled=way) for way in (True, False))
        for name, value in plain.items():
            assert compiled[name] == value or compiled[name] == pytest.approx(value, rel=1e-13), name


@pytest.mark.parametrize("compiled", [False, True])
def test_that_nan_and_infinity_are_counted_on_either_side_and_left_out(compiled: bool) -> None:
    a, b = large(9000, 5), large(9000, 6)
    a[[1, 2, 3]] = np.nan, np.inf, -np.inf
    b[[1, 2, 3]] = np.nan, np.inf, -np.inf
    found = row(array(a), array(b), compiled=compiled)
    assert (found["nan_a"], found["nan_b"], found["inf_a"], found["inf_b"], found["finite"]) == (1, 1, 2, 2, 8997)
    assert not found["nonfinite_differs"]
    assert_like(found, a.astype(float), b.astype(float))
    b[[3, 4]] = np.inf, np.nan
    found = row(array(a), array(b), Tolerance(1e9), compiled=compiled)
    assert (found["nonfinite_differs"], found["close"], found["status"]) == (1, 0, "changed")
    assert (found["nan_b"], found["inf_b"]) == (2, 2)
    assert_like(found, a.astype(float), b.astype(float))


def test_that_there_are_no_numbers_where_nothing_is_finite() -> None:
    a, b = np.full(3, np.nan, np.float32), np.full(3, np.inf, np.float32)
    for found in (row(array(a), array(b)), row(array(a), array(a))):
        assert np.isnan([found["max_abs"], found["mean_abs"], found["cosine"], found["changed_share"]]).all()
        assert found["rel_l2"] == 0
    assert row(array(a), array(a))["status"] == "identical"


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("compiled", [False, True])
def test_that_magnitudes_whose_squares_overflow_or_vanish_have_norms(scale: float, compiled: bool) -> None:
    a, b = (large(3000, seed).astype(np.float64) for seed in (7, 8))
    near, far = row(array(a), array(b), compiled=compiled), row(array(a * scale), array(b * scale), compiled=compiled)
    for name in ("rel_l2", "cosine"):
        assert far[name] == pytest.approx(near[name], rel=RELATIVE)
    for name in ("norm_a", "norm_b", "norm_d", "max_abs", "mean_abs"):
        assert far[name] == pytest.approx(near[name] * scale, rel=RELATIVE)


def test_that_every_half_precision_number_is_itself_in_the_compiled_loop() -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    a = np.concatenate([codes.view(np.float16)] * 2)
    b = np.concatenate([codes[::-1].view(np.float16)] * 2)
    assert row(array(a), array(b), compiled=True) == row(array(a), array(b))
    assert_like(row(array(a), array(b), compiled=True), a.astype(float), b.astype(float))


def test_that_differences_of_large_integers_are_exact() -> None:
    a = np.array([2**62, -(2**63), 5, 2**60], np.int64)
    b = np.array([2**62 + 1, 2**63 - 1, 5, 2**60], np.int64)
    found = row(array(a), array(b))
    assert (found["changed"], found["max_at"], found["max_abs"]) == (2, 1, float(2**64 - 1))
    found = row(array(a[[0]]), array(b[[0]]))
    assert (found["max_abs"], found["norm_d"], found["changed_share"]) == (1, 1, 1)
    unsigned = row(array(np.array([2**64 - 1], np.uint64)), array(np.array([2**64 - 3], np.uint64)))
    assert unsigned["max_abs"] == 2


def test_that_values_that_went_through_zero_are_counted() -> None:
    a = np.array([1, -1, 0, -0.0, 2, -3, -5, 5], np.float32)
    b = np.array([-1, 1, -1, 1, 2, -4, 0.0, -0.0], np.float32)
    for compiled in (False, True):
        assert row(array(a), array(b), compiled=compiled)["sign_flips"] == 2


def test_that_zeros_of_another_sign_are_changed_bits_of_equal_values() -> None:
    a, b = np.array([0.0, 1], np.float32), np.array([-0.0, 1], np.float32)
    for compiled in (False, True):
        found = row(array(a), array(b), compiled=compiled)
        assert (found["status"], found["changed"], found["max_abs"], found["max_at"]) == ("changed", 0, 0, -1)
        assert row(array(a), array(b), Tolerance(0), compiled=compiled)["status"] == "close"


def test_that_the_tolerance_is_relative_to_a() -> None:
    a, b = array(np.array([100, 1], np.float64)), array(np.array([110, 1], np.float64))
    for compiled in (False, True):
        for tolerance, close in (
            (Tolerance(10), 1), (Tolerance(9.99), 0), (Tolerance(0, 0.1), 1), (Tolerance(0, 0.095), 0),
            (Tolerance(5, 0.05), 1),
        ):  # fmt: skip
            assert row(a, b, tolerance, compiled=compiled)["close"] == close, tolerance
        assert row(b, a, Tolerance(0, 0.095), compiled=compiled)["status"] == "close"
    assert row(a, b)["close"] == 0


def test_that_a_cast_is_told_from_other_changes() -> None:
    a = torch.randn(3000, generator=torch.Generator().manual_seed(3))
    for dtype in (torch.bfloat16, torch.float16, torch.float8_e4m3fn):
        assert row(a, a.to(dtype))["cast"] == "rounded_b"
        assert row(a.to(dtype), a)["cast"] == "rounded_a"
        other = a.clone()
        other[2999] += 1
        assert row(other, a.to(dtype))["cast"] == ""
    huge = torch.tensor([1e6, float("nan"), 2.0])
    assert row(huge, huge.half())["cast"] == "rounded_b"
    assert row(torch.arange(9), torch.arange(9).float())["cast"] == "equal"
    assert row(torch.tensor([2**24 + 1]), torch.tensor([2.0**24]))["cast"] == "rounded_b"
    assert row(torch.tensor([1.5]), torch.tensor([1]))["cast"] == ""
    assert row(a, a + 1)["cast"] == ""


def test_that_what_is_read_as_the_same_from_two_types_has_equal_values() -> None:
    columns = none_compared(1)
    write_row(columns, 0, compare(*array(large(4, 1)), *array(large(4, 1))), dtypes_differ=True)
    assert (STATUSES[columns["status"][0]], CASTS[columns["cast"][0]]) == ("dtype", "equal")


def test_that_both_byte_orders_and_lazy_flags_are_resolved() -> None:
    values = large(50, 9)
    big = Storage(values.astype(">f4").tobytes()), TensorLayout("float32", (50,), (1,), 0, swap=True)
    assert row(array(values), big)["status"] == "identical"
    z = torch.complex(torch.randn(6), torch.randn(6))
    assert row(z.conj(), z.conj().resolve_conj())["status"] == "identical"
    assert row(z.conj(), z)["status"] == "changed"
    assert_like(row(z.conj(), z * 2), values_of(z.conj()), values_of(z * 2))
    imag = z.conj().imag
    assert imag.is_neg()
    assert row(imag, imag.resolve_neg().contiguous())["status"] == "identical"


def test_that_quantized_values_are_compared_as_the_numbers_they_stand_for() -> None:
    codes = np.array([1, 2, 130], np.uint8)

    def quantized(scale: float, zero_point: int) -> tuple[Storage, TensorLayout]:
        return Storage(codes.tobytes()), TensorLayout("quint8", (3,), (1,), 0, scale=scale, zero_point=zero_point)

    assert row(quantized(0.5, 2), quantized(0.5, 2))["status"] == "identical"
    found = row(quantized(0.5, 2), quantized(0.25, 2))
    assert (found["status"], found["max_abs"], found["max_at"]) == ("changed", 32, 2)


def test_that_bits_are_the_same_or_not_and_have_no_numbers() -> None:
    def bits(data: bytes) -> tuple[Storage, TensorLayout]:
        return Storage(data), TensorLayout("q4_k", (256,), (1,), 0, opaque=len(data))

    same, other = row(bits(b"abcd"), bits(b"abcd")), row(bits(b"abcd"), bits(b"abce"), Tolerance(1))
    assert (same["status"], other["status"]) == ("identical", "changed")
    assert np.isnan([same["max_abs"], other["max_abs"], other["rel_l2"], other["cosine"]]).all()
    plain = Storage(b"abcd"), TensorLayout("bits8", (4,), (1,), 0)
    assert row(plain, (Storage(b"abcx"), plain[1]))["status"] == "changed"


def test_that_values_of_half_a_byte_have_places_of_their_own() -> None:
    layout = TensorLayout("float4_e2m1fn_x2", (2, 2), (2, 1), 0)
    found = row((Storage(bytes(4)), layout), (Storage(bytes([0, 0, 0x70, 0])), layout))
    assert (found["count"], found["max_at"], found["max_abs"]) == (8, 5, 6)


def test_that_an_expanded_tensor_is_read_once_and_counts_as_often_as_it_stands_there() -> None:
    a, b = large(1000, 1), large(1000, 2)
    layout = TensorLayout("float32", (10**6, 1000), (0, 1), 0)
    one, other = Storage(a.tobytes()), Storage(b.tobytes())
    found = row((one, layout), (other, layout))
    assert found["count"] == found["finite"] == found["changed"] == 10**9
    assert found["rel_l2"] == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-6)
    assert found["norm_a"] == pytest.approx(np.linalg.norm(a.astype(float)) * 1000, rel=RELATIVE)
    assert one.read_bytes <= 3 * one.nbytes


def test_that_a_small_file_does_not_become_days_of_work() -> None:
    bomb = TensorLayout("float32", (10**5, 10**5), (1, 1), 0), TensorLayout("float32", (10**5, 10**5), (2, 1), 0)
    with pytest.raises(OpenError) as refused:
        compare(Endless(10**6), bomb[0], Endless(10**7), bomb[1])
    assert refused.value.code == "too_large"


def test_that_memory_does_not_grow_with_the_tensor() -> None:
    layout = TensorLayout("float32", (1 << 23,), (1,), 0)
    endless = Endless(1 << 25)
    compare(endless, layout, endless, layout)
    assert endless.largest_read <= decode.BLOCK


def test_that_empty_tensors_are_identical() -> None:
    found = row(torch.zeros(0, 3), torch.zeros(0, 3))
    assert (found["status"], found["count"], found["rel_l2"]) == ("identical", 0, 0)
    assert row(torch.zeros(0), torch.zeros(0).half())["status"] == "dtype"


def test_that_scalars_are_compared_at_their_only_place() -> None:
    found = row(torch.tensor(2.0), torch.tensor(5.0))
    assert (found["max_at"], found["max_abs"], found["rel_l2"], found["cosine"]) == (0, 3, 1.5, 1)


def test_that_progress_ends_with_the_whole() -> None:
    a, b = large(1 << 20, 1), large(1 << 20, 2)
    for other in (a, b):
        seen: list[float] = []
        compare(*array(a), *array(other), progress=lambda done, total, seen=seen: seen.append(done / total))  # type: ignore[misc]
        assert seen == sorted(seen)
        assert seen[-1] == 1


@pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])
class TestMetric:
    """One entry of METRICS."""

    def test_that_it_has_a_column(self, metric: Any) -> None:
        assert COLUMNS[metric.name] == "f8"
        assert metric.words

    def test_that_it_stands_nothing_finite_and_zeros(self, metric: Any) -> None:
        for sums in (PairSums(3), PairSums(3, 3), PairSums(0)):
            value = metric.of(sums)
            assert value is None or value == 0


def test_that_a_table_knows_what_headers_tell_and_comes_back_from_its_bytes() -> None:
    table = PairTable(["", "shape", "dtype", "only_b"])
    assert table["state"].tolist() == [NOT_YET, NOTHING, NOT_YET, NOTHING]
    columns = none_compared(1)
    write_row(columns, 0, compare(*array(large(4, 1)), *array(large(4, 2))), dtypes_differ=False)
    table.put([0], columns)
    assert table.known().tolist() == [True, False, False, False]
    assert [STATUSES[code] for code in table["status"]] == ["changed", "shape", "dtype", "only_b"]
    assert table["state"][0] == KNOWN
    back = PairTable.from_buffers({name: column.tobytes() for name, column in table.to_buffers().items()}, 4)
    for name in COLUMNS:
        assert np.array_equal(back[name], table[name], equal_nan=True)
    with pytest.raises(ValueError, match="max_at"):
        PairTable.from_buffers({**table.to_buffers(), "max_at": b""}, 4)
