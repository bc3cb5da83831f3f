"""clean: replace what is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core.arrays import array_type, has_values
from sdviewer.errors import RepairError
from sdviewer.repair.elements import element, largest
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import (
    EachTensor,
    Entry,
    impossible,
    may_be_floating,
    needs_numbers,
    stated,
)
from sdviewer.repair.transforms import Transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_PARTS = {"complex128": "float64", "complex64": "float32"}


@dataclass(frozen=True, slots=True)
class Clean(EachTensor):
    """NaN becomes `nan`, infinity `posinf` and minus infinity `neginf`, by default the largest and smallest numbers.

    As `torch.nan_to_num`. Floats and complex numbers alone have such values. How many there were is said after saving.
    """

    op: ClassVar[str] = "clean"

    nan: float = 0.0
    posinf: float | None = None
    neginf: float | None = None

    @property
    def label(self) -> str:
        """`Replace NaN by 0.0 and infinities`."""
        return f"Replace NaN by {self.nan} and infinities"

    def check(self) -> None:
        """Any finite number will do."""

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`nan`, `posinf`, `neginf`."""
        return {
            "nan": float(reader.number("nan", 0.0)),
            "posinf": float(reader.number("posinf", 0.0)) if reader.has("posinf") else None,
            "neginf": float(reader.number("neginf", 0.0)) if reader.has("neginf") else None,
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {"nan": "nan", "posinf": "posinf", "neginf": "neginf"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing for what has no such values."""
        if not may_be_floating(entry):
            return None
        needs_numbers(entry, "cannot clean")
        assert entry.shape is not None
        if not has_values(entry.dtype):
            return None
        part = _PARTS.get(entry.dtype, entry.dtype)
        limit = largest(part)
        posinf = limit if self.posinf is None else self.posinf
        neginf = -limit if self.neginf is None else self.neginf
        try:
            found = [element(value, part, rounded=True) for value in (self.nan, posinf, neginf)]
        except RepairError as error:
            raise impossible("cannot clean", entry, error.message, error.remedy) from None
        return Cleaning(part, *found), entry.shape, entry.dtype


@dataclass(frozen=True, slots=True)
class Cleaning(Transform):
    """What is not finite replaced, by the bytes of elements of `dtype`, which of a complex number is each part's."""

    op: ClassVar[str] = "clean"
    elementwise: ClassVar[bool] = True

    dtype: str
    nan: bytes
    posinf: bytes
    neginf: bytes

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        result = np.ascontiguousarray(arrays[0]).copy()
        parts = result.reshape(-1).view(array_type(self.dtype))
        isnan, isinf = np.isnan(parts), np.isinf(parts)
        negative = np.signbit(parts)
        for where, raw in ((isnan, self.nan), (isinf & ~negative, self.posinf), (isinf & negative, self.neginf)):
            parts[where] = np.frombuffer(raw, parts.dtype)[0]
        return result.reshape(arrays[0].shape)

    def replaced(self, array: Array) -> int:
        import numpy as np

        return int(np.count_nonzero(~np.isfinite(array)))
