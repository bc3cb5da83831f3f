"""Sharded safetensors: files of a limited size and the index that names them, as Hugging Face's libraries read them.

Facts: transformers 5 and huggingface_hub 1 (`model.safetensors.index.json`), measured: `metadata.total_size` in bytes,
`weight_map` from key to file; a tied tensor stands in neither, but as an alias in the metadata of its shard.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from sdviewer.formats.tensors_out import TensorOut

MAX_SHARD_BYTES = 5 * 10**9
"""Bytes of tensors in a shard where nobody said otherwise; a larger tensor has one for itself."""

INDEX = "model.safetensors.index.json"


def shards_of(tensors: Sequence[TensorOut], most: int | None) -> dict[str, list[TensorOut]]:
    """The tensors of each shard by its name, in their order; aliases are where the tensor is that they are tied to."""
    limit = most or MAX_SHARD_BYTES
    shards: list[list[TensorOut]] = [[]]
    place: dict[str, int] = {}
    size = 0
    for one in tensors:
        if one.same_as:
            place[one.key] = place[one.same_as]
            shards[place[one.key]].append(one)
            continue
        if shards[-1] and size + one.nbytes > limit:
            shards.append([])
            size = 0
        size += one.nbytes
        place[one.key] = len(shards) - 1
        shards[-1].append(one)
    return {shard_name(n, len(shards)): shard for n, shard in enumerate(shards, 1)}


def shard_name(number: int, count: int) -> str:
    """What the libraries call shard `number` of `count`."""
    return f"model-{number:05}-of-{count:05}.safetensors"


def index_of(shards: dict[str, list[TensorOut]]) -> bytes:
    """The text of the index."""
    stored = {one.key: name for name, shard in shards.items() for one in shard if not one.same_as}
    own = [one for shard in shards.values() for one in shard if not one.same_as]
    elements = sum([math.prod(one.shape) for one in own])
    metadata = {"total_size": sum([one.nbytes for one in own]), "total_parameters": elements}
    text = json.dumps({"metadata": metadata, "weight_map": stored}, indent=2, ensure_ascii=False)
    return (text + "\n").encode()
