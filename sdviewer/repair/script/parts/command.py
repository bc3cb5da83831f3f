"""The command line of a program."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Loaded
from sdviewer.repair.script.parts.failures import OutputError, RecipeError, UsageError
from sdviewer.repair.script.parts.files import load, save


def run(repair: Callable[[Loaded, str | None], Checkpoint], argv: Sequence[str], **options: bool) -> int:
    """Load, repair, save. 0: done, 1: the recipe does not go through, 2: usage, 3: unreadable, 4: unwritable."""
    parser = argparse.ArgumentParser(description="Carry out the recipe at the top of this file on a checkpoint.")
    parser.add_argument("input", metavar="IN", help="a file of torch, or .safetensors")
    parser.add_argument("output", metavar="OUT", help="what to write: .safetensors, else a file of torch")
    parser.add_argument("--state-dict", metavar="DOTTED", help="the state dict to repair")
    parser.add_argument("--overwrite", action="store_true", help="write over OUT where it is there")
    arguments = parser.parse_args(argv)
    path = arguments.input
    try:
        target = Path(arguments.output)
        if target.exists():
            if Path(path).exists() and target.samefile(path):
                raise UsageError("OUT is the input")
            if not arguments.overwrite:
                raise OutputError("OUT is there already; --overwrite writes over it")
        loaded = load(path)
        with torch.no_grad():
            checkpoint = repair(loaded, arguments.state_dict)
        path = arguments.output
        save(checkpoint, arguments.output, **options)
    except RecipeError as error:
        print(f"{Path(sys.argv[0]).name}: {path}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 5
    return 0
