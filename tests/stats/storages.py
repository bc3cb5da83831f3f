"""Storages in memory that remember what was read of them, and layouts of torch tensors."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import torch

from sdviewer.core.tensor_bytes import TensorLayout, contiguous_stride


@dataclass
class Storage:
    """A ByteSource over bytes; `reads` are (start, nbytes) of all requests."""

    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def read_into(self, start: int, buffer: memoryview) -> None:
        raw = buffer.cast("B")
        assert start >= 0 and start + len(raw) <= len(self.data)
        raw[:] = self.data[start : start + len(raw)]
        with self.lock:
            self.reads.append((start, len(raw)))

    @property
    def read_bytes(self) -> int:
        return sum(size for _, size in self.reads)

    @property
    def largest_read(self) -> int:
        return max(size for _, size in self.reads)


@dataclass
class Endless:
    """A ByteSource of any size whose byte i is a pattern; it holds nothing."""

    nbytes: int
    largest_read: int = 0

    def read_into(self, start: int, buffer: memoryview) -> None:
        raw = np.frombuffer(buffer.cast("B"), np.uint8)
        raw[:] = 0
        raw[3::4] = 0x3F
        raw[2::4] = 0x80
        self.largest_read = max(self.largest_read, raw.size)


def storage_of(tensor: torch.Tensor) -> Storage:
    """The bytes of a tensor's whole storage."""
    flat = torch.empty(0, dtype=torch.uint8)
    flat.set_(tensor.untyped_storage())
    return Storage(flat.numpy().tobytes())


def lay(tensor: torch.Tensor) -> tuple[Storage, TensorLayout]:
    """A torch tensor as the statistics see it."""
    layout = TensorLayout(
        str(tensor.dtype).removeprefix("torch."),
        tuple(tensor.shape),
        tuple(tensor.stride()),
        tensor.storage_offset(),
        conj=tensor.is_conj(),
        neg=tensor.is_neg(),
    )
    return storage_of(tensor), layout


def array(values: np.ndarray, dtype: str = "") -> tuple[Storage, TensorLayout]:
    """A C-contiguous NumPy array as the statistics see it; `dtype` names it when NumPy's name is not torch's."""
    layout = TensorLayout(dtype or values.dtype.name, values.shape, contiguous_stride(values.shape), 0)
    return Storage(values.tobytes()), layout
