"""The bytes of one tensor's storage, for the process that computes with them.

The document's worker says where the bytes are (`tensor_source`); another process opens them (`open_storage`) and first
makes sure that it is still the same file.
"""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import TypedStep
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import TensorLayout, contiguous_stride
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.assembly import AssembledReader, Assembly
from sdviewer.formats.file import check_unchanged, open_descriptor
from sdviewer.formats.packed import unpacked
from sdviewer.formats.pread import check_range, read_exactly, read_into
from sdviewer.formats.torch_source import StorageSpan, span_from_json
from sdviewer.formats.zip_directory import DEFLATED, Entry, header_problem, inflate, payload_offset

if TYPE_CHECKING:
    # Not when it runs: NumPy is for those who read tensors that are made of others.
    from sdviewer.formats.parts import OpenStorage

STORED = "stored"
"""The part of a quantized tensor that holds its codes."""

_CHECKED_AT_ONCE = 1 << 20
_IN_MEMORY = 64 << 20
"""Bytes of an inflated storage that are kept in memory; a larger one goes to a temporary file without a name."""


class Locates(Protocol):
    """What every format's `Checkpoint.source` can say."""

    def span(self, storage: str) -> StorageSpan | Assembly: ...


@dataclass(frozen=True, slots=True)
class TensorSource:
    """Where a tensor's bytes are and how it lies in them; travels between processes as JSON.

    `path` is absolute, `identity` that of the file when it was opened. `parts` are what a sparse tensor, a nested one,
    or one quantized per channel or in blocks is made of, by their names; it is read as the dense one it stands for.
    `axis` is the channels' dimension. `assembly` says where the bytes are of a tensor that lies in several places; then
    `span` counts the bytes of the whole, and the assembly names the files.
    """

    path: str
    identity: Identity
    span: StorageSpan
    layout: TensorLayout
    parts: Mapping[str, TensorSource] = field(default_factory=dict)
    axis: int = -1
    assembly: Assembly | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the whole storage."""
        return self.span.nbytes

    @property
    def stored(self) -> TensorSource | None:
        """The elements as the file has them, which is what a hash is of; None for a tensor that is not in one piece."""
        return self.parts.get(STORED) if self.parts else self

    def to_json(self) -> dict[str, Any]:
        """Plain values that `json` takes, big ints and surrogates in names included."""
        return {
            "path": self.path,
            "identity": asdict(self.identity),
            "span": list(self.span),
            "layout": asdict(self.layout),
            "parts": {name: part.to_json() for name, part in self.parts.items()},
            "axis": self.axis,
            "assembly": self.assembly.to_text() if self.assembly is not None else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorSource:
        """The inverse of `to_json`."""
        layout = dict(data["layout"])
        layout["shape"], layout["stride"] = tuple(layout["shape"]), tuple(layout["stride"])
        return cls(
            data["path"],
            Identity(**data["identity"]),
            span_from_json(data["span"]),
            TensorLayout(**layout),
            {name: cls.from_json(part) for name, part in data["parts"].items()},
            data["axis"],
            Assembly.from_text(data["assembly"]) if data["assembly"] is not None else None,
        )


def tensor_source(checkpoint: Checkpoint, index: int) -> TensorSource:
    """Where the bytes of tensor `index` are.

    Raises:
        CorruptCheckpoint: it was found unreadable when the file was opened (code `tensor_unreadable`).
        OpenError: it has no bytes of its own, as a meta tensor or a nested one (code `no_storage`).
    """
    tensor = checkpoint.tensors[index]
    key = ".".join([step if isinstance(step, str) else step.value for step in tensor.path])
    if tensor.unreadable:
        message = f"this tensor cannot be read: {tensor.unreadable}"
        raise CorruptCheckpoint(message, path=checkpoint.path, code="tensor_unreadable", key=key)
    if tensor.kind == "sparse":
        return _made_of(checkpoint, tensor.dtype, tensor.shape, _parts(checkpoint, index))
    if tensor.kind == "nested" and (values := _parts(checkpoint, index).get("values")) is not None:
        return values
    if tensor.storage is None or tensor.storage_offset is None:
        what = f"a {tensor.kind} tensor" if tensor.kind != "tensor" else f"an array of type {tensor.dtype}"
        message = f"{what} has no bytes of its own"
        raise OpenError(message, path=checkpoint.path, code="no_storage", key=key)
    quant = tensor.quant or {}
    layout = TensorLayout(
        dtype=tensor.dtype,
        shape=tensor.shape,
        stride=tensor.stride if tensor.stride is not None else contiguous_stride(tensor.shape),
        offset=tensor.storage_offset,
        swap="big-endian" in tensor.flags,
        conj="conj" in tensor.flags,
        neg="neg" in tensor.flags,
        scale=quant.get("scale"),
        zero_point=quant.get("zero_point"),
        opaque=None if tensor.dtype in DTYPES else tensor.nbytes,
    )
    stored = _source(checkpoint, tensor.storage, layout)
    if quant.get("qscheme") == "blocks":
        return _unpacked(checkpoint, stored)
    if "scales" not in quant:
        return stored
    parts = {STORED: stored}
    for name in ("scales", "zero_points"):
        part = quant[name]
        place = TensorLayout(part["dtype"], tuple(part["shape"]), tuple(part["stride"]), part["storage_offset"])
        parts[name] = _source(checkpoint, part["storage"], place)
    return _made_of(checkpoint, "float32", tensor.shape, parts, quant["axis"])


def _source(checkpoint: Checkpoint, storage: str, layout: TensorLayout) -> TensorSource:
    """Where the bytes of a storage are, for a tensor that lies in it so, in the byte order of their file."""
    source: Locates = checkpoint.source
    place = source.span(storage) if math.prod(layout.shape) else StorageSpan(0, 0)
    shard = checkpoint.shards.get(place.shard) if isinstance(place, StorageSpan) and place.shard else None
    if (checkpoint.byte_order if shard is None else shard.byte_order) == "big":
        layout = replace(layout, swap=True)
    if isinstance(place, Assembly):
        whole, assembly = StorageSpan(0, place.nbytes), _filed(place, checkpoint)
        return TensorSource(_absolute(checkpoint.path), checkpoint.identity, whole, layout, assembly=assembly)
    if shard is not None:
        return TensorSource(_absolute(shard.path), shard.identity, place, layout)
    return TensorSource(_absolute(checkpoint.path), checkpoint.identity, place, layout)


def _absolute(path: str) -> str:
    """A path that means the same to a process in another folder; a Path would resolve what the user wrote."""
    return os.path.abspath(path)  # noqa: PTH100


def _filed(assembly: Assembly, checkpoint: Checkpoint) -> Assembly:
    """With the path and identity of each file that it names."""
    names = dict.fromkeys([box.shard for box in assembly.boxes])
    files = [(name, _absolute(checkpoint.shards[name].path), checkpoint.shards[name].identity) for name in names]
    return replace(assembly, files=tuple(files))


def _made_of(
    checkpoint: Checkpoint, dtype: str, shape: tuple[int, ...], parts: Mapping[str, TensorSource], axis: int = -1
) -> TensorSource:
    """A dense tensor that its parts stand for."""
    # What is quantized becomes this machine's floats; what is sparse keeps the bytes of its values.
    swap = STORED not in parts and any(part.layout.swap for part in parts.values())
    layout = TensorLayout(dtype, shape, contiguous_stride(shape), 0, swap=swap)
    return TensorSource(_absolute(checkpoint.path), checkpoint.identity, StorageSpan(0, 0), layout, parts, axis)


def _unpacked(checkpoint: Checkpoint, stored: TensorSource) -> TensorSource:
    """The float32 tensor that packed blocks stand for; the blocks themselves where nobody here can unpack them."""
    from sdviewer.formats.gguf_blocks import TYPES

    if stored.layout.dtype not in TYPES:
        return stored
    return _made_of(checkpoint, "float32", stored.layout.shape, {STORED: stored})


def _parts(checkpoint: Checkpoint, index: int) -> dict[str, TensorSource]:
    """Where the parts of a sparse or nested tensor are; their rows follow the whole's."""
    whole = checkpoint.tensors[index].path
    parts = {}
    for place in range(index + 1, len(checkpoint.tensors)):
        path = checkpoint.tensors[place].path
        if path[: len(whole)] != whole or len(path) == len(whole):
            break
        step = path[len(whole)]
        if len(path) == len(whole) + 1 and isinstance(step, TypedStep) and step.type == "part":
            parts[step.value] = tensor_source(checkpoint, place)
    return parts


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
            elif source.span.packed is not None:
                self._inflated = unpacked(self, source.span.packed, source.nbytes)
                self._check()
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
        check_range(self.path, start, len(buffer), self.nbytes)
        if self._inflated is not None:
            at = self._start + start
            if at + len(buffer) > len(self._inflated):
                raise CorruptCheckpoint("the storage breaks off", path=self.path, code="truncated")
            buffer[:] = self._inflated[at : at + len(buffer)]
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
        check_unchanged(self._fd, self._identity, self.path)

    def _open_member(self, member: Entry, limit: int) -> None:
        payload = payload_offset(self, member, limit)
        if member.method != DEFLATED:
            self._start += payload
            return
        pieces = inflate(self, member, payload)
        if member.usize <= _IN_MEMORY:
            self._inflated = b"".join(pieces)
        else:
            self._spilled = tempfile.TemporaryFile()  # noqa: SIM115  closed with the reader
            for piece in pieces:
                self._spilled.write(piece)
            self._spilled.flush()
        self._check()


