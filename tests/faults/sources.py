"""The files that faults are tried on."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file


def make_sources(folder: Path, elements: int = 40_000) -> list[Path]:
    """A file of each container that can be written, of little more than `elements` times 4 bytes.

    One tensor is large enough for the kernel to copy, one is gathered, one goes.
    """
    tensors = {"w": torch.arange(float(elements)), "b": torch.ones(3), "gone": torch.zeros(5)}
    torch.save(tensors, folder / "zip.pt")
    torch.save(tensors, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(tensors, folder / "plain.safetensors")
    return [folder / name for name in ("zip.pt", "legacy.pt", "plain.safetensors")]
