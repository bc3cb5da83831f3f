"""untie: give tensors that are one under several keys a storage each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sdviewer.repair.operations.clone import Clone
from sdviewer.repair.operations.operation import selection
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges
from sdviewer.repair.other_files import Others, no_others


@dataclass(frozen=True, slots=True)
class Untie(Clone):
    """Each tensor that stands under another key too gets a storage of its own; the others stay as they are."""

    op: ClassVar[str] = "untie"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Untie all tensors" if not self.keys else "Untie tensors"

    def plan_entries(self, entries: Sequence[Entry], others: Others = no_others) -> EntryChanges:
        """A tie to a key outside `keys` is one too; matched are the keys that get a storage."""
        count = Counter([_same(entry) for entry in entries])
        chosen = selection(self.keys) if self.keys else lambda key: True
        places = [i for i, entry in enumerate(entries) if count[_same(entry)] > 1 and chosen(entry.key)]
        changes = self.change_entries([entries[i] for i in places])
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        for i, output in zip(places, changes.outputs, strict=True):
            outputs[i] = output
        return changes._replace(outputs=outputs)


def _same(entry: Entry) -> Hashable:
    """Equal for entries that are one tensor."""
    return entry.value if entry.tied is None else entry.tied
