"""The rows of a container that is one flat list of named tensors, each with bytes of its own (npz, GGUF, ONNX, HDF5).

These containers are read and not written: what they hold beside tensors, and how, is another program's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sdviewer.core.checkpoint import (
    Checkpoint,
    ObjectInfo,
    Problem,
    Role,
    Severity,
    Shard,
    StateDict,
    StorageInfo,
    TensorInfo,
    TensorKind,
    ValueInfo,
)
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, dotted
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.core.text import visible
from sdviewer.formats.file import File
from sdviewer.formats.torch_source import StorageSpan

_new = tuple.__new__

_SAME_PROBLEM = 100
"""Problems of one code that are told one by one."""

LARGEST = (1 << 63) - 1
"""torch counts elements in 64 bits."""

Owner: TypeAlias = tuple[KeyPath, Role]
"""Path and role of the state dict that a tensor is an entry of."""

ROOT: Owner = ((), "model")


@dataclass(frozen=True, slots=True)
class NamedTensorsSource:
    """Where the bytes of each storage are."""

    spans: Mapping[str, StorageSpan] = field(default_factory=dict)

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are."""
        return self.spans[storage]


@dataclass(slots=True)
class _Owner:
    index: int
    path: KeyPath
    role: Role
    rows: list[int] = field(default_factory=list)
    of_key: dict[str, list[int]] = field(default_factory=dict)


def elements_of(shape: Iterable[int]) -> int | None:
    """Product of the sizes; None beyond what an int64 counts."""
    n, none = 1, False
    for size in shape:
        none = none or size == 0
        n = min(n * max(size, 1), LARGEST + 1)
    return 0 if none else None if n > LARGEST else n


class NamedTensors:
    """Rows under construction."""

    def __init__(self, file: File, container: str) -> None:
        self.file = file
        self.container = container
        self.tensors: list[TensorInfo] = []
        self.values: list[ValueInfo] = []
        self.objects: list[ObjectInfo] = []
        self.problems: list[Problem] = []
        self.writer: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.shards: dict[str, Shard] = {}
        self._spans: dict[str, StorageSpan] = {}
        self._storages: dict[str, StorageInfo] = {}
        self._owners: dict[KeyPath, _Owner] = {}
        self._names: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._strides: dict[tuple[int, ...], tuple[int, ...] | None] = {}

    def add(
        self,
        path: KeyPath,
        shape: tuple[int, ...],
        dtype: str,
        nbytes: int,
        span: StorageSpan | None,
        *,
        state_dict: Owner | None = ROOT,
        stride: tuple[int, ...] | None = None,
        unreadable: str = "",
        flags: tuple[str, ...] = (),
        kind: TensorKind = "tensor",
        quant: Mapping[str, Any] | None = None,
        storage: str | None = None,
        shard: str | None = None,
        cls: str = "torch.Tensor",
    ) -> None:
        """One tensor: `shape` in elements (`nbytes` is what they take), row-major unless `stride` says otherwise.

        `span` is where its bytes are, None where it has none of its own. `state_dict` is the path and the role of the
        state dict that it is an entry of. `storage` names one that was added before and that it shares, `shard` the
        file of `shards` in which its bytes are.
        """
        name = dotted(path)
        key: str | None = None
        occurrence = 0
        index: int | None = None
        if state_dict is not None:
            key = dotted(path[len(state_dict[0]) :]) if state_dict[0] else name
            owner = self._owners.get(state_dict[0])
            if owner is None:
                owner = self._owners[state_dict[0]] = _Owner(len(self._owners), *state_dict)
            index = owner.index
            owner.rows.append(len(self.tensors))
            occurrence = self._occurrence(owner, key)
        if storage is not None:
            shared = self._storages[storage]
            self._storages[storage] = shared._replace(tensors=shared.tensors + 1)
        elif span is not None:
            storage = self._storage_name(name)
            self._spans[storage] = span
            self._storages[storage] = StorageInfo(storage, span.nbytes, 0 if unreadable else span.nbytes, 1)
        if unreadable:
            self.problem("error", "tensor_unreadable", unreadable, visible(name))
        if stride is None and kind != "sparse":
            stride = self._stride(shape)
        offset = 0 if kind != "sparse" else None
        row = (path, index, key, shape, dtype, stride, offset, storage, nbytes, None, kind, cls, None)
        self.tensors.append(_new(TensorInfo, (*row, shard, quant, flags, unreadable, occurrence)))

    def value(self, path: KeyPath, value: Any, type_: str = "") -> None:
        """A leaf that is no tensor."""
        self.values.append(ValueInfo(path, type_ or f"builtins.{type(value).__name__}", value))

    def problem(self, severity: Severity, code: str, message: str, where: str = "") -> None:
        """Something odd; the hundred-and-first of its kind and those behind it are only counted."""
        n = self._counts[code] = self._counts.get(code, 0) + 1
        if n <= _SAME_PROBLEM:
            self.problems.append(Problem(severity, code, message, where))

    def checkpoint(self, byte_order: Literal["little", "big"] = "little") -> Checkpoint:
        """What was added."""
        problems = list(self.problems)
        for code, n in self._counts.items():
            if n > _SAME_PROBLEM:
                problems.append(Problem("info", code, f"{n - _SAME_PROBLEM:,} more of this kind", ""))
        return Checkpoint(
            path=self.file.path,
            container=self.container,
            size=self.file.size + sum({shard.identity: shard.identity.size for shard in self.shards.values()}.values()),
            byte_order=byte_order,
            identity=self.file.identity,
            writer=self.writer,
            state_dicts=tuple([self._state_dict(owner) for owner in self._owners.values()]),
            tensors=tuple(self.tensors),
            values=tuple(self.values),
            objects=tuple(self.objects),
            storages=self._storages,
            metadata=self.metadata,
            problems=tuple(problems),
            shards=self.shards,
            source=NamedTensorsSource(self._spans),
        )

    def _occurrence(self, owner: _Owner, key: str) -> int:
        """Which one of its name the next tensor is, 0 for the only one; the first is told when the second comes."""
        rows = owner.of_key.get(key)
        if rows is None:
            owner.of_key[key] = [len(self.tensors)]
            return 0
        rows.append(len(self.tensors))
        if len(rows) == 2:
            self.tensors[rows[0]] = self.tensors[rows[0]]._replace(occurrence=1)
            self.problem("warning", "duplicate_key", "the name stands there twice", visible(key))
        return len(rows)

    def _storage_name(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        found = name
        while found in self._storages:
            n = self._names[name] = self._names.get(name, 1) + 1
            found = f"{name}#{n}"
        return found

    def _stride(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The row-major stride, None where it cannot be counted; worked out once a shape."""
        if shape not in self._strides:
            countable = elements_of([max(size, 1) for size in shape]) is not None
            self._strides[shape] = contiguous_stride(shape) if countable else None
        return self._strides[shape]

    def _state_dict(self, owner: _Owner) -> StateDict:
        rows = [self.tensors[row] for row in owner.rows]
        storages = {row.storage for row in rows if row.storage is not None}
        return StateDict(
            path=owner.path,
            role=owner.role,
            keys=tuple([row.key or "" for row in rows]),
            tensor_of=tuple(owner.rows),
            parameters=sum(row.elements for row in rows),
            nbytes=sum(self._storages[storage].nbytes for storage in storages),
            read_only=f"{self.container} files are read and not written",
        )


def stored_bytes(dtype: str, elements: int) -> int:
    """Bytes that so many elements of one of torch's types take."""
    known = DTYPES[dtype]
    return -(-elements * known.itemsize // known.per_byte)
