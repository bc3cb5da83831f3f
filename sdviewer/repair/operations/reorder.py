"""reorder: put equal parts of tensors into another order, as gate and up, or q, k and v."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, impossible, needs_elements, stated
from sdviewer.repair.transforms import Transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot reorder the parts of"


@dataclass(frozen=True, slots=True)
class Reorder(EachTensor):
    """`dim` is so many equal parts as `order` has places; part i of the result is part `order[i]` of the tensor.

    `groups` says that the tensor is so many equal groups, each with a piece of every part, as the heads in a fused qkv.
    """

    op: ClassVar[str] = "reorder"

    order: tuple[int, ...] = ()
    dim: int = 0
    groups: int = 1

    @property
    def label(self) -> str:
        """`Put parts in the order 1, 0`."""
        return f"Put parts in the order {', '.join(map(str, self.order))}"

    def check(self) -> None:
        """Every part once, two at least."""
        if len(self.order) < 2 or sorted(self.order) != list(range(len(self.order))):
            raise UsageError("`order` must name every part once", remedy="Write order = [1, 0] for two halves.")
        if self.groups < 1:
            raise UsageError("`groups` must be at least one")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`order`, `dim`, `groups`."""
        return {
            "order": reader.integers("order") or (),
            "dim": reader.dimension("dim", 0),
            "groups": reader.dimension("groups", 1),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {"order": "order", "dim": "dim", "groups": "groups"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where the order is the one it has."""
        shape = needs_elements(entry, _WHAT)
        dim = axis(_WHAT, entry, self.dim)
        if shape[dim] % (self.groups * len(self.order)):
            parts = f"{len(self.order)} equal parts"
            where = f" in each of {text.plural(self.groups, 'group')}" if self.groups > 1 else ""
            raise impossible(_WHAT, entry, f"{shape[dim]:,} places are not {parts}{where}")
        if list(self.order) == sorted(self.order):
            return None
        return PartsInOrder(dim, self.order, self.groups), shape, entry.dtype


@dataclass(frozen=True, slots=True)
class PartsInOrder(Transform):
    """Equal parts along `dim`, in each of so many groups, in another order."""

    op: ClassVar[str] = "reorder"

    dim: int
    order: tuple[int, ...]
    groups: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        (array,) = arrays
        parts = len(self.order)
        each = array.shape[self.dim] // self.groups // parts
        before, behind = array.shape[: self.dim], array.shape[self.dim + 1 :]
        apart = array.reshape(*before, self.groups, parts, each, *behind)
        return np.take(apart, self.order, axis=self.dim + 1).reshape(array.shape)

    def details(self) -> dict[str, Any]:
        told = {"dim": self.dim, "order": list(self.order)}
        return told | ({"groups": self.groups} if self.groups > 1 else {})
