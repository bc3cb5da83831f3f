"""A file to be written as a list of pieces: new bytes, runs that the kernel copies from the source, computed ones.

What was not edited is never decoded: it goes from file to file inside the kernel, and its checksums go with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from sdviewer.core.progress import Progress
from sdviewer.errors import SaveError
from sdviewer.formats.file import File

CHUNK = 16 << 20  # bytes between two looks at `progress`
SMALL = 64 << 10  # bytes: below it a read joins the buffer, since a call a storage costs more than the copy
BUFFER = 1 << 20  # bytes gathered before a write
READ = 4 << 20  # bytes a read where the kernel cannot copy
BEGIN_WRITING = 32 << 20  # bytes after which the disk is set to work, so that the sync at the end finds little left

# What the kernel says when it can copy, but not between these two files.
_CANNOT = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF, errno.EPERM, errno.ETXTBSY}
)


class Copy(NamedTuple):
    """`nbytes` bytes of the source file from `start`."""

    start: int
    nbytes: int


@dataclass(slots=True, eq=False)
class Made:
    """`nbytes` bytes that are computed when they are written, `chunks` by `chunks`.

    `crc` is their CRC-32, None until they have been written. `origin` is the path of the other file that they are the
    bytes of, "" where they are computed: those are read again when the written file is compared.
    """

    nbytes: int
    chunks: Callable[[], Iterator[memoryview]]
    crc: int | None = None
    origin: str = ""


@dataclass(slots=True, eq=False)
class Later:
    """`nbytes` bytes that depend on what was computed before them, such as a checksum; `make` gives them then."""

    nbytes: int
    make: Callable[[], bytes]


Piece: TypeAlias = bytes | Copy | Made | Later


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole file: its pieces in order. `notes` say what the container made of the edit, as sentences for a person."""

    pieces: list[Piece]
    notes: tuple[str, ...] = ()


def nbytes_of(piece: Piece) -> int:
    """Length of a piece in bytes."""
    return len(piece) if isinstance(piece, bytes) else piece.nbytes


def total(pieces: Iterable[Piece]) -> int:
    """Length of the file the pieces make, in bytes."""
    return sum(map(nbytes_of, pieces))


def copied(pieces: Iterable[Piece]) -> int:
    """Bytes of it that come from the source as they are."""
    return sum(piece.nbytes for piece in pieces if isinstance(piece, Copy))


def computed(pieces: Iterable[Piece]) -> int:
    """Bytes of it that are computed from the source."""
    return sum(piece.nbytes for piece in pieces if isinstance(piece, Made))


def write_pieces(pieces: Sequence[Piece], source: int, out: int, progress: Progress) -> None:
    """Write the pieces one after another into `out` (a descriptor), copying from `source` (another).

    Calls `progress` with bytes written and the total, at least every 16 MiB.

    Raises:
        OSError: the output could not be written.
        SaveError: the source became shorter, or its disk does not give its bytes.
        Cancelled: from `progress`.
    """
    _Writer(source, out, total(pieces), progress).write(pieces)


def check_new_bytes(pieces: Iterable[Piece], file: File) -> None:
    """Read back what is laid out anew: headers, directories and padding, of which no reader sees all.

    What is computed or copied is compared by `formats.verify`.

    Raises:
        SaveError: the file does not have it as it was laid out.
        CorruptCheckpoint: the file cannot be read back.
    """
    at = 0
    for piece in pieces:
        new = piece.make() if isinstance(piece, Later) else piece
        if isinstance(new, bytes) and file.read(at, len(new)) != new:
            raise SaveError(
                f"the disk gave back other bytes than were written, at byte {at:,} or after it",
                remedy="Save to another disk, and have this one looked at.",
                code="not_verified",
            )
        at += nbytes_of(piece)
    if at != file.size:
        raise SaveError(
            f"{file.size:,} bytes came back of {at:,} that were written",
            remedy="Save to another disk, and have this one looked at.",
            code="not_verified",
        )


