from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.stats.summary import summary
from sdviewer.stats.zero_rows import NOT_COUNTED, zero_rows
from tests.stats.storages import Endless, array, lay


def counted(tensor: torch.Tensor) -> int:
    source, layout = lay(tensor)
    return zero_rows(source, layout, summary(source, layout))


def with_dead_rows(*shape: int) -> torch.Tensor:
    tensor = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    tensor[1] = 0
    tensor[4:6] = -0.0
    tensor[0, 0] = 0
    return tensor


@pytest.mark.parametrize(
    "view",
    [
        lambda: with_dead_rows(7, 5),
        lambda: with_dead_rows(9, 3, 4).half(),
        # Rows that go on in the next block, and blocks of many rows.
        lambda: with_dead_rows(6, 700_001),
        lambda: with_dead_rows(300_000, 3),
        lambda: with_dead_rows(7, 6)[:, ::2],
        lambda: with_dead_rows(7, 6).t().contiguous().t(),
        lambda: with_dead_rows(7, 6).t(),
        lambda: with_dead_rows(7, 1).expand(7, 9),
        lambda: torch.zeros(5).expand(4, 5),
        lambda: torch.tensor([0.0, 1.0]).expand(4, 2),
        lambda: torch.zeros(3, 4),
        lambda: torch.eye(5, dtype=torch.int64),
    ],
)
def test_that_rows_of_zeros_are_counted(view: Callable[[], torch.Tensor]) -> None:
    tensor = view()
    assert counted(tensor) == int((tensor.reshape(tensor.shape[0], -1) == 0).all(dim=1).sum())


def test_that_what_has_no_rows_is_not_counted() -> None:
    assert counted(torch.zeros(5)) == NOT_COUNTED
    assert counted(torch.tensor(0.0)) == NOT_COUNTED
    assert counted(torch.zeros(0, 3)) == NOT_COUNTED
    bits = TensorLayout("bits8", (2, 2), (2, 1), 0)
    source, _ = array(np.zeros(4, np.uint8))
    assert zero_rows(source, bits, summary(source, bits)) == NOT_COUNTED


def test_that_nothing_is_read_where_there_are_too_few_zeros_for_a_row() -> None:
    tensor = torch.ones(50, 60)
    tensor[3, :59] = 0
    source, layout = lay(tensor)
    found = summary(source, layout)
    source.reads.clear()
    assert (zero_rows(source, layout, found), source.reads) == (0, [])


def test_that_an_expanded_bomb_is_counted_from_its_stored_elements() -> None:
    source, _ = array(np.array([0, 1, 0, 0], np.float32))
    layout = TensorLayout("float32", (4, 2**38), (1, 0), 0)
    assert zero_rows(source, layout, summary(source, layout)) == 3
    layout = TensorLayout("float32", (2**30, 2), (0, 1), 2)
    assert zero_rows(source, layout, summary(source, layout)) == 2**30
    assert zero_rows(Endless(1 << 40), layout, summary(source, layout)) == 2**30
