"""Tensors that could be the same by their shapes and surroundings, told apart by names, order and what is learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sdviewer.repair.matching import weights
from sdviewer.repair.matching.assignment import assign
from sdviewer.repair.matching.families import Family, Indices, Side, families, spelled_out
from sdviewer.repair.matching.found import Evidence
from sdviewer.repair.matching.similarity import excluded, name_similarity, ranks
from sdviewer.repair.matching.state import State

MOST = 60_000
"""Pairs of families of one class that are compared; of more nothing can be told by names in bounded time."""

MOST_RIVALS = 8
"""Candidates that are stated for an ambiguous pair."""

MARGINS = (1.0, 0.7, 0.5, 0.35, 0.25, weights.SURE, 0.1, 0.05, -9.0)
"""What is surest is accepted first, since it teaches about the rest."""


Around = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Surroundings of each position of source and target; several kinds of them."""


class Scored(NamedTuple):
    """A pair of the best assignment of a class: what it scores, its margin, and what it competes with."""

    source: Family
    target: Family
    score: float
    margin: float
    rivals: tuple[Family, ...]
    told: tuple[str, ...]


@dataclass(slots=True)
class Class:
    """Free tensors of both sides that agree in something."""

    of_s: list[int] = field(default_factory=list)
    of_t: list[int] = field(default_factory=list)
    solved: list[Scored] | None = None
    lessons: int = -1


def classes(state: State, keys: tuple[Sequence[Hashable], Sequence[Hashable]]) -> list[Class]:
    """The classes of what is free, those that both sides have, in the order of the source."""
    key_s, key_t = keys
    found: dict[Hashable, Class] = {}
    for at in state.free_s:
        if key_s[at] is not None:
            found.setdefault(key_s[at], Class()).of_s.append(at)
    for at in state.free_t:
        if key_t[at] is not None and (one := found.get(key_t[at])) is not None:
            one.of_t.append(at)
    return [one for one in found.values() if one.of_t]


def take_only_ones(state: State, keys: tuple[Sequence[Hashable], Sequence[Hashable]], where: str) -> None:
    """Pair what has one family of its class on either side: nothing else can be meant.

    Those of one tensor come first: they tell how numbers are translated, which decides the order of the others.
    """
    for one in sorted(classes(state, keys), key=lambda one: len(one.of_s)):
        if len(one.of_s) != len(one.of_t):
            continue
        some, others = families(state.source, one.of_s), families(state.target, one.of_t)
        if len(some) != 1 or len(others) != 1:
            continue
        source, target = some[0], others[0]
        names = name_similarity(source.template, target.template)
        apart = excluded(source.template, target.template)
        if apart and names < 0.5:
            continue
        if len(source) == 1:
            state.teach_indices(source, target)
        shape = state.source.shapes[one.of_s[0]]
        said = f"Same shape {_shape(shape)}, the only such {where}"
        known = names + state.learned.prefix(source.template, target.template)
        sure = state.complete(source, target) or known >= weights.FOREIGN
        sure = sure or (not apart and names >= 0.2 and _ends_alike(source, target))
        evidence: Evidence = "likely" if sure else "ambiguous"
        state.take_families(source, target, evidence=evidence, by="shape", reasons=(said,))


def _ends_alike(source: Family, target: Family) -> bool:
    """Whether the module of one is that of the other but for components in front."""
    short, long = sorted((source.template[:-1], target.template[:-1]), key=len)
    return bool(short) and long[-len(short) :] == short


def take_best(
    state: State,
    keys: tuple[Sequence[Hashable], Sequence[Hashable]],
    around: Around,
    *,
    least: float,
) -> None:
    """Pair by names, order and what is learned within each class, the surest first.

    `around` are surroundings that count but are not required; what scores less than `least` is not paired.
    """
    open_classes = [one for one in classes(state, keys) if _is_small(state, one)]
    # What is of one block on both sides says how blocks are numbered, so it comes before what is of several.
    of_one_block = [one for one in open_classes if _is_of_one_block(state, one)]
    for some, margins in ((of_one_block, MARGINS[: MARGINS.index(weights.SURE) + 1]), (open_classes, MARGINS)):
        for margin in margins:
            for one in some:
                if one.of_s and one.of_t:
                    _take_best_of(state, one, around, margin, least, teaches=some is of_one_block)


