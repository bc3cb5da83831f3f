"""`sdviewer open FILE ...`: the window, one tab a file."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdviewer.errors import UsageError

NAME = "open"
HELP = "open files in the window, one tab each"


def add_arguments(parser: ArgumentParser) -> None:
    """The files, and whether to share a window."""
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--new-window", action="store_true", help="do not hand the files to a window that is open")


def run(arguments: Namespace) -> int:
    """Show the window until it is closed."""
    return show(arguments.files, new_window=arguments.new_window)


def show(files: list[str], *, new_window: bool = False, compare: bool = False) -> int:
    """Hand the files to a window that is open already, or open one and return when it is closed.

    `compare`: they are two that are compared.
    """
    paths = [str(Path(file).absolute()) for file in files]
    if not new_window:
        from sdviewer.engine.instance import hand_over

        if hand_over(paths, compare=compare):
            return 0
    _require_display()
    started = None
    if paths and not compare:
        from sdviewer.engine.client import DocumentWorker

        # The process that reads the file comes up while this one imports what it needs for a window.
        started = DocumentWorker(paths[0])
        started.start()
    from sdviewer.gui.app import run as run_window

    return run_window(paths, started, compare=compare)


def _require_display() -> None:
    """Qt ends the whole process, with a core dump, where there is none."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in named):
        raise UsageError(
            "there is no display to open a window on",
            remedy="Start it in a desktop session, or use a command that needs none, such as sdviewer info FILE.",
        )


def screenshot(out: str, files: list[str], theme: str, select: str | None) -> int:
    """Draw the window with a file, or two compared, in it, offscreen, into a PNG file."""
    if len(files) > 2:
        raise UsageError("a picture is of one file, or of two that are compared")
    from sdviewer.gui.screenshot import screenshot as draw

    return draw(out, [str(Path(file).absolute()) for file in files], theme=theme, select=select)
