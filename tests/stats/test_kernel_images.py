"""The kernels of a convolution as shades."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdviewer.errors import UsageError
from sdviewer.stats import kernel_images as module
from sdviewer.stats.kernel_images import kernel_images
from tests.stats.storages import array, lay


def weight(*shape: int) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    return found


def test_that_each_kernel_is_scaled_to_its_own_largest_magnitude() -> None:
    values = weight(5, 4, 3, 2)
    found = kernel_images(*array(values), channel=2)
    one = values[:, 2].astype(np.float64)
    limits = np.abs(one).max(axis=(1, 2))
    np.testing.assert_array_equal(found.shades, np.rint(one / limits[:, None, None] * 127 + 127))
    np.testing.assert_array_equal(found.limits, limits)
    assert (found.of, found.channels, found.size) == (5, 4, (3, 2))


def test_that_a_common_scale_is_that_of_the_largest() -> None:
    values = weight(5, 1, 3, 3)
    found = kernel_images(*array(values), common=True)
    np.testing.assert_array_equal(found.shades, np.rint(values[:, 0] / np.abs(values).max() * 127.0 + 127))


def test_that_three_inputs_are_red_green_and_blue() -> None:
    values = weight(4, 3, 5, 5)
    found = kernel_images(*array(values), rgb=True)
    limits = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    expected = np.rint(values.astype(np.float64) / limits * 127 + 127)
    np.testing.assert_array_equal(found.shades, np.moveaxis(expected, 1, 3))
    assert not kernel_images(*array(weight(4, 5, 3, 3)), rgb=True).rgb, "other inputs are no colours"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e5m2, torch.int8])
def test_that_types_and_strides_make_no_difference(dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(weight(6, 4, 3, 3) * 20).to(dtype)
    strided = tensor.contiguous(memory_format=torch.channels_last)[1::2]
    one = strided[:, 3].to(torch.float64).numpy()
    found = kernel_images(*lay(strided), channel=3)
    np.testing.assert_array_equal(found.shades, np.rint(one / np.abs(one).max(axis=(1, 2), keepdims=True) * 127 + 127))


def test_that_dead_kernels_and_such_with_nan_are_told() -> None:
    values = weight(6, 1, 3, 3)
    values[1] = 0
    values[2, 0, 1, 1] = np.nan
    values[3, 0, 0, 0] = np.inf
    found = kernel_images(*array(values))
    assert (found.dead, found.odd) == (1, 2)
    assert (found.shades[1] == 127).all()
    assert found.shades[2, 1, 1] == 255
    assert found.shades[3, 0, 0] == 254


def test_that_a_page_begins_where_it_is_asked_to_and_is_no_larger_than_a_screen() -> None:
    values = weight(2000, 2, 1, 2)
    found = kernel_images(*array(values), first=1024, channel=1)
    assert (found.first, len(found.shades)) == (1024, 976)
    assert len(kernel_images(*array(values)).shades) == module.MOST_KERNELS
    np.testing.assert_array_equal(found.limits, np.abs(values[1024:, 1].astype(np.float64)).max(axis=(1, 2)))


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 4), (0, 3, 3, 3), (2, 2, 70, 3)])
def test_that_what_holds_no_kernels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        kernel_images(*array(np.zeros(shape, np.float32)))


def test_that_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError):
        kernel_images(*array(weight(2, 3, 3, 3)), channel=3)
