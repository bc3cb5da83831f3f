"""Every pickle of a file, for the scan: also those that nothing refers to, and of files that do not open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath

from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.file import File, opened
from sdviewer.formats.numpy_array import MAGIC, object_pickle
from sdviewer.formats.registry import FORMATS
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
        with opened(name) as file:
            head = file.head
            if head.is_zip:
                return list(_members(file))
            if head.is_legacy or head.is_pickle:
                return [_stream(file, _PICKLES_OF_LEGACY if head.is_legacy else 1)]
            if head.start.startswith(MAGIC):
                data = object_pickle(file)
                return [] if data is None else [PickleStream("", data)]
            if any(format_.matches(head) for format_ in FORMATS):
                return []  # one that holds no pickle
            raise refusal(head)
    except SDViewerError as error:
        error.path = error.path or name
        raise


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
