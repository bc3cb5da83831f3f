"""The bytes of one tensor's storage, for the process that computes with them.

The document's worker says where the bytes are (`tensor_source`); another process opens them (`open_storage`) and first
makes sure that it is still the same file.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import IO, Any, Protocol

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import TensorLayout, contiguous_stride
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.file import identity_of, open_descriptor, same_file
from sdviewer.formats.pread import read_exactly, read_into
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.zip_directory import DEFLATED, Entry, header_problem, inflate, payload_offset

_CHECKED_AT_ONCE = 1 << 20
_IN_MEMORY = 64 << 20
"""Bytes of an inflated storage that are kept in memory; a larger one goes to a temporary file without a name."""


class Locates(Protocol):
    """What every format's `Checkpoint.source` can say."""

    def span(self, storage: str) -> StorageSpan: ...


@dataclass(frozen=True, slots=True)
class TensorSource:
    """Where a tensor's bytes are and how it lies in them; travels between processes as JSON.

    `path` is absolute, `identity` that of the file when it was opened.
    """

    path: str
    identity: Identity
    span: StorageSpan
    layout: TensorLayout

    @property
    def nbytes(self) -> int:
        """Bytes of the whole storage."""
        return self.span.nbytes

    def to_json(self) -> dict[str, Any]:
        """Plain values that `json` takes, big ints and surrogates in names included."""
        member = self.span.member
        return {
            "path": self.path,
            "identity": asdict(self.identity),
            "start": self.span.start,
            "nbytes": self.span.nbytes,
            "member": list(member) if member is not None else None,
            "limit": self.span.limit,
            "layout": asdict(self.layout),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorSource:
        """The inverse of `to_json`."""
        member = Entry(*data["member"]) if data["member"] is not None else None
        layout = dict(data["layout"])
        layout["shape"], layout["stride"] = tuple(layout["shape"]), tuple(layout["stride"])
        return cls(
            data["path"],
            Identity(**data["identity"]),
            StorageSpan(data["start"], data["nbytes"], member, data["limit"]),
            TensorLayout(**layout),
        )


def tensor_source(checkpoint: Checkpoint, index: int) -> TensorSource:
    """Where the bytes of tensor `index` are.

    Raises:
        CorruptCheckpoint: it was found unreadable when the file was opened (code `tensor_unreadable`).
        OpenError: it has no bytes of its own, as a meta tensor or a sparse one (code `no_storage`).
    """
    tensor = checkpoint.tensors[index]
    key = ".".join([step if isinstance(step, str) else step.value for step in tensor.path])
    if tensor.unreadable:
        message = f"this tensor cannot be read: {tensor.unreadable}"
        raise CorruptCheckpoint(message, path=checkpoint.path, code="tensor_unreadable", key=key)
    if tensor.storage is None or tensor.storage_offset is None:
        message = f"a {tensor.kind} tensor has no bytes of its own"
        raise OpenError(message, path=checkpoint.path, code="no_storage", key=key)
    source: Locates = checkpoint.source
    span = source.span(tensor.storage) if tensor.elements else StorageSpan(0, 0)
    quant = tensor.quant or {}
    layout = TensorLayout(
        dtype=tensor.dtype,
        shape=tensor.shape,
        stride=tensor.stride if tensor.stride is not None else contiguous_stride(tensor.shape),
        offset=tensor.storage_offset,
        swap=checkpoint.byte_order == "big",
        conj="conj" in tensor.flags,
        neg="neg" in tensor.flags,
        scale=quant.get("scale"),
        zero_point=quant.get("zero_point"),
    )
    return TensorSource(os.path.abspath(checkpoint.path), checkpoint.identity, span, layout)  # noqa: PTH100


class StorageReader:
    """The bytes of one storage, read by `pread` on a descriptor of its own; may be used by several threads.

    Before and after each read the file must be the one that was opened, so that numbers never mix two states of it.
    """

    def __init__(self, source: TensorSource) -> None:
        self.path = source.path
        self.size = source.identity.size
        self.nbytes = source.nbytes
        self._identity = source.identity
        self._inflated: bytes | None = None
        self._spilled: IO[bytes] | None = None
        self._start = source.span.start
        self._fd, _ = open_descriptor(source.path)
        try:
            self._check()
            if source.span.member is not None:
                self._open_member(source.span.member, source.span.limit)
        except BaseException:
            self.close()
            raise

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes of the file from `start`."""
        return read_exactly(self._fd, self.path, self.size, start, length)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the storage's bytes from `start` (bytes).

        Raises:
            CorruptCheckpoint: the bytes are not there, or the file has changed (code `file_changed`).
        """
        buffer = buffer.cast("B")
        if start < 0 or start + len(buffer) > self.nbytes:
            message = f"bytes {start:,} to {start + len(buffer):,} of a storage of {self.nbytes:,} were asked for"
            raise CorruptCheckpoint(message, path=self.path, code="truncated")
        if self._inflated is not None:
            buffer[:] = self._inflated[start : start + len(buffer)]
            return
        self._check()
        fd = self._spilled.fileno() if self._spilled is not None else self._fd
        read_into(fd, self.path, self._start + start, buffer)
        self._check()

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._spilled is not None:
            self._spilled.close()
        self._inflated = None

    def __enter__(self) -> StorageReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if not same_file(identity_of(os.fstat(self._fd)), self._identity):
            raise CorruptCheckpoint(
                "the file has changed since it was opened", path=self.path, code="file_changed", remedy="Open it again."
            )

    def _open_member(self, member: Entry, limit: int) -> None:
        self._start = payload_offset(self, member, limit)
        if member.method != DEFLATED:
            return
        pieces = inflate(self, member, self._start)
        if member.usize <= _IN_MEMORY:
            self._inflated = b"".join(pieces)
        else:
            self._spilled = tempfile.TemporaryFile()  # noqa: SIM115  closed with the reader
            for piece in pieces:
                self._spilled.write(piece)
            self._spilled.flush()
            self._start = 0
        self._check()


@dataclass(frozen=True, slots=True)
class Checksum:
    """The CRC-32 of a storage: as its container states it (None: it states none) and as its bytes have it.

    `header` says where the member's own header disagrees with the directory.
    """

    stated: int | None
    found: int
    header: str = ""

    @property
    def problem(self) -> str:
        """What is wrong, in words, else ""."""
        if self.stated is None or self.stated == self.found:
            return self.header
        return (
            f"its bytes have the checksum {self.found:08x} and the archive states {self.stated:08x}: "
            "they were damaged or changed after they were written; torch does not look at it"
        )

    def to_json(self) -> dict[str, Any]:
        return {"stated": self.stated, "found": self.found, "problem": self.problem}


def checksum(storage: StorageReader, source: TensorSource, *, progress: Progress = no_progress) -> Checksum:
    """Read a whole storage and compare its checksum with what the archive states.

    A member whose stated checksum is 0 has none: torch writes that with `compute_crc32=False`.

    Raises:
        CorruptCheckpoint: the bytes are not there, or the file has changed.
        Cancelled: from `progress`, called with bytes.
    """
    found, buffer = 0, memoryview(bytearray(min(_CHECKED_AT_ONCE, storage.nbytes)))
    for at in range(0, storage.nbytes, _CHECKED_AT_ONCE):
        progress(at, storage.nbytes)
        piece = buffer[: min(_CHECKED_AT_ONCE, storage.nbytes - at)]
        storage.read_into(at, piece)
        found = zlib.crc32(piece, found)
    member = source.span.member
    if member is None:
        return Checksum(None, found)
    return Checksum(member.crc or None, found, header_problem(storage, member))


def open_storage(source: TensorSource) -> StorageReader:
    """The bytes of a tensor's storage; close it, or use it in a `with`.

    Raises:
        CorruptCheckpoint: the file has changed (code `file_changed`), or its compressed bytes are broken.
        OpenError: it is not there any more.
    """
    return StorageReader(source)
