"""`sdviewer unregister`: undo `sdviewer register`, leaving every other association as it was."""

from __future__ import annotations

import argparse

from sdviewer.cli import desktop_linux
from sdviewer.cli.output import print_line
from sdviewer.cli.register import PATH_LIMIT, require_freedesktop
from sdviewer.core import text

NAME = "unregister"
HELP = "undo register"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(arguments: argparse.Namespace) -> int:
    """Take away what `register` wrote and say what.

    Raises:
        UsageError: not built yet for this system.
        SaveError: a file could not be removed.
    """
    require_freedesktop(NAME)
    gone = desktop_linux.unregister()
    for path in gone:
        shown = text.visible(path, PATH_LIMIT)
        print_line(f"removed sdviewer from {shown}" if path.endswith("mimeapps.list") else f"removed {shown}")
    if not gone:
        print_line("nothing was registered")
    return 0
