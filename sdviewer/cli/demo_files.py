"""The sample checkpoints of `sdviewer demo`, written with torch in a process of their own."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any


def vision_transformer() -> OrderedDict[str, Any]:
    """A small vision transformer's state dict (12 blocks, width 192), with initial values as after some training."""
    import torch

    generator = torch.Generator().manual_seed(42)

    def weight(*shape: int) -> Any:
        spread = torch.rand(shape[0], *([1] * (len(shape) - 1)), generator=generator) * 0.04 + 0.01
        return torch.randn(*shape, generator=generator) * spread

    width, classes = 192, 37
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(12):
        prefix = f"blocks.{block}."
        shapes |= {
            f"{prefix}norm1.weight": (width,),
            f"{prefix}norm1.bias": (width,),
            f"{prefix}attn.qkv.weight": (3 * width, width),
            f"{prefix}attn.qkv.bias": (3 * width,),
            f"{prefix}attn.proj.weight": (width, width),
            f"{prefix}attn.proj.bias": (width,),
            f"{prefix}norm2.weight": (width,),
            f"{prefix}norm2.bias": (width,),
            f"{prefix}mlp.fc1.weight": (4 * width, width),
            f"{prefix}mlp.fc1.bias": (4 * width,),
            f"{prefix}mlp.fc2.weight": (width, 4 * width),
            f"{prefix}mlp.fc2.bias": (width,),
        }
    shapes |= {
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (classes, width),
        "head.bias": (classes,),
    }
    return OrderedDict((key, weight(*shape)) for key, shape in shapes.items())


def samples() -> dict[str, Any]:
    """File name -> what `torch.save` gets."""
    model = vision_transformer()
    wrapped = OrderedDict((f"module.{key}", tensor) for key, tensor in model.items())
    optimizer = {
        "state": {i: {"step": i, "exp_avg": tensor * 0.01} for i, tensor in enumerate(list(model.values())[:4])},
        "param_groups": [{"lr": 1e-4, "weight_decay": 0.05, "params": list(range(4))}],
    }
    return {
        "vit_small.pth": model,
        "vit_small_epoch42.pth": {
            "model": model,
            "optimizer": optimizer,
            "epoch": 42,
            "best_acc1": 84.31,
            "args": {"lr": 1e-4, "batch_size": 256, "model": "vit_small", "resume": None},
        },
        "dataparallel.pth": {"state_dict": wrapped, "epoch": 300, "arch": "vit_small"},
    }


def main(folder: Path) -> None:
    """Write what is missing, print every path."""
    import torch

    for name, content in samples().items():
        path = folder / name
        if not path.exists():
            torch.save(content, path)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
