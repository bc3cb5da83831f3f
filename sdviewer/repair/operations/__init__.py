"""The operations a step can be: one file each, and one line in `OPERATIONS`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.cast import Cast
from sdviewer.repair.operations.clone import Clone
from sdviewer.repair.operations.drop import Drop
from sdviewer.repair.operations.drop_objects import DropObjects
from sdviewer.repair.operations.keep import Keep
from sdviewer.repair.operations.leave_out import LeaveOut
from sdviewer.repair.operations.metadata import Metadata
from sdviewer.repair.operations.operation import Expect, KeyChanges, Operation
from sdviewer.repair.operations.prefix import Prefix
from sdviewer.repair.operations.rename import Rename
from sdviewer.repair.operations.renumber_optimizer import RenumberOptimizer
from sdviewer.repair.operations.replace import Replace
from sdviewer.repair.operations.replace_prefix import ReplacePrefix
from sdviewer.repair.operations.set_value import SetValue
from sdviewer.repair.operations.strip import Strip
from sdviewer.repair.operations.tie import Tie
from sdviewer.repair.operations.unwrap import Unwrap
from sdviewer.repair.operations.wrap import Wrap
from sdviewer.repair.wording import quoted

__all__ = [
    "OPERATIONS",
    "Cast",
    "Clone",
    "Drop",
    "DropObjects",
    "Expect",
    "Keep",
    "KeyChanges",
    "LeaveOut",
    "Metadata",
    "Operation",
    "Prefix",
    "Rename",
    "RenumberOptimizer",
    "Replace",
    "ReplacePrefix",
    "SetValue",
    "Strip",
    "Tie",
    "Unwrap",
    "Wrap",
    "operation_from_step",
    "read_step",
]

OPERATIONS: tuple[type[Operation], ...] = (
    *(Unwrap, Strip, Prefix, ReplacePrefix, Rename, Replace, Drop, Keep),
    DropObjects,
    *(Cast, Clone, Tie),
    *(SetValue, LeaveOut, Wrap, RenumberOptimizer),
    Metadata,
)

NOT_BUILT = (
    *("split", "fuse", "transpose", "permute", "reshape", "squeeze", "unsqueeze", "flatten"),
    *("stack", "unstack", "rows", "add", "untie", "broadcast", "take", "resize"),
)
"""Names of the recipe language that no release carries out yet."""


def operation_from_step(table: Mapping[str, Any]) -> Operation:
    """The operation that a step's table alone describes, as `Operation.to_step` gives it.

    Raises:
        UsageError: as `read_step`.
    """
    return read_step(FieldReader(table, "the step"))


def read_step(reader: FieldReader) -> Operation:
    """The operation that a step's table describes.

    Raises:
        UsageError: the operation is unknown or not built yet, or a field is wrong.
    """
    name = reader.text("op")
    for operation in OPERATIONS:
        if operation.op == name:
            return operation.from_step(reader)
    if name in NOT_BUILT:
        raise reader.error("op", f"{name} is not built yet", code="not_built")
    names = [operation.op for operation in OPERATIONS]
    close = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."
    raise reader.error("op", f"unknown operation {quoted(name)}", hint)
