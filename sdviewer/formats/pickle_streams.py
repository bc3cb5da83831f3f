"""Every pickle of a file, for the scan: also those that nothing refers to, and of files that do not open.

Of a checkpoint of several files, every pickle of each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike, fspath

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, OpenError, SDViewerError
from sdviewer.formats.assembly import range_file
from sdviewer.formats.dcp import Dcp, DcpSource
from sdviewer.formats.file import File, opened
from sdviewer.formats.folder import METADATA
from sdviewer.formats.hf_index import HfIndex
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.sniff import refusal
from sdviewer.formats.zip_directory import Entry, read_member

LONGEST = 1 << 32
"""Bytes of a member beyond which it is not taken for a pickle."""

_PICKLES_OF_LEGACY = 5


@dataclass(frozen=True, slots=True)
class PickleStream:
    """`data` begins with `pickles` pickles, one behind the other. `loaded`: `torch.load` reads them.

    `broken` says why the bytes could not be had ("" when they could); then `data` is empty.
    """

    name: str
    data: bytes
    pickles: int = 1
    loaded: bool = False
    broken: str = ""


def pickle_streams(path: str | PathLike[str], *, progress: Progress = no_progress) -> list[PickleStream]:
    """The pickles of the file at `path`; none for a format that holds none.

    Raises:
        OpenError: it is not a checkpoint, or cannot be read.
    """
    name = fspath(path)
    try:
        if os.path.isdir(name):  # noqa: PTH112
            found = _set_of_files(name, progress)
            if isinstance(found, Checkpoint):
                return list(_of_all_files(found, progress))
            name = found
        with opened(name) as file:
            head = file.head
            if Dcp().matches(head) or HfIndex().matches(head):
                found = _set_of_files(name, progress)
                if isinstance(found, Checkpoint):
                    return list(_of_all_files(found, progress))
            if head.is_zip:
                return list(_members(file))
            if head.is_legacy or head.is_pickle:
                return [_stream(file, _PICKLES_OF_LEGACY if head.is_legacy else 1)]
            if head.is_safetensors:
                return []
            raise refusal(head)
    except SDViewerError as error:
        error.path = error.path or name
        raise


def _set_of_files(path: str, progress: Progress) -> Checkpoint | str:
    """The checkpoint of several files at `path`; else the one file that is meant.

    A `.metadata` that cannot be made sense of is a pickle all the same, and what it would run is asked here.

    Raises:
        OpenError: there is no file to look at.
    """
    try:
        checkpoint = open_checkpoint(path, progress=progress)
    except OpenError:
        metadata = os.path.join(path, METADATA)  # noqa: PTH118
        if os.path.isfile(metadata):  # noqa: PTH113
            return metadata
        if os.path.isfile(path) and not path.endswith(".json"):  # noqa: PTH113
            return path
        raise
    return checkpoint if checkpoint.shards else checkpoint.path


def _of_all_files(checkpoint: Checkpoint, progress: Progress) -> Iterator[PickleStream]:
    """The pickles of every file of a checkpoint of several, each with its file's name before its own."""
    for n, (name, shard) in enumerate(checkpoint.shards.items()):
        progress(n, len(checkpoint.shards))
        try:
            with opened(shard.path) as file:
                if HfIndex().matches(file.head):
                    continue
                source = checkpoint.source
                if isinstance(source, DcpSource) and name in source.files:
                    streams = list(_archives(file, name, source))
                elif isinstance(source, DcpSource):
                    # Loaded, and by a loader without any list of names: but not by torch.load.
                    streams = [replace(_stream(file, 1), loaded=False)]
                else:
                    streams = pickle_streams(shard.path, progress=progress)
        except OpenError as error:
            streams = [PickleStream("", b"", loaded=True, broken=error.message)]
        for stream in streams:
            yield replace(stream, name=f"{name}: {stream.name}" if stream.name else name)
    for problem in checkpoint.problems:
        if problem.code in ("missing_shard", "unsafe_shard", "shard_unreadable"):
            yield PickleStream(problem.where, b"", loaded=True, broken=problem.message)


def _archives(file: File, name: str, source: DcpSource) -> Iterator[PickleStream]:
    """The pickles of the archives that stand one behind the other in a data file of a distributed checkpoint."""
    if file.head.is_safetensors:
        return
    for at in sorted({place for place in source.places.values() if place.file == name}):
        where = f"byte {at.offset}"
        try:
            part = range_file(file, at.offset, at.length)
            if part.head.is_zip:
                found = list(_members(part))
            else:
                legacy = _PICKLES_OF_LEGACY if part.head.is_legacy else 1
                found = [PickleStream("", part.read(0, min(part.size, LONGEST)), legacy, loaded=True)]
        except OpenError as error:
            found = [PickleStream("", b"", loaded=True, broken=error.message)]
        for stream in found:
            yield replace(stream, name=f"{where}, {stream.name}" if stream.name else where)


def _members(file: File) -> Iterator[PickleStream]:
    """The members of an archive that are pickles by their name or by their first bytes, storages apart."""
    directory = file.head.directory
    main = directory.find(f"{directory.top}/data.pkl") or directory.find("data.pkl")
    for entry in directory.entries:
        if entry.name.lower().endswith((".pkl", ".pickle")) or (not _is_storage(entry) and _begins(file, entry)):
            try:
                data, broken = read_member(file, directory, entry, LONGEST), ""
            except CorruptCheckpoint as error:
                data, broken = b"", error.message
            yield PickleStream(entry.name, data, loaded=entry is main, broken=broken)


def _is_storage(entry: Entry) -> bool:
    """Whether a member is raw numbers by its place: `TOP/data/KEY`, `TOP/constants/KEY`, `*.storage`."""
    folder, _, name = entry.name.rpartition("/")
    return (folder.endswith(("data", "constants")) and name.isdigit()) or name.endswith((".storage", ".npy"))


def _begins(file: File, entry: Entry) -> bool:
    """Whether a member begins with PROTO and a protocol that exists."""
    try:
        start = read_member(file, file.head.directory, entry, LONGEST)[:2]
    except CorruptCheckpoint:
        return False
    return len(start) == 2 and start[0] == 0x80 and start[1] <= 5


def _stream(file: File, pickles: int) -> PickleStream:
    """The pickles at the beginning of a file, up to its end: how long they are is known when they have been read."""
    return PickleStream("", file.read(0, min(file.size, LONGEST)), pickles, loaded=True)
