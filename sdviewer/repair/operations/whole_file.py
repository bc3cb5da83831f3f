"""Operations on a file as a whole: no key changes its name, and none can be picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation


@dataclass(frozen=True, slots=True)
class WholeFile(Operation):
    """A step that changes no key of the state dict; unless it says otherwise it has no fields of its own."""

    def check(self) -> None:
        """It cannot be restricted to keys."""
        if self.keys:
            raise UsageError(f"{self.op} takes no `keys`: it is about the whole file")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """None of its own."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """None."""
        return {}

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """The keys stay; what happens to them is known to the format that reads the file."""
        return KeyChanges(keys, 0)

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """The state dict's own entries stay as they are."""
        return {}
