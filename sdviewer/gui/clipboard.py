"""The clipboard, as far as it is read: text only, as bytes, and only a bounded part of it is looked at.

Its owner is another program, which hands over the whole text: nothing tells how long it is before.
"""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QMimeData
from PySide6.QtGui import QGuiApplication

MOST: Final = 128 << 20
"""Bytes of a text that are taken over."""
LOOKED_AT: Final = 1 << 20
"""Bytes at both ends of a text in which the words of a load error are looked for."""
SIGNS: Final = (
    *(b"Missing key(s)", b"Unexpected key(s)", b"size mismatch for", b"Error(s) in loading"),
    *(b"were not used when initializing", b"newly initialized", b"The model and loaded state dict do not match"),
)
"""What the text of a load error holds."""
_UTF8: Final = "text/plain;charset=utf-8"
_SECRET: Final = "x-kde-passwordManagerHint"


def text_in(data: QMimeData) -> bytes:
    """The text of the clipboard, of a drop or a paste as UTF-8; empty where it holds none."""
    if not data.hasText():
        return b""
    raw = data.data(_UTF8) if data.hasFormat(_UTF8) else None
    if raw is None or raw.isEmpty():
        return data.text()[:MOST].encode("utf-8", "replace")
    return bytes(raw.data())[:MOST]


def clipboard_text() -> bytes:
    """The text of the clipboard; empty where there is none, or a program says that it is a secret."""
    data = QGuiApplication.clipboard().mimeData()
    return b"" if data is None or data.hasFormat(_SECRET) else text_in(data)


def holds_load_error(raw: bytes) -> bool:
    """Whether a text is, or ends with, what a loader prints of a checkpoint that does not fit."""
    ends = (raw[:LOOKED_AT], raw[-LOOKED_AT:] if len(raw) > LOOKED_AT else b"")
    return any(sign in end for end in ends for sign in SIGNS)
