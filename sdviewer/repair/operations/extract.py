"""extract: the state dict of a whole pickled module becomes the file's root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sdviewer.repair.operations.operation import KeyChanges
from sdviewer.repair.operations.whole_file import WholeFile


@dataclass(frozen=True, slots=True)
class Extract(WholeFile):
    """What `module.state_dict()` would give, without the module; nothing else of the file stays."""

    op: ClassVar[str] = "extract"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Extract the state dict of the module"

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """The keys are torch's names already; all of them move."""
        return KeyChanges(keys, len(keys))
