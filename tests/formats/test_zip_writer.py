from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import torch

from sdviewer.formats.pieces import Copy
from sdviewer.formats.zip_writer import Member, lay_out


def member(name: str, data: bytes) -> Member:
    return Member(name.encode(), data, len(data), zlib.crc32(data))


def joined(pieces: list[bytes | Copy]) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def test_that_an_archive_comes_out_with_the_bytes_that_torch_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    tensors = {"a": torch.arange(100.0), "none": torch.empty(0), "b": torch.ones(3, dtype=torch.int8)}
    torch.save(tensors, path)
    with zipfile.ZipFile(path) as archive:
        members = [member(info.filename, archive.read(info)) for info in archive.infolist()]
    assert joined(lay_out(members)) == path.read_bytes()


def test_that_other_alignments_and_compressed_records_can_be_read_by_others() -> None:
    text = b"storage " * 500
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(text) + packer.flush()
    members = [member("top/data.pkl", b"x"), Member(b"top/data/0", packed, len(text), zlib.crc32(text), 8)]
    data = joined(lay_out([*members, member("top/folder/", b"")], alignment=4096))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("top/data/0") == text
        assert archive.namelist() == ["top/data.pkl", "top/data/0", "top/folder/"]
        header = archive.getinfo("top/data/0").header_offset
    names, extra = struct.unpack_from("<2H", data, header + 26)
    assert (header + 30 + names + extra) % 4096 == 0


def test_that_sizes_and_offsets_beyond_32_bits_go_where_torch_looks_for_them() -> None:
    size = 5 << 30
    pieces = lay_out([Member(b"m/data/0", Copy(0, size), size, 7), member("m/version", b"3\n")])
    first, _, first_descriptor, second, _, second_descriptor, directory, end = pieces
    assert isinstance(first, bytes)
    # In the local header the 32-bit fields stay 0; the extra field comes before the padding.
    assert first[14:26] == bytes(12)
    assert first[38:58] == struct.pack("<2H2Q", 1, 16, size, 0)
    assert first[58:60] == b"FB"
    assert len(first) % 64 == 0
    assert first_descriptor == struct.pack("<4sL2Q", b"PK\7\x08", 7, size, size)
    offset = len(first) + size + 24
    assert isinstance(second, bytes)
    assert second[39:51] == struct.pack("<2HQ", 1, 8, offset)
    assert (offset + len(second)) % 64 == 0
    assert isinstance(second_descriptor, bytes)
    assert len(second_descriptor) == 24
    assert isinstance(directory, bytes)
    assert directory[20:28] == b"\xff" * 8
    assert directory[54:74] == struct.pack("<2H2Q", 1, 16, size, size)
    assert directory[74 + 42 : 74 + 46] == b"\xff" * 4
    assert directory.endswith(struct.pack("<2HQ", 1, 8, offset))
    start = offset + len(second) + 2 + 24
    assert isinstance(end, bytes)
    assert struct.unpack_from("<2Q", end, 40) == (len(directory), start)
    assert end[-6:-2] == b"\xff" * 4
