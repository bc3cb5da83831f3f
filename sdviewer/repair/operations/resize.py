"""resize: interpolate position tables, relative position biases and patch kernels to another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, axis, impossible, needs_floats, stated
from sdviewer.repair.transforms import Cast, Shape, Transform
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot resize"
KINDS = GRID, IMAGE = "grid", "image"
MODES = NEAREST, LINEAR, CUBIC = "nearest", "bilinear", "bicubic"
LARGEST = 1 << 16
"""The most places along a side: nothing that is interpolated has more."""


@dataclass(frozen=True, slots=True)
class Resize(EachTensor):
    """What stands on a grid gets the sizes `to`, interpolated in float64 and rounded once.

    Of a "grid" (field `of`) the places along `dim` are the places of a grid, row by row: a table of positions is
    `(1, prefix + height * width, width)`. The first `prefix` of them, class tokens, stay as they are. `grid` are the
    sizes it has; without them it is square, or a line where `to` has one size. An "image" is the last dimensions of the
    tensor: kernels of patches. `mode` is one of torch's `interpolate`, with `antialias` unless it is to be `sharp`.
    """

    op: ClassVar[str] = "resize"

    to: tuple[int, ...] = ()
    of: str = GRID
    dim: int = -2
    prefix: int = 0
    grid: tuple[int, ...] = ()
    mode: str = CUBIC
    sharp: bool = False

    @property
    def label(self) -> str:
        """`Resize grid to 24×24`."""
        return f"Resize {self.of} to {text.shape(self.to)}"

    def check(self) -> None:
        """One size or more, all of which can be; a grid belongs to a grid."""
        if not self.to or min(self.to) < 1 or max(self.to) > LARGEST:
            raise UsageError(f"resize needs sizes up to {LARGEST:,} in `to`", remedy="Write to = [24, 24].")
        if self.of not in KINDS:
            raise UsageError(f"`of` is {quoted(self.of)}", remedy='It can be "grid" or "image".')
        if self.mode not in MODES:
            raise UsageError(f"`mode` is {quoted(self.mode)}", remedy=f"It can be {', '.join(map(quoted, MODES))}.")
        if self.of == IMAGE and (self.prefix or self.grid or self.dim != -2):
            raise UsageError("`prefix`, `grid` and `dim` belong to a grid")
        if self.prefix < 0 or (self.grid and (len(self.grid) != len(self.to) or min(self.grid) < 1)):
            raise UsageError("`grid` needs as many sizes as `to`, and `prefix` cannot be negative")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`to`, `of`, `dim`, `prefix`, `grid`, `mode`, `sharp`."""
        return {
            "to": reader.integers("to") or (),
            "of": reader.choice("of", KINDS, GRID),
            "dim": reader.dimension("dim", -2),
            "prefix": reader.dimension("prefix", 0),
            "grid": reader.integers("grid") or (),
            "mode": reader.choice("mode", MODES, CUBIC),
            "sharp": reader.boolean("sharp", False),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        names = ("to", "of", "dim", "prefix", "grid", "mode", "sharp")
        return stated(self, {name: name for name in names})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where it has these sizes."""
        shape = needs_floats(entry, _WHAT)
        how = (self.mode, self.sharp, entry.dtype)
        if self.of == IMAGE:
            if len(shape) < len(self.to) or 0 in shape[-len(self.to) :]:
                raise impossible(_WHAT, entry, f"it has no {text.plural(len(self.to), 'dimension')} of pixels")
            new = (*shape[: -len(self.to)], *self.to)
            return None if new == shape else (ResizedImage(self.to, *how), new, entry.dtype)
        dim = axis(_WHAT, entry, self.dim)
        grid = self._grid(entry, shape[dim])
        if grid == self.to:
            return None
        new = (*shape[:dim], self.prefix + math.prod(self.to), *shape[dim + 1 :])
        return ResizedGrid(dim, self.prefix, grid, self.to, *how), new, entry.dtype

    def _grid(self, entry: Entry, count: int) -> Shape:
        """The sizes that the grid has."""
        places = count - self.prefix
        if places < 1:
            raise impossible(_WHAT, entry, f"there is nothing behind the first {self.prefix:,} places")
        side = round(places ** (1 / len(self.to)))
        grid = self.grid or (side,) * len(self.to)
        if math.prod(grid) != places:
            if self.grid:
                raise impossible(_WHAT, entry, f"{places:,} places are no grid of {text.shape(grid)}")
            remedy = "Write `grid`, or how many class tokens stand ahead of it in `prefix`."
            raise impossible(_WHAT, entry, f"{places:,} places are no square grid", remedy)
        return grid


@dataclass(frozen=True, slots=True)
class ResizedGrid(Transform):
    """The places along `dim` behind the first `prefix` interpolated from one grid to another."""

    op: ClassVar[str] = "resize"

    dim: int
    prefix: int
    grid: Shape
    to: Shape
    mode: str
    sharp: bool
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        from sdviewer.repair.resampling import resampled

        rows = np.moveaxis(arrays[0], self.dim, 0)
        inside = _wide(rows[self.prefix :]).reshape(*self.grid, *rows.shape[1:])
        for side, size in enumerate(self.to):
            inside = resampled(inside, side, size, self.mode, not self.sharp)
        made = Cast(self.dtype).compute([inside.reshape(-1, *rows.shape[1:])])
        return np.moveaxis(np.concatenate([rows[: self.prefix], made]), 0, self.dim)

    def details(self) -> dict[str, Any]:
        return {"dim": self.dim, "from": list(self.grid), "sizes": list(self.to)}


@dataclass(frozen=True, slots=True)
class ResizedImage(Transform):
    """The last dimensions interpolated to other sizes."""

    op: ClassVar[str] = "resize"

    to: Shape
    mode: str
    sharp: bool
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        from sdviewer.repair.resampling import resampled

        inside = _wide(arrays[0])
        for at, size in enumerate(self.to):
            inside = resampled(inside, inside.ndim - len(self.to) + at, size, self.mode, not self.sharp)
        return Cast(self.dtype).compute([inside])

    def details(self) -> dict[str, Any]:
        return {"sizes": list(self.to)}


def _wide(array: Array) -> Array:
    import numpy as np

    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
