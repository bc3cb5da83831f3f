"""What the torch formats keep of an opened file, for reading its storages and for writing an edited copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sdviewer.formats.zip_directory import Entry, ZipDirectory
from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import Node, Place


class Packed(NamedTuple):
    """Bytes that have to be unpacked to be a storage (`formats.packed`): `start` to `start + length` of the file.

    `how` is "utf-8" or "raw-unicode-escape" for a text whose characters are the bytes, "string-escape" for a str of
    Python 2, "varint1" to "varint8" for protobuf varints that are elements of so many bytes, and "hdf5" for the dataset
    `name` of the HDF5 file that is there.
    """

    start: int
    length: int
    how: str
    name: str = ""


class StorageSpan(NamedTuple):
    """Where a storage's bytes are: `start` to `start + nbytes` of the file, of a zip `member`, or of what is `packed`.

    `limit` is where the next member or the zip directory begins, before which a member must end. A `packed` place with
    a member counts in the member. `shard` is the name in `Checkpoint.shards` of the file that is meant, "" for a
    checkpoint that is a single file.
    """

    start: int
    nbytes: int
    member: Entry | None = None
    limit: int = 0
    packed: Packed | None = None
    shard: str = ""


def span_from_json(values: list[Any]) -> StorageSpan:
    """A span out of the list that JSON makes of it."""
    start, nbytes, member, limit, packed, shard = values
    member = Entry(*member) if member is not None else None
    return StorageSpan(start, nbytes, member, limit, Packed(*packed) if packed is not None else None, shard)


@dataclass(frozen=True, slots=True)
class MappingSource:
    """Where one state dict stands in the node graph; parallel to `Checkpoint.state_dicts`.

    `node` is the mapping. `places[i]` is the pair of entry i (`StateDict.keys[i]`). `parent` is the pair in which the
    mapping itself stands (None for the root). `metadata` is the mapping node of its `_metadata`, if it has one.

    The places of a pickled module lie in the `_parameters` and `_buffers` dicts of its submodules, those of an
    optimizer in the dicts below `state`; `node` is then the object itself.
    """

    node: Node
    places: tuple[Place, ...]
    parent: Place | None = None
    metadata: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchSource:
    """The graph of the object pickle and where its state dicts are."""

    pickle: Pickle
    mappings: tuple[MappingSource, ...] = field(default=())

    @property
    def storage_keys(self) -> Collection[str]:
        """The keys of all storages that the file has."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchZipSource(TorchSource):
    """A torch zip: its members, and which of them is what.

    `top` is the folder of all members ("archive"; "" where there is none), `separator` what stands behind it ("/", or
    "\\" in an archive that some Windows tool packed again). `object_entry` is `top/data.pkl`. `records` maps a storage
    key to its member `top/data/KEY`. `other_pickles` are the further members whose names end in `.pkl`.
    """

    directory: ZipDirectory
    top: str
    object_entry: Entry
    separator: str = "/"
    records: Mapping[str, Entry] = field(default_factory=dict)
    other_pickles: tuple[Entry, ...] = ()

    @property
    def storage_keys(self) -> Collection[str]:
        """The keys of all storages that the file has."""
        return self.records.keys()

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are."""
        entry = self.records[storage]
        return StorageSpan(0, entry.usize, entry, self.directory.limit_of(entry))


class LegacyStorage(NamedTuple):
    """One storage of a legacy stream: its bytes are `offset` to `offset + nbytes` of the file, after an i64 `numel`."""

    key: str
    offset: int
    nbytes: int
    numel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchLegacySource(TorchSource):
    """A legacy stream: five pickles, then the storages.

    `spans` are the bytes (start, end) of the five pickles in the file: magic, version, sys_info, object, storage keys.
    `pickle` is the object pickle (its `data` begins at `spans[0][0]`). `storages` are in file order; those of a file
    that breaks off have the bytes that are there.
    """

    spans: tuple[tuple[int, int], ...]
    storages: Mapping[str, LegacyStorage] = field(default_factory=dict)

    @property
    def storage_keys(self) -> Collection[str]:
        """The keys of all storages that the file has."""
        return self.storages.keys()

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are."""
        found = self.storages[storage]
        return StorageSpan(found.offset, found.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpansSource(TorchSource):
    """A file of pickles that is shown and not written: a bare pickle, a tar.

    `spans` says where the bytes of each storage are. `root` is the graph with the tensors that stand for the file's
    own, from which another torch file can be written; None where that would not be the whole of it.
    """

    spans: Mapping[str, StorageSpan] = field(default_factory=dict)
    root: Node | None = None

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are."""
        return self.spans[storage]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSource:
    """A zip archive that is shown and not written: TorchScript, torch.package, torch.export.

    `top` is the folder of all members, `pickles` what each pickle that was read became, by the name of its member.
    `mappings` are parallel to `Checkpoint.state_dicts`.
    """

    directory: ZipDirectory
    top: str = ""
    separator: str = "/"
    pickles: Mapping[str, Pickle] = field(default_factory=dict)
    mappings: tuple[MappingSource, ...] = ()
    spans: Mapping[str, StorageSpan] = field(default_factory=dict)

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are."""
        return self.spans[storage]


class SafetensorsTensor(NamedTuple):
    """One entry of a safetensors header: its bytes are `start` to `end` of the file."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsSource:
    """A safetensors file: `header` is the JSON text as it stands behind the eight bytes of its length.

    `header_pairs` are its pairs in file order, duplicates too, as `json` reads them; `tensors` parallel to the one
    state dict's keys, `by_storage` the same by `StorageInfo.id`. `data_start` is the byte at which offset 0 lies.
    """

    header: bytes
    header_pairs: tuple[tuple[str, object], ...]
    tensors: tuple[SafetensorsTensor, ...]
    data_start: int
    by_storage: Mapping[str, SafetensorsTensor] = field(default_factory=dict)

    def span(self, storage: str) -> StorageSpan:
        """Where the bytes of a storage are."""
        found = self.by_storage[storage]
        return StorageSpan(found.start, found.end - found.start)
