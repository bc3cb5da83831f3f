from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import torch

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import CorruptCheckpoint
from sdviewer.stats.decode import BLOCK, Blocks, Reader, elements_of
from tests.stats.storages import Storage, array, lay


def values_of(source: ByteSource, layout: TensorLayout, nbytes: int = 0) -> np.ndarray:
    """All values in row-major order, read block by block."""
    elements = elements_of(source, layout)
    reader = Reader(source, layout)
    found = [np.array(reader.values(block)).reshape(-1) for block in Blocks(elements, nbytes)]
    return np.concatenate(found) if found else np.empty(0)


FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e8m0fnu"]
FLOATS += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
INTS = ["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("name", FLOATS)
def test_that_every_bit_pattern_of_a_float_type_has_torchs_value(name: str) -> None:
    itemsize = DTYPES[name].itemsize
    codes = np.random.default_rng(1).integers(0, 256, 4096 * itemsize, dtype=np.uint8)
    if itemsize <= 2:
        codes = np.arange(256**itemsize, dtype=f"u{itemsize}").view(np.uint8)
    tensor = torch.from_numpy(codes).view(getattr(torch, name))
    expected = tensor.to(torch.float64).numpy()
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(values_of(*lay(tensor)).astype(np.float64), expected)


@pytest.mark.parametrize("name", INTS)
def test_that_integers_are_exact_to_their_ends(name: str) -> None:
    limits = torch.iinfo(getattr(torch, name))
    numbers = [limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max]
    assert values_of(*array(np.array(numbers, name))).tolist() == numbers


def test_that_bool_is_what_is_not_zero() -> None:
    assert values_of(Storage(b"\x00\x01\x02\xff"), TensorLayout("bool", (4,), (1,), 0)).tolist() == [0, 1, 1, 1]


def test_that_float4_holds_two_values_a_byte_with_the_low_bits_first() -> None:
    codes = np.arange(256, dtype=np.uint8)
    halves = np.stack([codes & 15, codes >> 4], axis=1).reshape(-1)
    expected = halves.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    layout = TensorLayout("float4_e2m1fn_x2", (2, 128), (128, 1), 0)
    np.testing.assert_array_equal(values_of(Storage(codes.tobytes()), layout), expected)


def test_that_a_strided_float4_keeps_both_values_of_a_byte_together() -> None:
    layout = TensorLayout("float4_e2m1fn_x2", (2,), (2,), 1)
    assert values_of(Storage(bytes([0x77, 0x21, 0x77, 0x43])), layout).tolist() == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(("name", "per_byte"), [("quint4x2", 2), ("quint2x4", 4)])
def test_that_packed_quantized_values_run_across_rows(name: str, per_byte: int) -> None:
    bits = 8 // per_byte
    codes = np.random.default_rng(2).integers(0, 1 << bits, 16, dtype=np.uint8)
    packed = np.bitwise_or.reduce(codes.reshape(-1, per_byte) << np.arange(0, 8, bits, dtype=np.uint8), axis=1)
    layout = TensorLayout(name, (3, 5), (5, 1), 1, scale=0.5, zero_point=1)
    expected = (codes[1:].astype(np.float32) - 1) * np.float32(0.5)
    np.testing.assert_array_equal(values_of(Storage(packed.tobytes()), layout), expected)
    # Blocks that begin in the middle of a byte.
    np.testing.assert_array_equal(values_of(Storage(packed.tobytes()), layout, nbytes=1), expected)


@pytest.mark.parametrize("kind", [torch.qint8, torch.quint8, torch.qint32])
@pytest.mark.filterwarnings("ignore")
def test_that_quantized_tensors_are_dequantized_as_torch_does(kind: torch.dtype) -> None:
    tensor = torch.quantize_per_tensor(torch.randn(1000), 0.037, 3, kind)
    source, layout = lay(tensor.int_repr())
    layout = TensorLayout(str(kind)[6:], (1000,), (1,), 0, scale=tensor.q_scale(), zero_point=tensor.q_zero_point())
    np.testing.assert_allclose(values_of(source, layout), tensor.dequantize().numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["complex128", "complex64", "complex32"])
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_that_conj_and_neg_are_resolved(name: str) -> None:
    tensor = torch.randn(20, 2).to({"complex128": torch.float64, "complex64": torch.float32}.get(name, torch.float16))
    plain = torch.view_as_complex(tensor)
    expected = torch.view_as_complex(tensor.float()).numpy() if name == "complex32" else plain.numpy()
    np.testing.assert_array_equal(values_of(*lay(plain)), expected)
    np.testing.assert_array_equal(values_of(*lay(plain.conj())), expected.conj())
    assert plain.conj().imag.is_neg()
    np.testing.assert_array_equal(values_of(*lay(plain.conj().imag)), -expected.imag)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "int32", "uint64", "complex64"])
