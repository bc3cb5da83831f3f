"""Draw the pictures of the documentation: `python3 packaging/dev.py screenshots`.

The checkpoint in them is made here, as a training run of a small vision transformer would leave it, with numbers from a
fixed seed: the same command gives the same picture on every machine, down to fonts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PICTURES = {"main.png": "light", "main-dark.png": "dark"}
SELECTED = "blocks.7.attn.qkv.weight"

WIDTH, DEPTH, HEADS, CLASSES = 192, 12, 3, 1000


def shapes() -> dict[str, tuple[int, ...]]:
    """Key -> shape of a ViT-Ti/16, in the order of its modules."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 197, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for i in range(DEPTH):
        block = {
            "norm1": (WIDTH,),
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            "norm2": (WIDTH,),
            "mlp.fc1": (4 * WIDTH, WIDTH),
            "mlp.fc2": (WIDTH, 4 * WIDTH),
        }
        for module, shape in block.items():
            shapes[f"blocks.{i}.{module}.weight"] = shape
            shapes[f"blocks.{i}.{module}.bias"] = shape[:1]
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    return shapes | {"head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,)}


def write_checkpoint(path: Path) -> None:
    """A model, its optimizer, its schedule and the arguments of the run."""
    import torch

    draw = torch.Generator().manual_seed(7)

    def trained(key: str, shape: tuple[int, ...]) -> Any:
        if key.endswith("bias"):
            return 0.05 * torch.randn(shape, generator=draw)
        if len(shape) == 1:
            return 1 + 0.1 * torch.randn(shape, generator=draw)
        values = torch.randn(shape, generator=draw)
        if key.endswith("qkv.weight"):
            # Heads grow apart in queries and keys, much less in values.
            scale = torch.ones(3, HEADS, WIDTH // HEADS, 1)
            scale[:2] = torch.linspace(0.6, 1.5, HEADS).reshape(1, HEADS, 1, 1)
            values = values * (scale * (1 + 0.25 * torch.rand(scale.shape, generator=draw))).reshape(-1, 1)
        return 0.04 * values

    model = {key: trained(key, shape) for key, shape in shapes().items()}
    state = {
        i: {
            "step": torch.tensor(52500.0),
            "exp_avg": 1e-4 * torch.randn(value.shape, generator=draw),
            "exp_avg_sq": 1e-8 * torch.rand(value.shape, generator=draw),
        }
        for i, value in enumerate(model.values())
    }
    group = {"lr": 3e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05, "params": list(state)}
    checkpoint = {
        "model": model,
        "optimizer": {"state": state, "param_groups": [group]},
        "scheduler": {"base_lrs": [3e-4], "last_epoch": 42, "T_max": 300, "eta_min": 1e-6},
        "args": {"model": "vit_tiny_patch16_224", "batch_size": 1024, "drop_path": 0.1, "data": "imagenet"},
        "epoch": 42,
        "best_acc1": 72.31,
    }
    torch.save(checkpoint, path)


def main() -> int:
    """Make the checkpoint, let sdviewer draw it."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sdviewer-pictures-") as folder:
        path = Path(folder) / "vit_tiny_epoch42.pth"
        write_checkpoint(path)
        for name, theme in PICTURES.items():
            command = [sys.executable, "-m", "sdviewer", "--screenshot", str(IMAGES / name), "--theme", theme]
            code = subprocess.run([*command, "--select", SELECTED, str(path)], check=False).returncode
            if code:
                return code
            print(f"docs/images/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
