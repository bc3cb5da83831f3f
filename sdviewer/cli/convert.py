"""`sdviewer convert FILE -o OUT`: the same tensors in another container, the copy proved."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from sdviewer.cli.output import print_receipt, progress_for
from sdviewer.cli.stopping import stoppable_until_named
from sdviewer.errors import UsageError

if TYPE_CHECKING:
    from sdviewer.core.checkpoint import Checkpoint
    from sdviewer.repair.plan import Plan

NAME = "convert"
HELP = "write a checkpoint in another container"


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, the output and its container."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("-o", "--output", required=True, metavar="OUT")
    parser.add_argument("--container", metavar="NAME", help="what to write; else the suffix of OUT says it")
    parser.add_argument("--state-dict", metavar="DOTTED", help="write this state dict alone")
    parser.add_argument("--max-shard-size", metavar="SIZE", help="of sharded safetensors, such as 5GB (the default)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written and lost, write nothing")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--json", action="store_true")


def run(arguments: Namespace) -> int:
    """Choose, write, verify, report."""
    from sdviewer.formats import open_checkpoint
    from sdviewer.formats.converting import takes_tensors_alone
    from sdviewer.formats.saving import choose_container, save
    from sdviewer.repair.recipe import SaveOptions

    checkpoint = open_checkpoint(arguments.file, progress=progress_for(arguments, "Reading"))
    options = SaveOptions(max_shard_size=arguments.max_shard_size or "")
    if arguments.max_shard_size and options.max_shard_bytes is None:
        raise UsageError(f"{arguments.max_shard_size} is no size", remedy="Write it as 5GB, 500MB or 2GiB.")
    container = choose_container(checkpoint, arguments.output, arguments.container)
    with stoppable_until_named() as named:
        receipt = save(
            checkpoint,
            _plan(checkpoint, arguments.state_dict, takes_tensors_alone(checkpoint, container)),
            arguments.output,
            container=container,
            max_shard_bytes=options.max_shard_bytes,
            overwrite=arguments.overwrite,
            dry_run=arguments.dry_run,
            progress=progress_for(arguments, "Converting"),
            before_naming=named,
        )
        print_receipt(receipt, arguments.json)
    return 0


def _plan(checkpoint: Checkpoint, state_dict: str | None, tensors_alone: bool) -> Plan:
    """Everything as it is; with a state dict named, that one as the root."""
    from sdviewer.repair.operations.unwrap import Unwrap
    from sdviewer.repair.planning import make_plan
    from sdviewer.repair.recipe import Recipe
    from sdviewer.repair.state_dicts import choose_state_dict

    if state_dict is None:
        return make_plan(Recipe(), checkpoint)
    index = choose_state_dict(checkpoint, state_dict)
    steps = (Unwrap(path="auto"),) if checkpoint.state_dicts[index].path else ()
    return make_plan(Recipe(steps=steps), checkpoint, state_dict=state_dict, tensors_alone=tensors_alone)
