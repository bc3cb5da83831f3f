"""A zip archive laid out as torch writes one, byte for byte.

`torch.load` computes where storages lie instead of reading their headers when the archive has a `.format_version`, so
padding and descriptors are part of the format, not a habit: flags 0x0808, sizes only behind the data and in the
directory, every record's bytes aligned by an `FB` extra field, ZIP64 end record always.

Facts: torch 2.13 (PyTorchStreamWriter over miniz), measured; an unedited archive comes out as the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from sdviewer.formats.pieces import Later, Made, Piece, nbytes_of

WIDE = 0xFFFFFFFF
"""A size or an offset from here on (bytes) does not fit into 32 bits."""

DEFAULT_ALIGNMENT = 64
LARGEST_ALIGNMENT = 0xFFFF
"""The pad length is 16 bits wide; torch writes files with more that it cannot read."""

_FLAGS = 0x0808  # sizes in a descriptor behind the data; names are UTF-8
_FLAGS_EMPTY = 0x0800  # an empty record has no descriptor
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")


class Member(NamedTuple):
    """One record: `data` as it stands in the archive, `usize` its length in bytes when inflated, method 0 or 8.

    The checksum of data that is still to be computed is asked of it when it has been written.
    """

    name: bytes
    data: Piece
    usize: int
    crc: int
    method: int = 0


def lay_out(members: Iterable[Member], alignment: int = DEFAULT_ALIGNMENT) -> list[Piece]:
    """The pieces of an archive with these members in this order, each starting at a multiple of `alignment` bytes."""
    pieces: list[Piece] = []
    directory: list[tuple[Member, bytes, int, int]] = []
    at = 0
    for member in members:
        csize = nbytes_of(member.data)
        wide = _wide_extra(member.usize, csize, at)
        # torch does not know a record's stored length yet when it writes this: 0 stands there.
        header = _local_header(member, _wide_extra(member.usize, csize, at, stated=0), at, alignment)
        descriptor = _descriptor_piece(member, csize, bool(wide)) if csize else b""
        pieces += (header, member.data, descriptor)
        directory.append((member, wide, csize, at))
        at += len(header) + csize + nbytes_of(descriptor)
    size = sum([_ENTRY.size + len(member.name) + len(wide) for member, wide, _, _ in directory])
    if any(isinstance(member.data, Made) for member, *_ in directory):
        pieces.append(Later(size, lambda: b"".join([_entry(*entry) for entry in directory])))
    else:
        pieces.append(b"".join([_entry(*entry) for entry in directory]))
    pieces.append(_end(len(directory), size, at))
    return pieces


def _checksum(member: Member) -> int:
    """The CRC-32 of a record, which for a computed one is known once it has been written."""
    return member.data.crc or 0 if isinstance(member.data, Made) else member.crc


def _descriptor_piece(member: Member, csize: int, wide: bool) -> Piece:
    def descriptor() -> bytes:
        return _descriptor(_checksum(member), csize, member.usize, wide)

    return Later(24 if wide else 16, descriptor) if isinstance(member.data, Made) else descriptor()


def _wide_extra(usize: int, csize: int, offset: int, stated: int | None = None) -> bytes:
    """The ZIP64 extra field: both sizes, then the header's offset, each only where it is needed; b"" mostly.

    `stated` is written in place of the stored length `csize`.
    """
    numbers = []
    if usize >= WIDE or csize >= WIDE:
        numbers += [usize, csize if stated is None else stated]
    if offset >= WIDE:
        numbers.append(offset)
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def _local_header(member: Member, wide: bytes, offset: int, alignment: int) -> bytes:
    name = member.name
    base = offset + _LOCAL.size + len(name) + len(wide) + 4
    pad = -base % alignment
    flags = _FLAGS if nbytes_of(member.data) else _FLAGS_EMPTY
    fixed = _LOCAL.pack(b"PK\3\4", 0, flags, member.method, 0, 0, 0, 0, 0, len(name), len(wide) + 4 + pad)
    return b"".join((fixed, name, wide, b"FB", pad.to_bytes(2, "little"), b"Z" * pad))


def _descriptor(crc: int, csize: int, usize: int, wide: bool) -> bytes:
    return struct.pack("<4sL2Q" if wide else "<4s3L", b"PK\7\x08", crc, csize, usize)


def _entry(member: Member, wide: bytes, csize: int, offset: int) -> bytes:
    sizes = (min(csize, WIDE), min(member.usize, WIDE))
    flags = _FLAGS if csize else _FLAGS_EMPTY
    fixed = _ENTRY.pack(
        *(b"PK\1\2", 0, 0, flags, member.method, 0, 0, _checksum(member), *sizes),
        *(len(member.name), len(wide), 0, 0, 0, 0, min(offset, WIDE)),
    )
    return fixed + member.name + wide


def _end(count: int, size: int, start: int) -> bytes:
    end64 = _END64.pack(b"PK\6\6", _END64.size - 12, 0x031E, 0x2D, 0, 0, count, count, size, start)
    locator = _LOCATOR64.pack(b"PK\6\7", 0, start + size, 1)
    short = min(count, 0xFFFF)
    return end64 + locator + _END.pack(b"PK\5\6", 0, 0, short, short, min(size, WIDE), min(start, WIDE), 0)
