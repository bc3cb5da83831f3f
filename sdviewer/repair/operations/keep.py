"""keep: leave all other keys out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.drop import dead, said
from sdviewer.repair.operations.operation import KeyChanges, Operation, selection


@dataclass(frozen=True, slots=True)
class Keep(Operation):
    """Only keys that one of the patterns in `keys` matches stay."""

    op: ClassVar[str] = "keep"

    @property
    def label(self) -> str:
        """`Keep only "encoder.**"`."""
        return said("Keep only", self.keys)

    def check(self) -> None:
        """At least one pattern."""
        if not self.keys:
            raise UsageError("keep needs `keys`, a list of patterns")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`keys` is read as every step's is."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """`keys` is written as every step's is."""
        return {}

    def plan(self, keys: Sequence[str]) -> KeyChanges:
        """Here `keys` says what to do and restricts nothing."""
        return self.change(keys)

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Matched are the keys that stay."""
        chosen = selection(self.keys)
        new_keys = [key if chosen(key) else None for key in keys]
        return KeyChanges(new_keys, len(keys) - new_keys.count(None), dead(self.keys, keys))

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """Entries stay: a module without keys has a version too."""
        return {}
