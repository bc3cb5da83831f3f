"""clone: give tensors a storage of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, needs_numbers
from sdviewer.repair.transforms import Clone as Cloning
from sdviewer.repair.transforms import Transform


@dataclass(frozen=True, slots=True)
class Clone(EachTensor):
    """Each tensor gets a contiguous storage that it shares with no other: ties are undone, views become small."""

    op: ClassVar[str] = "clone"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Give every tensor a storage of its own" if not self.keys else "Give tensors a storage of their own"

    def check(self) -> None:
        """It has no fields of its own."""

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """None of its own."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """None."""
        return {}

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Always: whether a storage is shared is known to the whole file only."""
        needs_numbers(entry, "cannot clone")
        assert entry.shape is not None
        return Cloning(entry.key), entry.shape, entry.dtype
