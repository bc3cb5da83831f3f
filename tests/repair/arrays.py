"""Tensors of torch as the arrays that transforms compute with, and what operations make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdviewer.core.arrays import array_type
from sdviewer.errors import RepairError
from sdviewer.repair.operations.tensor_operation import Entry, TensorOperation
from sdviewer.repair.plan import Kept
from tests.repair.evaluated import evaluated


def dtype_of(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """The same elements in NumPy's type for them."""
    if not tensor.numel():
        return np.empty(tuple(tensor.shape), array_type(dtype_of(tensor)))
    # (a tensor of one element may have any stride)
    flat = tensor.contiguous().as_strided((tensor.numel(),), (1,))
    raw = flat.view(torch.uint8).numpy()
    return raw.view(array_type(dtype_of(tensor))).reshape(tuple(tensor.shape))


def tensor_of(array: NDArray[Any], dtype: str) -> torch.Tensor:
    if not array.size:
        return torch.empty(array.shape, dtype=getattr(torch, dtype))
    raw = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy())
    return raw.view(getattr(torch, dtype)).reshape(array.shape)


def applied(operation: TensorOperation, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What an operation makes of a state dict, held to the shapes and dtypes that it plans.

    Raises:
        RepairError: it refuses.
    """
    entries = [
        Entry(key, Kept(place), tuple(tensor.shape), dtype_of(tensor))
        for place, (key, tensor) in enumerate(state_dict.items())
    ]
    arrays = {place: array_of(tensor) for place, tensor in enumerate(state_dict.values())}
    changes = operation.plan_entries(entries)
    if changes.refusal is not None:
        raise changes.refusal
    assert len(changes.outputs) == len(entries)
    made = [entry for output in changes.outputs for entry in output]
    for entry in made:
        assert entry.shape is not None
        if not isinstance(entry.value, Kept):
            assert (entry.value.shape, entry.value.dtype) == (entry.shape, entry.dtype)
    return {entry.key: tensor_of(evaluated(entry.value, arrays), entry.dtype) for entry in made}


def refused(operation: TensorOperation, state_dict: Mapping[str, torch.Tensor]) -> RepairError:
    """Why an operation refuses a state dict."""
    try:
        found = applied(operation, state_dict)
    except RepairError as error:
        return error
    raise AssertionError(f"not refused: {found}")


def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors are equal in shape, dtype and bits."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    return array_of(found).tobytes() == array_of(wanted).tobytes()
