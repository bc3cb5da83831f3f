"""spectral_norm: fold a spectral norm, or bring it into torch's other form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.reparametrization import FOLDED, FORMS, Reparametrized, misfit
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, axis, needs_floats, stated
from sdviewer.repair.plan import PlanWarning
from sdviewer.repair.transforms import Cast, Shape, Transform, in_float
from sdviewer.repair.wording import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot fold the spectral norm of"


@dataclass(frozen=True, slots=True)
class SpectralNorm(Reparametrized):
    """Weights that torch divides by their largest singular value become what `to` says: "folded", "old" or "new".

    Old: `weight_orig`, `weight_u`, `weight_v`. New: `parametrizations.weight.original`, `.0._u`, `.0._v`. Folded as in
    evaluation, with the vectors as they are. `dim` is the dimension of the rows (1 in a transposed convolution);
    without it, it is seen from the shapes.
    """

    op: ClassVar[str] = "spectral_norm"
    name: ClassVar[str] = "spectral norm"
    old: ClassVar[tuple[str, ...]] = ("_orig", "_u", "_v")
    new: ClassVar[tuple[str, ...]] = ("original", "0._u", "0._v")

    dim: int | None = None

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`to`, `dim`."""
        return {"to": reader.choice("to", FORMS, FOLDED), "dim": reader.integer("dim")}

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {"to": "to", "dim": "dim"})

    def fold(self, weight: Entry, parts: Sequence[Entry]) -> tuple[Transform, Shape]:
        """u has an element for each row, v one for each of the rest of its elements."""
        shape = needs_floats(weight, _WHAT)
        for part in parts[1:]:
            needs_floats(part, _WHAT)
            if part.dtype != weight.dtype:
                raise misfit(_WHAT, weight, part, f"it is {part.dtype} and not {weight.dtype} as the weight")
        fitting = self._fitting(weight, parts)
        if not fitting:
            raise misfit(_WHAT, weight, parts[1], "there are not as many as rows")
        return SpectralNormFold(fitting[0], weight.dtype), shape

    def _fitting(self, weight: Entry, parts: Sequence[Entry]) -> list[int]:
        """The dimensions that the vectors can be for."""
        shape = weight.shape or ()
        dims = range(len(shape)) if self.dim is None else [axis(_WHAT, weight, self.dim)]
        sizes = [entry.shape for entry in parts[1:]]
        rest = [math.prod(shape[:dim]) * math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
        return [dim for dim in dims if sizes == [(shape[dim],), (rest[dim],)]]

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Warned of where the shapes leave open which dimension the rows are."""
        changes = Reparametrized.change_entries(self, entries)
        if self.to != FOLDED or self.dim is not None or changes.refusal is not None:
            return changes
        unclear = []
        for found in self.find(entries):
            parts = [entries[found.places[part]] for part in range(len(found.places))]
            # A matrix is a linear layer's, whose rows are its first dimension.
            if len(parts[0].shape or ()) > 2 and len(self._fitting(parts[0], parts)) > 1:
                unclear.append(found.weight)
        if not unclear:
            return changes
        message = (
            f"the shapes do not say which dimension the rows of {listed(unclear)} are: 0 was taken, and it is 1 in a "
            "transposed convolution"
        )
        return changes._replace(warnings=(PlanWarning("spectral_dim", tuple(unclear[:10]), message),))


@dataclass(frozen=True, slots=True)
class SpectralNormFold(Transform):
    """The weight over u W v, where `dim` is the rows of the matrix W.

    u W v is computed in float64 and rounded once; torch computes it in the dtype, in an order that depends on the
    machine, so the last bits can differ.
    """

    op: ClassVar[str] = "spectral_norm"

    dim: int
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        weight, u, v = map(in_float, arrays)
        exact = np.complex128 if weight.dtype.kind == "c" else np.float64
        matrix = np.moveaxis(weight, self.dim, 0).reshape(len(u), -1).astype(exact)
        with np.errstate(all="ignore"):
            sigma = np.vdot(u.astype(exact), matrix @ v.astype(exact)).astype(weight.dtype)
            return Cast(self.dtype).compute([weight / sigma])
