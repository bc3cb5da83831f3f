from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import OpenError, UsageError
from sdviewer.stats.slices import HAS_INF, HAS_NAN, line, reduced_slice, values_window
from tests.stats.storages import Endless, Storage, array, lay


def by_block(values: np.ndarray, block: tuple[int, int], how: str) -> np.ndarray:
    """The definition, cell by cell."""
    rows, columns = (-(-n // step) for n, step in zip(values.shape, block, strict=True))
    cells = np.full((rows, columns), np.nan)
    for i in range(rows):
        for j in range(columns):
            part = values[i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]]
            part = part[np.isfinite(part)].astype(np.float64)
            if part.size:
                widest = part[np.abs(part).argmax()]
                cells[i, j] = {"mean": part.mean(), "rms": np.sqrt((part**2).mean()), "max_abs": widest}[how]
    return cells


@pytest.mark.parametrize("how", ["mean", "max_abs", "rms"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [(10, 7), (64, 100), (101, 203), (3, 5000), (700, 900)])
def test_that_a_slice_is_reduced_cell_by_cell(how: str, turned: bool, size: tuple[int, int]) -> None:
    tensor = torch.randn(*size, generator=torch.Generator().manual_seed(1))
    tensor[1, 3] = float("nan")
    tensor = tensor.t() if turned else tensor
    found = reduced_slice(*lay(tensor), rows=20, columns=30, how=how)  # type: ignore[arg-type]
    assert found.shape == tuple(tensor.shape)
    assert found.cells.shape[0] <= 20 and found.cells.shape[1] <= 30
    np.testing.assert_allclose(found.cells, by_block(tensor.numpy(), found.block, how), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("how", ["mean", "max_abs"])
def test_that_tiles_of_a_wide_slice_meet_inside_of_a_cell(how: str) -> None:
    # Rows of over a block: several tiles a row, and cells that begin in one tile and end in the next.
    values = np.random.default_rng(1).standard_normal((5, 300_000)).astype(np.float32)
    found = reduced_slice(*array(values), rows=2, columns=7, how=how)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.cells, by_block(values, found.block, how), rtol=1e-9)


def test_that_a_small_slice_is_exact() -> None:
    values = np.arange(12.0).reshape(3, 4)
    found = reduced_slice(*array(values), rows=100, columns=100)
    assert found.block == (1, 1)
    np.testing.assert_array_equal(found.cells, values)


def test_that_cells_with_nan_and_infinity_are_marked_and_averaged_without_them() -> None:
    values = np.ones((4, 4), np.float32)
    values[0, 0], values[0, 3], values[2:, 2:] = np.nan, np.inf, -np.inf
    values[2, 2] = np.nan
    found = reduced_slice(*array(values), rows=2, columns=2)
    np.testing.assert_array_equal(found.flags, [[HAS_NAN, HAS_INF], [0, HAS_NAN | HAS_INF]])
    np.testing.assert_array_equal(found.cells, [[1, 1], [1, np.nan]])


def test_that_the_limit_leaves_out_the_largest_cells() -> None:
    values = np.linspace(-1, 1, 10_000).reshape(100, 100)
    values[0, 0] = 1e6
    found = reduced_slice(*array(values), rows=100, columns=100)
    assert found.limit == pytest.approx(0.997, abs=1e-3)
    assert found.clipped == 30


def test_that_a_window_of_a_slice_is_shown_finer() -> None:
    values = np.random.default_rng(1).standard_normal((300, 500))
    found = reduced_slice(*array(values), rows=10, columns=10, window=(250, 100, 100, 20))
    assert found.shape == (300, 500)
    assert found.window == (250, 100, 50, 20), "what is outside of the slice is left out"
    assert found.block == (5, 2)
    np.testing.assert_allclose(found.cells, by_block(values[250:, 100:120], (5, 2), "mean"), rtol=1e-12)


@pytest.mark.parametrize("window", [(-5, 0, 3, 3), (300, 0, 3, 3), (0, 10**12, 3, 3), (2, 2, 0, -4)])
def test_that_a_window_beside_the_slice_is_kept_inside(window: tuple[int, ...]) -> None:
    found = reduced_slice(*array(np.ones((300, 500))), rows=10, columns=10, window=window)
    row, column, rows, columns = found.window
    assert 0 <= row <= row + rows <= 300 and 0 <= column <= column + columns <= 500
    assert found.cells.shape == (min(rows, 10), min(columns, 10))


def test_that_the_limit_of_the_colours_can_be_given() -> None:
    values = np.linspace(-1, 1, 100).reshape(10, 10)
    found = reduced_slice(*array(values), rows=10, columns=10, limit=0.5)
    assert found.limit == 0.5
    assert found.clipped == np.count_nonzero(np.abs(values) > 0.5)
    assert found.shades()[0, 0] == 0 and found.shades()[9, 9] == 254


@pytest.mark.parametrize("turned", [False, True])
def test_that_a_first_look_reads_a_part_of_each_cell(turned: bool) -> None:
    rows = torch.arange(1000.0)[:, None].expand(1000, 1000).contiguous()
    tensor = rows.t().contiguous().t() if turned else rows
    storage, layout = lay(tensor)
    found = reduced_slice(storage, layout, rows=10, columns=10, most=50_000)
    assert found.sampled
    assert storage.read_bytes < storage.nbytes / 4
    assert found.cells.shape == (10, 10)
    exact = by_block(rows.numpy(), (100, 100), "mean")
    assert np.abs(found.cells - exact).max() < 100
    assert not reduced_slice(storage, layout, rows=10, columns=10, most=10**6).sampled


def test_that_one_value_among_zeros_is_seen() -> None:
    values = np.zeros((100, 100))
    values[5, 5] = -2
    assert reduced_slice(*array(values), rows=100, columns=100).limit == 2
    assert reduced_slice(*array(np.zeros((5, 5))), rows=9, columns=9).limit == 0


def test_that_the_two_largest_dimensions_are_the_picture() -> None:
    tensor = torch.randn(3, 20, 4, 30)
    found = reduced_slice(*lay(tensor), index=(2, 0, 1, 0), rows=50, columns=50)
    assert (found.y, found.x, found.index) == (1, 3, (2, 0, 1, 0))
    np.testing.assert_array_equal(found.cells, tensor[2, :, 1, :].double().numpy())
    chosen = reduced_slice(*lay(tensor), x=0, y=2, index=(0, 7, 0, 9), rows=50, columns=50)
    np.testing.assert_array_equal(chosen.cells, tensor[:, 7, :, 9].t().double().numpy())


def test_that_vectors_and_scalars_are_one_row() -> None:
    assert reduced_slice(*array(np.arange(5.0)), rows=9, columns=9).cells.tolist() == [[0, 1, 2, 3, 4]]
    assert reduced_slice(*array(np.float64(7)), rows=9, columns=9).cells.tolist() == [[7]]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (3, 0, 5)])
