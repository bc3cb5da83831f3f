"""drop: leave keys out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sdviewer.repair.operations.choice import Choice, dead
from sdviewer.repair.operations.operation import KeyChanges, selection


@dataclass(frozen=True, slots=True)
class Drop(Choice):
    """Keys that one of the patterns in `keys` matches are left out."""

    op: ClassVar[str] = "drop"
    verb: ClassVar[str] = "Drop"

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Matched are the keys that go."""
        chosen = selection(self.keys)
        new_keys = [None if chosen(key) else key for key in keys]
        return KeyChanges(new_keys, new_keys.count(None), dead(self.keys, keys))
