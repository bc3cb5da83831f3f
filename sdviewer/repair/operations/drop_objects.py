"""drop_objects: leave out every object that torch's own list of names lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation


@dataclass(frozen=True, slots=True)
class DropObjects(Operation):
    """What is no tensor, plain value or class of torch's list goes, in the whole file; no key changes its name."""

    op: ClassVar[str] = "drop_objects"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Leave out objects that torch's own list lacks"

    def check(self) -> None:
        """It looks at the whole file, so it cannot be restricted to keys."""
        if self.keys:
            raise UsageError("drop_objects takes no `keys`: it looks at the whole file", code="bad_recipe")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """None of its own."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """None."""
        return {}

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """The keys stay; which entries are such objects is known to the format that reads the file."""
        return KeyChanges(keys, 0)

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """The state dict's own entries stay as they are."""
        return {}
