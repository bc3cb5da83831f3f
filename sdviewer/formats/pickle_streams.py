"""Every pickle of a file, for the scan: also those that nothing refers to, and of files that do not open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath

from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.file import File, opened
from sdviewer.formats.sniff import refusal
from sdviewer.formats.zip_directory import DEFLATED, Entry, inflate, payload_offset, read_member
from sdviewer.pickles.machine import parse_partial
from sdviewer.pickles.scan import begins_like_a_pickle

LONGEST = 1 << 32
"""Bytes of a member beyond which it is not taken for a pickle."""

_INFLATED = 64 << 20
"""A deflated pickle may always have this many bytes; beyond, at most 20 times the whole file."""

_PICKLES_OF_LEGACY = 5
_START = 4096

_OBJECT_ARRAY = re.compile(rb"'[|<>=]?O\d*'")
"""An object dtype in the header of an `.npy`, by itself or in a field: its data are a pickle."""


@dataclass(frozen=True, slots=True)
class PickleStream:
    """`data` begins with `pickles` pickles, one behind the other; None: one, and whatever follows it like one.

    `loaded`: `torch.load` reads them. `broken` says why the bytes could not be had ("" when they could); then `data` is
    empty.
    """

    name: str
    data: bytes
    pickles: int | None = None
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
                return [_stream(file, _PICKLES_OF_LEGACY if head.is_legacy else None)]
            if head.is_safetensors:
                return []
            raise refusal(head)
    except SDViewerError as error:
        error.path = error.path or name
        raise


def _members(file: File) -> Iterator[PickleStream]:
    """The members of an archive that are pickles by their name or by their first bytes, storages apart."""
    directory = file.head.directory
    main = directory.find(f"{directory.top}/data.pkl") or directory.find("data.pkl")
    for entry in directory.entries:
        named = entry.name.lower().endswith((".pkl", ".pickle"))
        start = b"" if named or _is_storage(entry) else _start(file, entry)
        if named or begins_like_a_pickle(start) or start.startswith(b"\x93NUMPY"):
            try:
                data, broken = read_member(file, directory, entry, _longest(file, entry)), ""
            except CorruptCheckpoint as error:
                data, broken = b"", error.message
            if start.startswith(b"\x93NUMPY"):
                data = _objects_of_array(data)
            if broken or named or _is_pickle(data):
                yield PickleStream(entry.name, data, loaded=entry is main, broken=broken)


def _is_storage(entry: Entry) -> bool:
    """Whether a member is raw numbers by its place: `TOP/data/KEY`, `TOP/constants/KEY`, `*.storage`."""
    folder, _, name = entry.name.rpartition("/")
    return (folder.endswith(("data", "constants")) and name.isdigit()) or name.endswith(".storage")


def _longest(file: File, entry: Entry) -> int:
    return min(LONGEST, max(_INFLATED, 20 * file.size)) if entry.method == DEFLATED else LONGEST


def _start(file: File, entry: Entry) -> bytes:
    """The first bytes of a member, b"" where they cannot be had."""
    try:
        at = payload_offset(file, entry, file.head.directory.start)
        if entry.method == DEFLATED:
            return next(inflate(file, entry, at), b"")[:_START]
        return file.read(at, min(entry.csize, _START))
    except CorruptCheckpoint:
        return b""


def _objects_of_array(data: bytes) -> bytes:
    """The pickle in an `.npy` of objects; b"" for one of numbers."""
    wide = data[6:7] > b"\x01"
    begin = (12 if wide else 10) + int.from_bytes(data[8 : 12 if wide else 10], "little")
    return data[begin:] if _OBJECT_ARRAY.search(data, 0, begin) else b""


def _is_pickle(data: bytes) -> bool:
    """Whether bytes that begin like a pickle are one: text may begin so too, and then breaks off without a call."""
    if data.startswith(b"\x80"):
        return True
    pickle = parse_partial(data) if data else None
    return pickle is not None and bool(not pickle.broken or pickle.calls)


def _stream(file: File, pickles: int | None) -> PickleStream:
    """The pickles at the beginning of a file, up to its end: how long they are is known when they have been read."""
    return PickleStream("", file.read(0, min(file.size, LONGEST)), pickles, loaded=True)
