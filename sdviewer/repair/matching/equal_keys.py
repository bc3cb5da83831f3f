"""Keys that are the same on both sides, where nothing speaks for a trap."""

from __future__ import annotations

from collections.abc import Iterable

from sdviewer.repair.matching.families import Shape, Side
from sdviewer.repair.matching.relations import relation_of
from sdviewer.repair.matching.state import State

MOST = 0.7
"""Share of the smaller side that has its key on the other, from which on equal keys are taken also where transposed."""


def take_equal_keys(state: State) -> None:
    """Pair equal keys, also those that are equal without what wrappers put in.

    An equal key is a trap where the modules around it moved: `layers.0` became `proj_in` and `layers.1` `layers.0`, or
    all numbers were shifted by one. So it counts only if all tensors of its shape in the module above have their keys
    on the other side too, and if of its family not both sides have some that have no key on the other.
    """
    source, target = state.source, state.target
    pairs = list(_equal(state, whole=True))
    taken_s, taken_t = {i for i, _ in pairs}, {j for _, j in pairs}
    pairs += [(i, j) for i, j in _equal(state, whole=False) if i not in taken_s and j not in taken_t]
    most = len(pairs) >= MOST * min(len(state.free_s), len(state.free_t))
    moved = _families(source, state.free_s, {i for i, _ in pairs})
    moved &= _families(target, state.free_t, {j for _, j in pairs})
    around = _Around(state)
    for i, j in sorted(pairs):
        shape, other = source.shapes[i], target.shapes[j]
        found = relation_of(shape, other)
        if found is None or not state.can(i, j) or (source.templates[i], shape) in moved:
            continue
        relation, fields = found
        same, near = around.compare(i, j)
        proved = same and shape == other
        if not proved and not (most and (near or shape != other)):
            continue
        equal = source.table.keys[i] == target.table.keys[j]
        reasons = ["Same key" if equal else "Same key without what a wrapper put in"]
        if relation != "rename":
            reasons.append("Its shape is that of the other with the axes in another order")
        sure = proved or shape is None or other is None
        state.take(
            [i],
            [j],
            relation,
            fields,
            evidence="proved" if sure else "likely",
            by="key" if equal else "prefix",
            reasons=tuple(reasons),
        )
        state.learned.accept(source.templates[i], target.templates[j])


_Kind = tuple[int, Shape, str]


class _Around:
    """The keys of one shape and role in one module, on both sides."""

    def __init__(self, state: State) -> None:
        self._sides = (state.source, state.target)
        self._groups = (_groups(state.source, state.free_s), _groups(state.target, state.free_t))
        self._known: dict[tuple[_Kind, _Kind], tuple[bool, bool]] = {}

    def compare(self, i: int, j: int) -> tuple[bool, bool]:
        """Whether the keys around both are the same, and whether one side has those of the other at least."""
        kinds = _kind(self._sides[0], i), _kind(self._sides[1], j)
        known = self._known.get(kinds)
        if known is None:
            some, others = self._groups[0][kinds[0]], self._groups[1][kinds[1]]
            known = self._known[kinds] = (some == others, some <= others or others <= some)
        return known


def _families(side: Side, free: Iterable[int], paired: set[int]) -> set[tuple[tuple[str, ...], Shape]]:
    """The families, by shape, with some key that the other side lacks."""
    return {(side.templates[at], side.shapes[at]) for at in free if at not in paired}


def _equal(state: State, *, whole: bool) -> Iterable[tuple[int, int]]:
    def text(side: Side, at: int) -> str:
        return side.table.keys[at] if whole else side.names[at].text

    places: dict[str, int] = {}
    for j in state.free_t:
        places.setdefault(text(state.target, j), j)
    used = set()
    for i in state.free_s:
        j = places.get(text(state.source, i), -1)
        if j >= 0 and j not in used:
            used.add(j)
            yield i, j


def _kind(side: Side, at: int) -> _Kind:
    """The module above that of a key, with its shape and role."""
    around = side.modules[at]
    return around[-2] if len(around) > 1 else 0, side.shapes[at], side.names[at].role


def _groups(side: Side, positions: Iterable[int]) -> dict[_Kind, set[str]]:
    found: dict[_Kind, set[str]] = {}
    for at in positions:
        found.setdefault(_kind(side, at), set()).add(side.names[at].text)
    return found
