"""The only room that touches disk: one file a format, opening, and saving.

Law: bytes are read with bounded `pread`, never a mapping; every length in a file is checked against the file before it
is believed; the source is never written.
"""

from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.registry import FORMATS, Format
from sdviewer.formats.saving import save
from sdviewer.formats.storage import StorageReader, TensorSource, open_storage, tensor_source

__all__ = [
    "FORMATS",
    "Format",
    "Receipt",
    "StorageReader",
    "TensorSource",
    "open_checkpoint",
    "open_storage",
    "save",
    "tensor_source",
]
