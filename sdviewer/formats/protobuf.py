"""Protobuf messages, walked field by field: each is a number, a wire type, and a value or a length.

Nothing is built from a message, and what is not of interest is skipped by its length, so a message of 2 GB costs what
its fields cost.

Facts: the published description of protobuf's encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.zip_directory import Reader

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

_FIRST_WINDOW, _WINDOW = 1 << 10, 1 << 18
"""Bytes read at once, after a jump and at most: they double from window to window, so that a run of small fields costs
a few requests, and a field between tensors does not cost 256 KiB."""

_LONGEST_VARINT = 10
_LONGEST_HEAD = 2 * _LONGEST_VARINT
"""Bytes of a field before what its length counts."""

_FIELDS_BETWEEN_LOOKS = 4096

_new = tuple.__new__


class Field(NamedTuple):
    """One field of a message: the number it holds, or the bytes `at` to `end` of the file."""

    number: int
    wire: int
    value: int
    at: int
    end: int


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, the byte behind it): seven bits a byte, the lowest first, the high bit says that more follow.

    Raises:
        IndexError: the bytes end first.
        ValueError: it does not end.
    """
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError


class Messages:
    """The messages in a file, read through one window that moves along. All in bytes."""

    def __init__(self, file: Reader, progress: Progress = no_progress) -> None:
        self._file = file
        self._progress = progress
        self._start = 0
        self._data = b""
        self._window = _FIRST_WINDOW
        self._last = -1

    def fields(self, at: int, end: int) -> Iterator[Field]:
        """The fields of the message at `at` to `end`; one that the message or the file breaks off in is the last.

        Raises:
            CorruptCheckpoint: a field breaks off, or has a number or wire type that protobuf does not know.
        """
        stop = min(end, self._file.size)
        seen = 0
        while at < stop:
            seen += 1
            if not seen % _FIELDS_BETWEEN_LOOKS:
                self._progress(0, 0)
            begin = at
            first = at - self._start
            if not 0 <= first <= self._last:
                self._move(at)
                first = 0
            data, place = self._data, first
            try:
                tag = data[place]
                if tag < 0x80:
                    place += 1
                else:
                    tag, place = varint(data, place)
                number, wire, value = tag >> 3, tag & 7, 0
                if wire in (VARINT, BYTES):
                    value = data[place]
                    if value < 0x80:
                        place += 1
                    else:
                        value, place = varint(data, place)
            except IndexError:
                raise self._cut(begin) from None
            except ValueError:
                message = f"a number in the field at byte {begin:,} does not end"
                raise CorruptCheckpoint(message, path=self._file.path) from None
            at = field_end = begin + place - first
            if wire == BYTES:
                field_end += value
            elif wire == FIXED64:
                field_end += 8
            elif wire == FIXED32:
                field_end += 4
            elif wire != VARINT:
                message = f"a field at byte {begin:,} has the wire type {wire}, which protobuf does not know"
                raise CorruptCheckpoint(message, path=self._file.path)
            if not number:
                raise CorruptCheckpoint(f"a field at byte {begin:,} has no number", path=self._file.path)
            yield _new(Field, (number, wire, value, at, field_end))
            if field_end > stop:
                raise self._cut(begin)
            at = field_end

    def numbers(self, field: Field, most: int) -> list[int]:
        """The varints of a field: one, or packed ones, of which at most `most` are told.

        Raises:
            CorruptCheckpoint: one breaks off.
        """
        if field.wire == VARINT:
            return [field.value]
        data = self.read(field, most * _LONGEST_VARINT)
        values: list[int] = []
        at = 0
        try:
            while at < len(data) and len(values) < most:
                value, at = varint(data, at)
                values.append(value)
        except (IndexError, ValueError):
            raise self._cut(field.at) from None
        return values

    def read(self, field: Field, most: int) -> bytes:
        """The bytes of a field, at most so many and as far as the file goes."""
        length = max(min(field.end - field.at, most, self._file.size - field.at), 0)
        place = field.at - self._start
        if place >= 0 and place + length <= len(self._data):
            return self._data[place : place + length]
        return self._file.read(field.at, length)

    def _move(self, at: int) -> None:
        """Let the window begin at byte `at`; `_last` is the last place in it at which the head of a field can begin."""
        went_on = 0 <= at - self._start <= len(self._data)
        self._window = min(self._window * 2, _WINDOW) if went_on else _FIRST_WINDOW
        self._start = at
        self._data = self._file.read(at, min(self._window, self._file.size - at))
        at_end = at + len(self._data) == self._file.size
        self._last = len(self._data) - (1 if at_end else _LONGEST_HEAD)

    def _cut(self, at: int) -> CorruptCheckpoint:
        message = f"the file breaks off in the field at byte {at:,}"
        return CorruptCheckpoint(message, path=self._file.path, code="truncated", remedy="Copy or download it again.")
