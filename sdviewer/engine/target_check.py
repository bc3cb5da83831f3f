"""Whether a file that was written loads into the model it is for: by names and shapes, and by really loading it.

TARGET  {"name": what the user named, a path or a factory, "text"?: a pasted one, which goes before that,
        "state_dict"?: dotted, of a checkpoint, "run"?: whether a class may be built, "timeout"?: seconds for that,
        "folder"?: on its import path}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KeyTable, key_table_of_checkpoint
from sdviewer.core.progress import Progress, no_progress
from sdviewer.engine.fitting import files_at, read_wanted
from sdviewer.engine.models import TIMEOUT, Model, StrictLoad
from sdviewer.engine.written_copy import place_of
from sdviewer.errors import Cancelled
from sdviewer.formats import open_checkpoint
from sdviewer.formats.receipt import Receipt
from sdviewer.repair.fit import table_of_plan
from sdviewer.repair.key_check import KeyCheck, check_keys
from sdviewer.repair.operations.operation import selection
from sdviewer.repair.other_files import placed
from sdviewer.repair.plan import Plan, PlanWarning
from sdviewer.repair.recipe import Goal as StatedGoal
from sdviewer.repair.state_dicts import choose_state_dict
from sdviewer.repair.target import Target
from sdviewer.repair.wording import listed, quoted

NAMED = 10
"""Keys that a warning carries."""

LONGEST_WORDS = 2000
"""Characters of torch's own words that a sentence has; they name every key."""

NOT_MET = "target_not_met"
NOT_LOADED = "target_not_loaded"


@dataclass(frozen=True, slots=True)
class Goal:
    """What the result has to fit.

    Keys that patterns of `allow_missing` name may be missing. `model` is the one of a class or a config, in its process
    until `close`; `inputs` are the paths of what was read to know the target.
    """

    target: Target
    allow_missing: tuple[str, ...] = ()
    model: Model | None = None
    inputs: tuple[str, ...] = ()

    def checked(
        self, receipt: Receipt, checkpoint: Checkpoint, plan: Plan, progress: Progress = no_progress
    ) -> Checked:
        """What the target says of the file that a save wrote, which stays however that turns out.

        Of a dry run the plan is asked, and `verified` stays None. A load that is cancelled is none.
        """
        place = place_of(checkpoint, plan, receipt.container)
        if receipt.verified is None or receipt.output is None:
            source = key_table_of_checkpoint(checkpoint, _edited(plan, checkpoint))
            return _told(receipt, self.target, place, self._look(table_of_plan(plan, checkpoint, source)), None)
        look = self._look(_table_at(open_checkpoint(receipt.output), place))
        # A key that may be missing is one that torch would not let pass.
        said = None if self.model is None or look.allowed else _load(self.model, receipt.output, place, progress)
        return _told(receipt, self.target, place, look, said)

    def close(self) -> None:
        """End the process of the model."""
        if self.model is not None:
            self.model.close()

    def _look(self, made: KeyTable) -> _Look:
        """What a strict load of these entries would say, without the missing keys that may be."""
        found = check_keys(made, self.target.table, self.target.unreported)
        if not self.allow_missing:
            return _Look(found)
        may_be = selection(self.allow_missing)
        missing = tuple([key for key in found.missing if not may_be(key)])
        return _Look(replace(found, missing=missing), [key for key in found.missing if may_be(key)])


class _Look(NamedTuple):
    """What names and shapes say, and the keys that are missing and may be."""

    found: KeyCheck
    allowed: Sequence[str] = ()


class Checked(NamedTuple):
    """A receipt with what the target says, whether the copy fits, and how many keys are left to the model.

    These are 0 where `load_state_dict(strict=False)` would refuse it too.
    """

    receipt: Receipt
    fits: bool
    left: int


def read_goal(
    wanted: str | None,
    checkpoint: Checkpoint,
    plan: Plan,
    stated: StatedGoal,
    *,
    folder: str = "",
    text: str | None = None,
    state_dict: str | None = None,
    timeout: float = TIMEOUT,
    run: bool = False,
    imports: str = "",
) -> Goal:
    """What the result of a recipe has to fit: what is `wanted`, else the list of keys that the recipe names.

    `text` goes before what `wanted` names; `folder` is that of the recipe. `run`: a class may be built, where a person
    named it: what a recipe names is never run. `imports` is a folder on its import path.

    Raises:
        OpenError, UsageError: it cannot be read, or is none.
    """
    name = placed(stated.keys, folder) if wanted is None else wanted
    source = key_table_of_checkpoint(checkpoint, _edited(plan, checkpoint))
    run = run and wanted is not None
    built: list[Model] = []
    found = read_wanted(
        *(name, text, source), state_dict=state_dict, run=run, timeout=timeout, folder=imports, built=built.append
    )
    if found.adapter is not None:  # (a model does not load an adapter that is for it)
        while built:
            built.pop().close()
    return Goal(found.target, stated.allow_missing, built[0] if built else None, tuple(files_at(name)))


