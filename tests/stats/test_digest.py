from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import no_progress
from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import Cancelled
from sdviewer.stats.digest import sha256
from tests.stats.storages import Endless, Storage, lay

TORCH_TYPES = [name for name, dtype in DTYPES.items() if hasattr(torch, name) and dtype.kind != "quantized"]


def torch_digest(tensor: torch.Tensor) -> str:
    stored = tensor.resolve_conj().resolve_neg().contiguous()
    return hashlib.sha256(stored.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("name", TORCH_TYPES)
def test_that_the_hash_is_of_torchs_row_major_bytes(name: str) -> None:
    dtype = DTYPES[name]
    raw = torch.randint(0, 2 if name == "bool" else 256, (12 * 10 * dtype.itemsize,), dtype=torch.uint8)
    tensor = raw.view(getattr(torch, name)).reshape(12, 10)
    assert sha256(*lay(tensor)).sha256 == hashlib.sha256(raw.numpy().tobytes()).hexdigest()
    # torch cannot copy every type; bytes in groups can be turned by NumPy.
    turned = raw.numpy().reshape(12, 10, dtype.itemsize).transpose(1, 0, 2).tobytes()
    assert sha256(*lay(tensor.t())).sha256 == hashlib.sha256(turned).hexdigest()


def test_that_conj_and_neg_are_not_resolved() -> None:
    tensor = torch.randn(6, dtype=torch.complex64)
    assert sha256(*lay(tensor.conj())).sha256 == torch_digest(tensor)
    assert sha256(*lay(tensor.conj().imag)).sha256 == torch_digest(tensor.imag)


def test_that_a_big_endian_storage_has_the_hash_of_the_little_endian_one() -> None:
    numbers = np.arange(10, dtype=np.float64)
    layout = TensorLayout("float64", (10,), (1,), 0, swap=True)
    swapped = Storage(numbers.astype(">f8").tobytes())
    assert sha256(swapped, layout).sha256 == hashlib.sha256(numbers.tobytes()).hexdigest()


def test_that_a_large_transposed_tensor_is_hashed_in_order() -> None:
    tensor = torch.randn(3000, 4001).t()
    assert sha256(*lay(tensor)).sha256 == torch_digest(tensor)


def test_that_packed_values_are_hashed_as_they_are_packed() -> None:
    data = bytes(range(5))
    layout = TensorLayout("quint4x2", (3, 3), (3, 1), 0, scale=1.0, zero_point=0)
    assert sha256(Storage(data), layout).sha256 == hashlib.sha256(data).hexdigest()


def test_that_an_expanded_tensor_is_hashed_while_it_is_small() -> None:
    tensor = torch.arange(4.0).reshape(4, 1).expand(4, 1000)
    assert sha256(*lay(tensor)).sha256 == torch_digest(tensor)


def test_that_an_expanded_bomb_is_not_hashed_and_says_why() -> None:
    digest = sha256(Storage(bytes(16)), TensorLayout("float32", (2**40,), (0,), 0))
    assert digest.sha256 is None
    assert digest.problem == "too_large"


def test_that_hashing_stops_when_told_to() -> None:
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        sha256(Endless(1 << 40), TensorLayout("float32", (1 << 38,), (1,), 0), progress=stop)
    assert seen[-1] == (2 << 20, 1 << 40)
    assert no_progress(1, 2) is None
