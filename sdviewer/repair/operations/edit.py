"""edit: write numbers into a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.core.arrays import has_values
from sdviewer.errors import NoMatch, RepairError, UsageError
from sdviewer.repair.elements import element, number
from sdviewer.repair.fields import FieldReader, Scalar
from sdviewer.repair.operations.tensor_operation import (
    Entry,
    EntryChanges,
    TensorOperation,
    computed,
    impossible,
    needs_elements,
    stated,
)
from sdviewer.repair.transforms import Transform
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot edit"


@dataclass(frozen=True, slots=True)
class Edit(TensorOperation):
    """The cell of the tensor `key` at the indexes `at` becomes `value`; with fewer indexes, all cells below them do.

    `values` are the numbers of the whole tensor, or of what stands below `at`, row by row. A number that the dtype does
    not have is refused, unless `rounded` (field `round`) lets the nearest one do.
    """

    op: ClassVar[str] = "edit"

    key: str = ""
    at: tuple[int, ...] = ()
    value: Scalar | None = None
    values: tuple[Scalar, ...] | None = None
    rounded: bool = False

    @property
    def label(self) -> str:
        """`Set "fc.bias"[3] to 0.5`."""
        cell = f"[{', '.join(map(str, self.at))}]" if self.at else ""
        many = "" if self.values is None else text.plural(len(self.values), "number")
        return f"Set {quoted(self.key)}{cell} to {many or text.visible(str(self.value), 50)}"

    def check(self) -> None:
        """A key, and one value or several."""
        if not self.key:
            raise UsageError("edit needs a `key`")
        if (self.value is None) == (self.values is None):
            raise UsageError("edit needs either a `value` or a list of `values`")
        for value in self._numbers():
            number(value)

    def _numbers(self) -> tuple[Scalar, ...]:
        return (self.value,) if self.value is not None else self.values or ()

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`key`, `at`, `value`, `values`, `round`."""
        return {
            "key": reader.text("key"),
            "at": reader.integers("at") or (),
            "value": reader.scalar("value"),
            "values": reader.scalars("values"),
            "rounded": reader.boolean("round", False),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        names = {"key": "key", "at": "at", "value": "value", "values": "values", "round": "rounded"}
        return stated(self, names)

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched is the key that is edited."""
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        place = next((i for i, entry in enumerate(entries) if entry.key == self.key), None)
        if place is None:
            refusal = NoMatch(f"{_WHAT} {quoted(self.key)}: there is no such key", key=self.key)
            return EntryChanges(outputs, 0, (), refusal)
        entry = entries[place]
        try:
            shape = needs_elements(entry, _WHAT)
            outputs[place] = (computed(entry, self._writing(entry, shape), shape, entry.dtype),)
        except RepairError as error:
            return EntryChanges(outputs, 0, (), error)
        return EntryChanges(outputs, 1)

    def _writing(self, entry: Entry, shape: tuple[int, ...]) -> Transform:
        if not has_values(entry.dtype):
            raise impossible(_WHAT, entry, f"its dtype is {entry.dtype}", "")
        if len(self.at) > len(shape):
            raise impossible(_WHAT, entry, f"`at` has {len(self.at)} indexes", "One for each dimension is enough.")
        for dim, (index, size) in enumerate(zip(self.at, shape, strict=False)):
            if not -size <= index < size:
                raise impossible(_WHAT, entry, f"dimension {dim} has no index {index}", "")
        cells = math.prod(shape[len(self.at) :])
        if self.values is not None and len(self.values) != cells:
            wanted = f"`values` has {text.plural(len(self.values), 'number')} for {text.plural(cells, 'cell')}"
            raise impossible(_WHAT, entry, wanted, "")
        if self.value is not None and not self.at and shape:
            raise impossible(_WHAT, entry, "which cell is meant?", "Give its indexes in `at`.")
        at = tuple([index % size for index, size in zip(self.at, shape, strict=False)])
        try:
            numbers = [element(value, entry.dtype, rounded=self.rounded) for value in self._numbers()]
        except RepairError as error:
            raise impossible(_WHAT, entry, error.message, error.remedy) from None
        return Writing(at, b"".join(numbers))


@dataclass(frozen=True, slots=True)
class Writing(Transform):
    """The cells below the indexes `at` replaced by `elements`, their bytes row by row, or by one for all."""

    op: ClassVar[str] = "edit"

    at: tuple[int, ...]
    elements: bytes

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        result = arrays[0].copy()
        numbers = np.frombuffer(self.elements, result.dtype)
        where: Any = (*self.at, ...)
        cells = result[where]
        result[where] = numbers.reshape(cells.shape) if numbers.size == cells.size else numbers
        return result

    def details(self) -> dict[str, Any]:
        return {"at": list(self.at)}
