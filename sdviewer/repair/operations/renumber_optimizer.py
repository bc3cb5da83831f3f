"""renumber_optimizer: let the optimizer's state follow keys that were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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

    def change_file(self, changes: FileChanges) -> int:
        """Asked for here, done when all steps are through."""
        changes.renumber = True
        return 0
