"""The statistics of a checkpoint's tensors as columns: one array a number, one entry a tensor.

So a hundred thousand tensors are twenty arrays, which are sorted, filtered and sent between processes whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sdviewer.stats.summary import Summary

NOT_YET: Final = 0
KNOWN: Final = 1
UNREADABLE: Final = 2

COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "state": "u1",
        "count": "i8",
        "nan": "i8",
        "posinf": "i8",
        "neginf": "i8",
        "zeros": "i8",
        "tiny": "i8",
        "outliers": "i8",
        "min": "f8",
        "max": "f8",
        "mean": "f8",
        "std": "f8",
        "absmean": "f8",
        "l2": "f8",
        "kurtosis": "f8",
        "constant": "u1",
        "zero_rows": "i8",
    }
)
"""Name -> NumPy type. `state` is `NOT_YET`, `KNOWN` or `UNREADABLE`; the others are as in `Summary`, with -1 for a
count and NaN for a number that there is not. `constant`: more than one value, all finite and equal. `zero_rows`: how
many rows along the first axis, of two or more, are zero throughout; -1 where it was not counted."""

Columns = dict[str, NDArray[Any]]


def none_measured(number: int) -> Columns:
    """The columns of so many tensors of which nothing is known."""
    return no_numbers(COLUMNS, number)


def no_numbers(kinds: Mapping[str, str], number: int) -> Columns:
    """Columns of so many entries, by name and NumPy type, in which every number is missing."""
    empty = {"u1": 0, "i8": -1, "f8": np.nan}
    return {name: np.full(number, empty[kind], kind) for name, kind in kinds.items()}


def columns_from(buffers: Mapping[str, Any], kinds: Mapping[str, str], number: int) -> Columns:
    """Columns of so many entries, by name and NumPy type, from their raw bytes.

    Raises:
        ValueError: a column is missing or has another length.
    """
    columns = {}
    for name, kind in kinds.items():
        if name not in buffers:
            raise ValueError(f"the column {name} is missing")
        raw = memoryview(buffers[name]).cast("B")
        if raw.nbytes != number * np.dtype(kind).itemsize:
            raise ValueError(f"the column {name} has {raw.nbytes} bytes for {number} entries")
        columns[name] = np.frombuffer(raw, kind).copy()
    return columns


def write_row(columns: Columns, place: int, found: Summary, zero_rows: int) -> None:
    """Put the numbers of one tensor into its place."""
    columns["state"][place] = KNOWN
    columns["zero_rows"][place] = zero_rows
    for name in COLUMNS:
        value = getattr(found, name, None)
        if value is not None:
            columns[name][place] = value
    columns["constant"][place] = found.count > 1 and found.count == found.finite and found.min == found.max


class ColumnTable:
    """Columns of numbers that come in bit by bit; `kinds` is the NumPy type of each by its name, with a `state`."""

    kinds: ClassVar[Mapping[str, str]]

    def __init__(self, number: int) -> None:
        self._columns = no_numbers(self.kinds, number)

    def __len__(self) -> int:
        return len(self._columns["state"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The whole column, not a copy of it."""
        return self._columns[name]

    def put(self, indices: Sequence[int] | NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> None:
        """Set what was measured of some entries, one number of each column an index."""
        places = np.asarray(indices, np.int64)
        for name in self.kinds:
            self._columns[name][places] = columns[name]

    def known(self) -> NDArray[np.bool_]:
        """Which entries have been measured."""
        known: NDArray[np.bool_] = self._columns["state"] == KNOWN
        return known

    def to_buffers(self) -> Columns:
        """The columns by name, as they go into a frame."""
        return dict(self._columns)

    @classmethod
    def from_buffers(cls, buffers: Mapping[str, Any], number: int) -> Self:
        """The table of so many entries, from the raw bytes of its columns.

        Raises:
            ValueError: a column is missing or has another length.
        """
        table = cls.__new__(cls)
        table._columns = columns_from(buffers, cls.kinds, number)
        return table


class StatisticsTable(ColumnTable):
    """The columns of all tensors of a checkpoint as it was opened; an index is one into `Checkpoint.tensors`."""

    kinds = COLUMNS
