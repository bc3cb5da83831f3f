"""How one tensor is computed from others, in pure NumPy.

A transform is a frozen value: equal transforms of equal inputs give one tensor. What several operations need stands
here; what one needs stands with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core.arrays import array_type
from sdviewer.core.checkpoint import Identity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

Shape: TypeAlias = tuple[int, ...]

MOST_DIMENSIONS = 64
"""Of an array of NumPy 2, and of a tensor in most operations of torch."""

AT_ONCE = 1 << 20
"""Elements of a new tensor that are made at once."""

_LARGEST_E4M3FN = 448.0


@dataclass(frozen=True, slots=True)
class Transform(ABC):
    """Computes one tensor from others.

    `op` is what `map` calls it (`docs/cli.md`). One that is `elementwise` has one input, keeps its shape, and may be
    given any run of its elements. One that does not read (`reads`) only stands in the place of its input.
    """

    op: ClassVar[str]
    elementwise: ClassVar[bool] = False
    reads: ClassVar[bool] = True

    @abstractmethod
    def compute(self, arrays: Sequence[Array]) -> Array:
        """The result, for arrays of the types that `core.arrays` gives; it may be a view of them."""

    def run(self, shapes: Sequence[Shape]) -> tuple[int, int] | None:
        """The first element and the length of the run of its inputs that is its result, None where there is none.

        The inputs, which have these shapes, are laid one behind the other in row-major order. Such a result is copied
        piece by piece and never held as a whole.
        """
        return None

    def replaced(self, array: Array) -> int:
        """How many of these elements it will replace, where a person should be told once they are known."""
        return 0

    def details(self) -> dict[str, Any]:
        """What `map` says of it besides the keys."""
        return {}


@dataclass(frozen=True, slots=True)
class Cast(Transform):
    """Every element in another type, rounded as torch rounds.

    A float outside the range of an integer type has no defined result, there as here. NaN stays NaN, whatever its bits.
    """

    op: ClassVar[str] = "cast"
    elementwise: ClassVar[bool] = True

    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        """Through float32 where torch goes through it: from float64 to types of 16 bits and less.

        Facts: torch 2.13, measured; it saturates at the largest float8_e4m3fn, where other types become infinite.
        """
        import numpy as np

        (array,) = arrays
        target = array_type(self.dtype)
        with np.errstate(all="ignore"):
            if target.kind == "b":
                return np.not_equal(in_float(array), 0)
            if array.dtype.kind == "c" and target.kind != "c":
                array = array.real
            small = target.itemsize <= 2 and target.kind not in "iu"
            array = array.astype(np.float32, copy=False) if small else in_float(array)
            if self.dtype == "float8_e4m3fn":
                array = np.clip(array, -_LARGEST_E4M3FN, _LARGEST_E4M3FN)
            return array.astype(target, copy=False)

    def details(self) -> dict[str, Any]:
        return {"dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class Clone(Transform):
    """The same values in a storage of their own; `key` keeps the clones of tied tensors apart."""

    op: ClassVar[str] = "clone"
    elementwise: ClassVar[bool] = True

    key: str = ""

    def compute(self, arrays: Sequence[Array]) -> Array:
        return arrays[0]


@dataclass(frozen=True, slots=True)
class Narrow(Transform):
    """`length` places along `dim` from `start`; with `groups`, that many of each of so many equal parts of `dim`."""

    op: ClassVar[str] = "split"

    dim: int
    start: int
    length: int
    groups: int = 1

    def compute(self, arrays: Sequence[Array]) -> Array:
        (array,) = arrays
        parts = _in_groups(array, self.dim, self.groups)
        return _out_of_groups(_cut(parts, self.dim + 1, self.start, self.length), self.dim)

    def run(self, shapes: Sequence[Shape]) -> tuple[int, int] | None:
        inner = _below(shapes[0], self.dim)
        return None if self.groups > 1 or inner is None else (self.start * inner, self.length * inner)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim} | ({"groups": self.groups} if self.groups > 1 else {})


@dataclass(frozen=True, slots=True)
class Slice(Narrow):
    """The places along `dim` that stay."""

    op: ClassVar[str] = "rows"

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim, "slice": [self.start, self.start + self.length]}


@dataclass(frozen=True, slots=True)
class Select(Transform):
    """Place `index` along `dim`, which is no dimension of the result."""

    op: ClassVar[str] = "unstack"

    dim: int
    index: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        return _cut(arrays[0], self.dim, self.index, 1).squeeze(self.dim)

    def run(self, shapes: Sequence[Shape]) -> tuple[int, int] | None:
        inner = _below(shapes[0], self.dim)
        return None if inner is None else (self.index * inner, inner)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Concatenate(Transform):
    """The inputs one behind the other along `dim`; with `groups`, a piece of each in each of so many equal parts."""

    op: ClassVar[str] = "concat"

    dim: int
    groups: int = 1

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        parts = [_in_groups(array, self.dim, self.groups) for array in arrays]
        return _out_of_groups(np.concatenate(parts, axis=self.dim + 1), self.dim)

    def run(self, shapes: Sequence[Shape]) -> tuple[int, int] | None:
        joins = self.groups == 1 and _below(shapes[0], self.dim) is not None
        return (0, sum(map(math.prod, shapes))) if joins else None

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim} | ({"groups": self.groups} if self.groups > 1 else {})


@dataclass(frozen=True, slots=True)
class Stack(Transform):
    """The inputs, all of one shape, along a new dimension `dim`."""

    op: ClassVar[str] = "stack"

    dim: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        return np.stack(list(arrays), axis=self.dim)

    def run(self, shapes: Sequence[Shape]) -> tuple[int, int] | None:
        return (0, sum(map(math.prod, shapes))) if math.prod(shapes[0][: self.dim]) == 1 else None

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Permute(Transform):
    """The dimensions in another order: dimension i of the result is dimension `order[i]` of the input."""

    op: ClassVar[str] = "permute"

    order: tuple[int, ...]

    def compute(self, arrays: Sequence[Array]) -> Array:
        return arrays[0].transpose(self.order)

    def details(self) -> dict[str, Any]:
        return {"order": list(self.order)}


@dataclass(frozen=True, slots=True)
class Transpose(Transform):
    """Two dimensions exchanged; `dims` is None for the two of a matrix."""

    op: ClassVar[str] = "transpose"

    dims: tuple[int, int] | None = None

    def compute(self, arrays: Sequence[Array]) -> Array:
        return arrays[0].swapaxes(*self.dims or (0, 1))

    def details(self) -> dict[str, Any]:
        return {} if self.dims is None else {"dims": list(self.dims)}


@dataclass(frozen=True, slots=True)
class Reshape(Transform):
    """The same elements, row by row, in another shape."""

    op: ClassVar[str] = "reshape"

    shape: Shape

    def compute(self, arrays: Sequence[Array]) -> Array:
        return arrays[0].reshape(self.shape)

    def run(self, shapes: Sequence[Shape]) -> tuple[int, int] | None:
        return (0, math.prod(self.shape))

    def details(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Squeeze(Reshape):
    """The dimensions `dims` of size 1 left out."""

    op: ClassVar[str] = "squeeze"

    dims: tuple[int, ...] = ()

    def details(self) -> dict[str, Any]:
        return {"dims": list(self.dims)}


@dataclass(frozen=True, slots=True)
class Unsqueeze(Reshape):
    """A dimension of size 1 put in at `dim`."""

    op: ClassVar[str] = "unsqueeze"

    dim: int = 0

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class New(Transform):
    """A new tensor, made of no other and never held as a whole; `key` keeps equal ones apart."""

    op: ClassVar[str] = "add"

    shape: Shape
    dtype: str
    key: str

    @abstractmethod
    def pieces(self, first: int, count: int) -> Iterator[Array]:
        """`count` elements, row by row, from the element `first`, a few MiB at a time."""

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        result = np.empty(math.prod(self.shape), array_type(self.dtype))
        at = 0
        for piece in self.pieces(0, result.size):
            result[at : at + piece.size] = piece
            at += piece.size
        return result.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Full(New):
    """A new tensor that holds one value: `element` is its bytes in this machine's order."""

    element: bytes

    def pieces(self, first: int, count: int) -> Iterator[Array]:
        import numpy as np

        value = np.frombuffer(self.element, array_type(self.dtype))
        for start in range(0, count, AT_ONCE):
            yield np.repeat(value, min(AT_ONCE, count - start))


