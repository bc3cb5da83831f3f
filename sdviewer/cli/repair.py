"""`sdviewer repair FILE --recipe RECIPE -o OUT`: the recipe carried out, the copy proved."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sdviewer.cli.output import print_receipt, progress_for
from sdviewer.cli.stdin import STDIN, read_stdin
from sdviewer.cli.stopping import stoppable_until_named
from sdviewer.core import text
from sdviewer.errors import UsageError

if TYPE_CHECKING:
    from sdviewer.core.checkpoint import Checkpoint
    from sdviewer.engine.target_check import Goal
    from sdviewer.repair.plan import Plan
    from sdviewer.repair.recipe import Recipe

NAME = "repair"
HELP = "carry out a recipe and save a verified copy"

WOULD_NOT_LOAD = 1
"""Exit code with `--target`, or the keys that the recipe names."""


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, the recipe, the output and how to write it."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a TOML file; - reads it from stdin")
    parser.add_argument("-o", "--output", required=True, metavar="OUT")
    parser.add_argument("--container", metavar="NAME")
    parser.add_argument(
        "--target", metavar="T", help="what the result has to fit, as `fit` takes it: exit 1 where it would not load"
    )
    parser.add_argument("--state-dict", metavar="DOTTED", help="the state dict that the recipe edits")
    parser.add_argument("--state-dict-b", metavar="DOTTED", help="the state dict of T, where that is a checkpoint")
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S", help="seconds to build the model in (default: 60)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--json", action="store_true")


def seconds(word: str) -> float:
    """A time limit, as an option has it."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"{text.visible(word, 40)} is no number of seconds above 0")
    return number


def run(arguments: Namespace) -> int:
    """Plan, write, verify, report."""
    from sdviewer.engine.in_turn import in_turn
    from sdviewer.formats import open_checkpoint
    from sdviewer.formats.converting import takes_tensors_alone
    from sdviewer.formats.other_files import OtherFiles
    from sdviewer.formats.saving import choose_container, save
    from sdviewer.repair.planning import make_plan
    from sdviewer.repair.recipe import parse_recipe

    if arguments.recipe == arguments.target == STDIN:
        raise UsageError("only one text can come from stdin", remedy="Write the other one into a file.")
    recipe = parse_recipe(recipe_text(arguments.recipe), path=arguments.recipe)
    inputs = [] if arguments.recipe == STDIN else [arguments.recipe]
    checkpoint = open_checkpoint(arguments.file, progress=progress_for(arguments, "Reading"))
    container = choose_container(checkpoint, arguments.output, arguments.container, recipe.save_format)
    alone = takes_tensors_alone(checkpoint, container)
    others = OtherFiles(folder_of(arguments.recipe))
    saving = progress_for(arguments, "Saving")
    asked = (checkpoint, recipe, arguments.state_dict, arguments.output, container, others)
    turns = in_turn(*asked, dry_run=arguments.dry_run, progress=saving)
    with ExitStack() as ending, stoppable_until_named() as named, turns as turn:
        plan = make_plan(turn.recipe, turn.checkpoint, state_dict=turn.name, tensors_alone=alone, others=others)
        goal = _goal(arguments, recipe, turn.checkpoint, plan)
        if goal is not None:
            ending.callback(goal.close)
        receipt = save(
            turn.checkpoint,
            plan,
            arguments.output,
            container=container,
            overwrite=arguments.overwrite,
            dry_run=arguments.dry_run,
            shared=recipe.save.shared,
            max_shard_bytes=recipe.save.max_shard_bytes,
            inputs=(*inputs, *turn.inputs, *(goal.inputs if goal else ())),
            progress=saving,
            before_naming=named,
        )
        receipt, fits, _ = turn.finished(receipt, plan, goal, named.progress)
        print_receipt(receipt, arguments.json)
    return 0 if fits else WOULD_NOT_LOAD


def _goal(arguments: Namespace, recipe: Recipe, checkpoint: Checkpoint, plan: Plan) -> Goal | None:
    """What the result has to fit, read before anything is written."""
    if arguments.target is None and not recipe.target.keys:
        return None
    from sdviewer.engine.target_check import read_goal
    from sdviewer.engine.targets import decoded

    return read_goal(
        arguments.target,
        checkpoint,
        plan,
        recipe.target,
        folder=folder_of(arguments.recipe),
        text=decoded(read_stdin()) if arguments.target == STDIN else None,
        state_dict=arguments.state_dict_b,
        timeout=arguments.timeout,
        run=True,
    )


def folder_of(recipe: str) -> str:
    """The folder that the paths of a recipe are relative to: its own; "" is the current one."""
    return "" if recipe == STDIN else str(Path(recipe).parent)


def recipe_text(source: str) -> str:
    """The text of a recipe's file; `-` is stdin.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return (read_stdin() if source == STDIN else Path(source).read_bytes()).decode("utf-8")
    except OSError as error:
        raise UsageError(f"the recipe cannot be read: {error.strerror}", path=source) from None
    except UnicodeDecodeError:
        raise UsageError("the recipe is not UTF-8 text", path=source, code="bad_recipe") from None
