"""Keys that are the same on both sides, where nothing speaks for a trap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sdviewer.repair.matching.families import Shape, Side
from sdviewer.repair.matching.relations import relation_of
from sdviewer.repair.matching.state import State

MOST = 0.7
"""Share of the smaller side that has its key on the other, from which on both sides speak one language: an equal key
proves a pair then, and is taken also where its tensor lies the other way round."""

DEEP = 4
"""Components that may stand in front of all keys of one side."""


def take_equal_keys(state: State) -> None:
    """Pair equal keys, also those that are equal without what wrappers put in or what one side has in front of all.

    An equal key is a trap where the modules around it moved: `layers.0` became `proj_in` and `layers.1` `layers.0`, or
    all numbers were shifted by one. So it counts only if all tensors of its shape in the module above have their keys
    on the other side too, and if of its family not both sides have some that have no key on the other.
    """
    source, target = state.source, state.target
    pairs = {(i, j): way for (i, j), way in _equal(state).items() if relation_of(source.shapes[i], target.shapes[j])}
    most = len(pairs) >= MOST * min(len(state.free_s), len(state.free_t))
    around = _Around(state, pairs)
    for i, j in sorted(pairs):
        shape, other = source.shapes[i], target.shapes[j]
        found = relation_of(shape, other)
        if found is None or not state.can(i, j) or around.moved(i, j):
            continue
        relation, fields = found
        same, near = around.compare(i, j)
        if not (same and shape == other) and not (most and (near or shape != other)):
            continue
        reasons = [_SAID[pairs[i, j]]]
        if relation != "rename":
            reasons.append("Its shape is that of the other with the axes in another order")
        proved = most and same and relation == "rename"
        state.take(
            [i],
            [j],
            relation,
            fields,
            evidence="proved" if proved else "likely",
            by="prefix" if pairs[i, j] else "key",
            reasons=tuple(reasons),
        )
        state.learned.accept(source.templates[i], target.templates[j])


_SAID = ("Same key", "Same key without what a wrapper put in", "Same key but for what all keys of one side begin with")
"""By the way in which two keys are equal."""

_Ways = dict[tuple[int, int], int]
"""Pairs of positions -> the way in which their keys are equal."""


def _equal(state: State) -> _Ways:
    """The pairs of equal keys; each side has one of them once, in the plainest way."""
    keys_s = {i: state.source.table.keys[i] for i in state.free_s}
    keys_t = {j: state.target.table.keys[j] for j in state.free_t}
    texts_s = {i: state.source.names[i].text for i in state.free_s}
    texts_t = {j: state.target.names[j].text for j in state.free_t}
    found: _Ways = {}
    for way, (some, others) in enumerate(((keys_s, keys_t), (texts_s, texts_t), _behind_front(texts_s, texts_t))):
        taken_s, taken_t = {i for i, _ in found}, {j for _, j in found}
        places: dict[str, int] = {}
        for j, text in others.items():
            if j not in taken_t:
                places.setdefault(text, j)
        for i, text in some.items():
            if i not in taken_s and (j := places.pop(text, -1)) >= 0:
                found[i, j] = way
    return found


_Texts = Mapping[int, str]


def _behind_front(some: _Texts, others: _Texts) -> tuple[_Texts, _Texts]:
    """The texts of both sides without what one of them has in front of its keys; none where that is nothing."""
    best: tuple[_Texts, _Texts] = ({}, {})
    most = MOST * min(len(some), len(others))
    for longer, shorter in ((some, others), (others, some)):
        wanted = set(shorter.values())
        for front in _fronts(longer.values()):
            bare = {at: text.removeprefix(front) for at, text in longer.items() if text.startswith(front)}
            shared = len(wanted.intersection(bare.values()))
            if shared >= most:
                best, most = (bare, others) if longer is some else (some, bare), shared + 1
    return best


def _fronts(texts: Iterable[str]) -> Sequence[str]:
    """What most keys begin with, by whole components, each with its dot."""
    found: list[str] = []
    left = list(texts)
    least = MOST * len(left)
    while left and len(found) < DEEP:
        at = len(found[-1]) if found else 0
        heads = Counter([text[: text.find(".", at) + 1] for text in left])
        front, count = max(heads.items(), key=lambda one: one[1])
        if count < least or not front:
            break
        found.append(front)
        left = [text for text in left if text.startswith(front)]
    return found


_Kind = tuple[int, Shape, str]


class _Around:
    """What stands around equal keys: whether it has its equals too. Shapes count where both sides know all of them."""

    def __init__(self, state: State, pairs: Iterable[tuple[int, int]]) -> None:
        self._shapes_known = state.source.table.shapes_known and state.target.table.shapes_known
        self._sides = (state.source, state.target)
        equal_s, equal_t = {i: i for i, _ in pairs}, {j: i for i, j in pairs}
        self._groups = (
            self._grouped(state.source, {i: i for i in state.free_s}),
            self._grouped(state.target, {j: equal_t.get(j, -1) for j in state.free_t}),
        )
        self._lost = (
            {self._family(state.source, i) for i in state.free_s if i not in equal_s},
            {self._family(state.target, j) for j in state.free_t if j not in equal_t},
        )
        self._compared: dict[tuple[_Kind, _Kind], tuple[bool, bool]] = {}

    def moved(self, i: int, j: int) -> bool:
        """Whether on both sides a key of the family has no equal, so that their numbers can stand for others."""
        source, target = self._sides
        return self._family(source, i) in self._lost[0] and self._family(target, j) in self._lost[1]

    def compare(self, i: int, j: int) -> tuple[bool, bool]:
        """Whether the keys of one shape and role in the module above are the same, and whether one side has those of
        the other at least."""
        kinds = self._kind(self._sides[0], i), self._kind(self._sides[1], j)
        known = self._compared.get(kinds)
        if known is None:
            some, others = self._groups[0][kinds[0]], self._groups[1][kinds[1]]
            known = self._compared[kinds] = (some == others, some <= others or others <= some)
        return known

    def _grouped(self, side: Side, marks: Mapping[int, int]) -> dict[_Kind, set[int]]:
        """By kind: the positions in the source of its keys and of those that equal them, -1 for what has no equal."""
        found: dict[_Kind, set[int]] = {}
        for at, mark in marks.items():
            found.setdefault(self._kind(side, at), set()).add(mark)
        return found

    def _kind(self, side: Side, at: int) -> _Kind:
        """The module above that of a key, with its shape and role."""
        return side.parents[side.modules[at]], self._shape(side, at), side.names[at].role

    def _family(self, side: Side, at: int) -> tuple[tuple[str, ...], Shape]:
        return side.templates[at], self._shape(side, at)

    def _shape(self, side: Side, at: int) -> Shape:
        return side.shapes[at] if self._shapes_known else None