def test_that_an_empty_slice_has_no_cells(shape: tuple[int, ...]) -> None:
    found = reduced_slice(*array(np.zeros(shape)), rows=9, columns=9)
    assert found.cells.size == 0
    assert found.limit == 0


@pytest.mark.parametrize(("x", "y", "index"), [(5, 0, None), (0, 0, None), (1, 0, (0, 0, 3)), (1, 0, (0,))])
def test_that_a_slice_that_is_not_there_is_refused(x: int, y: int, index: tuple[int, ...] | None) -> None:
    with pytest.raises(UsageError):
        reduced_slice(*array(np.zeros((2, 2, 3))), x=x, y=y, index=index, rows=9, columns=9)


def test_that_an_expanded_bomb_is_reduced_from_its_stored_elements() -> None:
    source, _ = array(np.array([1.0, 2.0, 3.0], np.float32))
    found = reduced_slice(source, TensorLayout("float32", (3, 2**40), (1, 0), 0), rows=10, columns=8)
    np.testing.assert_array_equal(found.cells, np.repeat([[1.0], [2], [3]], 8, axis=1))
    assert found.block == (1, 2**37)
    assert source.read_bytes == 12


def test_that_a_bomb_of_overlapping_rows_is_refused() -> None:
    with pytest.raises(OpenError) as refusal:
        reduced_slice(Endless(1 << 23), TensorLayout("float32", (2**20, 2**20), (1, 1), 0), rows=9, columns=9)
    assert refusal.value.code == "too_large"


def test_that_a_slice_reads_only_its_own_bytes() -> None:
    source, layout = lay(torch.zeros(50, 300, 400))
    reduced_slice(source, layout, index=(7, 0, 0), rows=30, columns=40)
    assert source.read_bytes == 300 * 400 * 4
    assert min(start for start, _ in source.reads) == 7 * 300 * 400 * 4


def test_that_a_window_has_the_exact_texts_of_its_values() -> None:
    values = np.array([[0.1, 1 / 3, np.nan], [-np.inf, 5e-324, 1e16]])
    assert values_window(*array(values), None, None, None, 0, 2, 0, 3).texts == (
        "0.1", "0.3333333333333333", "nan", "-inf", "5e-324", "1e+16",
    )  # fmt: skip
    for name in ("float32", "float16"):
        typed = values[:1, :2].astype(name)
        texts = values_window(*array(typed), None, None, None, 0, 1, 0, 2).texts
        assert [np.dtype(name).type(text) for text in texts] == typed[0].tolist()
        assert texts[0] == "0.1"


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_that_short_floats_have_texts_that_give_them_back(name: str) -> None:
    tensor = torch.randn(5, 6).to(getattr(torch, name))
    window = values_window(*lay(tensor), None, None, None, 0, 5, 0, 6)
    assert [np.float32(text) for text in window.texts] == tensor.float().flatten().tolist()
    np.testing.assert_array_equal(window.numbers, tensor.double().numpy())


