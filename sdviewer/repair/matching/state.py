"""What is found so far, and what of either side is still free."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.contexts import hold_the_same
from sdviewer.repair.matching.families import Family, Shape, families, read_side
from sdviewer.repair.matching.found import Evidence, Found, Relation
from sdviewer.repair.matching.learned import Learned, align


class State:
    """The pairs found so far, and what they teach."""

    def __init__(self, source: KeyTable, target: KeyTable, broken: Collection[tuple[int, int]]) -> None:
        self.source, self.target = read_side(source), read_side(target)
        self.free_s = {at: None for at in range(len(source)) if at not in source.not_tensors}
        self.free_t = {at: None for at in range(len(target)) if at not in target.not_tensors}
        self.broken = frozenset(broken)
        self.complete = hold_the_same(self.source, self.target)
        self.broken_templates = {(self.source.templates[i], self.target.templates[j]) for i, j in broken}
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
        pairs, how = align(source, target, self.learned)
        pairs = [
            (i, j)
            for i, j in pairs
            if self.can(i, j) and relation_of(self.source.shapes[i], self.target.shapes[j]) is not None
        ]
        if not pairs:
            return 0
        if how == "order" and evidence == "proved" and not _shifted(source, target):
            evidence = "likely"
        if evidence != "ambiguous":
            self.learned.accept(source.template, target.template)
        others = [dict(family.members) for family in candidates]
        indices = {at: number for number, at in target.members}
        follow = f"All {len(pairs)} keys that differ only in their numbers are paired alike"
        for n, (i, j) in enumerate(pairs):
            relation, fields = relation_of(self.source.shapes[i], self.target.shapes[j]) or ("rename", {})
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


def _shifted(source: Family, target: Family) -> bool:
    """Whether the indices of one are those of the other, moved by the same."""
    some, others = sorted(source.members), sorted(target.members)
    moved = {
        tuple([j - i for i, j in zip(one, two, strict=True)]) if len(one) == len(two) else None
        for (one, _), (two, _) in zip(some, others, strict=True)
    }
    return len(moved) == 1 and None not in moved


def relation_of(shape: Shape, other: Shape) -> tuple[Relation, dict[str, Any]] | None:
    """What makes a tensor of one shape one of the other, None where no moving of elements does."""
    if shape is None or other is None or shape == other:
        return "rename", {}
    if len(shape) == len(other) == 2 and shape == other[::-1]:
        return "transpose", {}
    full, full_b = [size for size in shape if size != 1], [size for size in other if size != 1]
    if full == full_b:
        if len(shape) > len(other) and (dims := _squeezed(shape, other)) is not None:
            return "squeeze", {"dims": dims}
        return "reshape", {"shape": list(other)}
    if len(shape) == len(other) and sorted(shape) == sorted(other):
        return "transpose", {"dims": _permutation(shape, other)}
    return None


def _squeezed(shape: tuple[int, ...], other: tuple[int, ...]) -> list[int] | None:
    """The axes of size 1 that go, the last first, so that the others are left."""
    too_many = len(shape) - len(other)
    dims = [at for at, size in enumerate(shape) if size == 1][-too_many:]
    left = tuple([size for at, size in enumerate(shape) if at not in dims])
    return dims if left == other else None


def _permutation(shape: tuple[int, ...], other: tuple[int, ...]) -> list[int]:
    free = list(range(len(shape)))
    found = []
    for size in other:
        at = next(at for at in free if shape[at] == size)
        free.remove(at)
        found.append(at)
    return found
