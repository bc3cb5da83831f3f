"""Reading and writing checkpoints: torch's files, and safetensors by the suffix."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Loaded, warn
from sdviewer.repair.script.parts.failures import InputError, OutputError, quoted
from sdviewer.repair.script.parts.tensors import looks_at, own

SAFETENSORS = ".safetensors"


def load(path: str) -> Loaded:
    """What a file holds, its tensors mapped where that is possible."""
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        if Path(path).suffix == SAFETENSORS:
            return load_tensors(path)
        if can_be_mapped(path):
            try:
                return Loaded(torch.load(path, mmap=True, **options), None)
            except TypeError:
                pass  # a torch before 2.1
        return Loaded(torch.load(path, **options), None)
    except Exception as error:
        raise InputError(f"it cannot be read: {error}") from error


def can_be_mapped(path: str) -> bool:
    """Whether it is an archive with its records as they are: torch would map compressed ones too, and read nonsense."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(record.compress_type == zipfile.ZIP_STORED for record in archive.infolist())


def load_tensors(path: str) -> Loaded:
    """What a safetensors file holds."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        return Loaded(OrderedDict(load_file(path)), file.metadata() or {})


def save(checkpoint: Checkpoint, path: str, *, zipped: bool = True, aliases: bool = True) -> None:
    """Write the whole as a file of torch, or the tensors of the state dict as safetensors."""
    if Path(path).suffix == SAFETENSORS:
        save_tensors(checkpoint, path, aliases)
    else:
        write_beside(path, lambda name: torch.save(checkpoint.root, name, _use_new_zipfile_serialization=zipped))


def save_tensors(checkpoint: Checkpoint, path: str, aliases: bool) -> None:
    """Write the tensors of the state dict as safetensors, which knows no ties.

    With `aliases` what was tied in a file of torch is one tensor, whose other keys stand in the metadata with its key.
    """
    from safetensors.torch import save_file

    metadata = {"format": "pt"} if checkpoint.metadata is None else checkpoint.metadata
    kept: dict[Any, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    for key, value, _ in checkpoint.entries:
        if not isinstance(value, torch.Tensor):
            warn(f"{quoted(key)} is no tensor and is left out: a safetensors file holds nothing else")
            continue
        first = kept.setdefault(looks_at(value), key)
        if first != key and aliases and checkpoint.metadata is None and key != "format":
            metadata[key] = first
        else:
            tensors[key] = own(value)
    write_beside(path, lambda name: save_file(tensors, name, metadata or None))


def write_beside(path: str, write: Callable[[str], None]) -> None:
    """Write a temporary file and rename it, so that a failure leaves what was there."""
    temporary = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        write(str(temporary))
        temporary.replace(path)
    except Exception as error:
        raise OutputError(f"it cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
