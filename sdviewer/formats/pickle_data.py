"""The bytes of a pickle, without the long constants of a large one.

A pickle of arrays is a few opcodes and gigabytes of constants. From a file of 64 MiB on, constants of 64 KiB and more
are cut down to their beginning before the pickle is parsed; where the rest lies is kept. CPython writes such constants
outside of frames, so frames are taken whole.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from sdviewer.core.progress import Progress
from sdviewer.formats.torch_source import Packed
from sdviewer.formats.zip_directory import Reader
from sdviewer.pickles import opcodes as op
from sdviewer.pickles.nodes import Const

SMALL_FILE = 64 << 20
_LONG = 64 << 10
_KEPT = 8 << 10
"""Bytes of a long constant that are kept, to be shown."""

_PIECE = 1 << 18


class Cut(NamedTuple):
    """One long constant: its opcode's offset in `PickleData.data`, where its bytes lie in the file, how many.

    `length` 0 is a FRAME that was left out before the opcode at `at + 1`.
    """

    at: int
    start: int
    length: int


class CutBytes(bytes):
    """The beginning of a bytes constant that is `whole` bytes long in the file."""

    whole: int = 0


@dataclass(slots=True)
class PickleData:
    """What the pickle machine gets, and where it lies in the file.

    `cuts` are in order; `behind[i]` is how many bytes of the file are missing up to and with cut i.
    """

    data: bytes
    cuts: list[Cut] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)

    def in_file(self, at: int) -> int:
        """The offset in the file of an offset in `data` that is no part of a cut constant."""
        i = bisect_right(self.cuts, at, key=lambda cut: cut.at + 1)
        return at + (self.behind[i - 1] if i else 0)

    def cut_of(self, node: Const) -> Cut | None:
        """The cut that a constant is the beginning of."""
        i = bisect_right(self.cuts, node.at, key=lambda cut: cut.at) - 1
        return self.cuts[i] if i >= 0 and self.cuts[i].at == node.at and self.cuts[i].length else None

    def bytes_of(self, node: Const) -> tuple[int, int] | None:
        """Where the bytes of a constant of raw bytes lie in the file (start, length); None for another opcode."""
        width = _RAW.get(node.raw[0]) if node.raw else None
        if width is None:
            return None
        cut = self.cut_of(node)
        return (cut.start, cut.length) if cut else (self.in_file(node.at) + 1 + width, len(node.raw) - 1 - width)

    def text_of(self, node: Const) -> Packed | None:
        """Where a constant of text lies in the file, and how it is written; None for another opcode."""
        code = node.raw[0] if node.raw else 0
        cut = self.cut_of(node)
        if code in _TEXT:
            width = _TEXT[code]
            start = cut.start if cut else self.in_file(node.at) + 1 + width
            return Packed(start, cut.length if cut else len(node.raw) - 1 - width, "utf-8")
        if code == op.UNICODE:
            return Packed(self.in_file(node.at) + 1, len(node.raw) - 2, "raw-unicode-escape")
        if code == op.STRING:
            # The quotes may have blanks around them.
            body = node.raw[1:].strip()
            start = node.raw.index(body) + 1
            return Packed(self.in_file(node.at) + start, len(body) - 2, "string-escape")
        return None


_RAW = {
    op.BINBYTES: 4,
    op.SHORT_BINBYTES: 1,
    op.BINBYTES8: 8,
    op.BYTEARRAY8: 8,
    op.BINSTRING: 4,
    op.SHORT_BINSTRING: 1,
}
"""Opcode -> bytes of its length; behind it are raw bytes."""

_TEXT = {op.BINUNICODE: 4, op.SHORT_BINUNICODE: 1, op.BINUNICODE8: 8}

_CUTTABLE = frozenset((*_RAW, *_TEXT))
_COUNTED = {**_RAW, **_TEXT, op.LONG1: 1, op.LONG4: 4, op.FRAME: 8}
_FIXED = {
    op.PROTO: 1,
    op.BINPUT: 1,
    op.BINGET: 1,
    op.LONG_BINPUT: 4,
    op.LONG_BINGET: 4,
    op.BININT: 4,
    op.BININT1: 1,
    op.BININT2: 2,
    op.BINFLOAT: 8,
    op.EXT1: 1,
    op.EXT2: 2,
    op.EXT4: 4,
}
_LINES = {
    op.INT: 1,
    op.LONG: 1,
    op.FLOAT: 1,
    op.STRING: 1,
    op.UNICODE: 1,
    op.PUT: 1,
    op.GET: 1,
    op.PERSID: 1,
    op.GLOBAL: 2,
    op.INST: 2,
}
_BARE = frozenset(b"(.012Nd}eal]oub)tsQR\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98")
"""Opcodes without an argument."""


def read_pickle_data(file: Reader, progress: Progress, *, small_file: int = SMALL_FILE) -> PickleData:
    """The pickles of a file; one of at least `small_file` bytes without its long constants.

    Raises:
        CorruptCheckpoint: the file became shorter meanwhile.
        Cancelled: from `progress`.
    """
    if file.size < small_file:
        return PickleData(file.read(0, file.size))
    return _Skim(file, progress).run()


class _Skim:
    """One walk over the opcodes of a large file, which is read piece by piece."""

    def __init__(self, file: Reader, progress: Progress) -> None:
        self.file = file
        self.progress = progress
        self.out = bytearray()
        self.cuts: list[Cut] = []
        self.behind: list[int] = []
        self.missing = 0

    def run(self) -> PickleData:
        """Copy everything but the long constants, up to the end or to what is no opcode."""
        size = self.file.size
        at = 0
        while at < size:
            self.progress(at, size)
            piece = self.file.read(at, min(_PIECE, size - at))
            done = _whole_opcodes(piece)
            self.out += piece[:done]
            at += done
            if not done:
                at = self._next(at)
        return PickleData(bytes(self.out), self.cuts, self.behind)

    def _next(self, at: int) -> int:
        """Take an opcode that no piece holds whole, or that is none; the offset behind it."""
        left = self.file.size - at
        head = self.file.read(at, min(9, left))
        code = head[0]
        width = _COUNTED.get(code, 0)
        length = int.from_bytes(head[1 : 1 + width], "little")
        if code == op.FRAME and len(head) == 9:
            # Frames only tell a reader how much to buffer; one that is larger than a piece is left out.
            self._leave_out(len(self.out) - 1, at, 0, 9)
            return at + 9
        if len(head) == 9 and length >= _LONG and code in _CUTTABLE and 1 + width + length <= left:
            return self._cut(at, head[: 1 + width], length)
        return self._line_or_rest(at, code)

    def _cut(self, at: int, head: bytes, length: int) -> int:
        start = at + len(head)
        kept = self.file.read(start, _KEPT)
        if head[0] in _TEXT:
            kept = kept.decode("utf-8", "ignore").encode()
        self._leave_out(len(self.out), start, length, length - len(kept))
        self.out += head[:1] + len(kept).to_bytes(len(head) - 1, "little") + kept
        return start + length

    def _leave_out(self, at: int, start: int, length: int, missing: int) -> None:
        self.missing += missing
        self.cuts.append(Cut(at, start, length))
        self.behind.append(self.missing)

    def _line_or_rest(self, at: int, code: int) -> int:
        """Copy a line longer than a piece; of what is no opcode, or is cut, the beginning: the machine says so."""
        size = self.file.size
        lines = _LINES.get(code, 0)
        length = _PIECE
        while lines and length < size - at:
            length = min(length * 2, size - at)
            piece = self.file.read(at, length)
            end = _behind_lines(piece, 0, lines)
            if end:
                self.out += piece[:end]
                return at + end
        self.out += self.file.read(at, min(_PIECE, size - at))
        return size


def _whole_opcodes(piece: bytes) -> int:
    """How far the opcodes go that are whole in a piece and need no cutting."""
    pos, end = 0, len(piece)
    while pos < end:
        code = piece[pos]
        if code in _BARE:
            pos += 1
            continue
        if code in _FIXED:
            after = pos + 1 + _FIXED[code]
        elif code in _COUNTED:
            start = pos + 1 + _COUNTED[code]
            length = int.from_bytes(piece[pos + 1 : start], "little")
            if start > end or (length >= _LONG and code in _CUTTABLE):
                return pos
            after = start + length
        elif code in _LINES:
            after = _behind_lines(piece, pos, _LINES[code])
        else:
            return pos
        if after > end or not after:
            return pos
        pos = after
    return pos


def _behind_lines(piece: bytes, at: int, lines: int) -> int:
    """The offset behind so many line ends, 0 where they are not there."""
    for _ in range(lines):
        at = piece.find(b"\n", at) + 1
        if not at:
            return 0
    return at
