"""`sdviewer open FILE ...`: the window, one tab a file, or one tab for all checkpoints of a run."""

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
    add_series(parser)
    parser.add_argument("--new-window", action="store_true", help="do not hand the files to a window that is open")


def add_series(parser: ArgumentParser) -> None:
    """Whether the files are one run."""
    parser.add_argument("--series", action="store_true", help="the files, or the folder, are checkpoints of one run")


def run(arguments: Namespace) -> int:
    """Show the window until it is closed."""
    return show(arguments.files, new_window=arguments.new_window, series=arguments.series)


def show(files: list[str], *, new_window: bool = False, compare: bool = False, series: bool = False) -> int:
    """Hand the files to a window that is open already, or open one and return when it is closed.

    `compare`: they are two that are compared; `series`: they are checkpoints of one run.
    """
    if series and not files:
        raise UsageError("--series needs the folder of a run, or several files of it")
    paths = [str(Path(file).absolute()) for file in files]
    if not new_window:
        from sdviewer.engine.instance import hand_over

        if hand_over(paths, compare=compare, series=series):
            return 0
    _require_display()
    started = None
    if paths and not compare and not series:
        from sdviewer.engine.client import DocumentWorker

        # The process that reads the file comes up while this one imports what it needs for a window.
        started = DocumentWorker(paths[0])
        started.start()
    from sdviewer.gui.app import run as run_window

    return run_window(paths, started, compare=compare, series=series)


def _require_display() -> None:
    """Qt ends the whole process, with a core dump, where there is none."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in named):
        raise UsageError(
            "there is no display to open a window on",
            remedy="Start it in a desktop session, or use a command that needs none, such as sdviewer info FILE.",
        )


def screenshot(out: str, files: list[str], theme: str, select: str | None, *, series: bool = False) -> int:
    """Draw the window with a file, two compared, or a series in it, offscreen, into a PNG file."""
    if len(files) > 2 and not series:
        raise UsageError(
            "a picture is of one file, or of two that are compared", remedy="With --series it is of all of one run."
        )
    if series and (select is not None or not files):
        raise UsageError("a picture of a series is of a folder or several files, and of no single tensor")
    from sdviewer.gui.screenshot import screenshot as draw

    return draw(out, [str(Path(file).absolute()) for file in files], theme=theme, select=select, series=series)
