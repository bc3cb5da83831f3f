"""Bytes of an open file by bounded `pread`, never a mapping.

A mapping of a file that somebody truncates kills the process; a `pread` that comes back short is an error to tell.
"""

from __future__ import annotations

import os

from sdviewer.errors import CorruptCheckpoint, SDViewerError


def read_exactly(fd: int, path: str, size: int, start: int, length: int) -> bytes:
    """Exactly `length` bytes from `start` of a file of `size` bytes; the range is checked before anything is read.

    Raises:
        CorruptCheckpoint: the range is not in the file, the file became shorter meanwhile, or its disk failed.
    """
    if start < 0 or length < 0 or start + length > size:
        raise CorruptCheckpoint(
            f"bytes {start:,} to {start + length:,} are named, and the file has {size:,}",
            path=path,
            code="truncated",
            remedy="Copy or download it again.",
        )
    if hasattr(os, "pread"):
        try:
            data = os.pread(fd, length, start)
        except OSError as error:
            raise _unreadable(error, path, start) from None
        if len(data) == length:
            return data
    buffer = bytearray(length)
    read_into(fd, path, start, memoryview(buffer))
    return bytes(buffer)


def read_into(fd: int, path: str, start: int, buffer: memoryview) -> None:
    """Fill the whole `buffer` with the file's bytes from `start`.

    Raises:
        CorruptCheckpoint: the file ends before, or the disk does not give the bytes (code `file_changed`).
    """
    done = 0
    while done < len(buffer):
        try:
            n = _pread_into(fd, buffer[done:], start + done)
        except OSError as error:
            raise _unreadable(error, path, start + done) from None
        if n == 0:
            raise CorruptCheckpoint(
                f"the file became shorter while it was open: it ends at byte {start + done:,}",
                path=path,
                code="file_changed",
                remedy="Open it again.",
            )
        done += n


def check_range(path: str, start: int, length: int, nbytes: int) -> None:
    """Make sure that `length` bytes from `start` are inside a storage of `nbytes` bytes.

    Raises:
        CorruptCheckpoint: they are not (code `truncated`).
    """
    if start < 0 or start + length > nbytes:
        message = f"bytes {start:,} to {start + length:,} of a storage of {nbytes:,} were asked for"
        raise CorruptCheckpoint(message, path=path, code="truncated")


def is_of_the_disk(error: SDViewerError) -> bool:
    """Whether the disk or another program is at fault, not the file: what cannot be read now is no damage of it."""
    return error.code in ("unreadable", "file_changed")


def _unreadable(error: OSError, path: str, at: int) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"byte {at:,} cannot be read: {error.strerror}", path=path, code="unreadable")


def _pread_into(fd: int, buffer: memoryview, start: int) -> int:
    if hasattr(os, "preadv"):
        # One call moves at most 0x7ffff000 bytes on Linux, so the caller loops.
        return os.preadv(fd, [buffer[: 1 << 30]], start)
    if hasattr(os, "pread"):
        data = os.pread(fd, min(len(buffer), 1 << 20), start)
    else:  # Windows: this descriptor has one reader at a time
        os.lseek(fd, start, os.SEEK_SET)
        data = os.read(fd, min(len(buffer), 1 << 20))
    buffer[: len(data)] = data
    return len(data)
