"""Small checkpoints that the tests make themselves, honest ones with torch and broken ones by hand."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.formats import open_storage, tensor_source

Save = Callable[..., Path]


class Member(NamedTuple):
    """A zip member, with lies where a test wants them."""

    name: str
    data: bytes
    method: int = 0
    flags: int = 0
    crc: int | None = None
    csize: int | None = None
    usize: int | None = None
    local_method: int | None = None
    offset: int | None = None
    extra: bytes = b""


class BuiltZip(NamedTuple):
    """The bytes of an archive and where its directory lies."""

    data: bytes
    start: int
    size: int


def build_zip(members: Iterable[Member], *, count: int | None = None, comment: bytes = b"") -> BuiltZip:
    """A zip archive written by hand; `count` is what the end record claims."""
    body, directory, n = bytearray(), bytearray(), 0
    for member in members:
        data = member.data
        if member.method == 8:
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = deflater.compress(data) + deflater.flush()
        name = member.name.encode("utf-8", "surrogateescape")
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        csize = len(data) if member.csize is None else member.csize
        usize = len(member.data) if member.usize is None else member.usize
        local_method = member.method if member.local_method is None else member.local_method
        offset = len(body) if member.offset is None else member.offset
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, member.flags, local_method, 0, 0, 0, 0, 0, len(name), 0)
        body += name + data
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, member.flags, member.method, 0, 0, crc, csize, usize,
            len(name), len(member.extra), 0, 0, 0, 0, offset,
        )  # fmt: skip
        directory += name + member.extra
        n += 1
    claimed = n if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, claimed, claimed, len(directory), len(body), len(comment))
    return BuiltZip(bytes(body + directory + end + comment), len(body), len(directory))


def torch_members(pickle: bytes, storages: dict[str, bytes], **records: str) -> list[Member]:
    """The members of a torch zip around a pickle; further records by name."""
    return [
        Member("archive/data.pkl", pickle),
        Member("archive/byteorder", records.pop("byteorder", "little").encode()),
        *[Member(f"archive/data/{key}", data) for key, data in storages.items()],
        Member("archive/version", records.pop("version", "3\n").encode()),
        *[Member(f"archive/{name}", text.encode()) for name, text in records.items()],
    ]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """`save(object, name="model.pt", **options)`: torch.save into a fresh folder, and the path."""
    import torch

    def save_it(thing: Any, name: str = "model.pt", **options: Any) -> Path:
        path = tmp_path / name
        torch.save(thing, path, **options)
        return path

    return save_it


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(bytes, name="model.pt")`: a file of these bytes, and the path."""

    def write_it(data: bytes, name: str = "model.pt") -> Path:
        path = tmp_path / name
        path.unlink(missing_ok=True)  # some file systems flush a file that is truncated and written again
        path.write_bytes(data)
        return path

    return write_it


def elements(checkpoint: Checkpoint, index: int) -> bytes:
    """The row-major little-endian elements of a tensor, through the public way to its bytes."""
    source = tensor_source(checkpoint, index)
    layout = source.layout
    with open_storage(source) as storage:
        data = bytearray(storage.nbytes)
        storage.read_into(0, memoryview(data))
    if layout.opaque is not None:
        return bytes(data)
    dtype = DTYPES[layout.dtype]
    stored = np.frombuffer(bytes(data), np.uint8)[layout.offset * dtype.itemsize :]
    if 0 in layout.shape:
        return b""
    strides = tuple([step * dtype.itemsize for step in layout.stride])
    view = np.lib.stride_tricks.as_strided(stored, (*layout.shape, dtype.itemsize), (*strides, 1))
    array = np.ascontiguousarray(view)
    if layout.swap:
        half = dtype.itemsize // 2 if dtype.kind == "complex" else dtype.itemsize
        array = np.ascontiguousarray(array.reshape(-1, half)[:, ::-1])
    return array.tobytes()
