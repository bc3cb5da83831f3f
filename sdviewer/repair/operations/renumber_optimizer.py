"""renumber_optimizer: let the optimizer's state follow keys that were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.file_operation import FileChanges, FileOperation


@dataclass(frozen=True, slots=True)
class RenumberOptimizer(FileOperation):
    """What the optimizer keeps of parameters that go goes too, and the parameters behind them get lower numbers.

    It looks at the keys as they are after the last step.
    """

    op: ClassVar[str] = "renumber_optimizer"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Let the optimizer follow dropped keys"

    def check(self) -> None:
        """It has no fields of its own."""
        if self.keys:
            raise UsageError("renumber_optimizer takes no `keys`: it follows all that go")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """None of its own."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """None."""
        return {}

    def change_file(self, changes: FileChanges) -> int:
        """Asked for here, done when all steps are through."""
        changes.renumber = True
        return 0
