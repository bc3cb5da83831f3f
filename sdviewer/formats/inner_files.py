"""Torch files inside other files: in the bytes of a pickle, in a member of an archive.

They are read where they lie, through a window on the outer file, so that their storages stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sdviewer.core.checkpoint import Problem
from sdviewer.core.progress import Progress
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.grafts import with_keys
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.zip_directory import STORED, Entry, Reader, ZipDirectory, inflate, payload_offset, read_member
from sdviewer.pickles.nodes import Node

IN_MEMORY = 64 << 20
"""Bytes of a compressed member that are inflated to look for a torch file in it."""


@dataclass(frozen=True, slots=True)
class Window:
    """`start` to `start + size` of a file, read as a file of its own."""

    file: Reader
    start: int
    size: int

    @property
    def path(self) -> str:
        return self.file.path

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start` of the window.

        Raises:
            CorruptCheckpoint: they run out of the window.
        """
        if start < 0 or length < 0 or start + length > self.size:
            raise CorruptCheckpoint("a file inside it breaks off", path=self.path, code="truncated")
        return self.file.read(self.start + start, length)

    def span(self, start: int, nbytes: int) -> StorageSpan:
        """Where bytes of the window lie in the outer file."""
        return StorageSpan(self.start + start, nbytes)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Bytes that had to be unpacked to be read: of a text in a pickle, or of a compressed member."""

    path: str
    data: bytes
    packed: StorageSpan

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`.

        Raises:
            CorruptCheckpoint: they are not there.
        """
        if start < 0 or length < 0 or start + length > len(self.data):
            raise CorruptCheckpoint("a file inside it breaks off", path=self.path, code="truncated")
        return self.data[start : start + length]

    def span(self, start: int, nbytes: int) -> StorageSpan:
        """Where these bytes come out when the same is unpacked again."""
        return self.packed._replace(start=start, nbytes=nbytes)


Within = Window | Decoded


@dataclass(frozen=True, slots=True)
class Inner:
    """What a torch file inside another holds; the keys of its storages have a prefix that makes them unique."""

    root: Node
    spans: dict[str, StorageSpan] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    crcs: dict[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def member_window(file: Reader, directory: ZipDirectory, entry: Entry) -> Within:
    """A member of an archive as a file of its own.

    Raises:
        CorruptCheckpoint: it cannot be read, or is compressed and too large to be unpacked for a look.
    """
    if entry.method == STORED:
        why = directory.why_unreadable(entry)
        if why:
            raise CorruptCheckpoint(why, path=file.path)
        return Window(file, payload_offset(file, entry, directory.start), entry.csize)
    data = read_member(file, directory, entry, IN_MEMORY)
    return Decoded(file.path, data, StorageSpan(0, 0, entry, directory.start))


def first_bytes(file: Reader, directory: ZipDirectory, entry: Entry, length: int) -> bytes:
    """The first bytes of a member, of a compressed one too; b"" where they cannot be had."""
    if directory.why_unreadable(entry):
        return b""
    try:
        start = payload_offset(file, entry, directory.start)
        if entry.method == STORED:
            return file.read(start, min(length, entry.csize))
        return _first(inflate(file, entry, start))[:length]
    except CorruptCheckpoint:
        return b""


def _first(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


def read_inner(within: Within, prefix: str, progress: Progress) -> Inner:
    """What a torch zip or a legacy stream inside another file holds.

    Raises:
        CorruptCheckpoint: it is neither, or cannot be read.
        Cancelled: from `progress`.
    """
    start = within.read(0, min(within.size, 32))
    if start.startswith(b"PK\3\4"):
        return _inner_zip(within, prefix, progress)
    return _inner_legacy(within, prefix, progress)


def _inner_zip(within: Within, prefix: str, progress: Progress) -> Inner:
    from sdviewer.formats.torch_zip import Archive, top_of
    from sdviewer.formats.zip_directory import read_directory
    from sdviewer.pickles.machine import parse

    directory = read_directory(within)
    problems = list(directory.problems)
    top, separator = top_of(directory, problems)
    archive = Archive(within, directory, top + separator if top else "")
    entry = archive.entry("data.pkl")
    assert entry is not None
    pickle = parse(read_member(within, directory, entry, IN_MEMORY if entry.method else within.size), progress=progress)
    assert pickle.root is not None
    records, stored = archive.storages()
    unreadable = {prefix + key: why for key, why in stored.unreadable.items()}
    spans: dict[str, StorageSpan] = {}
    for key, record in records.items():
        span, why = _inner_member(within, directory, record)
        spans[prefix + key] = span
        if why:
            unreadable.setdefault(prefix + key, why)
        elif archive.text("byteorder") == "big":
            unreadable.setdefault(prefix + key, "it is stored big-endian in a file inside this one")
    crcs = {prefix + key: crc for key, crc in stored.crcs.items()}
    return Inner(with_keys(pickle.root, lambda key: prefix + key), spans, unreadable, crcs, tuple(problems))


def _inner_member(within: Within, directory: ZipDirectory, entry: Entry) -> tuple[StorageSpan, str]:
    """Where a member of an inner archive lies in the outer file, and why it cannot be read there."""
    if isinstance(within, Window):
        moved = entry._replace(header_offset=entry.header_offset + within.start)
        return StorageSpan(0, entry.usize, moved, within.start + directory.start), ""
    if entry.method != STORED:
        return StorageSpan(0, entry.usize), "it is compressed twice"
    try:
        return within.span(payload_offset(within, entry, directory.start), entry.usize), ""
    except CorruptCheckpoint as error:
        return StorageSpan(0, entry.usize), error.message


def _inner_legacy(within: Within, prefix: str, progress: Progress) -> Inner:
    from sdviewer.formats.torch_legacy import MAGIC, is_number, read_pickles, read_storages

    pickles = read_pickles(within, progress)
    if not is_number(pickles[0].root, MAGIC):
        raise CorruptCheckpoint("its first pickle is not torch's magic number", path=within.path)
    problems: list[Problem] = []
    keys, storages = read_storages(within, pickles, problems)
    root = pickles[3].root
    assert root is not None
    return Inner(
        with_keys(root, lambda key: prefix + key),
        {prefix + key: within.span(storage.offset, storage.nbytes) for key, storage in storages.items()},
        {prefix + key: "the file breaks off before its storage" for key in keys if key not in storages},
        {},
        tuple(problems),
    )
