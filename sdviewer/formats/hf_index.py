"""Hugging Face indexes: a JSON file that says in which file of the folder each tensor lies.

    {"metadata": {"total_size": bytes}, "weight_map": {key: name of a file beside the index}}

`model.safetensors.index.json`, `pytorch_model.bin.index.json`, and the same with a variant in the name. The index and
the files are compared: a key that its file lacks, a key that the index does not name, a file that is not there are
problems with their places, and everything else is shown.

Facts: what transformers 5.23 and diffusers write and read (docs/formats.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sdviewer.core.checkpoint import Checkpoint, Role, Shard, StorageInfo, TensorInfo
from sdviewer.core.paths import KeyPath
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.file import File, identity_of
from sdviewer.formats.shards import (
    JoinedStateDict,
    ShardProblems,
    UnsafeNameError,
    open_shard,
    shard_of,
    shard_path,
    total_size,
)
from sdviewer.formats.sniff import Head, is_index
from sdviewer.formats.torch_source import StorageSpan

_LARGEST_INDEX = 1 << 30
"""Bytes of an index: ten million keys."""

_new = tuple.__new__


class HfIndex:
    """The format object."""

    name = "Hugging Face index"
    containers = ("hf-index",)
    suffixes = (".json",)
    can_write = True

    def matches(self, head: Head) -> bool:
        return is_index(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the index and the headers of its files."""
        metadata, weight_map, twice = _read_index(file)
        reading = _Reading(file, weight_map)
        for key in twice:
            reading.problems.add_problem("warning", "duplicate_key", "the index names the key twice", key)
        return reading.checkpoint(metadata, progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class HfIndexSource:
    """Where each storage of an index's files is: `places` maps its id to a file's name and its id there."""

    places: Mapping[str, tuple[str, str]]
    sources: Mapping[str, Any]

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are, and in which file."""
        name, inner = self.places[storage]
        return cast("StorageSpan", self.sources[name].span(inner)._replace(shard=name))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its pairs in order, duplicates too."""


def _read_index(file: File) -> tuple[Mapping[str, Any], dict[str, str], list[str]]:
    """The index's metadata, its weight map, and the keys that stand in it twice."""
    if file.size > _LARGEST_INDEX:
        raise CorruptCheckpoint(f"an index of {file.size:,} bytes is none", path=file.path, code="too_large")
    try:
        index = json.loads(file.read(0, file.size).decode("utf-8-sig"), object_pairs_hook=_Pairs)
    except RecursionError:
        raise CorruptCheckpoint("the index is nested too deeply", path=file.path, code="too_deep") from None
    except ValueError as error:
        raise CorruptCheckpoint(f"the index is not JSON: {visible(str(error), 120)}", path=file.path) from None
    fields = dict(index) if isinstance(index, _Pairs) else {}
    pairs = fields.get("weight_map")
    if not isinstance(pairs, _Pairs):
        raise CorruptCheckpoint("the index has no weight_map of keys and file names", path=file.path)
    weight_map = {}
    twice = []
    for key, name in pairs:
        if not isinstance(name, str):
            message = f"the index names no file for {visible(key, 80)}"
            raise CorruptCheckpoint(message, path=file.path, key=key)
        if key in weight_map:
            twice.append(key)
        weight_map[key] = name
    metadata = _plain(fields.get("metadata"))
    return metadata if isinstance(metadata, dict) else {}, weight_map, twice


def _plain(value: Any) -> Any:
    """JSON objects as dicts again."""
    if isinstance(value, _Pairs):
        return {key: _plain(item) for key, item in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


class _Reading:
    """One index on its way to a checkpoint."""

    def __init__(self, file: File, weight_map: Mapping[str, str]) -> None:
        self.file = file
        self.folder = os.path.dirname(file.path)  # noqa: PTH120  "" stays ""
        self.weight_map = weight_map
        self.keys_of: dict[str, list[str]] = {}
        for key, name in weight_map.items():
            self.keys_of.setdefault(name, []).append(key)
        self.problems = ShardProblems()
        self.shards: dict[str, Shard] = {
            os.path.basename(file.path): Shard(file.path, file.identity)  # noqa: PTH119
        }
        self.opened: dict[str, Checkpoint] = {}
        self.unread: dict[str, str] = {}
        self.tensors: list[TensorInfo] = []
        self.storages: dict[str, StorageInfo] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self.merged: dict[KeyPath, JoinedStateDict] = {}

    def checkpoint(self, metadata: Mapping[str, Any], progress: Progress) -> Checkpoint:
        self._open_shards(progress)
        root = self._state_dict((), "model")
        for name in sorted(self.keys_of):
            if name in self.opened:
                self._add(name, self.opened[name])
            self._missing(name, root)
        self._compare(root)
        opened = self.opened.values()
        return Checkpoint(
            path=self.file.path,
            container="hf-index",
            size=total_size(self.shards),
            byte_order="big" if opened and all(shard.byte_order == "big" for shard in opened) else "little",
            identity=self.file.identity,
            writer={"shards": len(self.keys_of)},
            state_dicts=tuple([merged.finish() for merged in self.merged.values()]),
            tensors=tuple(self.tensors),
            values=tuple([value for shard in opened for value in shard.values]),
            objects=tuple([found for shard in opened for found in shard.objects]),
            storages=self.storages,
            metadata={"index": metadata, **_shared_metadata(self.opened)},
            problems=self.problems.all(),
            shards=self.shards,
            source=HfIndexSource(
                places=self.places, sources={name: shard.source for name, shard in self.opened.items()}
            ),
        )

    def _open_shards(self, progress: Progress) -> None:
        seen: dict[tuple[int, int], str] = {}
        for n, name in enumerate(sorted(self.keys_of)):
            progress(n, len(self.keys_of))
            keys = len(self.keys_of[name])
            try:
                path = shard_path(self.folder, name)
                # A thousand names of one file would be a thousand times its header.
                which = _which(path)
                other = seen.setdefault(which, name) if which is not None else name
                if other != name:
                    raise CorruptCheckpoint(f"it is the same file as {visible(other, 200)}")
                checkpoint = open_shard(path, progress)
            except UnsafeNameError as error:
                self.unread[name] = self.problems.unsafe(name, error, keys)
            except SDViewerError as error:
                self.unread[name] = self.problems.not_read(name, error, keys)
            else:
                self.opened[name] = checkpoint
                self.shards[name] = shard_of(path, checkpoint)
                self.problems.from_shard(name, checkpoint.problems)

    def _state_dict(self, path: KeyPath, role: Role) -> JoinedStateDict:
        found = self.merged.get(path)
        if found is None:
            found = self.merged[path] = JoinedStateDict(len(self.merged), path, role)
        return found

    def _add(self, name: str, shard: Checkpoint) -> None:
        """The rows of one file, its storages, and what it has of each state dict."""
        first = len(self.tensors)
        ids = {None: None} | {inner: self._storage(name, storage) for inner, storage in shard.storages.items()}
        owners = []
        for inner in shard.state_dicts:
            merged = self._state_dict(inner.path, inner.role)
            owners.append(merged.index)
            merged.keys.extend(inner.keys)
            merged.tensor_of.extend([first + row if row >= 0 else -1 for row in inner.tensor_of])
            merged.parameters += inner.parameters
            merged.nbytes += inner.nbytes
        for row in shard.tensors:
            owner = None if row[1] is None else owners[row[1]]
            storage = ids.get(row[7])
            self.tensors.append(_new(TensorInfo, (row[0], owner, *row[2:7], storage, *row[8:13], name, *row[14:])))

    def _storage(self, name: str, storage: StorageInfo) -> str:
        made = f"{name}/{storage.id}"
        while made in self.places:  # "a/b" with "c" beside "a" with "b/c"
            made += "#"
        self.places[made] = (name, storage.id)
        self.storages[made] = _new(StorageInfo, (made, *storage[1:]))
        return made

    def _missing(self, name: str, root: JoinedStateDict) -> None:
        """A row for each key that the index promises and its file does not have."""
        why = self.unread.get(name)
        if why is None:
            found = {key for inner in self.opened[name].state_dicts if not inner.path for key in inner.keys}
            keys = [key for key in self.keys_of[name] if key not in found]
            why = f"the index puts it into {visible(name, 200)}, and it is not there"
            for key in keys:
                self.problems.add_problem("error", "missing_key", why, key)
        else:
            keys = self.keys_of[name]
        for key in keys:
            root.keys.append(key)
            root.tensor_of.append(len(self.tensors))
            self.tensors.append(_unreadable(key, root.index, name, why))

    def _compare(self, root: JoinedStateDict) -> None:
        """Keys that files have and the index lacks, and keys that two files have."""
        if len(root.keys) == len(self.weight_map) and self.weight_map.keys() == set(root.keys):
            return
        rows: dict[str, list[int]] = {}
        for row, key in self._rows(root):
            rows.setdefault(key, []).append(row)
        for key, places in rows.items():
            if key not in self.weight_map:
                name = self.tensors[places[0]].shard or ""
                message = f"{visible(name, 200)} holds it, and the index does not name it; loaders may leave it out"
                self.problems.add_problem("warning", "not_in_index", message, key)
            if len(places) > 1 and not any(self.tensors[row].occurrence for row in places):
                self.problems.add_problem("warning", "duplicate_key", "the key stands in two files", key)
                for n, row in enumerate(places, 1):
                    self.tensors[row] = self.tensors[row]._replace(occurrence=n)

    def _rows(self, root: JoinedStateDict) -> Iterator[tuple[int, str]]:
        for key, row in zip(root.keys, root.tensor_of, strict=True):
            if row >= 0:
                yield row, key


def _which(path: str) -> tuple[int, int] | None:
    """Which file a path names, None where there is none."""
    try:
        identity = identity_of(os.stat(path))  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return identity.device, identity.inode


def _unreadable(key: str, state_dict: int, shard: str, why: str) -> TensorInfo:
    """The row of a key of which nothing but its name is known."""
    return TensorInfo(
        path=(key,),
        state_dict=state_dict,
        key=key,
        shape=(),
        dtype="",
        stride=None,
        storage_offset=None,
        storage=None,
        nbytes=0,
        requires_grad=None,
        kind="tensor",
        cls="torch.Tensor",
        location=None,
        shard=shard,
        unreadable=why,
    )


def _shared_metadata(shards: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """What the files' own metadata say: those of safetensors where all agree, else by file; `_metadata` one by one."""
    made: dict[str, Any] = {}
    found = {name: shard.metadata["safetensors"] for name, shard in shards.items() if "safetensors" in shard.metadata}
    if found:
        first = next(iter(found.values()))
        made["safetensors"] = {
            key: text for key, text in first.items() if all(other.get(key) == text for other in found.values())
        }
        if any(other != first for other in found.values()):
            made["shards"] = found
    versions = [
        {**entry, "shard": name} for name, shard in shards.items() for entry in shard.metadata.get("state_dict", ())
    ]
    return made | ({"state_dict": versions} if versions else {})
