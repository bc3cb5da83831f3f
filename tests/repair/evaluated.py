"""Runs what operations plan, on arrays, and holds the plan to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdviewer.core.arrays import array_type
from sdviewer.repair.operations.tensor_operation import Entry
from sdviewer.repair.plan import Expression, Kept


def entries_of(tensors: Mapping[str, tuple[type[np.generic], tuple[int, ...]] | None]) -> list[Entry]:
    """Entries of a state dict: NumPy type and shape by key, None for what is no tensor."""
    return [
        Entry(key, Kept(at), None) if found is None else Entry(key, Kept(at), found[1], np.dtype(found[0]).name)
        for at, (key, found) in enumerate(tensors.items())
    ]


def evaluated(value: Expression, arrays: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
    """The tensor that an expression stands for; it must have the shape and the dtype that were planned."""
    if isinstance(value, Kept):
        return arrays[value.entry]
    result = value.transform.compute([evaluated(one, arrays) for one in value.inputs])
    assert result.shape == value.shape
    assert result.dtype == array_type(value.dtype)
    return result
