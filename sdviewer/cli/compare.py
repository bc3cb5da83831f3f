"""`sdviewer compare A B`: the window, on a comparison."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdviewer.cli.open import show

NAME = "compare"
HELP = "two checkpoints side by side, in the window"


def add_arguments(parser: ArgumentParser) -> None:
    """Both files, and whether to share a window."""
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--new-window", action="store_true", help="do not hand the files to a window that is open")


def run(arguments: Namespace) -> int:
    """Show the window until it is closed."""
    return show([arguments.a, arguments.b], new_window=arguments.new_window, compare=True)