@dataclass(frozen=True, slots=True)
class Taken(Transform):
    """A tensor of another file, with its dtype and its bits, in the place of the input where there is one.

    `file` is the path of that checkpoint and `identity` the state of it that was opened, `tensor` an index into its
    tensors and `key` the key there. Keys that are one tensor in that file are one here: the first stands for all.
    Whoever carries a plan out reads it (`formats.evaluation`), from `Plan.others`.
    """

    op: ClassVar[str] = "take"
    reads: ClassVar[bool] = False

    file: str
    identity: Identity
    tensor: int
    key: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        raise NotImplementedError("it is read from another file")

    def details(self) -> dict[str, Any]:
        return {"file": self.file, "key": self.key}


def in_float(array: Array) -> Array:
    """Floats of 16 bits and less as float32, in which torch computes with them on a CPU; all else as it is."""
    import numpy as np

    # (the kind of float8_e5m2 is that of NumPy's own floats, that of the other small ones is "V")
    small = array.dtype.kind in "fV" and array.dtype.itemsize <= 2
    return array.astype(np.float32) if small else array


def _below(shape: Shape, dim: int) -> int | None:
    """Elements of one place along `dim`, None where more than one place stands above it."""
    return math.prod(shape[dim + 1 :]) if math.prod(shape[:dim]) == 1 else None


def _cut(array: Array, dim: int, start: int, length: int) -> Array:
    return array[(slice(None),) * dim + (slice(start, start + length),)]


def _in_groups(array: Array, dim: int, groups: int) -> Array:
    """`dim` as two: `groups`, and the places of each."""
    shape = array.shape
    return array.reshape(*shape[:dim], groups, shape[dim] // groups, *shape[dim + 1 :])


def _out_of_groups(array: Array, dim: int) -> Array:
    """`dim` and the one behind it as one."""
    shape = array.shape
    return array.reshape(*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :])
