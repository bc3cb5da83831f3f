"""How one tensor is computed from others: pure NumPy, and the same said in torch.

A transform is a frozen value: equal transforms of equal inputs give one tensor. What several operations need stands
here; what one needs stands with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core.arrays import array_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

Shape: TypeAlias = tuple[int, ...]

_LARGEST_E4M3FN = 448.0


@dataclass(frozen=True, slots=True)
class Transform(ABC):
    """Computes one tensor from others.

    `op` is what `map` calls it (`docs/cli.md`). One that is `elementwise` has one input, keeps its shape, and may be
    given any run of its elements.
    """

    op: ClassVar[str]
    elementwise: ClassVar[bool] = False

    @abstractmethod
    def compute(self, arrays: Sequence[Array]) -> Array:
        """The result, for arrays of the types that `core.arrays` gives; it may be a view of them."""

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
                return np.not_equal(array, np.zeros((), array.dtype))
            if array.dtype.kind == "c" and target.kind != "c":
                array = array.real
            small = target.itemsize <= 2 and target.kind not in "iu"
            if array.dtype != np.float32 and (small or array.dtype.kind == "V"):
                array = array.astype(np.float32)
            if self.dtype == "float8_e4m3fn":
                array = np.clip(array, -_LARGEST_E4M3FN, _LARGEST_E4M3FN)
            return array.astype(target)

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
    """`length` places along `dim` from `start`."""

    op: ClassVar[str] = "split"

    dim: int
    start: int
    length: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        (array,) = arrays
        return array[(slice(None),) * self.dim + (slice(self.start, self.start + self.length),)]

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim, "start": self.start, "length": self.length}


@dataclass(frozen=True, slots=True)
class Concatenate(Transform):
    """The inputs one behind the other along `dim`."""

    op: ClassVar[str] = "concat"

    dim: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        return np.concatenate(list(arrays), axis=self.dim)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Stack(Transform):
    """The inputs, all of one shape, along a new dimension `dim`."""

    op: ClassVar[str] = "stack"

    dim: int

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        return np.stack(list(arrays), axis=self.dim)

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
class Reshape(Transform):
    """The same elements, row by row, in another shape."""

    op: ClassVar[str] = "reshape"

    shape: Shape

    def compute(self, arrays: Sequence[Array]) -> Array:
        return arrays[0].reshape(self.shape)

    def details(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}