@dataclass(frozen=True, slots=True)
class Checksum:
    """The CRC-32 of a storage: as its container states it (None: it states none) and as its bytes have it.

    `found` is None where nothing was read, because there is nothing to compare with.

    `header` says where the member's own header disagrees with the directory.
    """

    stated: int | None
    found: int | None
    header: str = ""

    @property
    def problem(self) -> str:
        """What is wrong, in words, else ""."""
        if self.stated is None or self.found is None or self.stated == self.found:
            return self.header
        return (
            f"its bytes have the checksum {self.found:08x} and the archive states {self.stated:08x}: "
            "they were damaged or changed after they were written; torch does not look at it"
        )

    def to_json(self) -> dict[str, Any]:
        return {"stated": self.stated, "found": self.found, "problem": self.problem}


def checksum(source: TensorSource, *, progress: Progress = no_progress) -> Checksum:
    """Read a whole storage and compare its checksum with what the archive states; of a tensor made of parts, each.

    A member whose stated checksum is 0 has none: torch writes that with `compute_crc32=False`.

    Raises:
        CorruptCheckpoint: the bytes are not there, or the file has changed.
        Cancelled: from `progress`, called with bytes.
    """
    if source.parts:
        found = [checksum(part, progress=progress) for part in source.parts.values()]
        return next((part for part in found if part.problem), found[0])
    member = source.span.member
    span = source.span
    if source.assembly is not None or member is None or span.packed or span.start or span.nbytes != member.usize:
        return Checksum(None, None)
    with StorageReader(source) as storage:
        crc, buffer = 0, memoryview(bytearray(min(_CHECKED_AT_ONCE, storage.nbytes)))
        for at in range(0, storage.nbytes, _CHECKED_AT_ONCE):
            progress(at, storage.nbytes)
            piece = buffer[: min(_CHECKED_AT_ONCE, storage.nbytes - at)]
            storage.read_into(at, piece)
            crc = zlib.crc32(piece, crc)
        return Checksum(member.crc or None, crc, header_problem(storage, member))


