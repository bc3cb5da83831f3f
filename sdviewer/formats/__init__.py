"""The only room that touches disk: one file a format, opening, and saving.

Law: bytes are read with bounded `pread`, never a mapping; every length in a file is checked against the file before it
is believed; the source is never written.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.registry import FORMATS, Format

if TYPE_CHECKING:
    from sdviewer.formats.parts import OpenStorage
    from sdviewer.formats.receipt import Receipt
    from sdviewer.formats.saving import save
    from sdviewer.formats.storage import TensorSource, checksum, open_storage, tensor_source

__all__ = [
    "FORMATS",
    "Format",
    "OpenStorage",
    "Receipt",
    "TensorSource",
    "checksum",
    "open_checkpoint",
    "open_storage",
    "save",
    "tensor_source",
]


_LATER = {
    "OpenStorage": "parts",
    "Receipt": "receipt",
    "save": "saving",
    **dict.fromkeys(("TensorSource", "checksum", "open_storage", "tensor_source"), "storage"),
}
"""Name -> module: saving is a third of this room, and most commands only look at a header."""


def __getattr__(name: str) -> Any:
    """What reads numbers and saves is imported when it is asked for."""
    if name in _LATER:
        return getattr(import_module(f"sdviewer.formats.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
