"""rows: choose, reorder, leave out or add places along one dimension, as the rows of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.core.arrays import has_values
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.elements import element, number, zero
from sdviewer.repair.fields import FieldReader, Scalar
from sdviewer.repair.operations.tensor_operation import (
    EachTensor,
    Entry,
    axis,
    impossible,
    needs_elements,
    needs_floats,
    stated,
)
from sdviewer.repair.transforms import Cast, Slice, Transform
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot change the rows of"
_COPY = "copy:"
MEAN, ZEROS = "mean", "zeros"


@dataclass(frozen=True, slots=True)
class Rows(EachTensor):
    """One change of the places along `dim`; exactly one of the other fields, but for `fill` and `at`, says which.

    `between` (field `slice`): from the first to before the second, or to the end. `take`: these, in this order.
    `delete`: all but these. `reverse`: from the last to the first. `pad`: so many more, at the end or before place
    `at`, filled with "zeros", a number, the "mean" of the others, or a copy of one ("copy:0"). `size`: so many in all,
    of which the last ones go or are added as by `pad`. Negative places count from the end.
    """

    op: ClassVar[str] = "rows"

    dim: int = 0
    between: tuple[int, ...] | None = None
    take: tuple[int, ...] | None = None
    delete: tuple[int, ...] | None = None
    reverse: bool = False
    pad: int | None = None
    size: int | None = None
    fill: Scalar = ZEROS
    at: int | None = None

    @property
    def label(self) -> str:
        """`Keep rows 0 to 1000`, `Add 64 rows (mean)`, `Make it 50,257 rows (mean)`."""
        where = "rows" if self.dim == 0 else f"places of dimension {self.dim}:"
        if self.between is not None:
            end = f" to {self.between[1]}" if len(self.between) == 2 else " to the end"
            return f"Keep {where} {self.between[0]}{end}"
        if self.pad is not None:
            return f"Add {self.pad} {where.removesuffix(':')} ({text.visible(str(self.fill), 50)})"
        if self.size is not None:
            return f"Make it {self.size:,} {where.removesuffix(':')} ({text.visible(str(self.fill), 50)})"
        if self.reverse:
            return f"Reverse {where.removesuffix(':')}"
        verb, places = ("Take", self.take) if self.take is not None else ("Delete", self.delete)
        return f"{verb} {where} {_few(places or ())}"

    def check(self) -> None:
        """One change, and a fill that can be."""
        given = [self.between is not None, self.take is not None, self.delete is not None, self.reverse]
        if sum(given) + (self.pad is not None) + (self.size is not None) != 1:
            raise UsageError("rows needs one of `slice`, `take`, `delete`, `reverse`, `pad` and `size`")
        if self.between is not None and len(self.between) not in (1, 2):
            raise UsageError("`slice` is [start, stop], or [start] for all that follows")
        if self.pad is None and (self.at is not None or (self.size is None and self.fill != ZEROS)):
            raise UsageError("`at` belongs to `pad`, and `fill` to `pad` or `size`")
        if min(self.pad or 0, self.size or 0) < 0:
            raise UsageError("`pad` and `size` cannot be negative", remedy="Use `slice` to leave rows out.")
        if self.fill not in (MEAN, ZEROS) and self._copied() is None:
            number(self.fill)

    def _copied(self) -> int | None:
        """The place that `fill` copies."""
        if not isinstance(self.fill, str) or not self.fill.startswith(_COPY):
            return None
        try:
            return int(self.fill.removeprefix(_COPY))
        except ValueError:
            raise UsageError(f"`fill` is {quoted(self.fill)}", remedy='Write "copy:0" for the first row.') from None

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`dim`, `slice`, `take`, `delete`, `reverse`, `pad`, `size`, `fill`, `at`."""
        fill = reader.scalar("fill")
        return {
            "dim": reader.dimension("dim", 0),
            "between": reader.integers("slice"),
            "take": reader.integers("take"),
            "delete": reader.integers("delete"),
            "reverse": reader.boolean("reverse", False),
            "pad": reader.integer("pad"),
            "size": reader.integer("size"),
            "fill": ZEROS if fill is None else fill,
            "at": reader.integer("at"),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        names = {name: name for name in ("dim", "take", "delete", "reverse", "pad", "size", "fill", "at")}
        return stated(self, {"slice": "between", **names})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where every row stays where it is."""
        shape = needs_elements(entry, _WHAT)
        dim = axis(_WHAT, entry, self.dim)
        count = shape[dim]
        made: Transform
        if self.between is not None:
            start, stop = self._bounds(entry, count)
            made, size = Slice(dim, start, stop - start), stop - start
        elif self.size is not None and self.size < count:
            made, size = Slice(dim, 0, self.size), self.size
        elif self.pad is not None or self.size is not None:
            more = self.pad if self.pad is not None else (self.size or 0) - count
            made, size = self._padding(entry, dim, count, more), count + more
        else:
            made, size = self._chosen(entry, dim, count)
            if isinstance(made, Take) and size == count and made.places == tuple(range(count)):
                return None
            if isinstance(made, Reverse) and count < 2:
                return None
        if size == count and not isinstance(made, Take | Reverse):
            return None
        return made, (*shape[:dim], size, *shape[dim + 1 :]), entry.dtype

    def _bounds(self, entry: Entry, count: int) -> tuple[int, int]:
        start, stop = (*(self.between or ()), count)[:2]
        start, stop = (place + count if place < 0 else place for place in (start, stop))
        if not 0 <= start <= stop <= count:
            raise impossible(_WHAT, entry, f"there are {text.plural(count, 'row')}, and no {start} to {stop}")
        return start, stop

    def _chosen(self, entry: Entry, dim: int, count: int) -> tuple[Transform, int]:
        """What takes the places of `reverse`, `take` or `delete`, and how many those are."""
        if self.reverse:
            return Reverse(dim), count
        if self.take is not None:
            return Take(dim, _counted(entry, self.take, count)), len(self.take)
        gone = tuple(sorted(set(_counted(entry, self.delete or (), count))))
        return Delete(dim, gone), count - len(gone)

    def _padding(self, entry: Entry, dim: int, count: int, more: int) -> Transform:
        at = count if self.at is None else self.at + count if self.at < 0 else self.at
        if not 0 <= at <= count:
            raise impossible(_WHAT, entry, f"there is no place {self.at} among {text.plural(count, 'row')}")
        copied = self._copied()
        if copied is not None:
            (copied,) = _counted(entry, (copied,), count)
            return Padding(dim, more, at, copied=copied)
        if self.fill == MEAN:
            needs_floats(entry, "cannot average the rows of")
            if not count:
                raise impossible(_WHAT, entry, "there is no row to average")
            return Padding(dim, more, at, mean=entry.dtype)
        if self.fill != ZEROS and not has_values(entry.dtype):
            raise impossible(_WHAT, entry, f"no number can be written as {entry.dtype}")
        try:
            raw = zero(entry.dtype) if self.fill == ZEROS else element(self.fill, entry.dtype, rounded=True)
            return Padding(dim, more, at, element=raw)
        except RepairError as error:
            raise impossible(_WHAT, entry, error.message, error.remedy) from None


def _counted(entry: Entry, places: Sequence[int], count: int) -> tuple[int, ...]:
    """Places counted from 0."""
    wrong = next((place for place in places if not -count <= place < count), None)
    if wrong is not None:
        raise impossible(_WHAT, entry, f"there is no row {wrong} among {count:,}")
    return tuple([place % count for place in places])


def _few(places: Sequence[int]) -> str:
    shown = ", ".join(map(str, places[:5]))
    return shown if len(places) <= 5 else f"{shown} and {len(places) - 5:,} more"


@dataclass(frozen=True, slots=True)
class Take(Transform):
    """The places `places` along `dim`, in that order."""

    op: ClassVar[str] = "rows"

    dim: int
    places: tuple[int, ...]

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        return np.take(arrays[0], np.array(self.places, np.int64), axis=self.dim)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Delete(Transform):
    """All places along `dim` but `gone`."""

    op: ClassVar[str] = "rows"

    dim: int
    gone: tuple[int, ...]

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        return np.delete(arrays[0], np.array(self.gone, np.int64), axis=self.dim)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Reverse(Transform):
    """The places along `dim` from the last to the first."""

    op: ClassVar[str] = "rows"

    dim: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        return np.flip(arrays[0], self.dim)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Padding(Transform):
    """`count` more places along `dim`, before place `at`.

    They hold the place `copied`, or the mean of all in the dtype `mean`, or an element by its bytes.
    """

    op: ClassVar[str] = "rows"

    dim: int
    count: int
    at: int
    copied: int | None = None
    mean: str = ""
    element: bytes = b""

    def compute(self, arrays: Sequence[Array]) -> Array:
        """The mean is added up in float64 (or complex128) and rounded once."""
        import numpy as np

        (array,) = arrays
        shape = (*array.shape[: self.dim], self.count, *array.shape[self.dim + 1 :])
        if self.copied is not None:
            row = np.take(array, [self.copied], axis=self.dim)
        elif self.mean:
            wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
            with np.errstate(all="ignore"):
                row = Cast(self.mean).compute([wide.mean(axis=self.dim, keepdims=True)])
        else:
            row = np.frombuffer(self.element, array.dtype)
        before, after = np.split(array, [self.at], axis=self.dim)
        return np.concatenate([before, np.broadcast_to(row, shape), after], axis=self.dim)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim, "pad": self.count}
