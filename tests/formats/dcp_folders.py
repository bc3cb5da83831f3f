"""Folders as torch.distributed.checkpoint writes them, made without processes: any tensor in any parts."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

Parts = Sequence[tuple[Sequence[int], Sequence[int]]]
"""(offsets, sizes) of each part."""


def write_dcp(
    folder: Path,
    things: Mapping[str, Any],
    parts: Mapping[str, Parts] = {},
    *,
    paths: Mapping[str, tuple[str | int, ...]] = {},
    files: int = 2,
    pack: Callable[[bytes], bytes] = bytes,
    change: Any = None,
) -> Path:
    """Write `things` (tensors and objects by name) into `folder`; part n of anything goes to file n modulo `files`.

    `pack` may write each archive anew; `change(metadata)` may spoil the metadata before they are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    streams = [io.BytesIO() for _ in range(files)]
    described: dict[str, Any] = {}
    places: dict[MetadataIndex, _StorageInfo] = {}

    def put(index: MetadataIndex, n: int, thing: Any) -> None:
        stream = streams[n % files]
        made = io.BytesIO()
        torch.save(thing, made)
        archive = pack(made.getvalue())
        places[index] = _StorageInfo(f"__{n % files}_0.distcp", stream.tell(), len(archive))
        stream.write(archive)

    for n, (name, thing) in enumerate(things.items()):
        if not isinstance(thing, torch.Tensor):
            described[name] = BytesStorageMetadata()
            put(MetadataIndex(name), n, thing)
            continue
        whole = [([0] * thing.dim(), list(thing.shape))]
        chunks = [(torch.Size(at), torch.Size(sizes)) for at, sizes in parts.get(name, whole)]
        described[name] = TensorStorageMetadata(
            TensorProperties(dtype=thing.dtype), thing.size(), [ChunkStorageMetadata(*chunk) for chunk in chunks]
        )
        for i, (at, sizes) in enumerate(chunks):
            part = thing
            for dim, (first, size) in enumerate(zip(at, sizes, strict=True)):
                part = part.narrow(dim, first, size)
            # As torch does: a storage of the part's own, in the part's own memory format.
            put(MetadataIndex(name, at, i), n + i, part.clone())
    metadata = Metadata(described, dict(paths), places, StorageMeta("x"), "1.0.0")
    if change is not None:
        change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    for n, stream in enumerate(streams):
        (folder / f"__{n}_0.distcp").write_bytes(stream.getvalue())
    return folder


def loaded(folder: Path, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What torch itself makes of the tensors in a folder."""
    from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    made = {name: torch.empty_like(tensor) for name, tensor in like.items()}
    _load_state_dict(
        made,
        storage_reader=FileSystemReader(str(folder)),
        planner=DefaultLoadPlanner(flatten_state_dict=False),
        no_dist=True,
    )
    return made
