"""Carries steps out on the keys of a table, as planning would on a file: what is offered has been done once before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import ASSUMED_DTYPE, KeyTable, checkpoint_of_table
from sdviewer.errors import RepairError
from sdviewer.repair.collisions import check_new_keys
from sdviewer.repair.operations import Operation
from sdviewer.repair.operations.tensor_operation import Entry, TensorOperation
from sdviewer.repair.plan import Kept, Plan
from sdviewer.repair.planning import key_map, make_plan
from sdviewer.repair.recipe import Recipe


def entries_of_table(table: KeyTable) -> list[Entry]:
    """The entries of a table before any step."""
    same = {place: ("tie", number) for number, tie in enumerate(table.ties) for place in tie}
    return [
        Entry(
            key,
            Kept(place),
            None if place in table.not_tensors else table.shapes[place],
            table.dtypes[place] or ASSUMED_DTYPE,
            "" if table.shapes[place] is not None else "its shape is not known",
            same.get(place),
        )
        for place, key in enumerate(table.keys)
    ]


def carried_out(step: Operation, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that a step leaves.

    Raises:
        RepairError: the step does not go through on them.
    """
    if isinstance(step, TensorOperation):
        changes = step.plan_entries(entries)
        if changes.refusal is not None:
            raise changes.refusal
        results = [new for output in changes.outputs for new in output]
        if len({entry.key for entry in results}) < len(results):
            raise RepairError("two tensors would have one key")
        return results
    plan = step.plan([entry.key for entry in entries])
    if plan.refusal is not None:
        raise plan.refusal
    check_new_keys([entry.key for entry in entries], plan.new_keys)
    return [
        entry if new == entry.key else entry._replace(key=new)
        for entry, new in zip(entries, plan.new_keys, strict=True)
        if new is not None
    ]


def map_of(table: KeyTable, steps: Iterable[Operation]) -> dict[str, str | dict[str, Any]]:
    """Source key -> its key in the result, or what was made of it, as planning says it.

    Raises:
        RepairError: a step does not go through.
    """
    return key_map(*planned(table, steps))


def planned(table: KeyTable, steps: Iterable[Operation]) -> tuple[Plan, Checkpoint]:
    """The plan of steps on a table, with the checkpoint that it is for.

    Raises:
        RepairError: a step does not go through.
    """
    checkpoint = plannable(table)
    return make_plan(Recipe(steps=tuple(steps)), checkpoint), checkpoint


def plannable(table: KeyTable) -> Checkpoint:
    """A header-only checkpoint on whose tensors steps can be planned as if somebody had their numbers."""
    checkpoint = checkpoint_of_table(table)
    first = {place: min(tie) for tie in table.ties for place in tie}
    places = [place for place, tensor in enumerate(checkpoint.state_dicts[0].tensor_of) if tensor >= 0]
    tensors = [
        info._replace(kind="tensor", unreadable="", storage=str(first.get(place, place)))
        for place, info in zip(places, checkpoint.tensors, strict=True)
    ]
    return replace(checkpoint, tensors=tensors)
