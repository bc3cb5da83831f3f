"""`sdviewer demo`: small sample checkpoints to try things on, and the window with them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdviewer.cli.output import print_line
from sdviewer.errors import SaveError

NAME = "demo"
HELP = "write small sample checkpoints and open them"


def add_arguments(parser: ArgumentParser) -> None:
    """Where to write them."""
    parser.add_argument("--dir", metavar="DIR", help="where to write them (default: a new temporary folder)")


def run(arguments: Namespace) -> int:
    """Write the samples in a process of their own (the window's imports no torch), then show them."""
    from sdviewer.cli.open import show

    folder = Path(arguments.dir).absolute() if arguments.dir else Path(tempfile.mkdtemp(prefix="sdviewer-demo-"))
    for path in write(folder):
        print_line(str(path))
    return show([str(path) for path in sorted(folder.iterdir()) if path.suffix != ".toml"])


def write(folder: Path) -> list[Path]:
    """The samples, written into `folder` (made where it is missing); a file that is there is kept.

    Raises:
        SaveError: the folder cannot be made or written, or torch is missing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"the folder cannot be made: {error.strerror}", path=str(folder)) from None
    command = [sys.executable, "-P", "-m", "sdviewer.cli.demo_files", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        cause = done.stderr.strip().splitlines()[-1:] or ["the samples could not be written"]
        raise SaveError(cause[0], path=str(folder), remedy="Name a folder that can be written with --dir.")
    return [Path(line) for line in done.stdout.splitlines()]
