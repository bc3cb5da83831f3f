"""Reading and writing checkpoints: torch's files, and safetensors by the suffix."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, warn
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.tensors import looks_at, own


def run(repair: Callable[[Checkpoint, str | None], None], **options: bool) -> int:
    """Load, repair, save; the exit codes are those of `sdviewer repair`."""
    parser = argparse.ArgumentParser(description="Carry out the recipe at the top of this file on a checkpoint.")
    parser.add_argument("input", metavar="IN", type=Path)
    parser.add_argument("output", metavar="OUT", type=Path, help=".safetensors, else a file of torch")
    parser.add_argument("--state-dict", metavar="DOTTED", help="the state dict to repair")
    parser.add_argument("--overwrite", action="store_true", help="write over OUT where it is there")
    arguments = parser.parse_args()
    path, out = arguments.input, arguments.output
    try:
        if out.exists() and path.exists() and out.samefile(path):
            raise RecipeError("OUT is the input", 2)
        if out.exists() and not arguments.overwrite:
            raise RecipeError("OUT is there already; --overwrite writes over it", 4)
        checkpoint = load(path)
        with torch.no_grad():
            repair(checkpoint, arguments.state_dict)
        save(checkpoint, out, **options)
    except RecipeError as error:
        print(f"{Path(sys.argv[0]).name}: {path}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 5
    return 0


def load(path: Path) -> Checkpoint:
    """What a file holds."""
    try:
        if path.suffix != ".safetensors":
            return Checkpoint(torch.load(path, map_location="cpu", weights_only=True))
        from safetensors import safe_open
        from safetensors.torch import load_file

        with safe_open(path, "pt") as file:
            return Checkpoint(OrderedDict(load_file(path)), file.metadata() or {})
    except Exception as error:
        raise RecipeError(f"it cannot be read: {error}", 3) from error


def save(checkpoint: Checkpoint, out: Path, *, zipped: bool = True, aliases: bool = True) -> None:
    """Write a temporary file and rename it, so that a failure leaves what was there."""
    if out.exists() and any(map(out.samefile, checkpoint.others)):
        raise RecipeError("OUT is a file that tensors are taken from", 2)
    temporary = out.with_name(f".{out.name}.new")
    try:
        if out.suffix == ".safetensors":
            save_tensors(checkpoint, temporary, aliases)
        else:
            torch.save(checkpoint.root, temporary, _use_new_zipfile_serialization=zipped)
        temporary.replace(out)
    except Exception as error:
        raise RecipeError(f"{out} cannot be written: {error}", 4) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(checkpoint: Checkpoint, out: Path, aliases: bool) -> None:
    """Write the tensors alone; what was tied in a file of torch is one, whose other keys stand in the metadata."""
    from safetensors.torch import save_file

    metadata = {"format": "pt"} if checkpoint.metadata is None else checkpoint.metadata
    kept: dict[Any, str] = {}
    tensors = {}
    for key, value, _ in checkpoint.entries:
        if not isinstance(value, torch.Tensor):
            warn(f"{key!r} is no tensor and is left out")
            continue
        first = kept.setdefault(looks_at(value), key)
        if first != key and aliases and checkpoint.metadata is None and key != "format":
            metadata[key] = first
        else:
            tensors[key] = own(value)
    save_file(tensors, out, metadata or None)
