"""`sdviewer script RECIPE [-o FILE.py] [--as NAME [--for FILE]]`: the recipe as a Python program, or for a loader."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdviewer.cli.repair import folder_of, recipe_text
from sdviewer.errors import UsageError

if TYPE_CHECKING:
    from sdviewer.repair.recipe import Recipe

NAME = "script"
HELP = "write a recipe as a Python program that needs only torch"


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe, and where to write the program."""
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file; - reads it from stdin")
    parser.add_argument("-o", "--output", metavar="FILE.py", help="where to write it (default: stdout)")
    parser.add_argument(
        "--as",
        dest="form",
        metavar="NAME",
        help="instead of a program: key_mapping (transformers), "
        "revise_keys (mmengine), pre_hook (a function for load_state_dict)",
    )
    parser.add_argument("--for", dest="checkpoint", metavar="FILE", help="with --as: the checkpoint that it is for")
    parser.add_argument("--state-dict", metavar="DOTTED", help="with --for: the state dict in it")
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
    if arguments.form is not None:
        text = _for_loader(recipe, arguments)
    elif arguments.checkpoint is not None or arguments.state_dict is not None:
        raise UsageError("--for and --state-dict need --as", remedy="A program runs on any checkpoint.")
    else:
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


def _for_loader(recipe: Recipe, arguments: Namespace) -> str:
    """The recipe in the words of a loader, for the keys of a checkpoint where one is named."""
    from sdviewer.formats import open_checkpoint
    from sdviewer.repair.export import export_text, keys_for

    keys: Sequence[str] | None = None
    if arguments.checkpoint is not None:
        keys = keys_for(recipe, open_checkpoint(arguments.checkpoint), arguments.state_dict)
    return export_text(arguments.form, recipe, keys)


def _refuse_recipe(out: str, recipe: str) -> None:
    """The recipe is an input, and inputs are never written."""
    target, source = Path(out), Path(recipe)
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError("the output is the recipe", path=out, remedy="Choose another name.")
