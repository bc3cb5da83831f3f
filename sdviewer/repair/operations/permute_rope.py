"""permute_rope: put the rows of rotary query and key weights into the order of another implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry, impossible, needs_elements, stated
from sdviewer.repair.transforms import Transform
from sdviewer.repair.wording import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot permute the rotary rows of"
ORDERS = HALVES, PAIRS = "halves", "pairs"


@dataclass(frozen=True, slots=True)
class PermuteRope(EachTensor):
    """The rows of each head that are rotated together stand in two halves, or as pairs: `to` says which they become.

    `heads` is the number of heads whose rows the tensor has: of keys those of keys and values. Weights are
    `(heads * head_dim, in_features)`, biases `(heads * head_dim,)`. Llama as published by Meta keeps pairs, as
    transformers has it halves. Fact: transformers' conversion of Llama, `view(heads, head_dim / 2, 2, in)`.
    """

    op: ClassVar[str] = "permute_rope"

    heads: int = 0
    to: str = HALVES

    @property
    def label(self) -> str:
        """`Permute rotary rows of 32 heads to halves`."""
        return f"Permute rotary rows of {text.plural(self.heads, 'head')} to {self.to}"

    def check(self) -> None:
        """A number of heads, and one of two orders."""
        if self.heads < 1:
            raise UsageError("permute_rope needs the number of `heads`", remedy="Write heads = 32.")
        if self.to not in ORDERS:
            raise UsageError(f"`to` is {quoted(self.to)}", remedy='It can be "halves" or "pairs".')

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`heads`, `to`."""
        return {"heads": reader.integer("heads") or 0, "to": reader.choice("to", ORDERS, HALVES)}

    def own_fields(self) -> dict[str, Any]:
        """`heads`, and `to` where it is not "halves"."""
        return stated(self, {"heads": "heads", "to": "to"})

    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """Nothing where a head has one pair."""
        shape = needs_elements(entry, _WHAT)
        if not shape or shape[0] % (2 * self.heads):
            rows = text.plural(shape[0], "row") if shape else "no rows"
            raise impossible(_WHAT, entry, f"{rows} are no pairs in {text.plural(self.heads, 'head')}")
        return None if shape[0] == 2 * self.heads else (RotaryRows(self.heads, self.to), shape, entry.dtype)


@dataclass(frozen=True, slots=True)
class RotaryRows(Transform):
    """The rows of each of `heads` heads with its pairs told apart: as two halves, or pair by pair."""

    op: ClassVar[str] = "permute_rope"

    heads: int
    to: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        (array,) = arrays
        half = array.shape[0] // self.heads // 2
        inner = (half, 2) if self.to == HALVES else (2, half)
        return array.reshape(self.heads, *inner, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)

    def details(self) -> dict[str, Any]:
        return {"n_heads": self.heads} | ({} if self.to == HALVES else {"order": self.to})
