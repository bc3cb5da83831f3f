"""prune: make the pruning of weights lasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.gathering import Gathering, Parts
from sdviewer.repair.operations.tensor_operation import Entry, impossible, needs_elements, needs_floats, said
from sdviewer.repair.plan import Computed
from sdviewer.repair.transforms import Cast, Transform, in_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_ORIGINAL, _MASK = "_orig", "_mask"
_WHAT = "cannot prune"


@dataclass(frozen=True, slots=True)
class Prune(Gathering):
    """Every pair of `weight_orig` and `weight_mask` becomes their product, `weight`; so do those of other names."""

    op: ClassVar[str] = "prune"

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        return "Apply pruning masks"

    @property
    def sought(self) -> tuple[str, ...]:
        """The keys that there are none of."""
        return (f"*{_ORIGINAL} with *{_MASK}",)

    def check(self) -> None:
        """It has no fields of its own."""

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """None of its own."""
        return {}

    def own_fields(self) -> dict[str, Any]:
        """None."""
        return {}

    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """An original without a mask is left: a spectral norm has one too."""
        places = {entry.key: place for place, entry in enumerate(entries)}
        found: dict[str, Parts] = {}
        for key, place in places.items():
            weight = key.removesuffix(_ORIGINAL)
            if weight != key and weight + _MASK in places:
                found[weight] = {0: place, 1: places[weight + _MASK]}
        return found

    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """The product, in the dtype of the original."""
        original, mask = parts[0], parts[1]
        shape = needs_floats(original, _WHAT)
        if needs_elements(mask, _WHAT) != shape:
            raise impossible(_WHAT, original, f"the mask is {said(mask)}")
        value = Computed(Masking(original.dtype), (original.value, mask.value), shape, original.dtype)
        return original._replace(key=key, value=value, tied=None)


@dataclass(frozen=True, slots=True)
class Masking(Transform):
    """The product of a weight and its mask, which takes the weight's dtype first, as torch does."""

    op: ClassVar[str] = "prune"

    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        import numpy as np

        weight, mask = arrays
        cast = Cast(self.dtype)
        with np.errstate(all="ignore"):
            return cast.compute([in_float(weight) * in_float(cast.compute([mask]))])
