"""reshape: the same elements in another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.core import text
from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import (
    EachTensor,
    Entry,
    check_dimensions,
    impossible,
    needs_elements,
    stated,
)
from sdviewer.repair.transforms import Reshape as Reshaping
from sdviewer.repair.transforms import Transform

_WHAT = "cannot reshape"


@dataclass(frozen=True, slots=True)
class Reshape(EachTensor):
    """The elements, row by row, in another `shape`; one of its sizes may be -1 and follows from the others."""

    op: ClassVar[str] = "reshape"

    shape: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """`Reshape to 12×-1`."""
        return f"Reshape to {text.shape(self.shape or ())}"

    def check(self) -> None:
        """Sizes from 0, and at most one -1."""
        if self.shape is None or min(self.shape, default=0) < -1 or self.shape.count(-1) > 1:
            raise UsageError("`shape` must be sizes, of which one may be -1", remedy="Write shape = [12, -1].")
        check_dimensions(self.shape)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`shape`."""
        return {"shape": reader.integers("shape")}

    def own_fields(self) -> dict[str, Any]:
        """`shape`."""
        return stated(self, {"shape": "shape"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where it has the shape already."""
        old = needs_elements(entry, _WHAT)
        shape = self.shape or ()
        count = math.prod(old)
        if -1 in shape:
            others = math.prod([size for size in shape if size != -1])
            if not others or count % others:
                raise impossible(_WHAT, entry, f"its {count:,} elements do not go into {text.shape(shape)}")
            shape = tuple([count // others if size == -1 else size for size in shape])
        if math.prod(shape) != count:
            wanted = f"{text.shape(shape)} has {text.plural(math.prod(shape), 'element')}"
            raise impossible(_WHAT, entry, f"{wanted}, it has {count:,}")
        return None if shape == old else (Reshaping(shape), shape, entry.dtype)
