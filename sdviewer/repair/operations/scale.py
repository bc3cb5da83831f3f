"""scale: multiply by a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import (
    EachTensor,
    Entry,
    is_packed,
    may_be_floating,
    needs_floats,
    stated,
)
from sdviewer.repair.transforms import Cast, Transform, in_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scale(EachTensor):
    """Every float and complex number is multiplied by `factor`; integers and bools stay."""

    op: ClassVar[str] = "scale"

    factor: float = 1.0

    @property
    def label(self) -> str:
        """`Multiply by 0.5`."""
        return f"Multiply by {self.factor}"

    def check(self) -> None:
        """1 would do nothing."""
        if self.factor == 1:
            raise UsageError("scale needs a `factor` that is not 1")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`factor`."""
        return {"factor": float(reader.number("factor", 1.0))}

    def own_fields(self) -> dict[str, Any]:
        """`factor`."""
        return stated(self, {"factor": "factor"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing for integers."""
        if not may_be_floating(entry) and not is_packed(entry):
            return None
        return Scaling(entry.dtype, self.factor), needs_floats(entry, "cannot scale"), entry.dtype


@dataclass(frozen=True, slots=True)
class Scaling(Transform):
    """Every element times `factor`, as torch multiplies by a Python number."""

    op: ClassVar[str] = "scale"
    elementwise: ClassVar[bool] = True

    dtype: str
    factor: float

    def compute(self, arrays: Sequence[Array]) -> Array:
        """Floats of 16 bits and less are multiplied in float32 and rounded once."""
        import numpy as np

        wide = in_float(arrays[0])
        with np.errstate(all="ignore"):
            return Cast(self.dtype).compute([wide * wide.dtype.type(self.factor)])
