"""torch.distributed.checkpoint: a folder of `.metadata` and data files, also what FSDP and Megatron's torch_dist write.

A data file `__RANK_N.distcp` is a run of whole `torch.save` archives, one for each part of a tensor and for each object
that is no tensor; `.metadata` says which bytes of which file each is. Opening reads `.metadata` and the objects. A
tensor's own archives are looked into when its numbers are asked for (`sdviewer.formats.assembly`).

Facts: torch 2.13 `torch.distributed.checkpoint`, measured (docs/formats.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sdviewer.core.checkpoint import (
    Checkpoint,
    Shard,
    StorageInfo,
    TensorInfo,
    ValueInfo,
)
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, Step, TypedStep, dotted
from sdviewer.core.progress import Progress
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.core.text import visible
from sdviewer.errors import SDViewerError
from sdviewer.formats.assembly import Assembly, Box, open_range, range_file
from sdviewer.formats.dcp_metadata import DcpMetadata, Sizes, StoredAt, StoredTensor, read_metadata
from sdviewer.formats.file import File, opened
from sdviewer.formats.shards import (
    JoinedStateDict,
    Rows,
    ShardProblems,
    UnsafeNameError,
    shard_path,
    total_size,
)
from sdviewer.formats.sniff import Head, is_dcp_metadata
from sdviewer.formats.torch_objects import role_of
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.torch_tensors import layout_of

_LARGE = 1 << 16
"""Bytes of a `.metadata` below which the machine is quick enough."""

_DEEPEST = 64
"""Steps of a path; a longer one is no place in anybody's state dict."""

_MOST_LOOSE_PARTS = 300
"""Parts of one tensor that are compared each with each where they do not tile it dimension by dimension."""

_MOST_COMPARED = 3_000_000
"""Comparisons of that kind for all tensors together."""

_new = tuple.__new__


