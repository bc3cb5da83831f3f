"""The files that the benchmark measures on, made once a run in a temporary folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MAKE = """
import sys
from collections import OrderedDict
import torch
path, what = sys.argv[1], sys.argv[2]
if what == "many":
    names = ("attn.qkv.weight", "attn.qkv.bias", "norm.weight", "norm.bias")
    tensors = OrderedDict((f"module.layers.{i // 4}.{names[i % 4]}", torch.full((2 + i % 4,), float(i)))
                          for i in range(100_000))
    torch.save({"state_dict": tensors, "epoch": 3}, path)
else:
    gib = int(what)
    rows = gib * 512
    def tensor(i):
        return torch.empty(rows, 1024) if gib > 2 else torch.randn(rows, 1024)
    tensors = OrderedDict((f"module.layers.{i // 4}.part{i % 4}.weight", tensor(i)) for i in range(512))
    tensors |= {f"module.layers.{i}.norm.weight": torch.ones(8) for i in range(488)}
    if gib > 2:
        with torch.serialization.skip_data():
            torch.save(tensors, path)
    else:
        torch.save(tensors, path)
"""


def many_tensors(folder: Path) -> Path:
    """A torch zip of 100,000 small tensors under `state_dict`."""
    return _made(folder / "many.pth", "many")


def large(folder: Path, gib: int) -> Path:
    """A torch zip of 1,000 keys and `gib` GiB of float32 (more than 2: with holes instead of data)."""
    return _made(folder / f"large{gib}.pth", str(gib))


def _made(path: Path, what: str) -> Path:
    if not path.exists():
        subprocess.run([sys.executable, "-c", _MAKE, str(path), what], check=True)
    return path
