"""A recipe for several state dicts of a file, such as a model and its average: carried out on one after the other.

Each gets the same steps in a copy of its own that the next one is made of; only the last copy has a name that stays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress, no_progress
from sdviewer.engine.carrying import refuse_one_left
from sdviewer.errors import SaveError, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.converting import takes_tensors_alone
from sdviewer.formats.other_files import is_unchanged
from sdviewer.formats.receipt import WEIGHTS_ONLY_NOT_TRIED, Receipt
from sdviewer.formats.saving import refuse_target, save
from sdviewer.repair.operations import DropObjects, Operation
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.other_files import Others
from sdviewer.repair.plan import Plan, PlanWarning, warnings_of_all
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe

if TYPE_CHECKING:
    from sdviewer.engine.target_check import Goal


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

    def finished(
        self, receipt: Receipt, plan: Plan, goal: Goal | None, progress: Progress = no_progress
    ) -> tuple[Receipt, bool, int]:
        """The receipt of the last save, which has this plan, as that of all of them.

        And whether all fit the goal, and how many keys the first leaves to the model.
        """
        receipt, fits, left = self._whole(receipt), True, 0
        if goal is not None:
            # (what is told last comes first)
            for made_of, made in reversed([*self.done, (self.checkpoint, plan)]):
                receipt, fits_here, left = goal.checked(receipt, made_of, made, progress)
                fits = fits and fits_here
        return receipt, fits, left

    def _whole(self, receipt: Receipt) -> Receipt:
        if not self.receipts:
            return receipt
        warnings = _warnings([*self.receipts, receipt])
        for before in reversed(self.receipts):
            receipt = replace(
                receipt,
                written=before.written + receipt.written,
                dropped=tuple(dict.fromkeys((*before.dropped, *receipt.dropped))),
                map={**receipt.map, **before.map},
                computed_bytes=before.computed_bytes + receipt.computed_bytes,
                checks=tuple(dict.fromkeys((*before.checks, *receipt.checks))),
                notes=tuple(dict.fromkeys((*before.notes, *receipt.notes))),
                taken=tuple(dict.fromkeys((*before.taken, *receipt.taken))),
            )
        note = f"carried out on {self.recipe.source.said}, one after the other"
        receipt = replace(receipt, notes=(note, *receipt.notes), warnings=warnings)
        if receipt.verified is not None:
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
    progress: Progress = no_progress,
) -> Iterator[InTurn]:
    """Carry a recipe out on all its state dicts but the last. `state_dict`, where it is named, is the only one.

    Of a dry run nothing is written: all are planned on the file as it is.

    Raises:
        UsageError: the recipe, or the container, leaves only one of them.
        RepairError, SaveError: as planning and saving do.
    """
    names = recipe.source.names
    if state_dict is not None or len(names) == 1:
        yield InTurn(checkpoint, checkpoint, recipe, state_dict)
        return
    _refuse(checkpoint, recipe, container)
    refuse_target(checkpoint, out, container)
    parent = Path(out).parent
    with nullcontext(str(parent)) if dry_run else _folder(parent) as folder:
        turn = InTurn(checkpoint, checkpoint, recipe, names[0])
        for number, following in enumerate(names[1:]):
            plan = make_plan(turn.recipe, turn.checkpoint, state_dict=turn.name, others=others)
            copy = str(Path(folder) / f".{number}{Path(checkpoint.path).suffix}")
            turn.receipts.append(
                save(
                    *(turn.checkpoint, plan, copy),
                    container=checkpoint.container,
                    ask_torch=False,
                    dry_run=dry_run,
                    progress=progress,
                )
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


def _warnings(receipts: Sequence[Receipt]) -> tuple[PlanWarning, ...]:
    """What is said of all copies; torch is asked about the last one."""
    *before, last = receipts
    of_each = [[one for one in receipt.warnings if one.code != WEIGHTS_ONLY_NOT_TRIED] for receipt in before]
    return tuple(warnings_of_all([*of_each, last.warnings]))


def _on_keys(steps: Iterable[Operation]) -> Iterator[Operation]:
    """The steps with those switched off that are for the file as a whole: the others keep their numbers."""
    for step in steps:
        yield replace(step, enabled=False) if isinstance(step, FileOperation | DropObjects) else step


def _refuse(checkpoint: Checkpoint, recipe: Recipe, container: str) -> None:
    refuse_one_left(recipe)
    if takes_tensors_alone(checkpoint, container) or takes_tensors_alone(checkpoint, checkpoint.container):
        raise UsageError(
            f"the recipe is for {recipe.source.said}, and {container} files hold one state dict",
            remedy="Name one with --state-dict, or write a .pt file of a torch file.",
        )
