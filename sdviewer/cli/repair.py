"""`sdviewer repair FILE --recipe RECIPE -o OUT`: the recipe carried out, the copy proved."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdviewer.cli.output import print_receipt, progress_for
from sdviewer.cli.stopping import stoppable_until_named
from sdviewer.errors import UsageError

NAME = "repair"
HELP = "carry out a recipe and save a verified copy"


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, the recipe, the output and how to write it."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a TOML file; - reads it from stdin")
    parser.add_argument("-o", "--output", required=True, metavar="OUT")
    parser.add_argument("--container", metavar="NAME")
    parser.add_argument("--target", metavar="T", help=argument_not_built("--target"))
    parser.add_argument("--state-dict", metavar="DOTTED", help="the state dict that the recipe edits")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--json", action="store_true")


def argument_not_built(name: str) -> str:
    """The help of an option that comes later."""
    return f"{name} is not built yet"


def run(arguments: Namespace) -> int:
    """Plan, write, verify, report."""
    from sdviewer.formats import open_checkpoint
    from sdviewer.formats.converting import takes_tensors_alone
    from sdviewer.formats.other_files import OtherFiles
    from sdviewer.formats.saving import choose_container, save
    from sdviewer.repair.planning import make_plan
    from sdviewer.repair.recipe import parse_recipe

    if arguments.target is not None:
        raise UsageError("--target is not built yet", code="not_built")
    recipe = parse_recipe(recipe_text(arguments.recipe), path=arguments.recipe)
    inputs = [] if arguments.recipe == "-" else [arguments.recipe]
    checkpoint = open_checkpoint(arguments.file, progress=progress_for(arguments, "Reading"))
    container = choose_container(checkpoint, arguments.output, arguments.container, recipe.save_format)
    alone = takes_tensors_alone(checkpoint, container)
    others = OtherFiles(folder_of(arguments.recipe))
    plan = make_plan(recipe, checkpoint, state_dict=arguments.state_dict, tensors_alone=alone, others=others)
    with stoppable_until_named() as named:
        receipt = save(
            checkpoint,
            plan,
            arguments.output,
            container=container,
            overwrite=arguments.overwrite,
            dry_run=arguments.dry_run,
            shared=recipe.save.shared,
            max_shard_bytes=recipe.save.max_shard_bytes,
            inputs=inputs,
            progress=progress_for(arguments, "Saving"),
            before_naming=named,
        )
        print_receipt(receipt, arguments.json)
    return 0


def folder_of(recipe: str) -> str:
    """The folder that the paths of a recipe are relative to: its own; "" is the current one."""
    return "" if recipe == "-" else str(Path(recipe).parent)


def recipe_text(source: str) -> str:
    """The text of a recipe's file; `-` is stdin.

    Raises:
        UsageError: it cannot be read.
    """
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text("utf-8")
    except OSError as error:
        raise UsageError(f"the recipe cannot be read: {error.strerror}", path=source) from None
    except UnicodeDecodeError:
        raise UsageError("the recipe is not UTF-8 text", path=source, code="bad_recipe") from None
