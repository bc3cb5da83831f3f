"""Distributed checkpoints in safetensors files, as torch's Hugging Face writer leaves them when it does not merge them.

A folder of `shard-R-model-I-of-N.safetensors`, no index: each process wrote its parts of every tensor under the
tensor's own name, and its place in the whole into `__metadata__`:

    "DCP_SHARDING_INFO": {name: {"saved_offsets": [first index of each dimension]}}, itself JSON

Facts: torch 2.13 `torch.distributed.checkpoint.hf_storage`, measured.
"""

from __future__ import annotations

import json
import os
import re

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.dcp import DcpReading
from sdviewer.formats.dcp_metadata import DcpMetadata, Sizes, StoredAt, StoredTensor
from sdviewer.formats.shards import open_shard, shard_of

SHARDING = "DCP_SHARDING_INFO"
_NAME = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")


class DcpSafetensors:
    """The format object."""

    name = "torch distributed checkpoint in safetensors"
    containers = ("dcp",)

    def matches(self, path: str, names: list[str]) -> bool:
        for name in names:
            if _NAME.fullmatch(name):
                try:
                    return _offsets(open_shard(os.path.join(path, name), lambda *_: None)) is not None  # noqa: PTH118
                except OpenError:
                    return False
        return False

    def open(self, path: str, progress: Progress) -> Checkpoint:
        """Read the headers of all files, and put the parts of each name together."""
        metadata, shards = DcpMetadata(), {}
        chunks: dict[str, list[tuple[Sizes, Sizes]]] = {}
        dtypes: dict[str, str] = {}
        for name in sorted([name for name in os.listdir(path) if _NAME.fullmatch(name)]):  # noqa: PTH208
            progress(0, 0)
            file = os.path.join(path, name)  # noqa: PTH118
            part = open_shard(file, progress)
            shards[name] = shard_of(file, part)
            offsets = _offsets(part) or {}
            for tensor in part.tensors:
                key = tensor.key or ""
                at = offsets.get(key, (0,) * len(tensor.shape))
                dtypes.setdefault(key, tensor.dtype)
                chunks.setdefault(key, []).append((at, tensor.shape))
                metadata.places[key, at] = StoredAt(name, 0, part.size)
        for key, parts in chunks.items():
            metadata.entries.append(_whole(key, dtypes[key], parts))
        if not shards:
            raise CorruptCheckpoint("its files are gone", path=path)
        return DcpReading(path, path, metadata, shards).checkpoint(progress)


def _offsets(part: Checkpoint) -> dict[str, Sizes] | None:
    """Where each part of a file begins in its tensor; None where the file does not say."""
    found = part.metadata.get("safetensors", {}).get(SHARDING)
    try:
        info = json.loads(found) if isinstance(found, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(info, dict):
        return None
    offsets = {}
    for key, entry in info.items():
        at = entry.get("saved_offsets") if isinstance(entry, dict) else None
        if isinstance(at, list) and all(type(number) is int and number >= 0 for number in at):
            offsets[key] = tuple(at)
    return offsets


def _whole(key: str, dtype: str, parts: list[tuple[Sizes, Sizes]]) -> StoredTensor:
    """A tensor as large as its parts reach; nothing else says its size."""
    if len({len(numbers) for part in parts for numbers in part}) != 1:
        return StoredTensor(key, dtype, None, (), (), "its parts have different numbers of dimensions")
    ends = [tuple([at + size for at, size in zip(offsets, sizes, strict=True)]) for offsets, sizes in parts]
    size = tuple([max(numbers) for numbers in zip(*ends, strict=True)])
    # Processes that hold the same part wrote it each.
    return StoredTensor(key, dtype, None, size, tuple(dict.fromkeys(parts)))
