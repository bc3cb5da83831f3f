"""tie: let several keys stand for one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import NoMatch, RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, TensorOperation
from sdviewer.repair.wording import listed, quoted


@dataclass(frozen=True, slots=True)
class Tie(TensorOperation):
    """Each key in `to` gets the tensor of `source` (field `from`), in its place where it is there, else behind it."""

    op: ClassVar[str] = "tie"

    source: str = ""
    to: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`Tie "lm_head.weight" to "wte.weight"`."""
        return f"Tie {listed(self.to)} to {quoted(self.source)}"

    def check(self) -> None:
        """Two different keys at least."""
        if not self.source or not self.to or "" in self.to:
            raise UsageError("tie needs a key in `from`, and keys in `to`")
        if self.source in self.to or len(set(self.to)) != len(self.to):
            raise UsageError(f"a key cannot be tied to itself: {listed(self.to)}")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `to`."""
        return {"source": reader.text("from"), "to": reader.texts("to")}

    def own_fields(self) -> dict[str, Any]:
        """`from`, `to`."""
        return {"from": self.source, "to": list(self.to)}

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the keys that get the tensor."""
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        at = next((i for i, entry in enumerate(entries) if entry.key == self.source), None)
        if at is None:
            return EntryChanges(outputs, 0, (), NoMatch(f"there is no key {quoted(self.source)}", key=self.source))
        source = entries[at]
        if source.shape is None:
            refusal = RepairError(f"{quoted(self.source)} is no tensor", key=self.source)
            return EntryChanges(outputs, 0, (), refusal)
        there = {entry.key: i for i, entry in enumerate(entries)}
        for key in self.to:
            tied = source._replace(key=key)
            if key in there:
                outputs[there[key]] = (tied,)
            else:
                outputs[at] = (*outputs[at], tied)
        return EntryChanges(outputs, len(self.to))
