"""A new npz archive: each tensor a stored member `KEY.npy`, as `numpy.savez` writes it.

What NumPy has no type for is written as bytes without one, which is how NumPy writes the arrays of ml_dtypes.

Facts: NumPy 2 (`numpy.lib.format`), measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.text import visible
from sdviewer.errors import SaveError
from sdviewer.formats.pieces import Layout, Made
from sdviewer.formats.tensors_out import TensorOut
from sdviewer.formats.zip_writer import Member, lay_out

_MAGIC = b"\x93NUMPY\x01\x00"
_ALIGNMENT = 64
"""The elements begin at a multiple of this many bytes of the member."""


def lay_out_npz(tensors: Sequence[TensorOut]) -> Layout:
    """The pieces of the archive.

    Raises:
        SaveError: a key cannot be the name of a member.
    """
    return Layout(lay_out([_member(one) for one in tensors], _ALIGNMENT))


def _member(one: TensorOut) -> Member:
    try:
        name = f"{one.key}.npy".encode()
    except UnicodeEncodeError:
        raise SaveError(
            f"the key {visible(one.key)} holds half a character, which is no name in an archive",
            remedy="Rename it first.",
        ) from None
    if len(name) > 0xFFFF or b"\0" in name:
        raise SaveError(f"the key {visible(one.key, 80)} is no name in an archive", remedy="Rename it first.")
    data = with_head(npy_header(one), one.made)
    return Member(name, data, data.nbytes, 0)


def with_head(head: bytes, made: Made) -> Made:
    """Bytes that stand before computed ones, as one piece with one checksum; those behind get theirs too."""

    def chunks() -> Iterator[memoryview]:
        yield memoryview(head)
        crc = 0
        for chunk in made.chunks():
            crc = zlib.crc32(chunk, crc)
            yield chunk
        made.crc = crc

    return Made(len(head) + made.nbytes, chunks)


def npy_header(one: TensorOut) -> bytes:
    """What stands before the elements of an array of this tensor's dtype and shape."""
    shape = f"({', '.join(map(str, one.shape))}{',' if len(one.shape) == 1 else ''})"
    text = f"{{'descr': '{_descr(one.dtype)}', 'fortran_order': False, 'shape': {shape}, }}"
    pad = -(len(_MAGIC) + 2 + len(text) + 1) % _ALIGNMENT
    body = text.encode("ascii") + b" " * pad + b"\n"
    return _MAGIC + len(body).to_bytes(2, "little") + body


def _descr(dtype: str) -> str:
    """NumPy's name for the type of an element."""
    known = DTYPES[dtype]
    if known.kind == "bool":
        return "|b1"
    if known.numpy[:1] in ("<", "|") and known.kind != "quantized":
        return known.numpy
    return f"{'<' if known.itemsize > 1 else '|'}V{known.itemsize}"
