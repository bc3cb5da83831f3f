"""add: put a new tensor into the state dict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.core.arrays import array_type, has_values
from sdviewer.core.dtypes import DTYPES
from sdviewer.errors import KeyCollision, NoMatch, RepairError, UsageError
from sdviewer.repair.elements import element, number
from sdviewer.repair.fields import FieldReader, Scalar
from sdviewer.repair.operations.cast import TARGETS
from sdviewer.repair.operations.tensor_operation import (
    Entry,
    EntryChanges,
    TensorOperation,
    axis,
    check_dimensions,
    stated,
)
from sdviewer.repair.plan import Computed
from sdviewer.repair.transforms import AT_ONCE, Cast, Full, New, Shape, Transform
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_AXES = re.compile(r"(.*)\[\s*(-?\d{1,3}(?:\s*,\s*-?\d{1,3})*)\s*\]", re.DOTALL)
_WORDS = {"zeros": 0, "ones": 1}
ARANGE, NORMAL = "arange", "normal"


@dataclass(frozen=True, slots=True)
class Add(TensorOperation):
    """A tensor `key` that is not there yet is added behind the key `after`, or at the end.

    `fill` is "zeros", "ones", a number, "arange" (0, 1, 2 ... row by row) or "normal" (drawn with `mean`, `std` and
    `seed`). Its shape is `shape`, or that of the tensor `like`, of which "head.weight[0]" means the size of dimension 0
    alone. Without `dtype` it has that of `like`, else float32 (int64 for "arange").
    """

    op: ClassVar[str] = "add"

    key: str = ""
    fill: Scalar = "zeros"
    shape: tuple[int, ...] | None = None
    like: str = ""
    dtype: str = ""
    after: str = ""
    mean: float = 0.0
    std: float = 1.0
    seed: int = 0

    @property
    def label(self) -> str:
        """`Add "head.bias" (zeros)`."""
        return f"Add {quoted(self.key)} ({text.visible(str(self.fill), 50)})"

    def check(self) -> None:
        """A key, one way to know the shape, a fill that can be."""
        if not self.key:
            raise UsageError("add needs a `key`")
        if (self.shape is None) == (not self.like):
            raise UsageError("add needs either a `shape` or a key in `like`")
        if min(self.shape or (0,)) < 0:
            raise UsageError("a size in `shape` is negative")
        check_dimensions(self.shape or ())
        if self.dtype and self.dtype not in TARGETS:
            raise UsageError(
                f"{quoted(self.dtype)} is no dtype of a new tensor", remedy=f"One of {', '.join(TARGETS)}."
            )
        if self.fill != NORMAL and (self.mean, self.std, self.seed) != (0.0, 1.0, 0):
            raise UsageError('`mean`, `std` and `seed` belong to fill = "normal"')
        if self.std < 0 or not 0 <= self.seed < 2**32:
            raise UsageError("`std` cannot be negative, and `seed` is from 0 to 4294967295")
        if self.fill not in (*_WORDS, ARANGE, NORMAL):
            number(self.fill)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`key`, `fill`, `shape`, `like`, `dtype` (with or without `torch.`), `after`, `mean`, `std`, `seed`."""
        fill = reader.scalar("fill")
        return {
            "key": reader.text("key"),
            "fill": "zeros" if fill is None else fill,
            "shape": reader.integers("shape"),
            "like": reader.text("like", ""),
            "dtype": reader.text("dtype", "").removeprefix("torch."),
            "after": reader.text("after", ""),
            "mean": float(reader.number("mean", 0.0)),
            "std": float(reader.number("std", 1.0)),
            "seed": reader.dimension("seed", 0),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        names = ("key", "fill", "shape", "like", "dtype", "after", "mean", "std", "seed")
        return stated(self, {name: name for name in names})

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched is the key that is added."""
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        try:
            places = {entry.key: place for place, entry in enumerate(entries)}
            if self.key in places:
                raise KeyCollision(f"there is a key {quoted(self.key)} already", key=self.key)
            if not entries or (self.after and self.after not in places):
                missing = f"no key {quoted(self.after)}" if self.after else "nothing to add it to"
                raise NoMatch(f"cannot add {quoted(self.key)}: there is {missing}", key=self.key)
            place = places[self.after] if self.after else len(entries) - 1
            outputs[place] = (entries[place], self._entry(entries, places))
        except RepairError as error:
            return EntryChanges(outputs, 0, (), error)
        return EntryChanges(outputs, 1)

    def _entry(self, entries: Sequence[Entry], places: dict[str, int]) -> Entry:
        shape, dtype = self.shape, self.dtype or ("int64" if self.fill == ARANGE else "float32")
        if self.like:
            shape, found = self._shape_like(entries, places)
            dtype = self.dtype or found
        assert shape is not None
        made = self._filling(shape, dtype)
        return Entry(self.key, Computed(made, (), shape, dtype), shape, dtype)

    def _shape_like(self, entries: Sequence[Entry], places: dict[str, int]) -> tuple[Shape, str]:
        axes = _AXES.fullmatch(self.like)
        name = axes[1] if axes and self.like not in places else self.like
        if name not in places:
            raise NoMatch(f"cannot add {quoted(self.key)}: there is no key {quoted(name)} to be like", key=self.key)
        entry = entries[places[name]]
        if entry.shape is None:
            raise RepairError(f"cannot add {quoted(self.key)}: {quoted(name)} is no tensor", key=self.key)
        if name == self.like:
            return entry.shape, entry.dtype
        assert axes is not None
        what = f"cannot add {quoted(self.key)} like"
        return tuple([entry.shape[axis(what, entry, int(dim))] for dim in axes[2].split(",")]), entry.dtype

    def _filling(self, shape: Shape, dtype: str) -> Transform:
        what = f"cannot add {quoted(self.key)}"
        if not has_values(dtype) or dtype not in TARGETS:
            raise RepairError(f"{what} as {dtype}", key=self.key, remedy="Give a `dtype`.")
        if self.fill == NORMAL:
            if DTYPES[dtype].kind not in ("float", "complex"):
                raise RepairError(f"{what}: {dtype} cannot hold random numbers", key=self.key)
            return Normal(shape, dtype, self.key, self.mean, self.std, self.seed)
        try:
            if self.fill == ARANGE:
                # The last number is the largest: where it fits, so do all whole numbers below it, as far as floats go.
                for last in range(max(0, math.prod(shape) - 2), math.prod(shape)):
                    element(last, dtype)
                return Arange(shape, dtype, self.key)
            value = _WORDS.get(self.fill, self.fill) if isinstance(self.fill, str) else self.fill
            return Full(shape, dtype, self.key, element(value, dtype, rounded=True))
        except RepairError as error:
            raise RepairError(f"{what}: {error.message}", key=self.key, remedy="Give another `dtype`.") from None


@dataclass(frozen=True, slots=True)
class Arange(New):
    """A new tensor of the numbers from 0, row by row."""

    def pieces(self, first: int, count: int) -> Iterator[Array]:
        import numpy as np

        for start in range(first, first + count, AT_ONCE):
            whole = np.arange(start, min(start + AT_ONCE, first + count), dtype=np.int64)
            yield whole.astype(array_type(self.dtype))


@dataclass(frozen=True, slots=True)
class Normal(New):
    """A new tensor of normally distributed numbers, the same for a seed everywhere.

    They are those of NumPy's `RandomState(seed).standard_normal`, the Mersenne Twister that NumPy has promised not to
    change (its generators may), in float64, times `std` plus `mean`, rounded to the dtype. A complex number takes two.
    """

    mean: float
    std: float
    seed: int

    def pieces(self, first: int, count: int) -> Iterator[Array]:
        """The numbers before `first` are drawn too, since each one follows from those before it."""
        import numpy as np

        source = np.random.RandomState(self.seed)
        each = 2 if array_type(self.dtype).kind == "c" else 1
        cast = Cast(self.dtype)
        for start in range(0, first + count, AT_ONCE):
            drawn = source.standard_normal(each * min(AT_ONCE, first + count - start))
            with np.errstate(over="ignore"):
                drawn = drawn * self.std + self.mean
            if start + AT_ONCE > first:
                yield cast.compute([drawn.view(np.complex128) if each == 2 else drawn])[max(0, first - start) :]
