"""A recipe for several state dicts of a file, such as a model and its average: carried out on one after the other.

Each gets the same steps in a copy of its own that the next one is made of; only the last copy has a name that stays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import SaveError, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.converting import takes_tensors_alone
from sdviewer.formats.other_files import is_unchanged
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.saving import refuse_target, save
from sdviewer.repair.operations import DropObjects, Extract, Operation, Unwrap, Wrap
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.other_files import Others
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.wording import quoted


@dataclass(slots=True)
class InTurn:
    """A repair of several state dicts on its way.

    `checkpoint` is what the last one is made of, `recipe` and `name` are for that one; `done` are the plans of those
    before it with what they were made of, `receipts` what their saves said.
    """

    source: Checkpoint
    checkpoint: Checkpoint
    recipe: Recipe
    name: str | None
    done: list[tuple[Checkpoint, Plan]] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files that no output may be, besides that of `checkpoint`."""
        if self.source is self.checkpoint:
            return ()
        return (self.source.path, *[shard.path for shard in self.source.shards.values()])

    def whole(self, receipt: Receipt) -> Receipt:
        """The receipt of the last save as that of all of them."""
        for before in reversed(self.receipts):
            receipt = replace(
                receipt,
                written=before.written + receipt.written,
                dropped=tuple(dict.fromkeys((*before.dropped, *receipt.dropped))),
                map={**receipt.map, **before.map},
                computed_bytes=before.computed_bytes + receipt.computed_bytes,
                warnings=tuple(dict.fromkeys((*before.warnings, *receipt.warnings))),
                checks=tuple(dict.fromkeys((*before.checks, *receipt.checks))),
                notes=tuple(dict.fromkeys((*before.notes, *receipt.notes))),
                taken=tuple(dict.fromkeys((*before.taken, *receipt.taken))),
            )
        if self.receipts and receipt.verified is not None:
            kept = receipt.verified.source_unchanged and is_unchanged(self.source)
            receipt = replace(receipt, verified=replace(receipt.verified, source_unchanged=kept))
        return receipt


@contextmanager
def in_turn(
    checkpoint: Checkpoint,
    recipe: Recipe,
    state_dict: str | None,
    out: str,
    container: str,
    others: Others,
    *,
    dry_run: bool = False,
) -> Iterator[InTurn]:
    """Carry a recipe out on all its state dicts but the last. `state_dict`, where it is named, is the only one.

    Of a dry run nothing is written: all are planned on the file as it is.

    Raises:
        UsageError: the recipe, or the container, leaves only one of them.
        RepairError, SaveError: as planning and saving do.
    """
    names = [recipe.source.state_dict, *recipe.source.also]
    if state_dict is not None or len(names) == 1:
        yield InTurn(checkpoint, checkpoint, recipe, state_dict)
        return
    _refuse(checkpoint, recipe, names, container)
    refuse_target(checkpoint, out, container)
    parent = Path(out).parent
    with nullcontext(str(parent)) if dry_run else _folder(parent) as folder:
        turn = InTurn(checkpoint, checkpoint, recipe, names[0])
        for number, following in enumerate(names[1:]):
            plan = make_plan(turn.recipe, turn.checkpoint, state_dict=turn.name, others=others)
            copy = str(Path(folder) / f".{number}{Path(checkpoint.path).suffix}")
            turn.receipts.append(
                save(turn.checkpoint, plan, copy, container=checkpoint.container, ask_torch=False, dry_run=dry_run)
            )
            turn.done.append((turn.checkpoint, plan))
            if not dry_run:
                turn.checkpoint = open_checkpoint(copy)
            # What changes the file as a whole was done with the first one.
            turn.recipe = replace(recipe, steps=tuple(_on_keys(recipe.steps)))
            turn.name = following
        yield turn


@contextmanager
def _folder(parent: Path) -> Iterator[str]:
    """A folder that is gone afterwards, where the result will be: there is room for it."""
    try:
        made = tempfile.TemporaryDirectory(prefix=".sdviewer-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise SaveError(f"no folder can be made beside it ({error.strerror})", path=str(parent)) from None
    with made as folder:
        yield folder


def _on_keys(steps: Iterable[Operation]) -> Iterator[Operation]:
    return (step for step in steps if not isinstance(step, FileOperation | DropObjects))


def _refuse(checkpoint: Checkpoint, recipe: Recipe, names: Sequence[str], container: str) -> None:
    said = " and ".join(map(quoted, names))
    alone = [step for step in recipe.steps if step.enabled and isinstance(step, Unwrap | Extract | Wrap)]
    if alone:
        raise UsageError(
            f"the recipe is for {said}, and its step {alone[0].op} leaves one of them",
            remedy="Take the step out, or name one state dict.",
        )
    if takes_tensors_alone(checkpoint, container) or takes_tensors_alone(checkpoint, checkpoint.container):
        raise UsageError(
            f"the recipe is for {said}, and {container} files hold one state dict",
            remedy="Name one with --state-dict, or write a .pt file of a torch file.",
        )
