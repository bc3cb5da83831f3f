"""unsqueeze: put in a dimension of size 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, needs_elements
from sdviewer.repair.transforms import Transform
from sdviewer.repair.transforms import Unsqueeze as Unsqueezing


@dataclass(frozen=True, slots=True)
class Unsqueeze(EachTensor):
    """A dimension of size 1 is put in and becomes dimension `dim`; -1 is behind the last."""

    op: ClassVar[str] = "unsqueeze"

    dim: int = 0

    @property
    def label(self) -> str:
        """`Unsqueeze dimension 0`."""
        return f"Unsqueeze dimension {self.dim}"

    def check(self) -> None:
        """Which dimensions there can be depends on the tensor."""

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`dim`."""
        return {"dim": reader.dimension("dim", 0)}

    def own_fields(self) -> dict[str, Any]:
        """`dim`, always: it is what the step says."""
        return {"dim": self.dim}

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """As torch counts: of the dimensions that the result has."""
        shape = needs_elements(entry, "cannot unsqueeze")
        dim = axis("cannot unsqueeze", entry, self.dim, room=1)
        new = (*shape[:dim], 1, *shape[dim:])
        return Unsqueezing(new, dim), new, entry.dtype
