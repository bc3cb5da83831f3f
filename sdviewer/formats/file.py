"""One open file: what it is, which it was when it was opened, and how its bytes are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdviewer.core.checkpoint import Identity
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, OpenError, UnknownFormat
from sdviewer.formats.pread import read_exactly

if TYPE_CHECKING:
    from sdviewer.formats.sniff import Head

# What Windows lacks is 0 there; it has no FIFOs in its file system to wait for.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOCTTY", 0)
)


@dataclass(slots=True)
class File:
    """An open regular file. `size` is in bytes; `head` is what the formats recognise it by."""

    path: str
    fd: int
    size: int
    identity: Identity
    head: Head

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`.

        Raises:
            CorruptCheckpoint: the range is not in the file, or the file became shorter meanwhile.
        """
        return read_exactly(self.fd, self.path, self.size, start, length)


def identity_of(status: os.stat_result) -> Identity:
    """What tells one state of a file from another."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def same_file(a: Identity, b: Identity) -> bool:
    """Whether it is the same file with the same content; a new name or mode (ctime) changes nothing in it."""
    return (a.device, a.inode, a.size, a.mtime_ns) == (b.device, b.inode, b.size, b.mtime_ns)


def check_unchanged(fd: int, identity: Identity, path: str) -> None:
    """Make sure that an open file is still what it was.

    Raises:
        CorruptCheckpoint: it is not (code `file_changed`).
    """
    if not same_file(identity_of(os.fstat(fd)), identity):
        raise CorruptCheckpoint(
            "the file has changed since it was opened", path=path, code="file_changed", remedy="Open it again."
        )


def open_descriptor(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading, and say what it is when it is no regular file.

    A FIFO would block `open` for ever and /dev/zero never ends, so the open does not wait and the type is asked of the
    descriptor before the first byte is read.

    Raises:
        OpenError: it is not there or may not be read.
        UnknownFormat: it is a folder, a FIFO, a socket or a device.
    """
    try:
        fd = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from None
    try:
        status = os.fstat(fd)
    except OSError as error:
        os.close(fd)
        raise _not_opened(path, error) from None
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise _not_a_file(path, status.st_mode)
    return fd, status


def _not_opened(path: str, error: OSError | ValueError) -> OpenError:
    if isinstance(error, ValueError):
        return OpenError("no file can have this name", path=path, code="not_found")
    if isinstance(error, FileNotFoundError):
        return OpenError("there is no such file", path=path, code="not_found")
    if isinstance(error, PermissionError):
        return OpenError("it may not be read", path=path, code="no_permission", remedy="Change its permissions.")
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return OpenError(f"it cannot be opened: {error.strerror}", path=path)
    return (
        OpenError(f"it cannot be opened: {error.strerror}", path=path)
        if stat.S_ISREG(mode)
        else _not_a_file(path, mode)
    )


def _not_a_file(path: str, mode: int) -> UnknownFormat:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a disk"),
    )
    what = next((name for test, name in kinds if test(mode)), "no regular file")
    return UnknownFormat(f"this is {what}, not a file", path=path, code="not_a_file", remedy="Name a file.")


@contextmanager
def opened(path: str, progress: Progress = no_progress) -> Iterator[File]:
    """The file, open for as long as the block runs; `progress` is for what it takes to find out what it is."""
    from sdviewer.formats.sniff import read_head

    fd, status = open_descriptor(path)
    try:
        identity = identity_of(status)
        yield File(path, fd, identity.size, identity, read_head(fd, path, identity.size, progress))
    finally:
        with suppress(OSError):  # nothing was written to it, so that nothing can have failed
            os.close(fd)