class _Writer:
    def __init__(self, source: int, out: int, size: int, progress: Progress) -> None:
        self.source = source
        self.out = out
        self.size = size
        self.progress = progress
        self.at = 0  # where in the output the gathered bytes go
        self.begun = 0  # up to where the system was asked to write to the disk
        self.gathered: list[bytes] = []
        self.gathered_bytes = 0
        self.ways = [_copy_file_range, _send_file]

    def write(self, pieces: Sequence[Piece]) -> None:
        self.progress(0, self.size)
        for piece in pieces:
            if isinstance(piece, bytes):
                self._gather(piece)
            elif isinstance(piece, Made):
                self._make(piece)
            elif isinstance(piece, Later):
                self._gather(piece.make())
            elif piece.nbytes <= SMALL:
                self._gather(_read(self.source, piece.start, piece.nbytes))
            else:
                self._flush()
                self._copy(piece)
        self._flush()

    def _gather(self, data: bytes) -> None:
        self.gathered.append(data)
        self.gathered_bytes += len(data)
        if self.gathered_bytes >= BUFFER:
            self._flush()

    def _make(self, piece: Made) -> None:
        crc = done = 0
        for chunk in piece.chunks():
            crc = zlib.crc32(chunk, crc)
            done += len(chunk)
            if len(chunk) <= SMALL:
                self._gather(bytes(chunk))
            else:
                self._flush()
                self._put(chunk)
        if done != piece.nbytes:
            raise SaveError(
                f"a computed tensor has {done:,} bytes instead of {piece.nbytes:,}",
                remedy="This is a fault of sdviewer; please report it with the recipe.",
                code="not_verified",
            )
        piece.crc = crc

    def _flush(self) -> None:
        if not self.gathered_bytes:
            return
        data = memoryview(b"".join(self.gathered))
        self.gathered = []
        self.gathered_bytes = 0
        self._put(data)

    def _put(self, data: memoryview) -> None:
        while data:
            done = _write(self.out, data[:CHUNK], self.at)
            data = data[done:]
            self._advance(done)

    def _copy(self, piece: Copy) -> None:
        start, left = piece
        while left:
            done = self._copy_some(start, min(left, CHUNK))
            start += done
            left -= done
            self._advance(done)

    def _copy_some(self, start: int, count: int) -> int:
        while self.ways:
            try:
                done = self.ways[0](self.source, start, self.out, self.at, count)
            except OSError as error:
                if error.errno == errno.EIO:
                    break  # which of the two disks failed is seen by reading and writing
                if error.errno not in _CANNOT:
                    raise
                done = 0
            if done:
                return done
            # Refused, or a file system that copies nothing and says so: the next way tells an end of file apart.
            self.ways.pop(0)
        data = _read(self.source, start, min(count, READ))
        return _write(self.out, memoryview(data), self.at)

    def _advance(self, done: int) -> None:
        self.at += done
        if self.at - self.begun >= BEGIN_WRITING:
            _begin_writing(self.out, self.begun, self.at - self.begun)
            self.begun = self.at
        self.progress(self.at, self.size)


def _copy_file_range(source: int, start: int, out: int, at: int, count: int) -> int:
    if sys.platform != "linux":
        return 0
    return os.copy_file_range(source, out, count, start, at)


def _send_file(source: int, start: int, out: int, at: int, count: int) -> int:
    if sys.platform != "linux":  # elsewhere it sends to sockets only
        return 0
    os.lseek(out, at, os.SEEK_SET)
    return os.sendfile(out, source, start, count)


def _read(source: int, start: int, nbytes: int) -> bytes:
    """Exactly `nbytes` bytes of the source."""
    data = _read_some(source, start, nbytes)
    while len(data) < nbytes:
        more = _read_some(source, start + len(data), nbytes - len(data))
        if not more:
            raise SaveError(
                "the source became shorter while it was copied", remedy="Open it again.", code="file_changed"
            )
        data += more
    return data


def _read_some(source: int, start: int, nbytes: int) -> bytes:
    try:
        if sys.platform == "win32":
            os.lseek(source, start, os.SEEK_SET)
            return os.read(source, nbytes)
        return os.pread(source, nbytes, start)
    except OSError as error:
        raise SaveError(
            f"byte {start:,} of the source cannot be read ({error.strerror})",
            remedy="Copy the file to another disk, then open the copy.",
            code="unreadable",
        ) from error


def _begin_writing(out: int, start: int, nbytes: int) -> None:
    """Let the system begin to write to the disk what was given to it; a hint, which may come to nothing."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(out, start, nbytes, os.POSIX_FADV_DONTNEED)


def _write(out: int, data: memoryview, at: int) -> int:
    """Write some of `data` at `at`; how many bytes."""
    if sys.platform == "win32":
        os.lseek(out, at, os.SEEK_SET)
        return os.write(out, data)
    return os.pwrite(out, data, at)
