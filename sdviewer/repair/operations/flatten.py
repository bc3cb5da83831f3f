"""flatten: make several dimensions one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, impossible, needs_elements, stated
from sdviewer.repair.transforms import Reshape, Transform

_WHAT = "cannot flatten"


@dataclass(frozen=True, slots=True)
class Flatten(EachTensor):
    """The dimensions from `start` to `end`, both included, become one."""

    op: ClassVar[str] = "flatten"

    start: int = 0
    end: int = -1

    @property
    def label(self) -> str:
        """`Flatten`, `Flatten dimensions 1 to -1`."""
        everything = (self.start, self.end) == (0, -1)
        return "Flatten" if everything else f"Flatten dimensions {self.start} to {self.end}"

    def check(self) -> None:
        """Which dimensions there are depends on the tensor."""

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`start`, `end`."""
        return {"start": reader.dimension("start", 0), "end": reader.dimension("end", -1)}

    def own_fields(self) -> dict[str, Any]:
        """Those that are not the first and the last."""
        return stated(self, {"start": "start", "end": "end"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """A scalar becomes a vector, as in torch."""
        shape = needs_elements(entry, _WHAT) or (1,)
        whole = entry._replace(shape=shape)
        start, end = axis(_WHAT, whole, self.start), axis(_WHAT, whole, self.end)
        if start > end:
            raise impossible(_WHAT, entry, f"dimension {self.start} stands behind dimension {self.end}")
        new = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
        return None if new == entry.shape else (Reshape(new), new, entry.dtype)
