"""`sdviewer register`: make a double-click on a checkpoint open sdviewer, for this user."""

from __future__ import annotations

import argparse
import sys

from sdviewer.cli import desktop_linux
from sdviewer.cli.output import print_line
from sdviewer.core import text
from sdviewer.errors import UsageError

PATH_LIMIT = 4096
"""Characters of a path that are shown: as long as Linux lets one be."""

NAME = "register"
HELP = "make a double-click on a checkpoint open sdviewer, for this user"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(arguments: argparse.Namespace) -> int:
    """Write what the desktop needs and say where.

    Raises:
        UsageError: not built yet for this system.
        SaveError: a file could not be written.
    """
    require_freedesktop(NAME)
    for path in desktop_linux.register():
        print_line(f"wrote {text.visible(path, PATH_LIMIT)}")
    for tool in desktop_linux.missing_tools():
        sys.stderr.write(
            f"sdviewer: {tool} is not installed, so desktops will not notice the file type. "
            "Install the package shared-mime-info, then run this command again.\n"
        )
    return 0


def require_freedesktop(command: str) -> None:
    """Refuse on systems whose file types are kept elsewhere.

    Raises:
        UsageError: on macOS and Windows.
    """
    systems = {"darwin": "macOS", "win32": "Windows"}
    if sys.platform in systems:
        raise UsageError(f"{command} is not built yet for {systems[sys.platform]}", code="not_built")
