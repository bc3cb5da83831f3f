"""cast: give tensors another dtype."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from sdviewer.core import text
from sdviewer.core.arrays import has_values
from sdviewer.core.dtypes import DTYPES, DType
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, may_be_floating, needs_numbers
from sdviewer.repair.plan import PlanWarning
from sdviewer.repair.transforms import Cast as Casting
from sdviewer.repair.transforms import Transform
from sdviewer.repair.wording import quoted

_FROM = ("floating", "all")

TARGETS = tuple(name for name in DTYPES if has_values(name) and name != "float8_e8m0fnu")
"""The dtypes to cast to; float8_e8m0fnu holds powers of two alone, the scales of other types."""


class _Range(NamedTuple):
    """Bits of precision, and the largest and smallest exponent (of the smallest value there is) of a float type."""

    precision: int
    largest: int
    smallest: int


_RANGES = {
    "float64": _Range(53, 1023, -1074),
    "float32": _Range(24, 127, -149),
    "float16": _Range(11, 15, -24),
    "bfloat16": _Range(8, 127, -133),
    "float8_e4m3fn": _Range(4, 8, -9),
    "float8_e5m2": _Range(3, 15, -16),
    "float8_e4m3fnuz": _Range(4, 7, -10),
    "float8_e5m2fnuz": _Range(3, 15, -17),
    "float8_e8m0fnu": _Range(1, 127, -127),
}
_WITHOUT_INFINITY = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
_ONE_ZERO = ("float8_e4m3fnuz", "float8_e5m2fnuz")
"""Facts: torch 2.13 (`torch.finfo`), ml_dtypes 0.6; the "fnuz" types have no minus zero."""


@dataclass(frozen=True, slots=True)
class Cast(EachTensor):
    """Tensors become `dtype`; of = "floating" leaves integers and bools as they are, "all" takes them too."""

    op: ClassVar[str] = "cast"

    dtype: str = ""
    of: str = "floating"

    @property
    def label(self) -> str:
        """`Cast to float16`."""
        return f"Cast {'everything ' if self.of == 'all' else ''}to {self.dtype}"

    def check(self) -> None:
        """The dtype is one that can be computed."""
        if self.dtype not in TARGETS:
            known = ", ".join(TARGETS)
            raise UsageError(f"{quoted(self.dtype)} is no dtype that tensors can be cast to", remedy=f"One of {known}.")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`dtype` (with or without `torch.`), `of`."""
        return {"dtype": reader.text("dtype").removeprefix("torch."), "of": reader.choice("of", _FROM, "floating")}

    def own_fields(self) -> dict[str, Any]:
        """`of` where it is "all"."""
        return {"dtype": self.dtype} | ({"of": self.of} if self.of != "floating" else {})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing for what has the dtype already, or is no float where only floats are meant."""
        if entry.dtype == self.dtype:
            return None
        if self.of == "floating" and not may_be_floating(entry):
            return None
        needs_numbers(entry, "cannot cast")
        if not has_values(entry.dtype):
            raise RepairError(
                f"cannot cast {quoted(entry.key)} from {entry.dtype or 'an unknown type'}",
                key=entry.key,
                remedy="Leave it out of the step with `keys`.",
            )
        assert entry.shape is not None
        return Casting(self.dtype), entry.shape, self.dtype

    def warn(self, changed: Sequence[tuple[Entry, Entry]]) -> Iterable[PlanWarning]:
        """What can be lost, the worst first."""
        found: dict[tuple[str, str], list[str]] = {}
        for old, _ in changed:
            loss = cast_loss(DTYPES[old.dtype], DTYPES[self.dtype])
            if loss:
                found.setdefault((loss, old.dtype), []).append(old.key)
        for (loss, dtype), keys in found.items():
            message = f"{text.plural(len(keys), 'tensor')} from {dtype} to {self.dtype}: {loss}"
            yield PlanWarning("lossy_cast", tuple(keys[:10]), message)


def cast_loss(old: DType, new: DType) -> str:
    """What a cast can lose, in words; "" where every value of the old type is one of the new."""
    if old.kind == "complex" and new.kind != "complex":
        return "the imaginary parts are lost"
    if new.kind == "bool":
        return "only whether a value is 0 is left" if old.kind != "bool" else ""
    if old.kind == "bool":
        return ""
    if new.kind in ("int", "uint"):
        if old.kind in ("float", "complex"):
            return "fractions are cut off, and what is outside the range becomes another number"
        fits = new.itemsize > old.itemsize or (new.itemsize == old.itemsize and new.kind == old.kind)
        negative = old.kind == "int" and new.kind == "uint"
        return "" if fits and not negative else "what is outside the range becomes another number"
    wide = _RANGES[_part(new)]
    if old.kind in ("int", "uint"):
        bits = 8 * old.itemsize - (old.kind == "int")
        if bits > wide.largest:
            return "large values become infinite or the largest there is"
        return "" if bits <= wide.precision else "large values are rounded"
    narrow = _RANGES[_part(old)]
    if narrow.largest > wide.largest or (new.name in _WITHOUT_INFINITY and old.name not in _WITHOUT_INFINITY):
        return (
            f"values are rounded, and large ones become {'448' if new.name == 'float8_e4m3fn' else 'infinite or NaN'}"
        )
    if narrow.precision > wide.precision or narrow.smallest < wide.smallest:
        return "values are rounded"
    return "minus zero becomes zero" if new.name in _ONE_ZERO and old.name not in _ONE_ZERO else ""


def _part(dtype: DType) -> str:
    """The float type of a number's real part."""
    return {"complex128": "float64", "complex64": "float32"}.get(dtype.name, dtype.name)