def _is_of_one_block(state: State, one: Class) -> bool:
    return (
        len({state.source.indices[at] for at in one.of_s}) == 1
        and len({state.target.indices[at] for at in one.of_t}) == 1
        and state.source.indices[one.of_s[0]] != ()
    )


def _is_small(state: State, one: Class) -> bool:
    """Whether all families of a class can be compared with each other."""
    of_s = len({state.source.templates[at] for at in one.of_s})
    return of_s * len({state.target.templates[at] for at in one.of_t}) <= MOST


def _take_best_of(
    state: State,
    one: Class,
    around: Around,
    margin: float,
    least: float,
    *,
    teaches: bool,
) -> None:
    if one.solved is None or one.lessons != state.learned.lessons:
        one.of_s = [at for at in one.of_s if at in state.free_s]
        one.of_t = [at for at in one.of_t if at in state.free_t]
        one.solved = _solve(state, one, around) if one.of_s and one.of_t else []
        one.lessons = state.learned.lessons
    for found in one.solved:
        if found.margin < margin or found.score < least:
            continue
        known = name_similarity(found.source.template, found.target.template)
        known += state.learned.prefix(found.source.template, found.target.template)
        complete = state.complete(found.source, found.target)
        sure = found.margin >= weights.SURE and (complete or known >= weights.FOREIGN)
        # What is left over after a guess is a guess: a query is no output because nothing else is free.
        sure = sure and not excluded(found.source.template, found.target.template)
        if teaches:
            state.teach_indices(found.source, found.target)
        state.take_families(
            found.source,
            found.target,
            evidence="likely" if sure else "ambiguous",
            by="name",
            reasons=found.told,
            candidates=() if sure else found.rivals,
        )


def _solve(state: State, one: Class, around: Around) -> list[Scored]:
    """The best assignment of the families of a class."""
    some, others = families(state.source, one.of_s), families(state.target, one.of_t)
    some, others = _spelled(some, others, state.source), _spelled(others, some, state.target)
    if len(some) * len(others) > MOST:
        return []
    scores = score_all(state, some, others, around)
    found = []
    for i, j, margin in assign(scores):
        rivals = [
            other
            for k, other in enumerate(others)
            if k != j and scores[i][k] > scores[i][j] - weights.SURE and len(other) == len(others[j])
        ]
        told = _told(state, some[i], others[j], len(some), len(others))
        found.append(Scored(some[i], others[j], scores[i][j], margin, tuple(rivals[:MOST_RIVALS]), told))
    return found


def _spelled(some: list[Family], others: list[Family], side: Side) -> list[Family]:
    """The families, those of a size that the other side lacks with the index made part of the name that helps."""
    sizes = Counter([len(family) for family in others])
    found: list[Family] = []
    for family in some:
        found += _spelled_one(family, sizes, side)
    return sorted(found, key=lambda family: family.place)


def _spelled_one(family: Family, sizes: Counter[int], side: Side) -> list[Family]:
    if len(family) in sizes or len(family) == 1:
        return [family]
    for which in reversed(range(len(family.members[0][0]))):
        apart = spelled_out(family, which, side)
        if len(apart) > 1 and sum(len(one) in sizes for one in apart) > len(apart) / 2:
            return apart
    return [family]


