"""channels: adapt the input channels of convolutions, as a stem for colour pictures to grey ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, impossible, needs_floats, stated
from sdviewer.repair.transforms import Cast, Transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot adapt the channels of"


@dataclass(frozen=True, slots=True)
class Channels(EachTensor):
    """The places along `dim`, of which a sum is taken later, become `to`: so that the sum stays what it was.

    One: their sum. Others: the channels in turn, scaled by how many there were over how many there are. Computed in
    float64 and rounded once. Fact: as timm's `adapt_input_conv`, which scales 3 to n by 3 / n.
    """

    op: ClassVar[str] = "channels"

    to: int = 0
    dim: int = 1

    @property
    def label(self) -> str:
        """`Adapt to 1 input channel`."""
        return f"Adapt to {text.plural(self.to, 'input channel')}"

    def check(self) -> None:
        """One channel at least."""
        if self.to < 1:
            raise UsageError("channels needs how many there shall be in `to`", remedy="Write to = 1.")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`to`, `dim`."""
        return {"to": reader.integer("to") or 0, "dim": reader.dimension("dim", 1)}

    def own_fields(self) -> dict[str, Any]:
        """`to`, and `dim` where it is not 1."""
        return stated(self, {"to": "to", "dim": "dim"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where there are as many already."""
        shape = needs_floats(entry, _WHAT)
        dim = axis(_WHAT, entry, self.dim)
        if not shape[dim]:
            raise impossible(_WHAT, entry, "it has none")
        if shape[dim] == self.to:
            return None
        return Adapted(dim, self.to, entry.dtype), (*shape[:dim], self.to, *shape[dim + 1 :]), entry.dtype


@dataclass(frozen=True, slots=True)
class Adapted(Transform):
    """The places along `dim` as so many as `to`; all that is added up over them later stays about the same."""

    op: ClassVar[str] = "channels"

    dim: int
    to: int
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        (array,) = arrays
        wide = np.moveaxis(array, self.dim, 0).astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        count = len(wide)
        with np.errstate(all="ignore"):
            if self.to == 1:
                made = wide[0]
                for channel in wide[1:]:  # one after the other, so that the result is the same on every machine
                    made = made + channel
                made = made[None]
            else:
                made = wide[np.arange(self.to) % count] * (count / self.to)
            return Cast(self.dtype).compute([np.moveaxis(made, 0, self.dim)])

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}
