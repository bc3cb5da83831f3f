"""permute: put the dimensions in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.core import text
from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, impossible, needs_elements, stated
from sdviewer.repair.transforms import Permute as Permuting
from sdviewer.repair.transforms import Transform


@dataclass(frozen=True, slots=True)
class Permute(EachTensor):
    """Dimension i of the result is dimension `order[i]` of the tensor."""

    op: ClassVar[str] = "permute"

    order: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """`Permute dimensions to 2, 0, 1`."""
        return f"Permute dimensions to {', '.join(map(str, self.order))}"

    def check(self) -> None:
        """Every dimension once."""
        if not self.order or sorted(self.order) != list(range(len(self.order))):
            raise UsageError("`order` must name every dimension once", remedy="Write order = [2, 0, 1].")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`order`."""
        return {"order": reader.integers("order") or ()}

    def own_fields(self) -> dict[str, Any]:
        """`order`."""
        return stated(self, {"order": "order"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where the order is the one it has."""
        shape = needs_elements(entry, "cannot permute")
        if len(shape) != len(self.order):
            wanted = text.plural(len(self.order), "dimension")
            raise impossible("cannot permute", entry, f"`order` is for {wanted}, it has {len(shape)}")
        if list(self.order) == sorted(self.order):
            return None
        return Permuting(self.order), tuple([shape[dim] for dim in self.order]), entry.dtype
