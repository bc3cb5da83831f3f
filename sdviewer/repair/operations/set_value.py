"""set_value: change a plain value that stands beside the tensors, such as the epoch or a learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.core import text
from sdviewer.core.paths import dotted
from sdviewer.errors import NoMatch, RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.file_operation import FileChanges, FileOperation, Plain
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.plan import PlanWarning
from sdviewer.repair.wording import quoted

PLAIN_TYPES = ("builtins.bool", "builtins.int", "builtins.float", "builtins.str", "builtins.NoneType")
"""Qualified types of the values that can be changed."""


@dataclass(frozen=True, slots=True)
class SetValue(FileOperation):
    """The value at the dotted `path` becomes `value`: a bool, an int, a float, a text, or None."""

    op: ClassVar[str] = "set_value"

    path: str = ""
    value: Plain = None

    @property
    def label(self) -> str:
        """`Set "epoch" to 4`."""
        return f"Set {quoted(self.path)} to {text.visible(repr(self.value), 80)}"

    def check(self) -> None:
        """A path, and a finite number where it is one."""
        WholeFile.check(self)
        if not self.path:
            raise UsageError("`path` is empty")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise UsageError("a value can be set to a finite number only")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`path`, `value`; None is written `{ repr = "None" }`."""
        return {"path": reader.text("path"), "value": reader.plain("value")}

    def own_fields(self) -> dict[str, Any]:
        """Both."""
        return {"path": self.path, "value": {"repr": "None"} if self.value is None else self.value}

    def change_file(self, changes: FileChanges) -> int:
        """The value must be there once, and be a plain one."""
        checkpoint = changes.checkpoint
        found = [info for info in checkpoint.values if dotted(info.path) == self.path]
        if not found:
            raise NoMatch(f"there is no value at {quoted(self.path)}", path=checkpoint.path)
        info = found[0]
        if len(found) > 1:
            raise RepairError(f"{len(found)} values stand at {quoted(self.path)}", path=checkpoint.path)
        if info.type not in PLAIN_TYPES or isinstance(info.value, (list, dict)):
            raise RepairError(
                f"{quoted(self.path)} is no plain value but {text.visible(info.type, 80)}", path=checkpoint.path
            )
        now = f"builtins.{type(self.value).__name__}"
        if now != info.type:
            old, new = info.type.removeprefix("builtins."), now.removeprefix("builtins.")
            message = f"{quoted(self.path)} was of type {old} and becomes {new}"
            changes.warnings.append(PlanWarning("value_type", (), message))
        changes.values[info.path] = self.value
        return 1
