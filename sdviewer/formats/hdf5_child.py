"""The process in which the HDF5 library reads a file (`hdf5_walk`), and numbers that only it can find.

A dataset in chunks, compressed or not, or inside its header has no bytes of its own that could be read in place. They
come from the child piece by piece, so memory does not grow with the dataset.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from sdviewer.core.checkpoint import Identity
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, UnsupportedContainer
from sdviewer.formats.file import check_unchanged, open_descriptor
from sdviewer.formats.pread import check_range, read_exactly
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.zip_directory import DEFLATED, Entry, Reader, inflate, payload_offset

_AT_ONCE = 4 << 20
"""Bytes that are asked of the child at once."""

_LONGEST_REASON = 1000


class Place(NamedTuple):
    """Where an HDF5 file is: `nbytes` bytes of an open file from `start`.

    That file is the one that was opened, or a temporary copy of a deflated `member` of it.
    """

    fd: int
    start: int
    nbytes: int
    member: Entry | None = None
    limit: int = 0


def check_library(path: str) -> None:
    """Make sure that h5py is there.

    Raises:
        UnsupportedContainer: it is not (code `extra_needed`).
    """
    if find_spec("h5py") is None or getattr(sys, "frozen", False):
        raise UnsupportedContainer(
            "this is an HDF5 file, and the library that reads it, h5py, is not installed",
            path=path,
            code="extra_needed",
            remedy="Install it with: pip install 'sdviewer[hdf5]'",
        )


def place_of_member(file: Reader, fd: int, entry: Entry, limit: int, stack: ExitStack) -> Place:
    """Where the HDF5 file in a member of an archive is; a deflated one is copied for as long as the stack lasts.

    Raises:
        CorruptCheckpoint: its bytes are not there.
    """
    start = payload_offset(file, entry, limit)
    if entry.method != DEFLATED:
        return Place(fd, start, entry.csize, entry, limit)
    copy: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  closed with the stack
    for piece in inflate(file, entry, start):
        copy.write(piece)
    copy.flush()
    return Place(copy.fileno(), 0, entry.usize, entry, limit)


def start_child(place: Place, path: str, **request: Any) -> subprocess.Popen[bytes]:
    """The child at work on a file; what it is asked for besides stands in `request`."""
    room = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        # -P keeps the current folder out; sdviewer itself must still be found when it runs from a source tree.
        "PYTHONPATH": room if not inherited else os.pathsep.join([room, inherited]),
        # The library loads code for filters that it lacks; with this it loads none, and knows no folder of any.
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_PLUGIN_PATH": os.devnull,
        "OPENBLAS_NUM_THREADS": "1",
    }
    by_fd = sys.platform != "win32"
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "sdviewer.formats.hdf5_walk"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        pass_fds=(place.fd,) if by_fd else (),
    )
    where = {"fd": place.fd if by_fd else None, "path": os.path.abspath(path)}  # noqa: PTH100
    request = {**where, "start": place.start, "nbytes": place.nbytes, **request}
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended, which whoever reads from it finds out
    return child


def end_child(child: subprocess.Popen[bytes]) -> None:
    """End the child, whatever it does."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what was not written has no reader any more


class DatasetReader:
    """The stored elements of one dataset, row-major; may be used by several threads.

    Before and after each read the file must be the one that was opened.
    """

    def __init__(self, path: str, identity: Identity, span: StorageSpan) -> None:
        """The dataset is the one that `span.packed` names.

        Raises:
            CorruptCheckpoint: the file has changed (code `file_changed`).
            UnsupportedContainer: h5py is not installed any more.
        """
        assert span.packed is not None
        check_library(path)
        self.path = path
        self.size = identity.size
        self.nbytes = span.nbytes
        self._identity = identity
        self._lock = threading.Lock()
        with ExitStack() as stack:
            self._fd, _ = open_descriptor(path)
            stack.callback(os.close, self._fd)
            check_unchanged(self._fd, identity, path)
            place = Place(self._fd, span.packed.start, span.packed.length)
            if span.member is not None:
                place = place_of_member(self, self._fd, span.member, span.limit, stack)
            self._child = start_child(place, path, dataset=span.packed.name)
            stack.callback(end_child, self._child)
            self._open = stack.pop_all()

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes of the file from `start`."""
        return read_exactly(self._fd, self.path, self.size, start, length)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the dataset's bytes from `start` (bytes).

        Raises:
            CorruptCheckpoint: the library cannot read them, or the file has changed (code `file_changed`).
        """
        buffer = buffer.cast("B")
        check_range(self.path, start, len(buffer), self.nbytes)
        with self._lock:
            check_unchanged(self._fd, self._identity, self.path)
            for at in range(0, len(buffer), _AT_ONCE):
                self._ask(start + at, buffer[at : at + _AT_ONCE])
            check_unchanged(self._fd, self._identity, self.path)

    def close(self) -> None:
        """End the child and let the file go."""
        self._open.close()

    def __enter__(self) -> DatasetReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, start: int, piece: memoryview) -> None:
        pipe = self._child.stdin
        assert pipe is not None
        try:
            pipe.write(b"%d %d\n" % (start, len(piece)))
            pipe.flush()
        except BrokenPipeError:
            raise self._crashed() from None
        (length,) = struct.unpack("<q", self._answer(8))
        if length != len(piece):
            reason = self._answer(min(max(-length, 0), _LONGEST_REASON)).decode("utf-8", "replace")
            raise CorruptCheckpoint(f"the HDF5 library cannot read it: {visible(reason, 300)}", path=self.path)
        self._fill(piece)

    def _answer(self, length: int) -> bytes:
        found = bytearray(length)
        self._fill(memoryview(found))
        return bytes(found)

    def _fill(self, buffer: memoryview) -> None:
        stream = self._child.stdout
        assert isinstance(stream, BufferedReader)
        while buffer:
            n = stream.readinto(buffer)
            if not n:
                raise self._crashed()
            buffer = buffer[n:]

    def _crashed(self) -> CorruptCheckpoint:
        return CorruptCheckpoint("the HDF5 library crashed on it", path=self.path)
