"""transpose: exchange two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, impossible, needs_elements, stated
from sdviewer.repair.transforms import Transform
from sdviewer.repair.transforms import Transpose as Transposing

_WHAT = "cannot transpose"


@dataclass(frozen=True, slots=True)
class Transpose(EachTensor):
    """Two dimensions change places: those in `dims`, or without them the two of a matrix."""

    op: ClassVar[str] = "transpose"

    dims: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """`Transpose`, `Transpose dimensions 0 and 2`."""
        return "Transpose" if self.dims is None else f"Transpose dimensions {self.dims[0]} and {self.dims[1]}"

    def check(self) -> None:
        """Two different dimensions."""
        if self.dims is not None and (len(self.dims) != 2 or self.dims[0] == self.dims[1]):
            raise UsageError("`dims` must be two different dimensions", remedy="Write dims = [0, 1].")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`dims`."""
        return {"dims": reader.integers("dims")}

    def own_fields(self) -> dict[str, Any]:
        """`dims` where they are given."""
        return stated(self, {"dims": "dims"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Without `dims` only a matrix has two dimensions to exchange."""
        shape = list(needs_elements(entry, _WHAT))
        if self.dims is None and len(shape) != 2:
            raise impossible(
                _WHAT, entry, "it is no matrix", "Choose matrices with `keys`, or name two dimensions in `dims`."
            )
        a, b = sorted([axis(_WHAT, entry, dim) for dim in self.dims or (0, 1)])
        if a == b:
            raise impossible(_WHAT, entry, f"dimensions {self.dims} are one")
        shape[a], shape[b] = shape[b], shape[a]
        return Transposing(None if len(shape) == 2 else (a, b)), tuple(shape), entry.dtype
