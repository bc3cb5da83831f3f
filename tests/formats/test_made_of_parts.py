"""Tensors that are made of others: quantized per channel, nested, wrapped."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import dotted
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint, open_storage, tensor_source
from sdviewer.stats.digest import sha256

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, .* are deprecated:UserWarning")

VALUES = torch.linspace(-3, 5, 60).reshape(3, 4, 5)


def opened(tmp_path: Path, tensor: Any) -> Checkpoint:
    torch.save({"w": tensor}, tmp_path / "t.pt")
    return open_checkpoint(tmp_path / "t.pt")


def floats(found: Checkpoint, pieces: int) -> torch.Tensor:
    """The first tensor's values, read in pieces that need not end with an element."""
    source = tensor_source(found, 0)
    buffer = bytearray(4 * found.tensors[0].elements)
    step = -(-len(buffer) // pieces)
    with open_storage(source) as storage:
        for start in range(0, len(buffer), step):
            storage.read_into(start, memoryview(buffer)[start : start + step])
    return torch.frombuffer(buffer, dtype=torch.float32).reshape(found.tensors[0].shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32])
def test_that_what_is_quantized_per_channel_reads_as_torch_dequantizes_it(
    tmp_path: Path, dtype: torch.dtype, axis: int
) -> None:
    n = VALUES.shape[axis]
    tensor = torch.quantize_per_channel(VALUES, torch.arange(1, n + 1) * 0.037, torch.arange(n) * 3, axis, dtype)
    found = opened(tmp_path, tensor)
    (row,) = found.tensors
    assert (row.kind, row.dtype, row.unreadable) == ("quantized", str(dtype).removeprefix("torch."), "")
    assert row.quant is not None
    assert (row.quant["qscheme"], row.quant["axis"], row.quant["scales"]["shape"]) == ("per_channel_affine", axis, [n])
    for pieces in (1, 7):
        assert torch.equal(floats(found, pieces), tensor.dequantize())
    stored = tensor_source(found, 0).stored
    assert stored is not None
    with open_storage(stored) as storage:
        codes = tensor.int_repr().numpy().tobytes()
        assert sha256(storage, stored.layout).sha256 == hashlib.sha256(codes).hexdigest()
    assert all(storage.used_bytes == storage.nbytes for storage in found.storages.values())


def test_that_channels_that_come_last_in_memory_stay_with_their_scales(tmp_path: Path) -> None:
    image = torch.linspace(-3, 5, 120).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    tensor = torch.quantize_per_channel(image, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 5, 9]), 1, torch.qint8)
    assert not tensor.is_contiguous()
    assert torch.equal(floats(opened(tmp_path, tensor), 3), tensor.dequantize().contiguous())


@pytest.mark.parametrize(("dtype", "columns"), [(torch.quint4x2, 6), (torch.quint4x2, 5), (torch.quint2x4, 9)])
def test_that_packed_elements_are_taken_out_of_their_bytes(tmp_path: Path, dtype: torch.dtype, columns: int) -> None:
    values = torch.linspace(-3, 5, 3 * columns).reshape(3, columns)
    tensor = torch.quantize_per_channel(values, torch.tensor([0.4, 0.2, 0.9]), torch.tensor([2.0, 0.5, 1.0]), 0, dtype)
    for pieces in (1, 7):
        assert torch.equal(floats(opened(tmp_path, tensor), pieces), tensor.dequantize())


def test_that_an_axis_with_another_number_of_scales_is_refused(tmp_path: Path) -> None:
    tensor = torch.quantize_per_channel(VALUES, torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3), 0, torch.qint8)
    found = opened(tmp_path, tensor)
    quant = dict(found.tensors[0].quant or {}) | {"axis": 1}
    wrong = tensor_source(
        Checkpoint(**{name: getattr(found, name) for name in found.__slots__}
                   | {"tensors": (found.tensors[0]._replace(quant=quant),)}), 0
    )  # fmt: skip
    with pytest.raises(CorruptCheckpoint) as caught, open_storage(wrong):
        pass
    assert caught.value.code == "bad_indices"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_that_a_nested_tensor_is_its_components_one_after_another(tmp_path: Path, layout: torch.layout) -> None:
    parts = [torch.arange(6.0).reshape(2, 3), torch.arange(12.0).reshape(4, 3) + 10]
    found = opened(tmp_path, torch.nested.nested_tensor(parts, layout=layout))
    whole = found.tensors[0]
    assert (whole.kind, whole.elements, whole.storage, whole.stride) == ("nested", 18, None, None)
    assert dotted(found.tensors[1].path) == "w.values"
    assert torch.equal(floats(found, 1).reshape(-1), torch.cat([part.reshape(-1) for part in parts]))


class Wrapped(torch.Tensor):
    """As DTensor and torchao do it: no bytes of its own, its parts are attributes."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapped:
        return torch.Tensor._make_wrapper_subclass(cls, (inner.shape[0] * 2, *inner.shape[1:]), dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented


def test_that_a_wrapper_shows_its_outer_shape_and_what_is_inside(tmp_path: Path) -> None:
    found = opened(tmp_path, Wrapped(torch.ones(2, 3)))
    outer, inner = found.tensors
    assert (outer.kind, outer.shape, outer.cls.rpartition(".")[2]) == ("subclass", (4, 3), "Wrapped")
    assert (dotted(inner.path), inner.shape) == ("w.inner", (2, 3))
    assert not found.problems
