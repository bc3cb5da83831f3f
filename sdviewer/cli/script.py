"""`sdviewer script RECIPE [-o FILE.py]`: the recipe as a stand-alone Python program."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdviewer.cli.repair import folder_of, recipe_text
from sdviewer.errors import UsageError

NAME = "script"
HELP = "write a recipe as a Python program that needs only torch"


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe, and where to write the program."""
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file; - reads it from stdin")
    parser.add_argument("-o", "--output", metavar="FILE.py", help="where to write it (default: stdout)")
    parser.add_argument("--overwrite", action="store_true")


def run(arguments: Namespace) -> int:
    """Write the program; nothing of it is run."""
    from sdviewer.formats.temporary import Replacing, temporary_file
    from sdviewer.repair.other_files import anchored, beside
    from sdviewer.repair.recipe import parse_recipe
    from sdviewer.repair.script import program

    recipe = parse_recipe(recipe_text(arguments.recipe), path=arguments.recipe)
    # The program looks for the files that it takes tensors from beside itself, as the recipe does.
    recipe = anchored(recipe, folder_of(arguments.recipe))
    text = program(recipe if arguments.output is None else beside(recipe, folder_of(arguments.output)))
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    _refuse_recipe(arguments.output, arguments.recipe)
    replacing = Replacing(allowed=arguments.overwrite)
    raw = text.encode("utf-8")
    with temporary_file(arguments.output, nbytes=len(raw), replacing=replacing) as temporary:
        os.write(temporary.fd, raw)
        temporary.put_in_place()
    return 0


def _refuse_recipe(out: str, recipe: str) -> None:
    """The recipe is an input, and inputs are never written."""
    target, source = Path(out), Path(recipe)
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError("the output is the recipe", path=out, remedy="Choose another name.")