class Dcp:
    """The format object."""

    name = "torch distributed checkpoint"
    containers = ("dcp",)
    suffixes = (".metadata",)
    can_write = False

    def matches(self, head: Head) -> bool:
        return is_dcp_metadata(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read `.metadata`, look which of its files are there, and read the objects in them."""
        data = file.read(0, file.size)
        metadata = _read_quickly(data, progress) if len(data) >= _LARGE else None
        metadata = metadata or read_metadata(data, progress)
        folder, name = os.path.split(file.path)
        return DcpReading(file.path, folder, metadata, {name: Shard(file.path, file.identity)}).checkpoint(progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class DcpSource:
    """Where each storage of a distributed checkpoint is.

    `tensors` maps the id of a storage to the tensor that is all of it, `inside` to where the storage of a tensor inside
    a pickled object is. `files` are the names of the data files; `whole` says of those whose tensors are in one
    safetensors file, instead of an archive each, where that begins and how long it is.
    """

    tensors: Mapping[str, StoredTensor]
    files: frozenset[str]
    places: Mapping[tuple[str, Sizes | None], StoredAt]
    inside: Mapping[str, Assembly] = field(default_factory=dict)
    whole: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def span(self, storage: str) -> Assembly:
        """The parts of the tensor that is this storage."""
        found = self.inside.get(storage)
        if found is not None:
            return found
        tensor = self.tensors[storage]
        boxes = []
        for offsets, sizes in tensor.chunks:
            at = self.places[tensor.fqn, offsets]
            start, length = self.whole.get(at.file, (at.offset, at.length))
            boxes.append(Box(at.file, start, length, offsets, sizes, name=tensor.fqn))
        return Assembly(tensor.size, DTYPES[tensor.dtype].itemsize, tensor.dtype, tuple(boxes))


class _Mapping:
    """A mapping or list of the state dict that was saved, as the paths tell it; a leaf is None."""

    __slots__ = ("holds_tensors", "steps")

    def __init__(self) -> None:
        self.steps: dict[Step, _Mapping | None] = {}
        self.holds_tensors = False

    def open(self, step: Step) -> _Mapping:
        """What stands below a step that was seen for the first time, or as a leaf."""
        made = self.steps[step] = _Mapping()
        return made


@dataclass(slots=True)
class _Owner(JoinedStateDict):
    """A state dict that is being read; `others` are its entries that are no tensors and have been seen."""

    others: set[str] = field(default_factory=set)


class DcpReading:
    """What describes a distributed checkpoint, on its way to one. `shards` are the files that were read for it."""

    def __init__(self, path: str, folder: str, metadata: DcpMetadata, shards: dict[str, Shard]) -> None:
        self.path = path
        self.folder = folder
        self.metadata = metadata
        self.problems = ShardProblems()
        self.shards = shards
        self.sizes: dict[str, int] = {}
        self.whole: dict[str, tuple[int, int]] = {}
        self.unread: dict[str, str] = {}
        self.rows = Rows()
        self.stored: dict[str, StoredTensor] = {}
        self.inside: dict[str, Assembly] = {}
        self.owners: dict[KeyPath, _Owner] = {}
        self.compared = 0
        self.layouts: dict[tuple[str, Sizes], tuple[Sizes, int, int, str]] = {}

    def checkpoint(self, progress: Progress) -> Checkpoint:
        """Its rows, with what is wrong with them."""
        identity = next(iter(self.shards.values())).identity
        self._look_at_files()
        paths = self._paths()
        self._find_owners(paths)
        self.rows.before = len(self.owners)
        objects = []
        for n, entry in enumerate(self.metadata.entries):
            if n % 4096 == 4095:
                progress(n, len(self.metadata.entries))
            if type(entry) is StoredTensor:
                self._tensor(entry, paths[n])
            elif isinstance(entry, str):
                self._place_object(paths[n])
                objects.append((entry, paths[n]))
        self._read_objects(objects, progress)
        return Checkpoint(
            path=self.path,
            container="dcp",
            size=total_size(self.shards),
            byte_order="little",
            identity=identity,
            writer={"version": self.metadata.version} if self.metadata.version is not None else {},
            state_dicts=(*[owner.finish() for owner in self.owners.values()], *self.rows.state_dicts),
            tensors=tuple(self.rows.tensors),
            values=tuple(self.rows.values),
            objects=tuple(self.rows.objects),
            storages=self.rows.storages,
            problems=self.problems.all(),
            shards=self.shards,
            source=DcpSource(
                tensors=self.stored,
                files=frozenset(self.sizes),
                places=self.metadata.places,
                inside=self.inside,
                whole=self.whole,
            ),
        )

    # The files

    def _look_at_files(self) -> None:
        """Which of the named files are there, and how large they are."""
        counts: dict[str, int] = {}
        first: dict[str, int] = {}
        for (_, offsets), place in self.metadata.places.items():
            counts[place.file] = counts.get(place.file, 0) + 1
            if offsets is not None:
                first[place.file] = min(place.offset, first.get(place.file, place.offset))
        for name, n in sorted(counts.items()):
            try:
                path = shard_path(self.folder, name)
                with opened(path) as file:
                    self.sizes[name] = file.size
                    self.shards[name] = Shard(path, file.identity)
                    at = first.get(name, 0)
                    # Written as safetensors, the tensors of a file are one safetensors file behind its objects.
                    if 0 <= at < file.size and range_file(file, at, file.size - at).head.is_safetensors:
                        self.whole[name] = (at, file.size - at)
            except UnsafeNameError as error:
                self.unread[name] = self.problems.unsafe(name, error, n)
            except SDViewerError as error:
                self.unread[name] = self.problems.not_read(name, error, n)

    # Paths and state dicts

    def _paths(self) -> list[KeyPath]:
        """The path of each entry: what the planner noted, else its name as one key."""
        known = self.metadata.paths
        made: list[KeyPath] = []
        for entry in self.metadata.entries:
            fqn = entry if isinstance(entry, str) else entry[0]
            steps: Sequence[str | int] = known.get(fqn) or (fqn,)
            if len(steps) > _DEEPEST:
                steps = (fqn,)
            made.append(tuple([step if isinstance(step, str) else TypedStep("index", str(step)) for step in steps]))
        return made

    def _find_owners(self, paths: list[KeyPath]) -> None:
        """The state dicts: what holds tensors under str keys, and mappings of the shape of an optimizer's."""
        root = _Mapping()
        for entry, path in zip(self.metadata.entries, paths, strict=True):
            node = root
            for step in path[:-1]:
                node = node.steps.setdefault(step, None) or node.open(step)
            node.steps.setdefault(path[-1], None)
            node.holds_tensors |= type(entry) is StoredTensor and isinstance(path[-1], str)
        todo: list[tuple[KeyPath, _Mapping]] = [((), root)]
        while todo:
            path, node = todo.pop()
            if "state" in node.steps and "param_groups" in node.steps:
                self.owners[path] = _Owner(len(self.owners), path, "optimizer")
                continue
            if node.holds_tensors:
                names = [step if isinstance(step, str) else None for step in node.steps]
                self.owners[path] = _Owner(len(self.owners), path, role_of(path, names))
            inner = [((*path, step), below) for step, below in node.steps.items() if below is not None]
            todo.extend(reversed(inner))

    def _owner(self, path: KeyPath) -> tuple[_Owner | None, str]:
        """The state dict that an entry stands in, and its key there."""
        above = self.owners.get(path[:-1])
        if above is not None and above.role != "optimizer":
            last = path[-1]
            return (above, last) if isinstance(last, str) else (None, "")
        for depth in range(len(path) - 1, -1, -1):
            above = self.owners.get(path[:depth])
            if above is not None and above.role == "optimizer":
                return above, dotted(path[depth:])
        return None, ""

    def _place_object(self, path: KeyPath) -> None:
        """An object is an entry of its state dict too, though no tensor."""
        for depth in range(len(path) - 1, -1, -1):
            owner = self.owners.get(path[:depth])
            if owner is not None:
                key = path[depth]
                if owner.role != "optimizer" and isinstance(key, str) and key not in owner.others:
                    owner.others.add(key)
                    owner.keys.append(key)
                    owner.tensor_of.append(-1)
                return

    # Tensors

    def _tensor(self, stored: StoredTensor, path: KeyPath) -> None:
        layout = self.layouts.get((stored.dtype, stored.size))
        if layout is None:
            layout = self.layouts[stored.dtype, stored.size] = _layout(stored)
        stride, elements, nbytes, problem = layout
        shard, why = self._where(stored)
        unreadable = stored.problem or problem or why
        if unreadable:
            self.problems.add_problem("error", "tensor_unreadable", unreadable, stored.fqn)
        owner, key = self._owner(path)
        row = len(self.rows.tensors)
        storage = self.rows.new_id(f"{shard}/{stored.fqn}" if shard else stored.fqn)
        self.rows.storages[storage] = _new(
            StorageInfo, (storage, nbytes if not unreadable else 0, nbytes if not unreadable else 0, 1, None, None)
        )
        self.stored[storage] = stored
        if owner is not None:
            owner.keys.append(key)
            owner.tensor_of.append(row)
            owner.parameters += elements
            owner.nbytes += nbytes if not unreadable else 0
        self.rows.tensors.append(
            _new(
                TensorInfo,
                (
                    path, None if owner is None else owner.index, None if owner is None else key, stored.size,
                    stored.dtype, stride, 0, storage, nbytes, stored.requires_grad, "tensor", "torch.Tensor", None,
                    shard or None, None, (), unreadable, 0,
                ),
            )
        )  # fmt: skip

    def _where(self, stored: StoredTensor) -> tuple[str, str]:
        """The file that all of a tensor lies in ("" for several), and why it cannot be read."""
        places, sizes = self.metadata.places, self.sizes
        shard = None
        for offsets, _ in stored.chunks:
            at = places.get((stored.fqn, offsets))
            if at is None:
                return "", f"the metadata do not say where its part at {list(offsets)} is"
            shard = at.file if shard in (None, at.file) else ""
            size = sizes.get(at.file)
            if size is None:
                return shard or "", self.unread[at.file]
            if at.transforms:
                return shard or "", f"its bytes went through {visible(at.transforms, 80)}, which sdviewer does not undo"
            if at.file not in self.whole and (at.offset < 0 or at.length < 0 or at.offset + at.length > size):
                end = at.offset + at.length
                return shard or "", f"it is said to end at byte {end:,} of {visible(at.file, 80)}, which has {size:,}"
        if len(stored.chunks) == 1:
            offsets, part = stored.chunks[0]
            if part == stored.size and not any(offsets):
                return shard or "", ""
        return shard or "", self._why_not_whole(stored)

    def _why_not_whole(self, stored: StoredTensor) -> str:
        """Why the parts are not exactly the whole tensor, "" where they are."""
        total = volume = 1
        for size in stored.size:
            total *= size
        parts = 0
        for offsets, sizes in stored.chunks:
            volume = 1
            for at, size, limit in zip(offsets, sizes, stored.size, strict=True):
                if at < 0 or size < 0 or at + size > limit:
                    return f"its part at {list(offsets)} lies outside of it"
                volume *= size
            parts += volume
        if parts < total:
            return f"its parts have {parts:,} of its {total:,} elements"
        boxes = [(offsets, sizes) for offsets, sizes in stored.chunks if 0 not in sizes]
        if parts > total:
            return "its parts overlap"
        if _tiles(boxes, 0, stored.size):
            return ""
        self.compared += len(boxes) ** 2 // 2
        if len(boxes) > _MOST_LOOSE_PARTS or self.compared > _MOST_COMPARED:
            return "there are too many parts, in no order, to see whether they overlap"
        return "" if _apart(boxes) else "its parts overlap"

    # Objects that are no tensors

    def _read_objects(self, objects: list[tuple[str, KeyPath]], progress: Progress) -> None:
        """Unpickle none of them: each archive is read like a file of its own."""
        places = self.metadata.places
        todo: dict[str, list[tuple[str, KeyPath, StoredAt]]] = {}
        for fqn, path in objects:
            at = places.get((fqn, None))
            if at is None:
                self._no_object(path, "the metadata do not say where it is")
            elif at.file in self.unread:
                self._no_object(path, self.unread[at.file])
            else:
                todo.setdefault(at.file, []).append((fqn, path, at))
        done: list[tuple[KeyPath, Checkpoint, str, StoredAt]] = []
        for name, entries in todo.items():
            with opened(self.shards[name].path) as file:
                for n, (fqn, path, at) in enumerate(sorted(entries, key=lambda entry: entry[2].offset)):
                    if n % 64 == 63:
                        progress(n, len(entries))
                    try:
                        found = open_range(range_file(file, at.offset, at.length))
                        done.append((path, found, fqn, at))
                    except SDViewerError as error:
                        self._no_object(path, error.message)
        order = {path: n for n, (_, path) in enumerate(objects)}
        for path, found, fqn, at in sorted(done, key=lambda item: order[item[0]]):
            self._object(path, found, fqn, at)

    def _no_object(self, path: KeyPath, why: str) -> None:
        self.problems.add_problem("error", "object_unreadable", why, dotted(path))
        self.rows.values.append(ValueInfo(path, "builtins.object", f"it cannot be read: {why}"))

    def _object(self, path: KeyPath, found: Checkpoint, fqn: str, at: StoredAt) -> None:
        """The rows of one object, below its own path."""
        self.problems.from_shard(fqn, found.problems)
        for inner, made in self.rows.add(found, path, at.file, f"{at.file}/{fqn}").items():
            nbytes = found.storages[inner].nbytes
            span: StorageSpan | None = found.source.span(inner) if nbytes else None
            box = Box(at.file, at.offset, at.length, (0,), (nbytes,), span)
            self.inside[made] = Assembly((nbytes,), 1, "", (box,) if span is not None else ())


def _read_quickly(data: bytes, progress: Progress) -> DcpMetadata | None:
    # Its expressions take longer to compile than a small file to read.
    from sdviewer.formats.dcp_records import read_records

    return read_records(data, progress)


def _layout(stored: StoredTensor) -> tuple[Sizes, int, int, str]:
    """Row-major stride, elements, bytes, and what is wrong with them."""
    if stored.problem:
        return (), 0, 0, stored.problem
    if len(stored.size) > 64 or any(size < 0 or size >= 1 << 63 for size in stored.size):
        return (), 0, 0, "its sizes make no sense"
    layout = layout_of(stored.dtype, stored.size, None)
    return contiguous_stride(stored.size), layout.numel, layout.nbytes, layout.problem


def _tiles(boxes: Sequence[tuple[Sizes, Sizes]], dim: int, size: Sizes) -> bool:
    """Whether boxes tile a tensor dimension by dimension, as every mesh of processes cuts it."""
    if dim == len(size) or not boxes:
        return len(boxes) == 1
    slabs: dict[tuple[int, int], list[tuple[Sizes, Sizes]]] = {}
    for box in boxes:
        slabs.setdefault((box[0][dim], box[1][dim]), []).append(box)
    reached = 0
    for (at, length), inside in sorted(slabs.items(), key=itemgetter(0)):
        if at != reached or not _tiles(inside, dim + 1, size):
            return False
        reached = at + length
    return reached == size[dim]


def _apart(boxes: Sequence[tuple[Sizes, Sizes]]) -> bool:
    """Whether no two boxes share an element."""
    return not any(_overlap(box, other) for box, other in _pairs(boxes))


def _pairs(boxes: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            yield box, other


def _overlap(box: tuple[Sizes, Sizes], other: tuple[Sizes, Sizes]) -> bool:
    return all(
        at < at2 + size2 and at2 < at + size
        for at, size, at2, size2 in zip(box[0], box[1], other[0], other[1], strict=True)
    )
