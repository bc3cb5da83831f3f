"""Tensors that lie in several places: boxes of elements in several files, read as if they were one row-major run.

A distributed checkpoint cuts a tensor into boxes, one or several a process. `AssembledReader` gives any range of the
whole tensor's bytes, and holds no more of it than is asked for: for each box it finds the rows that the range touches,
which lie one behind the other in the box's own file, reads them in one go and puts them where they belong.

A box is raw bytes of a file or of a zip member, or it is the one tensor of a whole `torch.save` archive (or the named
tensor of a safetensors file) in a range of a file; then the archive is looked into when the box is first read.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, NamedTuple

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import no_progress
from sdviewer.core.tensor_bytes import contiguous_stride, is_contiguous
from sdviewer.core.text import shape as shape_text
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats.file import File, check_unchanged, open_descriptor
from sdviewer.formats.inner_files import Window
from sdviewer.formats.pread import check_range, read_into
from sdviewer.formats.sniff import HEAD, Head
from sdviewer.formats.torch_source import StorageSpan, span_from_json
from sdviewer.formats.zip_directory import DEFLATED, inflate, payload_offset

_FEW = 8
"""Runs up to which Python puts them into their places as quickly as NumPy."""

_PIECE = 1 << 20
"""Bytes of a box that are read at once where they cannot be read in place."""


class Box(NamedTuple):
    """One box of a tensor: `sizes` elements at `offsets` of the whole.

    `shard` is the name of its file, of which `start` to `start + length` (bytes) are meant. `span` says where in that
    range the box's own row-major bytes are, `skip` bytes behind the span's beginning; None: the range is an archive of
    one tensor, or a safetensors file with a tensor called `name`.
    """

    shard: str
    start: int
    length: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    span: StorageSpan | None = None
    skip: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A tensor's row-major elements as boxes of a grid.

    `grid` is the shape that the boxes tile, in elements of `itemsize` bytes. `dtype` is torch's name, "" where the
    boxes are bare bytes. `files` are the path and identity of each shard that the boxes name; empty until somebody who
    knows the checkpoint fills them in.
    """

    grid: tuple[int, ...]
    itemsize: int
    dtype: str
    boxes: tuple[Box, ...]
    files: tuple[tuple[str, str, Identity], ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""
        n = self.itemsize
        for size in self.grid:
            n *= size
        return n

    def to_text(self) -> str:
        """One JSON text: the window hands it on as it is, and a tensor can have ten thousand boxes."""
        values = {
            "grid": list(self.grid),
            "itemsize": self.itemsize,
            "dtype": self.dtype,
            "boxes": [list(box) for box in self.boxes],
            "files": [
                [name, path, [identity.device, identity.inode, identity.size, identity.mtime_ns, identity.ctime_ns]]
                for name, path, identity in self.files
            ],
        }
        return json.dumps(values)

    @classmethod
    def from_text(cls, text: str) -> Assembly:
        """The inverse of `to_text`."""
        data = json.loads(text)
        return cls(
            tuple(data["grid"]),
            data["itemsize"],
            data["dtype"],
            tuple([_box(box) for box in data["boxes"]]),
            tuple([(name, path, Identity(*identity)) for name, path, identity in data["files"]]),
        )


def _box(values: list[Any]) -> Box:
    box = Box(*values)
    span = span_from_json(list(box.span)) if box.span is not None else None
    return box._replace(offsets=tuple(box.offsets), sizes=tuple(box.sizes), span=span)


@dataclass
class _RangeHead(Head):
    """The first bytes of a range of a file."""

    window: Window | None = None

    def read(self, start: int, length: int) -> bytes:
        assert self.window is not None
        return self.window.read(start, length)


@dataclass(slots=True, kw_only=True)
class RangeFile(File):
    """A range of an open file that stands for a file of its own: formats read it without knowing."""

    window: Window

    @property
    def base(self) -> int:
        """Where the range begins, in bytes."""
        return self.window.start

    def read(self, start: int, length: int) -> bytes:
        return self.window.read(start, length)


def range_file(file: File, start: int, length: int) -> RangeFile:
    """Bytes `start` to `start + length` of a file, as a file.

    Raises:
        CorruptCheckpoint: they are not in the file.
    """
    if start < 0 or length < 0 or start + length > file.size:
        message = f"bytes {start:,} to {start + length:,} are named, and the file has {file.size:,}"
        raise CorruptCheckpoint(message, path=file.path, code="truncated")
    window = Window(file, start, length)
    head = _RangeHead(file.path, window.read(0, min(length, HEAD)), length, file.fd, window=window)
    return RangeFile(file.path, file.fd, length, file.identity, head, window=window)


def open_range(file: RangeFile) -> Checkpoint:
    """What an archive in a range of a file holds.

    Raises:
        CorruptCheckpoint: it is no `torch.save` archive or safetensors file, or nothing of it can be read.
    """
    from sdviewer.formats.safetensors import Safetensors
    from sdviewer.formats.torch_legacy import TorchLegacy
    from sdviewer.formats.torch_zip import TorchZip

    for format_ in (TorchZip(), Safetensors(), TorchLegacy()):
        if format_.matches(file.head):
            return format_.open(file, no_progress)
    raise CorruptCheckpoint(f"no torch archive begins at byte {file.base:,} of it", path=file.path)


class _Located(NamedTuple):
    """Where a box's row-major bytes begin: in its file, or in the temporary file."""

    start: int
    spilled: bool


class AssembledReader:
    """A `ByteSource` over the boxes of a tensor; may be used by several threads.

    It keeps no file open between two reads: a tensor can lie in a thousand files. Before and after each read a file
    must be the one that was opened.
    """

    def __init__(self, assembly: Assembly) -> None:
        self.nbytes = assembly.nbytes
        self._assembly = assembly
        self._files = {name: (path, identity) for name, path, identity in assembly.files}
        self._lock = threading.Lock()
        self._spill: IO[bytes] | None = None
        self._located: dict[int, _Located] = {}
        self._rows = [_Rows(box, assembly.grid, assembly.itemsize) for box in assembly.boxes]

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole `buffer` with the tensor's bytes from `start` (bytes).

        Raises:
            CorruptCheckpoint: the bytes are not there, or a file has changed (code `file_changed`).
        """
        buffer = buffer.cast("B")
        end = start + len(buffer)
        check_range("", start, len(buffer), self.nbytes)
        filled = 0
        for n, rows in enumerate(self._rows):
            if rows.first < end and rows.last > start:
                filled += self._read_box(n, rows, start, buffer)
        if filled != len(buffer):
            raise CorruptCheckpoint("the parts of the tensor do not cover it", code="incomplete")

    def close(self) -> None:
        """Let the temporary file go, if there is one."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def __enter__(self) -> AssembledReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_box(self, n: int, rows: _Rows, start: int, buffer: memoryview) -> int:
        """Put what one box has of the range into its places; returns how many bytes."""
        box = rows.box
        end = start + len(buffer)
        with self._opened(box.shard) as file:
            located = self._located.get(n)
            if located is None:
                with self._lock:
                    located = self._located.get(n) or self._locate(file, box)
                    self._located[n] = located
            fd = self._spill.fileno() if located.spilled and self._spill is not None else file.fd
            low, high = rows.touched(start, end)
            filled = 0
            if rows.count == 1:
                at = rows.place(0)
                first, last = max(start, at), min(end, at + rows.nbytes)
                read_into(fd, file.path, located.start + first - at, buffer[first - start : last - start])
                return last - first
            step = max(_PIECE // rows.nbytes, 1)
            for row in range(low, high, step):
                upto = min(row + step, high)
                # Of the first and the last row only what the range wants.
                skip = max(start - rows.place(row), 0)
                cut = max(rows.place(upto - 1) + rows.nbytes - end, 0)
                piece = memoryview(bytearray((upto - row) * rows.nbytes - skip - cut))
                read_into(fd, file.path, located.start + row * rows.nbytes + skip, piece)
                rows.scatter(row, upto, skip, piece, start, buffer)
                filled += len(piece)
            return filled

    @contextmanager
    def _opened(self, shard: str) -> Iterator[File]:
        path, identity = self._files[shard]
        fd, _ = open_descriptor(path)
        try:
            file = File(path, fd, identity.size, identity, Head(path, b"", identity.size, fd))
            check_unchanged(fd, identity, path)
            yield file
            check_unchanged(fd, identity, path)
        finally:
            os.close(fd)

    # Where a box's bytes are

    def _locate(self, file: File, box: Box) -> _Located:
        if box.span is not None:
            return self._in_span(Window(file, box.start, box.length), box.span, box.skip)
        part = range_file(file, box.start, box.length)
        if part.head.is_safetensors:
            return self._in_archive(part, box, _named(open_range(part), box))
        return self._in_archive(part, box, _only(open_range(part), box))

    def _in_archive(self, part: RangeFile, box: Box, found: tuple[Checkpoint, int]) -> _Located:
        archive, index = found
        tensor = archive.tensors[index]
        if tensor.unreadable or tensor.storage is None or tensor.storage_offset is None or tensor.stride is None:
            raise CorruptCheckpoint(
                f"a part of the tensor cannot be read: {tensor.unreadable or 'it has no bytes'}", path=part.path
            )
        if tensor.shape != box.sizes or tensor.dtype != self._assembly.dtype:
            message = (
                f"a part of the tensor is {tensor.dtype} {shape_text(tensor.shape)} in its file and "
                f"{self._assembly.dtype} {shape_text(box.sizes)} in the metadata"
            )
            raise CorruptCheckpoint(message, path=part.path, code="incomplete")
        size = self._assembly.itemsize
        span: StorageSpan = archive.source.span(tensor.storage) if tensor.elements else StorageSpan(0, 0)
        located = self._in_span(part.window, span, tensor.storage_offset * size)
        if archive.byte_order == "big" or not is_contiguous(tensor.shape, tensor.stride):
            return self._reordered(part, located, tensor.shape, tensor.stride, archive.byte_order == "big")
        return located

    def _in_span(self, part: Window, span: StorageSpan, skip: int) -> _Located:
        """Bytes of a range of a file, or of a zip member in it; a deflated one is inflated into the temporary file."""
        if span.packed is not None:
            raise OpenError("a part of the tensor is written as text, and not put together", path=part.path)
        if span.member is None:
            return _Located(part.start + span.start + skip, False)
        start = payload_offset(part, span.member, span.limit)
        if span.member.method != DEFLATED:
            return _Located(part.start + start + skip, False)
        spill, at = self._spill_end()
        for piece in inflate(part, span.member, start):
            spill.write(piece)
        spill.flush()
        return _Located(at + skip, True)

    def _reordered(
        self, file: File, located: _Located, shape: tuple[int, ...], stride: tuple[int, ...], swap: bool
    ) -> _Located:
        """A copy, in the temporary file, of a part that is not row-major or not little-endian in its archive."""
        import numpy as np

        size = self._assembly.itemsize
        reach = (1 + sum([(n - 1) * step for n, step in zip(shape, stride, strict=True)])) * size
        stored = bytearray(reach)
        spill, at = self._spill_end()
        fd = spill.fileno() if located.spilled else file.fd
        read_into(fd, file.path, located.start, memoryview(stored))
        view = np.lib.stride_tricks.as_strided(
            np.frombuffer(stored, np.uint8), (*shape, size), (*[step * size for step in stride], 1)
        )
        array = np.ascontiguousarray(view).reshape(-1, size)
        if swap:
            kind = DTYPES.get(self._assembly.dtype)
            part = size // 2 if kind is not None and kind.kind == "complex" else size
            array = np.ascontiguousarray(array.reshape(-1, part)[:, ::-1])
        spill.write(array.tobytes())
        spill.flush()
        return _Located(at, True)

    def _spill_end(self) -> tuple[IO[bytes], int]:
        if self._spill is None:
            self._spill = tempfile.TemporaryFile()  # noqa: SIM115  closed with the reader
        return self._spill, self._spill.seek(0, os.SEEK_END)


def _only(archive: Checkpoint, box: Box) -> tuple[Checkpoint, int]:
    """The tensor of an archive that is nothing but a tensor."""
    if not archive.tensors or archive.tensors[0].path:
        raise CorruptCheckpoint(f"the archive at byte {box.start:,} is no tensor", path=archive.path)
    return archive, 0


def _named(archive: Checkpoint, box: Box) -> tuple[Checkpoint, int]:
    """The tensor of a safetensors file that is called like the box."""
    for index, tensor in enumerate(archive.tensors):
        if tensor.key == box.name:
            return archive, index
    raise OpenError(f"there is no tensor {visible(box.name, 80)} in the file", path=archive.path, code="missing_key")


class _Rows:
    """A box as the runs of bytes that lie together in the whole tensor, all of the same length.

    `count` runs of `nbytes` bytes each; run r begins at byte r * `nbytes` of the box and at byte `place(r)` of the
    whole. `first` to `last` are the bytes of the whole from its first run to the end of its last.
    """

    def __init__(self, box: Box, grid: tuple[int, ...], itemsize: int) -> None:
        self.box = box
        dims = len(grid)
        while dims and box.sizes[dims - 1] == grid[dims - 1]:
            dims -= 1
        # Behind `dims` the box is as wide as the tensor, so the dimension before it goes on without a gap.
        outer = max(dims - 1, 0)
        strides = contiguous_stride(grid)
        self.sizes = box.sizes[:outer]
        self.steps = tuple([step * itemsize for step in strides[:outer]])
        self.nbytes = itemsize
        for size in box.sizes[outer:]:
            self.nbytes *= size
        self.count = 1
        for size in self.sizes:
            self.count *= size
        self.base = sum([at * step * itemsize for at, step in zip(box.offsets, strides, strict=True)])
        empty = self.nbytes == 0 or self.count == 0
        self.first = self.base
        self.last = self.base if empty else self.place(self.count - 1) + self.nbytes

    def place(self, row: int) -> int:
        """Where run `row` begins in the whole, in bytes."""
        at = self.base
        for size, step in zip(reversed(self.sizes), reversed(self.steps), strict=True):
            row, i = divmod(row, size)
            at += i * step
        return at

    def touched(self, start: int, end: int) -> tuple[int, int]:
        """The runs that have bytes between `start` and `end`; a run's place grows with its number."""
        if len(self.sizes) == 1:
            step = self.steps[0]
            low = (start - self.base - self.nbytes) // step + 1
            return max(low, 0), min(-((self.base - end) // step), self.count)
        rows = range(self.count)
        low = bisect_right(rows, start - self.nbytes, key=self.place)
        return low, bisect_left(rows, end, key=self.place)

    def scatter(self, row: int, upto: int, skip: int, piece: memoryview, start: int, buffer: memoryview) -> None:
        """Put runs `row` to `upto`, without the first `skip` bytes, into a buffer that begins at byte `start`."""
        done = 0
        while row < upto:
            # Runs of one line of the innermost dimension are a fixed step apart.
            n = min(self.sizes[-1] - row % self.sizes[-1], upto - row)
            whole = 0 if skip else min(n, (len(piece) - done) // self.nbytes)
            at = self.place(row) - start
            if whole > _FEW:
                self._scatter_line(piece[done : done + whole * self.nbytes], whole, buffer[at:])
                done += whole * self.nbytes
                row += whole
                continue
            length = min(self.nbytes - skip, len(piece) - done)
            buffer[at + skip : at + skip + length] = piece[done : done + length]
            done += length
            skip = 0
            row += 1

    def _scatter_line(self, piece: memoryview, n: int, out: memoryview) -> None:
        import numpy as np

        step = self.steps[-1]
        # The buffer need not go on for a whole step behind the last run.
        head = np.frombuffer(out[: (n - 1) * step], np.uint8).reshape(n - 1, step)
        runs = np.frombuffer(piece, np.uint8).reshape(n, self.nbytes)
        head[:, : self.nbytes] = runs[:-1]
        last = (n - 1) * step
        out[last : last + self.nbytes] = piece[-self.nbytes :]
