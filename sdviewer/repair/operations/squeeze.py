"""squeeze: leave out dimensions of size 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, impossible, needs_elements, stated
from sdviewer.repair.transforms import Squeeze as Squeezing
from sdviewer.repair.transforms import Transform

_WHAT = "cannot squeeze"


@dataclass(frozen=True, slots=True)
class Squeeze(EachTensor):
    """The dimensions in `dims`, which must be of size 1, are left out; without `dims` all that are of size 1."""

    op: ClassVar[str] = "squeeze"

    dims: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """`Squeeze`, `Squeeze dimensions 2, 3`."""
        if self.dims is None:
            return "Squeeze"
        return f"Squeeze dimension{'s' * (len(self.dims) > 1)} {', '.join(map(str, self.dims))}"

    def check(self) -> None:
        """At least one dimension where they are given."""
        if self.dims == ():
            raise UsageError("`dims` is an empty list", remedy="Leave it out for all dimensions of size 1.")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`dims`."""
        return {"dims": reader.integers("dims")}

    def own_fields(self) -> dict[str, Any]:
        """`dims` where they are given."""
        return stated(self, {"dims": "dims"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where there is nothing of size 1 and no dimension was named."""
        shape = needs_elements(entry, _WHAT)
        if self.dims is None:
            gone = [dim for dim, size in enumerate(shape) if size == 1]
        else:
            gone = sorted({axis(_WHAT, entry, dim) for dim in self.dims})
            wide = next((dim for dim in gone if shape[dim] != 1), None)
            if wide is not None:
                raise impossible(_WHAT, entry, f"dimension {wide} is of size {shape[wide]}")
        new = tuple([size for dim, size in enumerate(shape) if dim not in gone])
        return (Squeezing(new, tuple(gone)), new, entry.dtype) if gone else None
