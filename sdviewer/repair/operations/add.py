"""add: put a new tensor into the state dict."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.core.arrays import array_type, has_values
from sdviewer.core.dtypes import DTYPES
from sdviewer.errors import KeyCollision, NoMatch, RepairError, UsageError
from sdviewer.repair.elements import element, number
from sdviewer.repair.fields import FieldReader, Scalar
from sdviewer.repair.operations.cast import TARGETS
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, TensorOperation, axis, stated
from sdviewer.repair.plan import Computed
from sdviewer.repair.transforms import Cast, Full, Shape, Transform
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_AXES = re.compile(r"(.*)\[\s*(-?\d{1,3}(?:\s*,\s*-?\d{1,3})*)\s*\]", re.DOTALL)
_WORDS = {"zeros": 0, "ones": 1}
ARANGE, NORMAL = "arange", "normal"
_RUN = 1 << 20
"""Numbers that are drawn at once."""


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
            return Normal(shape, dtype, self.mean, self.std, self.seed, self.key)
        try:
            if self.fill == ARANGE:
                # The last number is the largest: where it fits, so do all whole numbers below it, as far as floats go.
                for last in range(max(0, math.prod(shape) - 2), math.prod(shape)):
                    element(last, dtype)
                return Arange(shape, dtype, self.key)
            value = _WORDS.get(self.fill, self.fill) if isinstance(self.fill, str) else self.fill
            return Full(shape, dtype, element(value, dtype, rounded=True), self.key)
        except RepairError as error:
            raise RepairError(f"{what}: {error.message}", key=self.key, remedy="Give another `dtype`.") from None


@dataclass(frozen=True, slots=True)
class Arange(Transform):
    """A new tensor of the numbers from 0, row by row; `key` keeps equal ones apart."""

    op: ClassVar[str] = "add"

    shape: Shape
    dtype: str
    key: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        whole = np.arange(math.prod(self.shape), dtype=np.int64)
        return whole.astype(array_type(self.dtype)).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Normal(Transform):
    """A new tensor of normally distributed numbers, the same for a seed everywhere; `key` keeps equal ones apart.

    They are those of NumPy's `RandomState(seed).standard_normal`, the Mersenne Twister that NumPy has promised not to
    change (its generators may), in float64, times `std` plus `mean`, rounded to the dtype. A complex number takes two.
    """

    op: ClassVar[str] = "add"

    shape: Shape
    dtype: str
    mean: float
    std: float
    seed: int
    key: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        source = np.random.RandomState(self.seed)
        array = np.empty(math.prod(self.shape), array_type(self.dtype))
        is_complex = array.dtype.kind == "c"
        cast = Cast(self.dtype)
        for start in range(0, len(array), _RUN):
            count = min(_RUN, len(array) - start)
            drawn = source.standard_normal(2 * count if is_complex else count) * self.std + self.mean
            array[start : start + count] = cast.compute([drawn.view(np.complex128) if is_complex else drawn])
        return array.reshape(self.shape)
