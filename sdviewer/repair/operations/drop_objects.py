"""drop_objects: leave out every object that torch's own list of names lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdviewer.repair.operations.whole_file import WholeFile


@dataclass(frozen=True, slots=True)
class DropObjects(WholeFile):
    """What is no tensor, plain value or class of torch's list goes, in the whole file; no key changes its name."""

    op: ClassVar[str] = "drop_objects"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Leave out objects that torch's own list lacks"
