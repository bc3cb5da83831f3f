"""The operations a step can be: one file each, and one line in `OPERATIONS`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.add import Add
from sdviewer.repair.operations.broadcast import Broadcast
from sdviewer.repair.operations.cast import Cast
from sdviewer.repair.operations.channels import Channels
from sdviewer.repair.operations.clean import Clean
from sdviewer.repair.operations.clone import Clone
from sdviewer.repair.operations.drop import Drop
from sdviewer.repair.operations.drop_objects import DropObjects
from sdviewer.repair.operations.edit import Edit
from sdviewer.repair.operations.extract import Extract
from sdviewer.repair.operations.flatten import Flatten
from sdviewer.repair.operations.fuse import Fuse
from sdviewer.repair.operations.keep import Keep
from sdviewer.repair.operations.leave_out import LeaveOut
from sdviewer.repair.operations.merge_lora import MergeLora
from sdviewer.repair.operations.metadata import Metadata
from sdviewer.repair.operations.operation import Expect, KeyChanges, Operation
from sdviewer.repair.operations.permute import Permute
from sdviewer.repair.operations.permute_rope import PermuteRope
from sdviewer.repair.operations.prefix import Prefix
from sdviewer.repair.operations.prune import Prune
from sdviewer.repair.operations.rename import Rename
from sdviewer.repair.operations.renumber_optimizer import RenumberOptimizer
from sdviewer.repair.operations.reorder import Reorder
from sdviewer.repair.operations.replace import Replace
from sdviewer.repair.operations.replace_prefix import ReplacePrefix
from sdviewer.repair.operations.reshape import Reshape
from sdviewer.repair.operations.resize import Resize
from sdviewer.repair.operations.rows import Rows
from sdviewer.repair.operations.scale import Scale
from sdviewer.repair.operations.set_value import SetValue
from sdviewer.repair.operations.spectral_norm import SpectralNorm
from sdviewer.repair.operations.split import Split
from sdviewer.repair.operations.squeeze import Squeeze
from sdviewer.repair.operations.stack import Stack
from sdviewer.repair.operations.strip import Strip
from sdviewer.repair.operations.take import Take
from sdviewer.repair.operations.tie import Tie
from sdviewer.repair.operations.transpose import Transpose
from sdviewer.repair.operations.unsqueeze import Unsqueeze
from sdviewer.repair.operations.unstack import Unstack
from sdviewer.repair.operations.untie import Untie
from sdviewer.repair.operations.unwrap import Unwrap
from sdviewer.repair.operations.weight_norm import WeightNorm
from sdviewer.repair.operations.wrap import Wrap
from sdviewer.repair.wording import quoted

__all__ = [
    "OPERATIONS",
    "Add",
    "Broadcast",
    "Cast",
    "Channels",
    "Clean",
    "Clone",
    "Drop",
    "DropObjects",
    "Edit",
    "Expect",
    "Extract",
    "Flatten",
    "Fuse",
    "Keep",
    "KeyChanges",
    "LeaveOut",
    "MergeLora",
    "Metadata",
    "Operation",
    "Permute",
    "PermuteRope",
    "Prefix",
    "Prune",
    "Rename",
    "RenumberOptimizer",
    "Reorder",
    "Replace",
    "ReplacePrefix",
    "Reshape",
    "Resize",
    "Rows",
    "Scale",
    "SetValue",
    "SpectralNorm",
    "Split",
    "Squeeze",
    "Stack",
    "Strip",
    "Take",
    "Tie",
    "Transpose",
    "Unsqueeze",
    "Unstack",
    "Untie",
    "Unwrap",
    "WeightNorm",
    "Wrap",
    "operation_from_step",
    "read_step",
]

OPERATIONS: tuple[type[Operation], ...] = (
    *(Unwrap, Strip, Prefix, ReplacePrefix, Rename, Replace, Drop, Keep),
    *(DropObjects, Extract),
    *(Cast, Clone, Tie),
    *(SetValue, LeaveOut, Wrap, RenumberOptimizer),
    Metadata,
    *(Split, Fuse, Stack, Unstack),
    *(Transpose, Permute, Reshape, Flatten, Squeeze, Unsqueeze),
    *(Reorder, PermuteRope, Resize, Channels),
    *(Rows, Add, Broadcast, Untie, Edit, Clean, Scale),
    *(Prune, WeightNorm, SpectralNorm, MergeLora),
    Take,
)


def operation_from_step(table: Mapping[str, Any]) -> Operation:
    """The operation that a step's table alone describes, as `Operation.to_step` gives it.

    Raises:
        UsageError: as `read_step`.
    """
    return read_step(FieldReader(table, "the step"))


def read_step(reader: FieldReader) -> Operation:
    """The operation that a step's table describes.

    Raises:
        UsageError: the operation is unknown, or a field is wrong.
    """
    name = reader.text("op")
    for operation in OPERATIONS:
        if operation.op == name:
            return operation.from_step(reader)
    names = [operation.op for operation in OPERATIONS]
    close = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."
    raise reader.error("op", f"unknown operation {quoted(name)}", hint)
