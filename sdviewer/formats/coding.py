"""Numbers that a container does not store as a run of elements, decoded when somebody wants to see them.

What is decoded is in memory as a whole, and its size is bounded by the bytes that are there: a varint takes at least
one byte and gives at most eight.
"""

from __future__ import annotations

from sdviewer.errors import CorruptCheckpoint

VARINTS = {1: "varint1", 2: "varint2", 4: "varint4", 8: "varint8"}
"""Bytes of an element -> coding: protobuf varints one behind the other, each cut to an element of so many bytes."""

_BYTES = {name: itemsize for itemsize, name in VARINTS.items()}
_LONGEST_VARINT = 10
_PIECE = 1 << 20


def decode(coding: str, data: bytes, nbytes: int) -> bytes:
    """The little-endian elements, `nbytes` bytes of them, that `data` stands for.

    Raises:
        CorruptCheckpoint: without a path: there are more or fewer numbers, or one never ends.
    """
    import numpy as np

    itemsize = _BYTES[coding]
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes < 0x80)
    if ends.size * itemsize != nbytes or (codes.size and codes[-1] >= 0x80):
        raise CorruptCheckpoint(f"{ends.size:,} numbers are there, and {nbytes // itemsize:,} are needed")
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
