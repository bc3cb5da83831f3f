"""What weight norm and spectral norm share: a weight that torch keeps as several tensors, in an old and a new form.

Old: `fc.weight_g`, `fc.weight_v`. New: `fc.parametrizations.weight.original0`, `.original1`. Folded: `fc.weight`.

Facts: torch 2.13 (`torch.nn.utils.weight_norm`, `spectral_norm`, `parametrizations`), measured.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.gathering import Gathering, Parts
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, impossible, stated
from sdviewer.repair.plan import Computed
from sdviewer.repair.transforms import Shape, Transform
from sdviewer.repair.wording import quoted

FORMS = FOLDED, OLD, NEW = "folded", "old", "new"
_MODULE = "parametrizations."


class Found(NamedTuple):
    """One weight in several tensors: the key of the weight, the form it is in, and the places of its parts."""

    weight: str
    form: str
    places: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Reparametrized(Gathering):
    """Weights in several tensors are folded into one, or brought into the other of the two forms.

    `old` and `new` are what the keys of the parts end with in each form, the part that is shaped as the weight first.
    """

    name: ClassVar[str]
    old: ClassVar[tuple[str, ...]]
    new: ClassVar[tuple[str, ...]]

    to: str = FOLDED

    @property
    def label(self) -> str:
        """`Fold weight norm`, `Bring weight norm into its new form`."""
        return f"Fold {self.name}" if self.to == FOLDED else f"Bring {self.name} into its {self.to} form"

    @property
    def sought(self) -> tuple[str, ...]:
        """The keys that there are none of."""
        return (f"*{self.old[0]} with {' and '.join('*' + part for part in self.old[1:])}",)

    def check(self) -> None:
        """One of the three forms."""
        if self.to not in FORMS:
            raise UsageError(f"`to` is {quoted(self.to)}", remedy='It can be "folded", "old" or "new".')

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`to`."""
        return {"to": reader.choice("to", FORMS, FOLDED)}

    def own_fields(self) -> dict[str, Any]:
        """`to` where it is not "folded"."""
        return stated(self, {"to": "to"})

    @abstractmethod
    def fold(self, weight: Entry, parts: Sequence[Entry]) -> tuple[Transform, Shape]:
        """How the weight is computed from its parts, and its shape; `weight` is the part shaped as it.

        Raises:
            RepairError: the parts do not fit together.
        """

    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """The parts of each weight, in the order of `old`."""
        return {found.weight: found.places for found in self.find(entries)}

    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """The folded weight, in the place of the part that is shaped as it."""
        ordered = [parts[number] for number in range(len(parts))]
        transform, shape = self.fold(ordered[0], ordered)
        value = Computed(transform, tuple([entry.value for entry in ordered]), shape, ordered[0].dtype)
        return ordered[0]._replace(key=key, value=value, shape=shape, tied=None)

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the keys of the parts; bringing them into another form renames them."""
        if self.to == FOLDED:
            return Gathering.change_entries(self, entries)
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        try:
            found = list(self.find(entries))
            for weight, _, places in found:
                self.fold(entries[places[0]], [entries[places[part]] for part in range(len(places))])
                for part, place in places.items():
                    outputs[place] = (entries[place]._replace(key=self._key(weight, part)),)
        except RepairError as error:
            return EntryChanges(outputs, 0, (), error)
        matched = sum(len(one.places) for one in found)
        return EntryChanges(outputs, matched, () if found else self.sought)

    def _key(self, weight: str, part: int) -> str:
        """The key of a part in the form asked for."""
        if self.to == OLD:
            return weight + self.old[part]
        module, dot, name = weight.rpartition(".")
        return f"{module}{dot}{_MODULE}{name}.{self.new[part]}"

    def find(self, entries: Sequence[Entry]) -> Sequence[Found]:
        """The weights that are in several tensors.

        Raises:
            RepairError: one has further parametrizations.
        """
        places = {entry.key: place for place, entry in enumerate(entries)}
        return [*self._old(places), *self._new(places)]

    def _old(self, places: Mapping[str, int]) -> Sequence[Found]:
        found = []
        for key in places:
            if key.endswith(self.old[0]):
                weight = key.removesuffix(self.old[0])
                parts = [places.get(weight + part) for part in self.old]
                if None not in parts and not weight.endswith(".") and weight:
                    found.append(Found(weight, OLD, {i: place for i, place in enumerate(parts) if place is not None}))
        return found

    def _new(self, places: Mapping[str, int]) -> Sequence[Found]:
        """All that stands below `parametrizations.weight.` must be of this kind, or it is another parametrization."""
        lists: dict[str, dict[str, int]] = {}
        for key, place in places.items():
            start = 0 if key.startswith(_MODULE) else key.rfind("." + _MODULE) + 1
            if key.startswith(_MODULE, start):
                name, _, part = key[start + len(_MODULE) :].partition(".")
                lists.setdefault(f"{key[:start]}{_MODULE}{name}.", {})[part] = place
        found = []
        for prefix, parts in lists.items():
            if not parts.keys() >= set(self.new):
                continue
            if len(parts) > len(self.new):
                raise RepairError(
                    f"{quoted(prefix.removesuffix('.'))} has further parametrizations besides {self.name}",
                    key=prefix + self.new[0],
                    remedy="Leave its keys out of the step with `keys`.",
                )
            module, _, name = prefix.removesuffix(".").rpartition(_MODULE)
            found.append(Found(module + name, NEW, {i: parts[part] for i, part in enumerate(self.new)}))
        return found


def misfit(what: str, weight: Entry, other: Entry, reason: str) -> RepairError:
    """A part that does not go with the weight, to be raised."""
    return impossible(what, other, f"{reason} of {quoted(weight.key)} ({'×'.join(map(str, weight.shape or ()))})")