def test_that_integers_bool_complex_and_bits_have_their_own_texts() -> None:
    numbers = np.array([2**64 - 1, 2**53 + 1, 0], np.uint64)
    assert values_window(*array(numbers), None, None, None, 0, 1, 0, 3).texts == (
        "18446744073709551615", "9007199254740993", "0",
    )  # fmt: skip
    truths = values_window(Storage(b"\0\2"), TensorLayout("bool", (2,), (1,), 0), None, None, None, 0, 1, 0, 2)
    assert truths.texts == ("False", "True")
    z = values_window(*lay(torch.tensor([3 + 0.1j]).conj()), None, None, None, 0, 1, 0, 1)
    assert z.texts == ("(3-0.1j)",)
    bits = values_window(Storage(b"\x0f\xa0"), TensorLayout("bits16", (1,), (1,), 0), None, None, None, 0, 1, 0, 1)
    assert bits.texts == ("0xa00f",)


def test_that_a_window_stays_inside_of_the_slice_and_reads_only_itself() -> None:
    values = np.arange(1_000_000, dtype=np.float32).reshape(10, 100_000)
    source, layout = array(values)
    window = values_window(source, layout, 1, 0, None, 8, 5, 99_998, 7)
    assert (window.row, window.column, window.numbers.shape) == (8, 99_998, (2, 2))
    np.testing.assert_array_equal(window.numbers, values[8:, 99_998:])
    assert source.read_bytes == 16
    assert values_window(source, layout, 1, 0, None, 50, 5, 0, 7).texts == ()
    with pytest.raises(UsageError):
        values_window(source, TensorLayout("float32", (2000, 2000), (0, 0), 0), 1, 0, None, 0, 2000, 0, 2000)


@pytest.mark.parametrize("size", [1, 100, 101, 1000, 1_000_003])
def test_that_a_long_line_is_told_by_smallest_and_largest(size: int) -> None:
    values = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    found = line(*array(values), 100)
    cuts = range(0, size, found.block)
    assert found.low.size == len(cuts) <= 100
    np.testing.assert_array_equal(found.low, [values[i : i + found.block].min() for i in cuts])
    np.testing.assert_array_equal(found.high, [values[i : i + found.block].max() for i in cuts])
    assert (found.min_at, found.max_at) == (int(values.argmin()), int(values.argmax()))


def test_that_a_line_marks_what_is_not_finite() -> None:
    found = line(*array(np.array([np.nan, 1, np.inf, np.nan, 2, 3], np.float32)), 3)
    np.testing.assert_array_equal(found.low, [1, np.nan, 2])
    np.testing.assert_array_equal(found.high, [1, np.nan, 3])
    assert found.flags.tolist() == [HAS_NAN, HAS_NAN | HAS_INF, 0]
    assert (found.min_at, found.max_at) == (1, 5)
    empty = line(*array(np.array([np.nan])), 3)
    assert (empty.min_at, empty.max_at) == (None, None)


def test_that_lines_follow_strides_and_expansion() -> None:
    tensor = torch.arange(60.0).reshape(6, 10)
    np.testing.assert_array_equal(line(*lay(tensor[:, 3:4]), 100).low, tensor[:, 3].numpy())
    expanded = line(*lay(torch.tensor([2.5]).expand(2**40)), 100)
    assert (expanded.count, expanded.low.tolist()) == (2**40, [2.5] * 100)
    assert line(*array(np.float32(3)), 10).low.tolist() == [3]
    assert line(*array(np.zeros(0)), 10).low.size == 0
    with pytest.raises(UsageError):
        line(*lay(tensor), 10)


def test_that_shades_go_from_minus_the_limit_over_zero_to_the_limit_with_one_for_no_number() -> None:
    values = np.array([[-2.0, -1, 0, 1, 2], [np.nan, np.inf, 0.5, -0.5, 1e-9]])
    found = replace(reduced_slice(*array(values), rows=9, columns=9), limit=1.0)
    assert found.shades().tolist() == [[0, 0, 127, 254, 254], [255, 255, 190, 64, 127]]
    assert reduced_slice(*array(np.zeros((2, 2))), rows=9, columns=9).shades().tolist() == [[127, 127], [127, 127]]


def test_that_a_sorted_line_is_the_values_in_their_order() -> None:
    values = np.random.default_rng(1).standard_normal(1000)
    values[3], values[4] = np.nan, np.inf
    found = line(*array(values), 2000, sort=True)
    np.testing.assert_array_equal(found.low, np.sort(values[np.isfinite(values)]))
    coarse = line(*array(values), 10, sort=True)
    assert coarse.block == 100
    assert (coarse.low <= coarse.high).all() and coarse.high[-1] == values[np.isfinite(values)].max()


