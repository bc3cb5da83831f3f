"""Reading a header from front to back, through a window of the file."""

from __future__ import annotations

from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.zip_directory import Reader

_FIRST_WINDOW, _WINDOW = 1 << 10, 1 << 18
"""Bytes read at once, after a jump and at most: they double from window to window, so that a long header costs a few
requests, and a few fields between tensors do not cost 256 KiB."""


class Cursor:
    """A place in a file, `at`, that moves on with each read and never beyond `end`. All in bytes."""

    __slots__ = ("_data", "_file", "_start", "_window", "at", "end")

    def __init__(self, file: Reader, at: int = 0, end: int | None = None) -> None:
        self.at = at
        self.end = file.size if end is None else min(end, file.size)
        self._file = file
        self._start = at
        self._data = b""
        self._window = _FIRST_WINDOW

    @property
    def left(self) -> int:
        """Bytes before the end."""
        return self.end - self.at

    def take(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises:
            CorruptCheckpoint: they are not there (code `truncated`).
        """
        begin = self.at - self._start
        stop = begin + length
        if begin < 0 or stop > len(self._data):
            self._need(length)
            if length > _WINDOW:
                data = self._file.read(self.at, length)
                self.at += length
                return data
            went_on = self._start <= self.at <= self._start + len(self._data)
            self._window = min(self._window * 2, _WINDOW) if went_on else _FIRST_WINDOW
            self._start, begin, stop = self.at, 0, length
            self._data = self._file.read(self.at, min(max(self._window, length), self.left))
        self.at += length
        return self._data[begin:stop]

    def skip(self, length: int) -> None:
        """Go on by `length` bytes without reading them.

        Raises:
            CorruptCheckpoint: they are not there (code `truncated`).
        """
        self._need(length)
        self.at += length

    def _need(self, length: int) -> None:
        if length > self.left:
            raise CorruptCheckpoint(
                f"{length:,} bytes are named at byte {self.at:,}, and {self.left:,} are there",
                path=self._file.path,
                code="truncated",
                remedy="Copy or download it again.",
            )
