"""Between which numbers the middle nine tenths of a tensor's rows lie, for each number that a line across depth shows.

What a line tells of a tensor as a whole, its band tells of the rows: whether all of them are alike, or few make it up.
Of a large tensor a part of the rows is read, so that a model of many blocks costs little; what comes of it says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.stats.decode import Block, Reader, product
from sdviewer.stats.moments import exponent_of, real
from sdviewer.stats.slices import known_elements

ENDS: Final = (0.05, 0.95)
FEWEST: Final = 8
"""Rows below which a tensor has no band: it would be the smallest and the largest of them."""
MOST_VALUES: Final = 1 << 20
"""Values that are read: of a tensor of more, rows all over it ..."""
LEAST_ROWS: Final = 64
"""... at least so many of long ones ..."""
LARGEST: Final = 1 << 22
"""... unless these alone are more values: then there is no band."""

Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class RowBand:
    """The 5 % and the 95 % quantile over the rows of each number, None for one that rows do not have.

    A row is an index of the first axis of more than one; a vector's rows are its values, which have no `std`. `norm` is
    the L2 norm of a row times the root of `rows`, so that it can stand beside the norm of the whole tensor: it is what
    that would be if all rows were like this one. `largest` is of |x|. Complex values are taken by their magnitude.
    `sampled` of the `rows` were looked at.
    """

    rows: int
    sampled: int
    std: Ends | None
    norm: Ends | None
    mean: Ends | None
    largest: Ends | None

    def to_json(self) -> dict[str, Any]:
        """All as JSON values."""
        return asdict(self)


def row_band(source: ByteSource, layout: TensorLayout) -> RowBand | None:
    """The band of a tensor; None where it has too few rows, or too long ones.

    Raises:
        UsageError: its values are not decoded.
        CorruptCheckpoint: the bytes are not there.
    """
    elements = known_elements(source, layout)
    axis = next((at for at, size in enumerate(elements.shape) if size != 1), None)
    if axis is None or elements.shape[axis] < FEWEST:
        return None
    rows = elements.shape[axis]
    others = [at for at in range(len(elements.shape)) if at != axis]
    width = product(tuple(elements.shape[at] for at in others))
    taken = min(rows, max(MOST_VALUES // max(width, 1), LEAST_ROWS))
    if not width or taken * width > LARGEST:
        return None
    # Odd, as heads and groups mostly are as long as a power of two: an even step would see the same place of each.
    step = 1 if taken == rows else -(-rows // taken) | 1
    sampled = -(-rows // step)
    shape = (sampled, *(elements.shape[at] for at in others))
    stride = (elements.stride[axis] * step, *(elements.stride[at] for at in others))
    values = real(Reader(source, layout).values(Block(elements.offset, shape, stride))).reshape(sampled, width)
    return _band(values, rows)


def _band(values: NDArray[np.float64], rows: int) -> RowBand:
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    there = np.where(finite, values, 0.0)
    # Scaled, as squares of what is very large or small would be lost.
    power = exponent_of(float(np.abs(there).max(initial=0.0)))
    there = np.ldexp(there, -power)
    some = np.maximum(counts, 1)
    means = there.sum(axis=1) / some
    apart = np.where(finite, there - means[:, None], 0.0)
    numbers = {
        "std": np.sqrt((apart * apart).sum(axis=1) / some) if values.shape[1] > 1 else None,
        "norm": np.sqrt((there * there).sum(axis=1) * rows),
        "mean": means,
        "largest": np.abs(there).max(axis=1),
    }
    ends: dict[str, Ends | None] = {}
    for name, found in numbers.items():
        known = found[counts > 0] if found is not None else np.empty(0)
        low, high = np.ldexp(np.quantile(known, ENDS), power).tolist() if known.size >= FEWEST else (None, None)
        ends[name] = None if low is None or high is None else (low, high)
    return RowBand(rows, len(values), **ends)
