"""weight_norm: fold a weight norm, or bring it into torch's other form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.repair.operations.reparametrization import Reparametrized, misfit
from sdviewer.repair.operations.tensor_operation import Entry, needs_floats
from sdviewer.repair.transforms import Cast, Shape, Transform, in_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot fold the weight norm of"


@dataclass(frozen=True, slots=True)
class WeightNorm(Reparametrized):
    """Weights kept as a direction and a magnitude become what `to` says: "folded" into one tensor, "old" or "new".

    Old: `weight_g` and `weight_v`. New: `parametrizations.weight.original0` and `.original1`.
    """

    op: ClassVar[str] = "weight_norm"
    name: ClassVar[str] = "weight norm"
    old: ClassVar[tuple[str, ...]] = ("_v", "_g")
    new: ClassVar[tuple[str, ...]] = ("original1", "original0")

    def fold(self, weight: Entry, parts: Sequence[Entry]) -> tuple[Transform, Shape]:
        """Which dimension the magnitudes belong to is seen from their shape; a scalar is one for the whole weight."""
        shape, g = needs_floats(weight, _WHAT), parts[1]
        theirs = needs_floats(g, _WHAT)
        if g.dtype != weight.dtype:
            raise misfit(_WHAT, weight, g, f"it is {g.dtype} and not {weight.dtype} as the directions")
        for dim in (None, *range(len(shape))):
            ones = [1] * len(shape)
            if dim is not None:
                ones[dim] = shape[dim]
            if theirs == (() if dim is None else tuple(ones)):
                return WeightNormFold(dim, weight.dtype), shape
        raise misfit(_WHAT, weight, g, "these are no magnitudes for a dimension")


@dataclass(frozen=True, slots=True)
class WeightNormFold(Transform):
    """v times g over the norm of v over all dimensions but `dim` (over all where it is None).

    As torch: 16 bits and less are computed in float32, and rounded once where `dim` is the first or the last one, else
    after each step. The squares are added in float64; torch adds them in an order that depends on the machine, so the
    last bits of float32 and float64 can differ.
    """

    op: ClassVar[str] = "weight_norm"

    dim: int | None
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        v, g = map(in_float, arrays)
        others = tuple([dim for dim in range(v.ndim) if dim != self.dim])
        squares = np.square(np.abs(v).astype(np.float64))
        with np.errstate(all="ignore"):
            norm = np.sqrt(squares.sum(axis=others, keepdims=self.dim is not None)).astype(np.abs(g).dtype)
            if self.dim in (0, v.ndim - 1):
                return self._rounded(v * (g / norm))
            return self._rounded(v * in_float(self._rounded(g / in_float(self._rounded(norm)))))

    def _rounded(self, array: Array) -> Array:
        import numpy as np

        return Cast(self.dtype).compute([np.asarray(array)])
