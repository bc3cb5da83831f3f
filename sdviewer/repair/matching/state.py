"""What is found so far, and what of either side is still free."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.contexts import holding_the_same
from sdviewer.repair.matching.families import Family, families, read_side
from sdviewer.repair.matching.found import Evidence, Found, Relation
from sdviewer.repair.matching.learned import Learned, align
from sdviewer.repair.matching.relations import relation_of


class State:
    """The pairs found so far, and what they teach."""

    def __init__(self, source: KeyTable, target: KeyTable, broken: Collection[tuple[int, int]]) -> None:
        self.source, self.target = read_side(source), read_side(target)
        self.free_s = {at: None for at in range(len(source)) if at not in source.not_tensors}
        self.free_t = {at: None for at in range(len(target)) if at not in target.not_tensors}
        self.broken = frozenset(broken)
        self._whole_s, self._whole_t = holding_the_same(self.source, self.target)
        self.learned = Learned()
        self.by_hand: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        self.found: list[Found] = []

    def families(self) -> tuple[list[Family], list[Family]]:
        """The families of what is free."""
        return families(self.source, list(self.free_s)), families(self.target, list(self.free_t))

    def take(
        self,
        sources: Sequence[int],
        targets: Sequence[int],
        relation: Relation = "rename",
        fields: Mapping[str, Any] | None = None,
        *,
        evidence: Evidence,
        by: str,
        reasons: tuple[str, ...] = (),
        candidates: tuple[int, ...] = (),
    ) -> None:
        """Note a find; what it uses is free no longer."""
        for at in sources:
            self.free_s.pop(at, None)
        for at in targets:
            self.free_t.pop(at, None)
        self.found.append(
            Found(tuple(sources), tuple(targets), relation, fields or {}, evidence, by, reasons, candidates)
        )

    def can(self, at_s: int, at_t: int) -> bool:
        """Whether two may become a pair."""
        return at_s in self.free_s and at_t in self.free_t and (at_s, at_t) not in self.broken

    def complete(self, source: Family, target: Family) -> bool:
        """Whether two families are of what has its counterpart on the other side, tensor by tensor."""
        of_s, of_t = ([at for _, at in family.members] for family in (source, target))
        return self._whole_s.issuperset(of_s) and self._whole_t.issuperset(of_t)

    def teach_indices(self, source: Family, target: Family) -> None:
        """Learn how numbers are translated from two families of one tensor each."""
        i, j = source.members[0][1], target.members[0][1]
        self.learned.accept_indices(
            self.source.templates[i], self.target.templates[j], self.source.indices[i], self.target.indices[j]
        )

    def take_families(
        self,
        source: Family,
        target: Family,
        *,
        evidence: Evidence,
        by: str,
        reasons: tuple[str, ...],
        candidates: Sequence[Family] = (),
    ) -> int:
        """Pair two families, member by member; how many pairs came of it."""
        aligned, how = align(source, target, self.learned)
        pairs = [
            (i, j, becomes)
            for i, j in aligned
            if self.can(i, j) and (becomes := relation_of(self.source.shapes[i], self.target.shapes[j])) is not None
        ]
        if not pairs:
            return 0
        if evidence != "ambiguous":
            self.learned.accept(source.template, target.template)
        others = [dict(family.members) for family in candidates]
        indices = {at: number for number, at in target.members}
        follow = f"All {len(pairs)} keys that differ only in their numbers are paired alike"
        for n, (i, j, (relation, fields)) in enumerate(pairs):
            if not self.can(i, j):
                continue  # keys that wrappers alone tell apart have the same numbers
            told = [*reasons]
            if len(pairs) > 1:
                told += [_place(how, n, len(pairs)), follow]
            also = tuple([places[indices[j]] for places in others if indices[j] in places and places[indices[j]] != j])
            self.take([i], [j], relation, fields, evidence=evidence, by=by, reasons=tuple(told), candidates=also)
        return len(pairs)


def _place(how: str, n: int, total: int) -> str:
    said = {
        "same": "The numbers in the keys are the same on both sides",
        "learned": "Its numbers change as those of its neighbours do",
        "order": f"{n + 1} of {total} in the order of both sides",
    }
    return said.get(how, "")
