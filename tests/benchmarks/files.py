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
if what.startswith("many"):
    names = ("attn.qkv.weight", "attn.qkv.bias", "norm.weight", "norm.bias")
    tensors = OrderedDict((f"module.layers.{i // 4}.{names[i % 4]}", torch.full((2 + i % 4,), float(i)))
                          for i in range(100_000))
    if what == "many changed":
        keys = list(tensors)
        for i in range(5_000, 100_000, 7):
            tensors[keys[i]] = tensors[keys[i]] * (1 + i / 1e6)
        for i in range(9_001, 100_000, 20_000):
            tensors[keys[i]] = torch.ones(9)
            del tensors[keys[i + 2]]
        tensors |= {f"module.head.{i}.weight": torch.ones(3) for i in range(50)}
    torch.save({"state_dict": tensors, "epoch": 3}, path)
elif what.startswith("run "):
    import os
    files, keys = map(int, what.split()[1:])
    os.mkdir(path)
    for n in range(min(files, 12)):
        model = {f"blocks.{i // 4}.part{i % 4}.weight": torch.full((2 + i % 4,), float(i + n)) for i in range(keys)}
        torch.save({"state_dict": model, "epoch": n, "loss": 1 / (n + 1)}, os.path.join(path, f"net_step{n}.pth"))
    for n in range(12, files):
        os.link(os.path.join(path, f"net_step{n % 12}.pth"), os.path.join(path, f"net_step{n}.pth"))
elif what in ("dcp", "index of zips", "index of safetensors"):
    import json, os, warnings
    warnings.simplefilter("ignore")
    names = ("attn.qkv.weight", "attn.qkv.bias", "norm.weight", "norm.bias")
    def shard(first, last):
        return {f"model.layers.{i // 4}.{names[i % 4]}": torch.full((2 + i % 4,), float(i)) for i in range(first, last)}
    os.mkdir(path)
    if what == "dcp":
        import torch.distributed.checkpoint as dcp
        dcp.save({"model": shard(0, 100_000), "epoch": 3}, checkpoint_id=path, no_dist=True)
    else:
        from safetensors.torch import save_file
        zips = what == "index of zips"
        kind, stem = ("bin", "pytorch_model") if zips else ("safetensors", "model")
        weight_map = {}
        for n in range(4):
            tensors, name = shard(n * 25_000, (n + 1) * 25_000), f"{stem}-{n + 1:05}-of-00004.{kind}"
            (torch.save if zips else save_file)(tensors, os.path.join(path, name))
            weight_map |= dict.fromkeys(tensors, name)
        with open(os.path.join(path, f"{stem}.{kind}.index.json"), "w") as file:
            json.dump({"metadata": {"total_size": 1_400_000}, "weight_map": weight_map}, file)
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


def many_changed(folder: Path) -> Path:
    """The same keys, every seventh tensor changed from the 5,000th on, a few of other shapes, gone or new."""
    return _made(folder / "many_changed.pth", "many changed")


def distributed(folder: Path) -> Path:
    """A folder of torch.distributed.checkpoint with 100,000 small tensors, as torch writes it from one process."""
    return _made(folder / "dcp", "dcp")


def index_of_zips(folder: Path) -> Path:
    """A Hugging Face index of 100,000 small tensors in four torch zips."""
    return _made(folder / "zips", "index of zips")


def index_of_safetensors(folder: Path) -> Path:
    """A Hugging Face index of 100,000 small tensors in four safetensors files."""
    return _made(folder / "safetensors", "index of safetensors")


def run(folder: Path, files: int, keys: int) -> Path:
    """A folder of so many checkpoints of one run, each with so many small tensors; twelve, the rest are links."""
    return _made(folder / f"run{files}", f"run {files} {keys}")


def large(folder: Path, gib: int) -> Path:
    """A torch zip of 1,000 keys and `gib` GiB of float32 (more than 2: with holes instead of data)."""
    return _made(folder / f"large{gib}.pth", str(gib))


def _made(path: Path, what: str) -> Path:
    if not path.exists():
        subprocess.run([sys.executable, "-c", _MAKE, str(path), what], check=True)
    return path