def test_that_positive_values_over_three_decades_are_for_a_logarithmic_axis() -> None:
    wide = np.logspace(-4, 0, 50)
    assert line(*array(wide), 100).log
    assert not line(*array(np.linspace(0.1, 1, 50)), 100).log
    for odd in (0.0, -1.0, np.nan, np.inf):
        wide[7] = odd
        assert not line(*array(wide), 100).log


def test_that_what_stands_far_from_all_others_is_told_with_its_index() -> None:
    values = np.random.default_rng(1).standard_normal(500)
    assert line(*array(values), 1000).outliers == ()
    values[77], values[3] = 40.0, -90.0
    assert line(*array(values), 1000).outliers == ((3, -90.0), (77, 40.0))
    assert line(*array(values), 50).outliers == ((3, -90.0), (77, 40.0)), "where a point stands for several"
    dead = np.exp(np.random.default_rng(1).standard_normal(256))
    dead[77] = 3e-6
    assert line(*array(dead), 1000).outliers == ((77, 3e-6),), "on a logarithmic scale"
    assert line(*array(np.array([1.0, 1, 1, 50])), 10).outliers == ()


@pytest.mark.parametrize(("shape", "stride"), [((1, 12), (2**62, 1)), ((12, 1), (1, 2**70))])
def test_that_a_step_that_is_never_taken_may_be_of_any_size(shape: tuple[int, int], stride: tuple[int, int]) -> None:
    source, layout = array(np.arange(12.0))
    layout = replace(layout, shape=shape, stride=stride)
    found = values_window(source, layout, 1, 0, None, 0, 12, 0, 12)
    np.testing.assert_array_equal(found.numbers, np.arange(12.0).reshape(shape))
    assert reduced_slice(source, layout, rows=20, columns=20).cells.ravel().tolist() == list(range(12))


@pytest.mark.parametrize("shape", [(4, 200_000), (200_000, 4), (1, 800_000)])
def test_that_a_first_look_at_what_is_long_reads_a_part_too(shape: tuple[int, int]) -> None:
    values = np.repeat(np.arange(100.0), 8000).reshape(shape)
    source, layout = array(values)
    found = reduced_slice(source, layout, x=1, y=0, rows=100, columns=100, most=40_000)
    assert found.sampled
    assert source.read_bytes <= 2 * 8 * 40_000
    whole = reduced_slice(*array(values), x=1, y=0, rows=100, columns=100)
    np.testing.assert_allclose(found.cells, whole.cells, atol=1)


@pytest.mark.parametrize("how", ["mean", "rms"])
def test_that_cells_of_the_largest_and_the_smallest_numbers_are_as_exact_as_others(how: str) -> None:
    values = np.random.default_rng(3).uniform(0.5, 1.0, (90, 70))
    values[:30] *= np.finfo(np.float64).max
    values[30:50] *= 1e-290
    values[50:60] = 0
    values[0, :3] = np.nan, np.inf, -np.inf
    found = reduced_slice(*array(values), rows=9, columns=7, how=how)  # type: ignore[arg-type]
    # The definition, of values brought near 1 row by row of cells.
    power = np.repeat([-1024.0] * 3 + [964.0] * 2 + [0.0] * 4, 10)[:, None].astype(int)
    wanted = np.ldexp(by_block(np.ldexp(values, power), found.block, how), -power[::10])
    np.testing.assert_allclose(found.cells, wanted, rtol=1e-13)
    assert 0 < found.limit <= np.finfo(np.float64).max
    assert found.shades().max() > 200


@pytest.mark.parametrize("how", ["mean", "rms"])
def test_that_huge_numbers_may_follow_tiny_ones_in_a_cell(how: str) -> None:
    # Several tiles a cell: rows of over a block.
    values = np.full((4, 300_000), 1e-300)
    values[1], values[2], values[3] = 0, 1e300, 3e300
    found = reduced_slice(*array(values), rows=1, columns=1, how=how)  # type: ignore[arg-type]
    wanted = {"mean": 1e300, "rms": np.sqrt(10 / 4) * 1e300}[how]
    np.testing.assert_allclose(found.cells, [[wanted]], rtol=1e-13)


def test_that_the_largest_numbers_of_all_have_a_finite_mean_and_outliers() -> None:
    largest = np.finfo(np.float64).max
    found = reduced_slice(*array(np.full((7, 33), largest)), rows=2, columns=2)
    assert np.isfinite(found.cells).all()
    np.testing.assert_allclose(found.cells, largest)
    values = np.random.default_rng(2).uniform(-1e305, 1e305, 200)
    values[7] = -largest
    assert line(*array(values), 200).outliers == ((7, -largest),)
