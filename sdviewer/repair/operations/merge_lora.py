"""merge_lora: make adapters part of the weights that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sdviewer.core import text
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.adapter_kinds import (
    BESIDE,
    LENGTHS,
    AdapterKeys,
    Change,
    adapters,
    add_numbered,
    change_by,
    in_turn,
    is_guess,
    kind_of,
    misfit,
)
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.lora_names import by_underscores, weights_of
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


@dataclass(frozen=True, slots=True)
class MergeLora(Gathering):
    """Each weight becomes what its adapters make of it, one after the other, and these go.

    What that is, `repair/adapter_kinds` tells: W + B A times `scale` times alpha / rank for LoRA, where A is
    `(rank, in_features)` and B `(out_features, rank)`, of convolutions with kernels behind them. Alpha is the number
    beside the factors; where there is none it is `alpha`, and without that the rank. `rank` is that of adapters that do
    not tell it (LoKr of whole matrices). `transposed`: weights are `(in_features, out_features)`, as Conv1D of GPT-2.
    The layer of kohya's names is sought with dots as underscores. Computed in float64 and rounded once.
    """

    op: ClassVar[str] = "merge_lora"

    scale: float = 1.0
    alpha: float | None = None
    rank: int | None = None
    transposed: bool = False

    @property
    def label(self) -> str:
        """`Merge adapters`, `Merge adapters, scaled by 0.5`."""
        return "Merge adapters" if self.scale == 1 else f"Merge adapters, scaled by {text.value(self.scale)}"

    @property
    def sought(self) -> tuple[str, ...]:
        """The keys that there are none of."""
        return ("*.lora_A.weight with *.lora_B.weight",)

    def check(self) -> None:
        """An alpha and a rank above zero."""
        if self.alpha is not None and self.alpha <= 0:
            raise UsageError("`alpha` must be above zero", remedy="Leave it out for that of the file.")
        if self.rank is not None and self.rank <= 0:
            raise UsageError("`rank` must be above zero", remedy="Leave it out where the factors tell it.")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`scale`, `alpha`, `rank`, `transposed`."""
        return {
            "scale": float(reader.number("scale", 1.0)),
            "alpha": float(reader.number("alpha", 0.0)) if reader.has("alpha") else None,
            "rank": reader.integer("rank"),
            "transposed": reader.boolean("transposed", False),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        return stated(self, {name: name for name in ("scale", "alpha", "rank", "transposed")})

    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """Part 0 is the weight; then of each adapter what it has of `PARTS`."""
        places = {entry.key: place for place, entry in enumerate(entries)}
        underscored = by_underscores(places)
        found: dict[str, Parts] = {}
        for adapter in adapters(list(places)):
            weights = weights_of(adapter.layer, places, underscored)
            if adapter.kind is None:
                raise _of_no_kind(adapter)
            if len(weights) != 1:
                raise _homeless(adapter.layer, weights)
            parts = found.setdefault(weights[0], {0: places[weights[0]]})
            add_numbered(parts, {part: places[key] for part, key in adapter.keys.items()})
        return found

    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """The weight after all that changes it."""
        weight = parts[0]
        shape = needs_floats(weight, _WHAT)
        changes, inputs = [], [weight.value]
        for adapter in in_turn(parts):
            changes.append(self._change(weight, adapter))
            inputs += [adapter[part].value for part in changes[-1].parts]
        value = Computed(Merged(tuple(changes), weight.dtype), tuple(inputs), shape, weight.dtype)
        return weight._replace(value=value, tied=None)

    def _change(self, weight: Entry, parts: Mapping[str, Entry]) -> Change:
        """What an adapter makes of a weight.

        Raises:
            RepairError: it does not fit.
        """
        kind = kind_of(parts)
        assert kind is not None, "gathered"
        shapes = {part: (needs_elements if part == "alpha" else needs_floats)(it, _WHAT) for part, it in parts.items()}
        size = weight.shape or ()
        match misfit(kind, shapes, size, self.transposed):
            case "alpha":
                raise impossible(_WHAT, weight, f"{said(parts['alpha'])} is no alpha")
            case "factors":
                fits = not self.transposed and misfit(kind, shapes, size, transposed=True) != "factors"
                remedy = "Write transposed = true." if fits else "Leave it out with `keys`."
                factors = [said(entry) for part, entry in parts.items() if part not in BESIDE]
                raise impossible(_WHAT, weight, f"{' and '.join(factors)} do not fit it", remedy)
            case "lengths":
                raise impossible(_WHAT, weight, _no_lengths(next(parts[part] for part in LENGTHS if part in parts)))
        return change_by(kind, shapes, size, self.transposed, self.scale, self.alpha, self.rank)

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """As others that gather, and a warning where nobody knows the alpha."""
        changes = Gathering.change_entries(self, entries)
        if changes.refusal is not None:
            return changes
        without = [
            key
            for key, places in self.gather(entries).items()
            for parts in in_turn(places)
            if is_guess({part: entries[at].shape or () for part, at in parts.items()}, self.alpha, self.rank)
        ]
        if not without:
            return changes
        message = f"{text.plural(len(without), 'adapter')} without an alpha: what the factors make is added as it is"
        return changes._replace(
            warnings=(*changes.warnings, PlanWarning("lora_alpha", tuple(without[:NAMED]), message))
        )


def _no_lengths(lengths: Entry) -> str:
    return f"{said(lengths)} does not tell the lengths of its rows, nor of its columns"


def _of_no_kind(adapter: AdapterKeys) -> RepairError:
    """Parts that make up no adapter that can be merged, to be raised."""
    key, *_ = adapter.keys.values()
    why = f"{listed(list(adapter.keys.values()))} make up no LoRA, DoRA, LoHa or LoKr"
    return RepairError(f"cannot merge the adapter of {quoted(adapter.layer)}: {why}", key=key)


def _homeless(layer: str, weights: Sequence[str]) -> RepairError:
    """No weight, or several, to merge an adapter into, to be raised."""
    if weights:
        why, remedy = f"it could belong to {listed(weights[:2])}", "Leave one out with `keys`."
    else:
        why, remedy = "its weight is not here", "Take model and adapter into one state dict first, with a step take."
    return RepairError(f"cannot merge the adapter of {quoted(layer)}: {why}", key=layer, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Merged(Transform):
    """A weight and the parts of the adapters that change it, which `changes` name."""

    op: ClassVar[str] = "merge_lora"

    changes: tuple[Change, ...]
    dtype: str

    def compute(self, arrays: Sequence[Array]) -> Array:
        """In float64 or complex128, rounded once."""
        import numpy as np

        from sdviewer.repair.adapter_deltas import merge_in_place

        wide = np.complex128 if arrays[0].dtype.kind == "c" else np.float64
        with np.errstate(all="ignore"):
            weight, *parts = [np.array(array, wide, order="C") for array in arrays]
            return Cast(self.dtype).compute([merge_in_place(weight, self.changes, parts)])