def _load(model: Model, path: str, place: Sequence[str | int] | None, progress: Progress) -> StrictLoad:
    """What a model says of the state dict at some steps from the root of a file that was written."""
    if place is None:
        return StrictLoad(None, "the file holds a whole module, which would have to be run")
    steps = [step for step in place if isinstance(step, str)]
    if len(steps) < len(place):
        return StrictLoad(None, "the state dict stands in a list")
    try:
        return model.load(path, steps, progress)
    except Cancelled:
        return StrictLoad(False, "it was stopped")


def goal_of(wanted: Mapping[str, Any] | None, checkpoint: Checkpoint, plan: Plan, stated: StatedGoal) -> Goal | None:
    """What the window wants a result to fit (TARGET), else the list that the recipe names; None where there is none.

    Raises:
        OpenError, UsageError: it cannot be read, or is none.
    """
    if wanted is None:
        return read_goal(None, checkpoint, plan, stated) if stated.keys else None
    return read_goal(
        wanted["name"],
        checkpoint,
        plan,
        stated,
        text=wanted.get("text"),
        state_dict=wanted.get("state_dict"),
        timeout=wanted.get("timeout", TIMEOUT),
        run=wanted.get("run", False),
        imports=wanted.get("folder", ""),
    )


def _edited(plan: Plan, checkpoint: Checkpoint) -> int:
    return choose_state_dict(checkpoint) if plan.state_dict is None else plan.state_dict


def _table_at(written: Checkpoint, place: Sequence[str | int] | None) -> KeyTable:
    """The state dict at some steps from the root."""
    index = choose_state_dict(written, None if place is None else ".".join(map(str, place)))
    return key_table_of_checkpoint(written, index)


def _told(
    receipt: Receipt, target: Target, place: Sequence[str | int] | None, look: _Look, said: StrictLoad | None
) -> Checked:
    """The receipt with the answers: checks that held, or warnings."""
    found, allowed = look
    fits = found.loads if said is None or said.ok is None else said.ok
    checks, warnings, notes = [], list(receipt.warnings), list(receipt.notes)
    name = text.visible(target.title, 200)
    it = quoted(".".join(map(str, place))) if place else "it"
    shapes = target.table.shapes_known
    how = "names and shapes" if shapes else "names and the shapes that are known"
    if found.loads:
        total = len(found.matched) + len(allowed)
        keys = f"{len(found.matched):,} of the {total:,} keys" if allowed else f"the {text.plural(total, 'key')}"
        checks.append(f"{it} has {keys} of {name} and no other, {_shapes_words(target)}{_doubt(target)}")
    elif fits:
        notes.append(f"by {how} {it} does not fit {name} ({_problems(found)}), but its own load takes it")
    else:
        keys_in_the_way = [*found.missing, *found.unexpected, *[one.key for one in found.mismatched]]
        only = not found.unexpected and not found.mismatched
        rest = "; with strict=False these keep what the model begins with" if only else ""
        why = f"{it} does not fit {name} by {how}: {_problems(found)}{rest}{_doubt(target)}"
        warnings.append(PlanWarning(NOT_MET, tuple(keys_in_the_way[:NAMED]), why))
    if allowed:
        keep = "is not in it and keeps" if len(allowed) == 1 else "are not in it and keep"
        which = f"{text.plural(len(allowed), 'key')} of {name} {keep} what the model begins with"
        notes.append(f"{which}, as the recipe allows: {listed(allowed)}")
    if said is not None:
        words = text.visible(" ".join(said.message.split()), LONGEST_WORDS)
        if said.ok:
            checks.append(f"{it} was loaded into {name} with load_state_dict(strict=True): {words}")
        elif said.ok is False:
            why = f"{it} does not load into {name} with load_state_dict(strict=True): {words}"
            warnings.append(PlanWarning(NOT_MET, (), why))
        else:
            warnings.append(PlanWarning(NOT_LOADED, (), f"{it} was not loaded into {name}: {words}"))
    # (of several state dicts all have to fit)
    before = receipt.verified is None or receipt.verified.target is not False
    told = replace(
        receipt,
        verified=receipt.verified and replace(receipt.verified, target=fits and before),
        checks=(*checks, *receipt.checks),
        warnings=tuple(warnings),
        notes=tuple(notes),
    )
    loose = found.mismatched or (said is not None and said.ok)
    return Checked(told, fits, 0 if loose else len(found.missing) + len(allowed))


def _shapes_words(target: Target) -> str:
    """How far the shapes were compared."""
    if target.table.shapes_known:
        return "with the right shapes"
    known = any(shape is not None for shape in target.table.shapes)
    return "with the right shapes where these are known" if known else "by name: the shapes are not known"


def _doubt(target: Target) -> str:
    """Why the model may ask for something else."""
    if target.incomplete:
        return "; the text does not name all keys of the model"
    return "; some keys were guessed, since the report folds them" if target.approximate else ""


def _problems(found: KeyCheck) -> str:
    """The keys in the way, in a line."""
    kinds = (
        ("missing", found.missing),
        ("unexpected", found.unexpected),
        ("of another shape", [one.key for one in found.mismatched]),
    )
    return "; ".join([f"{len(keys):,} {kind} ({listed(keys)})" for kind, keys in kinds if keys])
