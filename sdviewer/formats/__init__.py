"""The only room that touches disk: one file a format, opening, and saving.

Law: bytes are read with bounded `pread`, never a mapping; every length in a file is checked against the file before it
is believed; the source is never written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.registry import FORMATS, Format
from sdviewer.formats.storage import TensorSource, checksum, open_storage, tensor_source

if TYPE_CHECKING:
    from sdviewer.formats.parts import OpenStorage
    from sdviewer.formats.receipt import Receipt
    from sdviewer.formats.saving import save

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


def __getattr__(name: str) -> Any:
    """Saving is loaded when it is asked for: it is a third of this room, and most commands only read."""
    if name == "save":
        from sdviewer.formats.saving import save

        return save
    if name == "Receipt":
        from sdviewer.formats.receipt import Receipt

        return Receipt
    raise AttributeError(f"module {__name__} has no attribute {name}")
