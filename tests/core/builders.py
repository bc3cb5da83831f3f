"""Checkpoints put together by hand, for tests that need no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdviewer.core.checkpoint import (
    Checkpoint,
    Identity,
    ObjectInfo,
    Role,
    StateDict,
    StorageInfo,
    TensorInfo,
    ValueInfo,
)
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath
from sdviewer.core.tensor_bytes import contiguous_stride

NOWHERE = Identity(0, 0, 0, 0, 0)


def tensor(
    path: KeyPath, key: str | None, shape: Sequence[int], dtype: str = "float32", **fields: object
) -> TensorInfo:
    """A contiguous tensor with a storage of its own."""
    sizes = tuple(shape)
    elements = 1
    for size in sizes:
        elements *= size
    row = TensorInfo(
        path=path,
        state_dict=None if key is None else 0,
        key=key,
        shape=sizes,
        dtype=dtype,
        stride=contiguous_stride(sizes),
        storage_offset=0,
        storage=".".join(map(str, path)),
        nbytes=elements * DTYPES[dtype].itemsize,
        requires_grad=False,
        kind="tensor",
        cls="torch.Tensor",
        location="cpu",
    )
    return row._replace(**fields)  # type: ignore[arg-type]


def checkpoint(
    shapes: Mapping[str, Sequence[int]],
    *,
    path: KeyPath = (),
    role: Role = "model",
    values: Sequence[ValueInfo] = (),
    objects: Sequence[ObjectInfo] = (),
    other_keys: Sequence[str] = (),
) -> Checkpoint:
    """One state dict of float32 tensors, with `other_keys` as entries that are no tensors behind them."""
    tensors = tuple(tensor((*path, key), key, shape) for key, shape in shapes.items())
    state_dict = StateDict(
        path=path,
        role=role,
        keys=(*shapes, *other_keys),
        tensor_of=(*range(len(tensors)), *(-1 for _ in other_keys)),
        parameters=sum(info.elements for info in tensors),
        nbytes=sum(info.nbytes for info in tensors),
    )
    storages = {
        info.storage: StorageInfo(info.storage, info.nbytes, info.nbytes, 1) for info in tensors if info.storage
    }
    return Checkpoint(
        path="made.pth",
        container="torch-zip",
        size=0,
        byte_order="little",
        identity=NOWHERE,
        state_dicts=(state_dict,),
        tensors=tensors,
        values=tuple(values),
        objects=tuple(objects),
        storages=storages,
    )
