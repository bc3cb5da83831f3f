"""The tensors that another tensor is made of, read whole: indices and values, scales and zero points."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout


class OpenStorage(ByteSource, Protocol):
    """Bytes of a tensor that are open."""

    def close(self) -> None:
        """Let the file go."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Part(NamedTuple):
    """One of the tensors that another is made of."""

    layout: TensorLayout
    source: OpenStorage


def read_part(part: Part) -> NDArray[Any]:
    """All elements in the part's shape, as raw bytes of their size."""
    layout = part.layout
    size = DTYPES[layout.dtype].itemsize
    raw_type = np.dtype(f"V{size}")
    if not math.prod(layout.shape):
        return np.empty(layout.shape, raw_type)
    reach = sum((n - 1) * step for n, step in zip(layout.shape, layout.stride, strict=True)) + 1
    raw = bytearray(reach * size)
    part.source.read_into(layout.offset * size, memoryview(raw))
    elements: NDArray[Any] = np.ndarray(
        layout.shape, raw_type, raw, strides=tuple([step * size for step in layout.stride])
    )
    return np.ascontiguousarray(elements)


def number_type(layout: TensorLayout) -> np.dtype[Any]:
    """The NumPy type of the stored elements, in their byte order."""
    name = DTYPES[layout.dtype].numpy
    if layout.dtype == "bool":
        return np.dtype(bool)
    try:
        return np.dtype(name).newbyteorder(">" if layout.swap else "<")
    except TypeError:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
