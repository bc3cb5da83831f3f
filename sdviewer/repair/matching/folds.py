"""Weights that the source keeps in several tensors and the target in one: norms, pruning masks, low-rank adapters.

They are brought into one on names and shapes before anything is matched, by the operations that do it in a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sdviewer.core.key_table import KeyTable
from sdviewer.errors import RepairError
from sdviewer.repair.execution import carried_out, entries_of_table
from sdviewer.repair.matching.contents import Contents, View
from sdviewer.repair.matching.found import Evidence, Fold, Matching
from sdviewer.repair.operations import MergeLora, Operation, Prune, SpectralNorm, WeightNorm
from sdviewer.repair.operations.gathering import Gathering
from sdviewer.repair.operations.tensor_operation import Entry
from sdviewer.repair.plan import Kept, sources
from sdviewer.repair.wording import quoted

FOLDS: tuple[tuple[Gathering, str], ...] = (
    (WeightNorm(), "The target has no weight norm: a weight is its direction times its magnitude"),
    (SpectralNorm(), "The target has no spectral norm: a weight is divided by its largest singular value"),
    (Prune(), "The target has no pruning masks: a weight is multiplied by its mask"),
    (MergeLora(), "The target has no low-rank adapters: what they make is added to the weights"),
)
"""What can be folded, and why it is."""

_SIGNS = re.compile(
    r"weight_g\n|_mask\n|_u\n|\.original0?\n|lora_(?:A|down|embedding_A)|lora\.down"
    r"|lora_linear_layer\.down|\.(?:hada|lokr)_w"
)
"""What stands in the keys of a source that has something to fold."""


@dataclass(slots=True)
class Folding:
    """A source with its weights in one, and the places of the source that its entries are made of, the weight first."""

    table: KeyTable
    parts: list[tuple[int, ...]]
    folds: list[Fold] = field(default_factory=list)

    def here(self, pairs: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
        """Pairs of positions of source and target, with the positions of this table."""
        place = {at: number for number, parts in enumerate(self.parts) for at in parts}
        return [(place[i], j) for i, j in pairs if i in place]

    def there(self, matching: Matching) -> Matching:
        """A matching of this table, with the positions of the source."""
        found = [replace(one, sources=tuple([self.parts[at][0] for at in one.sources])) for one in matching.found]
        drops = {at: why for number, why in matching.drops.items() for at in self.parts[number]}
        for number, (key, parts) in enumerate(zip(self.table.keys, self.parts, strict=True)):
            if number not in matching.drops:
                drops |= dict.fromkeys(parts[1:], f"goes into {quoted(key)}")
        return Matching(tuple(found), drops, tuple(self.folds))

    def contents(self, asked: Contents) -> Contents:
        """Who tells values, asked for the source: of what is folded nobody knows them."""

        def told(of_source: Sequence[View], of_target: Sequence[View]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
            views = [view._replace(at=self.parts[view.at][0]) for view in of_source]
            ours, theirs = asked(views, of_target)
            alone = [len(self.parts[view.at]) == 1 for view in of_source]
            return [value if known else None for value, known in zip(ours, alone, strict=True)], theirs

        return told


def folding(source: KeyTable, target: KeyTable) -> Folding | None:
    """The source with its weights in one tensor each, where the target has them so; None where nothing is folded."""
    if not _SIGNS.search("".join([f"{key}\n" for key in source.keys])):
        return None
    entries, theirs = entries_of_table(source), entries_of_table(target)
    found = Folding(source, [])
    for operation, reason in FOLDS:
        if _finds(operation, entries) and not _finds(operation, theirs):
            try:
                after = carried_out(operation, entries)
            except RepairError:
                continue
            evidence: Evidence = "ambiguous" if _guesses(operation, entries) else "likely"
            found.folds.append(Fold(operation.to_step(), evidence, reason, tuple(_made(entries, after, source))))
            entries = after
    if not found.folds:
        return None
    found.table = _table(entries, source)
    found.parts = [_parts(entry, source) for entry in entries]
    return found


def _finds(operation: Gathering, entries: Sequence[Entry]) -> bool:
    """Whether there is something to fold; where that is not clear there is, so that a target is left as it is."""
    try:
        return bool(operation.gather(entries))
    except RepairError:
        return True


def _guesses(operation: Operation, entries: Sequence[Entry]) -> bool:
    """Whether a number is missing that says how much of an adapter is added."""
    return isinstance(operation, MergeLora) and bool(operation.change_entries(entries).warnings)


def _made(before: Sequence[Entry], after: Sequence[Entry], source: KeyTable) -> Iterator[tuple[int, ...]]:
    there = {id(entry.value) for entry in before}
    return (_parts(entry, source) for entry in after if id(entry.value) not in there)


def _parts(entry: Entry, source: KeyTable) -> tuple[int, ...]:
    """The places that an entry is made of, first the one that is shaped as it."""
    return tuple(sorted(dict.fromkeys(sources(entry.value)), key=lambda at: source.shapes[at] != entry.shape))


def _table(entries: Sequence[Entry], source: KeyTable) -> KeyTable:
    """The entries as a table; what is tied in the source and still there is tied."""
    number = {entry.value.entry: at for at, entry in enumerate(entries) if isinstance(entry.value, Kept)}
    ties = [tuple([number[at] for at in tie if at in number]) for tie in source.ties]
    return KeyTable(
        tuple([entry.key for entry in entries]),
        [entry.shape for entry in entries],
        [entry.dtype for entry in entries],
        ordered=source.ordered,
        ties=tuple([tie for tie in ties if len(tie) > 1]),
        not_tensors=frozenset([number[at] for at in source.not_tensors if at in number]),
    )
