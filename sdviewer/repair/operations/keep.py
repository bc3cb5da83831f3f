"""keep: leave all other keys out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sdviewer.repair.operations.choice import Choice, dead
from sdviewer.repair.operations.operation import KeyChanges, selection


@dataclass(frozen=True, slots=True)
class Keep(Choice):
    """Only keys that one of the patterns in `keys` matches stay."""

    op: ClassVar[str] = "keep"
    verb: ClassVar[str] = "Keep only"

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Matched are the keys that stay."""
        chosen = selection(self.keys)
        new_keys = [key if chosen(key) else None for key in keys]
        return KeyChanges(new_keys, len(keys) - new_keys.count(None), dead(self.keys, keys))
