"""Matching without the copies of a network that are put aside (`copies`): a table without them, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.contents import View
from sdviewer.repair.matching.copies import Choice
from sdviewer.repair.matching.found import Found, Matching


@dataclass(slots=True)
class Reduced:
    """A table without the copies that are not taken, and the places in the whole one of what it has."""

    table: KeyTable
    places: Sequence[int]
    made: Sequence[Choice]

    @classmethod
    def of(cls, table: KeyTable, made: Sequence[Choice]) -> Reduced:
        """Put the copies aside that were not chosen."""
        if not made:
            return cls(table, range(len(table)), made)
        gone = {at for choice in made for copy in choice.aside for at in copy.positions}
        places = [at for at in range(len(table)) if at not in gone]
        here = {at: number for number, at in enumerate(places)}
        ties = [tuple([here[at] for at in tie if at in here]) for tie in table.ties]
        reduced = KeyTable(
            tuple([table.keys[at] for at in places]),
            [table.shapes[at] for at in places],
            [table.dtypes[at] for at in places],
            ordered=table.ordered,
            ties=tuple([tie for tie in ties if len(tie) > 1]),
            not_tensors=frozenset([here[at] for at in table.not_tensors if at in here]),
        )
        return cls(reduced, places, made)

    def views(self, asked: Sequence[View]) -> list[View]:
        """Views of tensors of this table, as those of the whole one."""
        return [view._replace(at=self.places[view.at]) for view in asked]

    def doubts(self) -> dict[int, str]:
        """By position in the whole table: why a copy that is taken may not be the one that is meant, "" where it is."""
        return {
            at: "" if choice.sure else choice.doubt
            for choice in self.made
            for copy in choice.taken
            for at in copy.positions
        }


def there(matching: Matching, source: Reduced, target: Reduced) -> Matching:
    """A matching of two reduced tables in the positions of the whole ones; what was put aside of the source goes.

    What is found for a copy is likely at most, since another one could be meant; ambiguous where nobody can tell.
    """
    ours, theirs = source.doubts(), target.doubts()

    def placed(one: Found) -> Found:
        sources = tuple([source.places[at] for at in one.sources])
        targets = tuple([target.places[at] for at in one.targets])
        candidates = tuple([target.places[at] for at in one.candidates])
        one = replace(one, sources=sources, targets=targets, candidates=candidates)
        doubts = [ours[at] for at in sources if at in ours] + [theirs[at] for at in targets if at in theirs]
        if one.by == "hand" or not doubts:
            return one
        if doubt := max(doubts):
            return replace(one, evidence="ambiguous", reasons=(doubt, *one.reasons))
        return replace(one, evidence="likely") if one.evidence == "proved" else one

    drops = {source.places[at]: why for at, why in matching.drops.items()}
    unsure: dict[int, str] = {}
    for choice in source.made:
        gone = [at for copy in choice.aside for at in copy.positions]
        drops |= dict.fromkeys(gone, choice.reason)
        unsure |= dict.fromkeys(gone if not choice.sure else [], choice.doubt)
    parts = [tuple([tuple([source.places[at] for at in some]) for some in fold.parts]) for fold in matching.folds]
    folds = tuple([replace(fold, parts=some) for fold, some in zip(matching.folds, parts, strict=True)])
    return Matching(tuple(map(placed, matching.found)), drops, folds, unsure)
