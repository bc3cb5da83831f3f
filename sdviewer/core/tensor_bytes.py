"""How the numbers rooms get at a tensor's bytes without knowing a file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class ByteSource(Protocol):
    """The raw bytes of one storage, `nbytes` long, read piece by piece and never mapped."""

    @property
    def nbytes(self) -> int: ...

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the storage's bytes from `start` (bytes). May be called from several threads.

        Raises:
            CorruptCheckpoint: the bytes are not there (any more), or their compression is broken.
        """


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """How a tensor lies in its storage; everything the statistics need besides the bytes.

    `shape` and `stride` are in elements, `offset` is in elements from the start of the storage. For sub-byte types
    (`float4_e2m1fn_x2`) shape counts stored bytes as torch does. `swap` says the stored elements are big-endian.
    `conj` and `neg` are torch's lazy flags: the stored bytes are not conjugated or negated.
    `scale` and `zero_point` belong to per-tensor quantized types: value = scale * (stored - zero_point).
    `opaque` is set for a type that only its container knows (GGUF's `q4_k`, NumPy's texts): so many bytes make up the
    whole tensor, without gaps; they can be hashed, and no value in them is known.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    swap: bool = False
    conj: bool = False
    neg: bool = False
    scale: float | None = None
    zero_point: int | None = None
    opaque: int | None = None


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The row-major stride of `shape`, in elements."""
    stride = []
    step = 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return tuple(reversed(stride))


def is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether the elements lie in row-major order without gaps (a dimension of size 1 may have any stride)."""
    expected = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size == 0:
            return True
        if size != 1:
            if step != expected:
                return False
            expected *= size
    return True
