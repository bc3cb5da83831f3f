"""merge_lora: add low-rank adapters to the weights that they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.lora_names import adapters, by_underscores, more_than_factors, weights_of
from sdviewer.repair.operations.gathering import Gathering, Parts
from sdviewer.repair.operations.tensor_operation import (
    Entry,
    EntryChanges,
    impossible,
    needs_elements,
    needs_floats,
    said,
    stated,
)
from sdviewer.repair.plan import Computed, PlanWarning
from sdviewer.repair.transforms import Cast, Transform
from sdviewer.repair.wording import listed, quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_WHAT = "cannot merge into"
NAMED = 10
"""Keys that a warning carries."""

AT_ONCE = 1 << 20
"""Elements of a weight that are computed at once."""


@dataclass(frozen=True, slots=True)
class MergeLora(Gathering):
    """Each weight W becomes W + B A times `scale` times alpha / rank, and its adapters go.

    A is `(rank, in_features)` and B `(out_features, rank)`, of convolutions with kernels behind them. Alpha is the
    number beside the pair; where there is none it is `alpha`, and without that the rank. `transposed`: weights are
    `(in_features, out_features)`, as Conv1D of GPT-2. The layer of kohya's names is sought with dots as underscores.
    Computed in float64 and rounded once.
    """

    op: ClassVar[str] = "merge_lora"

    scale: float = 1.0
    alpha: float | None = None
    transposed: bool = False

    @property
    def label(self) -> str:
        """`Merge LoRA`, `Merge LoRA, scaled by 0.5`."""
        return "Merge LoRA" if self.scale == 1 else f"Merge LoRA, scaled by {text.value(self.scale)}"

    @property
    def sought(self) -> tuple[str, ...]:
        """The keys that there are none of."""
        return ("*.lora_A.weight with *.lora_B.weight",)

    def check(self) -> None:
        """An alpha above zero."""
        if self.alpha is not None and self.alpha <= 0:
            raise UsageError("`alpha` must be above zero", remedy="Leave it out for that of the file.")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`scale`, `alpha`, `transposed`."""
        return {
            "scale": float(reader.number("scale", 1.0)),
            "alpha": float(reader.number("alpha", 0.0)) if reader.has("alpha") else None,
            "transposed": reader.boolean("transposed", False),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {"scale": "scale", "alpha": "alpha", "transposed": "transposed"})

    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """Part 0 is the weight; then of each adapter A, B and, where there is one, its alpha."""
        places = {entry.key: place for place, entry in enumerate(entries)}
        underscored = by_underscores(places)
        found: dict[str, Parts] = {}
        for layer, down, up, alpha in adapters(places):
            if more := more_than_factors(layer, places):
                why = f"{quoted(more)} makes it more than two factors"
                raise RepairError(f"cannot merge the adapter of {quoted(layer)}: {why}", key=more)
            weights = weights_of(layer, places, underscored)
            if len(weights) != 1:
                raise _homeless(layer, weights)
            parts = found.setdefault(weights[0], {0: places[weights[0]]})
            number = 1 + 3 * sum(part % 3 == 1 for part in parts)
            parts |= {number: places[down], number + 1: places[up]}
            if alpha:
                parts[number + 2] = places[alpha]
        return found

    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """The weight with all that is added to it."""
        weight = parts[0]
        shape = needs_floats(weight, _WHAT)
        inputs, pairs = [weight.value], []
        for number in range(1, max(parts) + 1, 3):
            down, up, alpha = parts[number], parts[number + 1], parts.get(number + 2)
            rank = self._rank(weight, down, up)
            if alpha is not None and math.prod(needs_elements(alpha, _WHAT)) != 1:
                raise impossible(_WHAT, weight, f"{said(alpha)} is no alpha")
            inputs += [down.value, up.value] + ([] if alpha is None else [alpha.value])
            known = 1.0 if alpha is not None else self.alpha
            pairs.append((alpha is not None, self.scale if known is None else self.scale * known / rank))
        transform = Merged(tuple(pairs), self.transposed, weight.dtype)
        value = Computed(transform, tuple(inputs), shape, weight.dtype)
        return weight._replace(value=value, tied=None)

    def _rank(self, weight: Entry, down: Entry, up: Entry) -> int:
        """The rank of a pair that fits a weight.

        Raises:
            RepairError: it does not fit.
        """
        a, b, shape = needs_floats(down, _WHAT), needs_floats(up, _WHAT), weight.shape or ()
        out, inner = (shape[0], shape[1:]) if len(shape) > 1 else (0, ())
        if self.transposed:
            out, inner = (shape[1], (shape[0],)) if len(shape) == 2 else (0, ())
        fits = len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1:] == inner and math.prod(b) == out * a[0]
        if not fits or not a[0]:
            other = a[0] == b[1] and len(shape) == 2 and (b[0], a[1]) == shape[::-1] if len(a) > 1 < len(b) else False
            remedy = "Write transposed = true." if other and not self.transposed else "Leave it out with `keys`."
            raise impossible(_WHAT, weight, f"{said(down)} and {said(up)} do not fit it", remedy)
        return a[0]

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """As others that gather, and a warning where nobody knows the alpha."""
        changes = Gathering.change_entries(self, entries)
        if changes.refusal is not None or self.alpha is not None:
            return changes
        without = [
            key
            for key, parts in self.gather(entries).items()
            if any(number % 3 == 1 and number + 2 not in parts for number in parts)
        ]
        if not without:
            return changes
        message = f"{text.plural(len(without), 'adapter')} without an alpha: B A is added as it is"
        return changes._replace(
            warnings=(*changes.warnings, PlanWarning("lora_alpha", tuple(without[:NAMED]), message))
        )


def _homeless(layer: str, weights: Sequence[str]) -> RepairError:
    """No weight, or several, to merge an adapter into, to be raised."""
    if weights:
        why, remedy = f"it could belong to {listed(weights[:2])}", "Leave one out with `keys`."
    else:
        why, remedy = "its weight is not here", "Take model and adapter into one state dict first, with a step take."
    return RepairError(f"cannot merge the adapter of {quoted(layer)}: {why}", key=layer, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Merged(Transform):
    """A weight and for each pair A, B and perhaps its alpha; `pairs` say whether there is one, and the factor."""

    op: ClassVar[str] = "merge_lora"

    pairs: tuple[tuple[bool, float], ...]
    transposed: bool
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        """Rank by rank, so that the result is the same on every machine."""
        import numpy as np

        weight, *others = arrays
        wide = np.complex128 if weight.dtype.kind == "c" else np.float64
        matrix: Array = (weight.T if self.transposed else weight.reshape(len(weight), -1)).astype(wide)
        rows = max(1, AT_ONCE // max(matrix.shape[1], 1))
        with np.errstate(all="ignore"):
            for has_alpha, factor in self.pairs:
                down, up = others.pop(0), others.pop(0)
                a = down.reshape(len(down), -1).astype(wide)
                b = up.reshape(-1, len(down)).astype(wide)
                if has_alpha:
                    factor = factor * float(others.pop(0).astype(np.float64).reshape(-1)[0])
                for first in range(0, len(matrix), rows):
                    some = b[first : first + rows]
                    delta: Array = np.zeros((len(some), a.shape[1]), wide)
                    for rank in range(len(a)):
                        delta += some[:, rank : rank + 1] * a[rank : rank + 1]
                    matrix[first : first + rows] += delta * factor
            made = Cast(self.dtype).compute([matrix.T if self.transposed else matrix])
        return made.reshape(weight.shape)
