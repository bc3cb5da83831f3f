"""Sparse tensors are read as the dense ones they stand for."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats import open_checkpoint, open_storage, tensor_source

DENSE = torch.zeros(6, 8)
DENSE[1, 2], DENSE[1, 7], DENSE[4, 0], DENSE[5, 5] = 1.5, -2.0, 3.0, 0.25
BATCH = torch.stack([DENSE, DENSE.flip(0)])
UNCOALESCED = torch.sparse_coo_tensor([[0, 1, 0], [2, 0, 2]], [1.0, 2.0, 4.0], (2, 3), check_invariants=True)

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse .* tensor support is in beta state", UserWarning)
    TENSORS = {
        "coo": DENSE.to_sparse(),
        "uncoalesced": UNCOALESCED,
        "hybrid": torch.sparse_coo_tensor([[2, 0]], torch.arange(10.0).reshape(2, 5), (3, 5), check_invariants=True),
        "half": UNCOALESCED.to(torch.bfloat16),
        "whole": torch.sparse_coo_tensor([[0, 0]], [2**40, 1], (3,), dtype=torch.int64, check_invariants=True),
        "complex": (DENSE * (1 + 2j)).to_sparse(),
        "csr": DENSE.to_sparse_csr(),
        "csc": DENSE.to_sparse_csc(),
        "bsr": DENSE.to_sparse_bsr((2, 4)),
        "bsc": DENSE.to_sparse_bsc((3, 2)),
        "dense inside": torch.arange(24.0).reshape(2, 3, 4).to_sparse_csr(dense_dim=1),
        "empty": torch.zeros(3, 3).to_sparse(),
    }


def save(tmp_path: Path, tensor: torch.Tensor) -> Path:
    path = tmp_path / "sparse.pt"
    torch.save({"w": tensor}, path)
    return path


def dense_bytes(path: Path, pieces: int = 1) -> bytes:
    """All bytes of the first tensor, read in so many pieces that need not end with an element."""
    source = tensor_source(open_checkpoint(path), 0)
    with open_storage(source) as storage:
        buffer = bytearray(storage.nbytes)
        step = max(math.ceil(len(buffer) / pieces), 1)
        for start in range(0, len(buffer), step):
            storage.read_into(start, memoryview(buffer)[start : start + step])
    return bytes(buffer)


@pytest.mark.parametrize("name", TENSORS)
def test_that_every_layout_reads_as_its_dense_tensor(name: str, tmp_path: Path) -> None:
    tensor = TENSORS[name]
    path = save(tmp_path, tensor)
    expected = tensor.to_dense().contiguous().view(torch.uint8).numpy().tobytes()
    assert dense_bytes(path) == expected
    assert dense_bytes(path, 7) == expected


def make(tmp_path: Path, indices: list[list[int]], size: tuple[int, int]) -> Path:
    """A COO tensor of one value at these indices: the file is written with right ones, then patched."""
    right = torch.tensor([[5], [7]])
    path = save(tmp_path, torch.sparse_coo_tensor(right, torch.tensor([7.0]), size, check_invariants=True))
    data, old = path.read_bytes(), right.numpy().tobytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, np.asarray(indices, "<i8").tobytes()))
    return path


@pytest.mark.parametrize("index", [[[0], [-1]], [[0], [8]], [[6], [0]], [[0], [2**62]]])
def test_that_an_index_outside_is_refused_and_never_followed(index: list[list[int]], tmp_path: Path) -> None:
    path = make(tmp_path, index, (6, 8))
    with pytest.raises(CorruptCheckpoint) as caught:
        dense_bytes(path)
    assert caught.value.code == "bad_indices"


def test_that_a_tensor_of_endless_zeros_is_not_gone_through(tmp_path: Path) -> None:
    path = make(tmp_path, [[0], [5]], (2**30, 2**20))
    with pytest.raises(OpenError) as caught:
        dense_bytes(path)
    assert caught.value.code == "too_large"
