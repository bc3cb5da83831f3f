"""Which command runs, and what its failures look like."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from sdviewer import __version__
from sdviewer.core.collector import collector_off
from sdviewer.errors import Cancelled, SDViewerError, UsageError

COMMANDS = (
    *("open", "compare", "info", "stats", "diff", "fit", "repair", "convert", "script", "scan", "demo", "register"),
    "unregister",
)
"""Each is the module `sdviewer.cli.NAME`, imported when it is called."""

WINDOW = ("open", "compare", "demo")
"""Commands that show the window."""


class Command(Protocol):
    """The shape of a command module."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit code 2, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, remedy=f"See {self.prog} --help.")


def run(argv: Sequence[str]) -> int:
    """The exit code of `sdviewer ARGV...`."""
    # Text from a file may hold what the terminal's encoding lacks; it is shown escaped instead of failing.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = 0
    try:
        try:
            code = _dispatch(list(argv))
        except SDViewerError as error:
            from sdviewer.cli.output import print_error

            code = error.exit_code
            print_error(error, "--json" in argv)
        sys.stdout.flush()
        return code
    except (Cancelled, KeyboardInterrupt):
        sys.stderr.write("sdviewer: cancelled\n")
        return Cancelled.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] in COMMANDS:
        command = cast(Command, importlib.import_module(f"sdviewer.cli.{argv[0]}"))
        parser = _Parser(prog=f"sdviewer {argv[0]}", description=command.HELP, allow_abbrev=False)
        parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
        command.add_arguments(parser)
        arguments = parser.parse_args(argv[1:])
        # A command lives shortly; the window lives long.
        with contextlib.nullcontext() if argv[0] in WINDOW else collector_off():
            return command.run(arguments)
    return _window(argv)


def _window(argv: list[str]) -> int:
    parser = _Parser(
        prog="sdviewer",
        description="Open PyTorch checkpoints without running anything in them.",
        epilog=_commands_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="checkpoints to open, one tab each")
    parser.add_argument("--new-window", action="store_true", help="do not hand the files to a window that is open")
    parser.add_argument("--series", action="store_true", help="the files, or the folder, are checkpoints of one run")
    parser.add_argument("--screenshot", metavar="OUT.png", help="draw the window offscreen into a picture and end")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="of the screenshot")
    parser.add_argument("--select", metavar="KEY", help="the tensor that the screenshot shows")
    parser.add_argument("--version", action="version", version=f"sdviewer {__version__}")
    arguments = parser.parse_args(argv)
    from sdviewer.cli import open as window

    if arguments.screenshot:
        picture, files, series = arguments.screenshot, arguments.files, arguments.series
        return window.screenshot(picture, files, arguments.theme, arguments.select, series=series)
    return window.show(arguments.files, new_window=arguments.new_window, series=arguments.series)


def _commands_help() -> str:
    lines = ["commands:"]
    for name in COMMANDS:
        command = cast(Command, importlib.import_module(f"sdviewer.cli.{name}"))
        lines.append(f"  {name:<12}{command.HELP}")
    return "\n".join([*lines, "", "sdviewer COMMAND --help tells more. A file named like a command: ./info"])