def test_that_big_endian_storages_are_swapped(name: str) -> None:
    raw = np.random.default_rng(3).integers(1, 100, 64, dtype=np.uint8)
    part = DTYPES[name].itemsize // (2 if name.startswith("complex") else 1)
    swapped = raw.reshape(-1, part)[:, ::-1].tobytes()
    shape = (64 // DTYPES[name].itemsize,)
    plain = values_of(Storage(raw.tobytes()), TensorLayout(name, shape, (1,), 0))
    np.testing.assert_array_equal(values_of(Storage(swapped), TensorLayout(name, shape, (1,), 0, swap=True)), plain)


def test_that_the_halves_of_a_big_endian_complex32_are_swapped_each() -> None:
    halves = np.array([1.5, -2.0, 0.25, 3.0], ">f2")
    layout = TensorLayout("complex32", (2,), (1,), 0, swap=True)
    assert values_of(Storage(halves.tobytes()), layout).tolist() == [1.5 - 2j, 0.25 + 3j]


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda t: t.transpose(0, 2),
    "permuted": lambda t: t.permute(1, 2, 0),
    "stepped": lambda t: t[::3, 1::2, ::5],
    "one column": lambda t: t[:, :, 7],
    "expanded": lambda t: t[:, :1].expand(-1, 9, -1),
    "windows": lambda t: t.flatten().unfold(0, 50, 7),
    "scalar": lambda t: t[3, 4, 5],
    "size one": lambda t: t[1:2, 2:3],
    "empty": lambda t: t[:, 4:4],
    "last": lambda t: t[-1, -1, -1:],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("nbytes", [0, 4, 100, 5000])
def test_that_any_stride_gives_torchs_row_major_order(view: str, nbytes: int) -> None:
    tensor = VIEWS[view](torch.arange(20 * 30 * 40, dtype=torch.float32).reshape(20, 30, 40))
    np.testing.assert_array_equal(values_of(*lay(tensor), nbytes), tensor.numpy().reshape(-1))


def test_that_far_apart_rows_of_a_huge_stride_are_gathered_in_pieces() -> None:
    # Rows of 1000 elements 6000 apart (gathered), in groups 1.5 million apart: no request spans two groups.
    base = torch.arange(3 * 1_500_000, dtype=torch.int32)
    tensor = base.as_strided((3, 200, 1000), (1_500_000, 6000, 1))
    source, layout = lay(tensor)
    np.testing.assert_array_equal(values_of(source, layout), tensor.numpy().reshape(-1))
    assert source.read_bytes == tensor.numel() * 4
    few = base.as_strided((3, 4, 10), (1_500_000, 6000, 1), 5)
    np.testing.assert_array_equal(values_of(*lay(few)), few.numpy().reshape(-1))
    np.testing.assert_array_equal(values_of(*lay(few.permute(2, 0, 1))), few.permute(2, 0, 1).numpy().reshape(-1))


def test_that_a_contiguous_tensor_is_read_in_straight_runs_of_a_mebibyte() -> None:
    source, layout = lay(torch.zeros(3 << 20, dtype=torch.uint8)[5:])
    values_of(source, layout)
    assert source.reads == [(5, BLOCK), (5 + BLOCK, BLOCK), (5 + 2 * BLOCK, BLOCK - 5)]


def test_that_a_column_reads_its_own_pages_and_no_more() -> None:
    source, layout = lay(torch.zeros(100, 100_000)[:, :2])
    values_of(source, layout)
    assert source.read_bytes == 100 * 2 * 4


def test_that_every_second_element_is_read_in_one_request() -> None:
    source, layout = lay(torch.arange(10_000)[::2])
    values_of(source, layout)
    assert source.reads == [(0, 9_999 * 8)]


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((5,), (1,), 0), ((2, 2), (3, 1), 0), ((1,), (1,), 4), ((2,), (-1,), 3), ((-1,), (1,), 0), ((2,), (1, 1), 0)],
)
def test_that_a_tensor_outside_of_its_storage_is_refused(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    with pytest.raises(CorruptCheckpoint):
        elements_of(Storage(bytes(16)), TensorLayout("float32", shape, stride, offset))


def test_that_more_elements_than_torch_can_count_are_refused() -> None:
    with pytest.raises(CorruptCheckpoint):
        elements_of(Storage(bytes(16)), TensorLayout("float32", (2**40, 2**40), (0, 0), 0))


def test_that_an_empty_tensor_may_point_anywhere() -> None:
    assert values_of(Storage(b""), TensorLayout("float32", (0, 5), (77, 3), 10**9)).size == 0


def test_that_more_values_than_can_be_counted_are_refused_though_two_stand_in_each_element() -> None:
    source = Storage(bytes(8))
    assert elements_of(source, TensorLayout("float4_e2m1fn_x2", (2**61,), (0,), 0)).count == 2**62
    with pytest.raises(CorruptCheckpoint):
        elements_of(source, TensorLayout("float4_e2m1fn_x2", (2**62,), (0,), 0))