def open_storage(source: TensorSource) -> OpenStorage:
    """The bytes of a tensor's storage; close it, or use it in a `with`.

    Raises:
        CorruptCheckpoint: the file has changed (code `file_changed`), or its compressed bytes are broken, or the
            indices of a sparse tensor (code `bad_indices`).
        OpenError: it is not there any more.
    """
    if source.assembly is not None:
        return AssembledReader(source.assembly)
    if source.parts:
        return _open_parts(source)
    packed = source.span.packed
    if packed is not None and packed.how == "hdf5":
        from sdviewer.formats.hdf5_child import DatasetReader

        return DatasetReader(source.path, source.identity, source.span)
    return StorageReader(source)


def _open_parts(source: TensorSource) -> OpenStorage:
    from sdviewer.formats.channels import ChannelsReader
    from sdviewer.formats.gguf_blocks import BlocksReader
    from sdviewer.formats.parts import Part
    from sdviewer.formats.sparse import SparseReader

    with ExitStack() as stack:
        parts = {
            name: Part(part.layout, stack.enter_context(open_storage(part))) for name, part in source.parts.items()
        }
        if STORED not in parts:
            return SparseReader(source.path, source.layout, parts)
        reader: OpenStorage
        if source.axis < 0:
            reader = BlocksReader(source.path, source.layout, parts[STORED])
        else:
            reader = ChannelsReader(source.path, source.layout, parts, source.axis)
        stack.pop_all()  # it reads on from what is stored, and closes it
        return reader
