"""What a file, a folder or a set of shards holds, known from its header alone.

`TensorInfo`, `ValueInfo` and `StorageInfo` are named tuples, not dataclasses: a checkpoint can have 100,000 of each,
and a frozen dataclass takes three times as long to make (docs/decisions/0003).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sdviewer.core.paths import KeyPath

Role = Literal["model", "ema", "optimizer", "other"]
TensorKind = Literal["tensor", "parameter", "buffer", "subclass", "nested", "quantized", "sparse", "meta"]
Severity = Literal["error", "warning", "info"]


class Problem(NamedTuple):
    """Something odd or broken that did not stop the file from opening; `code` is of the closed list in the docs."""

    severity: Severity
    code: str
    message: str
    where: str


class StorageInfo(NamedTuple):
    """One run of raw bytes that one or several tensors look into.

    `id` is the key in the file as text. `nbytes` is what the file holds, `used_bytes` what its tensors reach (union of
    their extents), `tensors` how many look into it. `location` is the device tag ("cpu", "cuda:0"), shown and kept,
    never resolved. `crc` is the checksum the container states, None where it states none.
    """

    id: str
    nbytes: int
    used_bytes: int
    tensors: int
    location: str | None = None
    crc: int | None = None


MOST_ELEMENTS = 2**63 - 1
"""torch counts elements in 64 bits; a shape that claims more is that of no tensor that can be read."""


def elements_in(shape: Sequence[int]) -> int:
    """Number of elements of a shape, at most `MOST_ELEMENTS`, so that sums of them can be compared to shares."""
    return min(math.prod(shape), MOST_ELEMENTS)


class TensorInfo(NamedTuple):
    """One tensor, as the header tells it.

    `shape`, `stride` and `storage_offset` are in elements; `nbytes` is logical (elements x item size). `state_dict` is
    an index into `Checkpoint.state_dicts` or None, `key` the name inside it. `storage` is a `StorageInfo.id` or None.
    `requires_grad` is None where the container cannot say. `cls` is the raw qualified class name. `quant` holds a
    quantized tensor's scheme. `flags` holds "conj", "neg", and "big-endian" where the file as a whole is not.
    `unreadable` says why its numbers cannot be read, else "". `occurrence` counts from 1 when the same key stands twice
    in one mapping, else 0.
    """

    path: KeyPath
    state_dict: int | None
    key: str | None
    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...] | None
    storage_offset: int | None
    storage: str | None
    nbytes: int
    requires_grad: bool | None
    kind: TensorKind
    cls: str
    location: str | None
    shard: str | None = None
    quant: Mapping[str, Any] | None = None
    flags: tuple[str, ...] = ()
    unreadable: str = ""
    occurrence: int = 0

    @property
    def elements(self) -> int:
        """Number of elements."""
        return elements_in(self.shape)


class ValueInfo(NamedTuple):
    """A leaf that is no tensor. `value` is JSON-ready when exact, else text; `type` is its qualified name."""

    path: KeyPath
    type: str
    value: Any
    occurrence: int = 0


class ObjectInfo(NamedTuple):
    """An inert object: a class that the pickle names and that nobody built. `known`: torch's own list has it."""

    path: KeyPath
    cls: str
    known: bool
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class StateDict:
    """A mapping of tensors inside a checkpoint: what one repairs.

    `keys` are its entries in file order, tensors or not; `tensor_of[i]` is the index into `Checkpoint.tensors` of entry
    i, or -1 for an entry that is no tensor. `parameters` counts the elements of all its tensors, `nbytes` each storage
    once. `is_module` marks a pickled module (keys as torch names them); `read_only` says why keys cannot be edited,
    else "".
    """

    path: KeyPath
    role: Role
    keys: tuple[str, ...]
    tensor_of: Sequence[int]
    parameters: int
    nbytes: int
    is_module: bool = False
    read_only: str = ""

    @property
    def tensors(self) -> int:
        """Number of entries that are tensors."""
        return sum(1 for index in self.tensor_of if index >= 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file this was when it was opened: device, inode, size in bytes, times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Shard(NamedTuple):
    """One file of a checkpoint that lies in several: where it is, and which it was when it was opened.

    `path` is absolute or as the user named the folder. `byte_order` is that of its storages.
    """

    path: str
    identity: Identity
    byte_order: Literal["little", "big"] = "little"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one path holds, header only. `source` belongs to the format that read it and to no one else.

    `identity` is that of the file that was read first; a checkpoint of several files has all of them in `shards`, by
    their names in the folder (none for one that is a single file), and `size` is their sum.
    """

    path: str
    container: str
    size: int
    byte_order: Literal["little", "big"]
    identity: Identity
    writer: Mapping[str, Any] = field(default_factory=dict)
    state_dicts: tuple[StateDict, ...] = ()
    tensors: Sequence[TensorInfo] = ()
    values: Sequence[ValueInfo] = ()
    objects: Sequence[ObjectInfo] = ()
    storages: Mapping[str, StorageInfo] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    shards: Mapping[str, Shard] = field(default_factory=dict)
    source: Any = None