@dataclass(slots=True)
class _Sides:
    """The families of a class by number, with what is the same for all pairs of them."""

    state: State
    families: tuple[Sequence[Family], Sequence[Family]]
    around: Around
    order: float
    """What the place in the order counts."""
    ranks: tuple[list[tuple[int, int] | None], list[tuple[int, int] | None]]
    indices: tuple[list[frozenset[Indices]], list[frozenset[Indices]]]
    leaves: tuple[list[frozenset[str]], list[frozenset[str]]]

    @staticmethod
    def of(state: State, some: Sequence[Family], others: Sequence[Family], around: Around) -> _Sides:
        """What the scores of all pairs need."""
        ordered = state.source.table.ordered and state.target.table.ordered
        order = weights.ORDER if ordered else weights.ORDER_BY_NUMBER
        if len(some) == 1 or len(others) == 1:
            order = 0.0  # one alone stands neither before nor behind
        return _Sides(
            state,
            (some, others),
            around,
            order,
            (ranks([one.template for one in some]), ranks([one.template for one in others])),
            (list(map(_indices, some)), list(map(_indices, others))),
            ([_leaves(state.source, one) for one in some], [_leaves(state.target, one) for one in others]),
        )

    def score(self, i: int, j: int) -> float:
        """What speaks for a pair."""
        source, target = self.families[0][i], self.families[1][j]
        one, two = source.template, target.template
        learned = self.state.learned
        score = weights.NAME * name_similarity(one, two)
        score += weights.PREFIX * learned.prefix(one, two)
        score += weights.SUFFIX * learned.inside(one, two)
        score += weights.SAME_INDICES * (self.indices[0][i] == self.indices[1][j])
        score += weights.SAME_COUNT * (len(source) == len(target))
        score += self.order * (1 - abs(self._place(0, i) - self._place(1, j)))
        score += weights.EXCLUDED * excluded(one, two)
        if one == two:
            score += weights.SAME_TEMPLATE
        rank_s, rank_t = self.ranks[0][i], self.ranks[1][j]
        if rank_s and rank_t and rank_s[1] == rank_t[1]:
            score += weights.ORDINAL if rank_s == rank_t else -weights.ORDINAL
        score += weights.SAME_LEAVES * (self.leaves[0][i] == self.leaves[1][j])
        for of_s, of_t in self.around:
            score += weights.CONTEXT * (of_s[source.members[0][1]] == of_t[target.members[0][1]])
        return score + self._by_hand(source, target)

    def _place(self, side: int, at: int) -> float:
        """From 0 for the first family of a side to 1 for the last."""
        return at / max(len(self.families[side]) - 1, 1)

    def _by_hand(self, source: Family, target: Family) -> float:
        """What a person said of such a pair."""
        state = self.state
        score = weights.HAND if (source.template, target.template) in state.by_hand else 0.0
        pairs = zip(source.members, target.members, strict=False)
        if state.broken and any((a, b) in state.broken for (_, a), (_, b) in pairs):
            score += weights.BROKEN
        return score


def score_all(state: State, some: Sequence[Family], others: Sequence[Family], around: Around) -> list[list[float]]:
    """What speaks for each pair of families."""
    sides = _Sides.of(state, some, others, around)
    return [[sides.score(i, j) for j in range(len(others))] for i in range(len(some))]


def _indices(family: Family) -> frozenset[Indices]:
    return frozenset([indices for indices, _ in family.members])


def _leaves(side: Side, family: Family) -> frozenset[str]:
    """What else the module of a tensor holds."""
    return side.leaves[side.modules[family.members[0][1]]]


def _told(state: State, source: Family, target: Family, n: int, m: int) -> tuple[str, ...]:
    shape = state.source.shapes[source.members[0][1]]
    known = state.target.shapes[target.members[0][1]] is not None
    told = [f"Same shape {_shape(shape)}" if known and shape is not None else "Its shape is not known"]
    if max(n, m) > 1:
        told[0] += f", as {max(n, m) - 1} other{'s' * (max(n, m) > 2)}"
    likeness = name_similarity(source.template, target.template)
    if likeness > 0.5:
        told.append("The words of both keys are the same or mean the same")
    if state.learned.prefix(source.template, target.template) > 0.4:
        told.append("Its neighbours are in the module that the target's are in")
    return tuple(told)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else "x".join([str(size) for size in shape]) or "of one element"
