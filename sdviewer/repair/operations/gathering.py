"""Operations that make one tensor of several, which their keys say belong together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sdviewer.errors import RepairError
from sdviewer.repair.operations.tensor_operation import Entry, EntryChanges, TensorOperation
from sdviewer.repair.wording import quoted

Parts: TypeAlias = dict[int, int]
"""The places of the entries that one tensor is made of, by the numbers of its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering(TensorOperation):
    """What operations share that gather entries; the result stands where its first part stood."""

    @abstractmethod
    def gather(self, entries: Sequence[Entry]) -> dict[str, Parts]:
        """For the key of each result its parts.

        Raises:
            RepairError: the keys do not say what belongs together.
        """

    @abstractmethod
    def joined(self, key: str, parts: Mapping[int, Entry]) -> Entry:
        """The result under a key.

        Raises:
            RepairError: a part is missing, or the parts do not fit together.
        """

    @property
    @abstractmethod
    def sought(self) -> tuple[str, ...]:
        """What matches nothing where there is nothing to gather."""

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the keys that are gathered."""
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        try:
            found = self.gather(entries)
        except RepairError as error:
            return EntryChanges(outputs, 0, (), error)
        matched = 0
        refusal: RepairError | None = None
        for key, places in found.items():
            try:
                result = self.joined(key, {part: entries[place] for part, place in places.items()})
            except RepairError as error:
                refusal = refusal or error
                continue
            for place in places.values():
                outputs[place] = ()
            outputs[places[min(places)]] = (result,)
            matched += len(places)
        return EntryChanges(outputs, matched, () if found else self.sought, refusal)


def add_part(found: dict[str, Parts], key: str, part: int, place: int, entries: Sequence[Entry], what: str) -> None:
    """Take an entry for a part of the tensor `key`.

    Raises:
        RepairError: another one is that part already.
    """
    parts = found.setdefault(key, {})
    if part in parts:
        first, second = entries[parts[part]].key, entries[place].key
        raise RepairError(
            f"{what} {quoted(first)} and {quoted(second)}: both would be part {part} of {quoted(key)}",
            key=second,
            remedy="Use the other placeholders of `from` in `into`.",
        )
    parts[part] = place
