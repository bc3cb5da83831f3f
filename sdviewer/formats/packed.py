"""Bytes that a container does not store as they are, unpacked when somebody wants to see them.

What is unpacked here is in memory as a whole, and its size is bounded by the bytes that are there: a character gives at
most one byte, a varint takes at least one and gives at most eight.
"""

from __future__ import annotations

from codecs import escape_decode

from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.torch_source import Packed
from sdviewer.formats.zip_directory import Reader

VARINTS = {1: "varint1", 2: "varint2", 4: "varint4", 8: "varint8"}
"""Bytes of an element -> how protobuf's varints stand one behind the other, each cut to an element of so many bytes."""

_BYTES = {name: itemsize for itemsize, name in VARINTS.items()}
_LONGEST_VARINT = 10
_PIECE = 1 << 20


def unpacked(file: Reader, packed: Packed, nbytes: int | None = None) -> bytes:
    """The bytes of a storage of which a file holds a text or varints; of varints there must be `nbytes`.

    Raises:
        CorruptCheckpoint: characters are no bytes, there are more or fewer numbers, or one never ends.
    """
    data = file.read(packed.start, packed.length)
    try:
        if packed.how in _BYTES:
            return _varints(data, _BYTES[packed.how], nbytes)
        return _text(data, packed.how)
    except CorruptCheckpoint as error:
        error.path = file.path
        raise


def _text(data: bytes, encoding: str) -> bytes:
    try:
        if encoding == "string-escape":
            return bytes(escape_decode(data)[0])
        return data.decode(encoding).encode("latin-1")
    except ValueError:
        raise CorruptCheckpoint("bytes that are written as text are none") from None


def _varints(data: bytes, itemsize: int, nbytes: int | None) -> bytes:
    """The little-endian elements that protobuf's varints give."""
    import numpy as np

    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes < 0x80)
    if (nbytes is not None and ends.size * itemsize != nbytes) or (codes.size and codes[-1] >= 0x80):
        raise CorruptCheckpoint(f"{ends.size:,} numbers are there, and {(nbytes or 0) // itemsize:,} are needed")
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: ends.size]
    lengths = ends - starts + 1
    if lengths.size and lengths.max() > _LONGEST_VARINT:
        raise CorruptCheckpoint("one of its numbers is longer than a varint can be")
    out = np.empty(ends.size, f"<u{itemsize}")
    for first in range(0, ends.size, _PIECE):
        part = slice(first, first + _PIECE)
        values = np.zeros(ends[part].size, np.uint64)
        for place in range(int(lengths[part].max(initial=0))):
            there = lengths[part] > place
            groups = (codes[starts[part][there] + place] & 0x7F).astype(np.uint64)
            values[there] |= groups << np.uint64(7 * place)
        out[part] = values
    return out.tobytes()
