"""Keys that are the same on both sides, where nothing speaks for a trap."""

from __future__ import annotations

from collections.abc import Iterable

from sdviewer.repair.matching.families import Shape, Side
from sdviewer.repair.matching.state import State, relation_of

MOST = 0.7
"""Share of the smaller side that has its key on the other, from which on equal keys are taken also where transposed."""


def take_equal_keys(state: State) -> None:
    """Pair equal keys, also those that are equal without what wrappers put in.

    An equal key is a trap where the modules around it moved: `layers.0` became `proj_in` and `layers.1` `layers.0`, or
    all numbers were shifted by one. So it counts only if all tensors of its shape in the module above have their keys on
    the other side too, and if those of its family do that have no key on the other side, on one side at most.
    """
    source, target = state.source, state.target
    pairs = list(_equal(state, whole=True))
    taken_s, taken_t = {i for i, _ in pairs}, {j for _, j in pairs}
    pairs += [(i, j) for i, j in _equal(state, whole=False) if i not in taken_s and j not in taken_t]
    most = len(pairs) >= MOST * min(len(state.free_s), len(state.free_t))
    groups_s, groups_t = _groups(source, state.free_s), _groups(target, state.free_t)
    moved = _families(source, state.free_s, {i for i, _ in pairs}) & _families(
        target, state.free_t, {j for _, j in pairs}
    )
    for i, j in sorted(pairs):
        shape, other = source.shapes[i], target.shapes[j]
        found = relation_of(shape, other)
        if found is None or not state.can(i, j) or (source.templates[i], shape) in moved:
            continue
        relation, fields = found
        kind = _group(source, i)
        proved = shape == other and groups_s[kind] == groups_t.get(_group(target, j))
        if not proved and not (most and _fits(groups_s[kind], groups_t.get(_group(target, j)), shape, other)):
            continue
        same = source.table.keys[i] == target.table.keys[j]
        reasons = ["Same key" if same else "Same key without what a wrapper put in"]
        if relation != "rename":
            reasons.append("Its shape is that of the other with the axes in another order")
        evidence = "proved" if proved or shape is None or other is None else "likely"
        state.take(
            [i], [j], relation, fields, evidence=evidence, by="key" if same else "prefix", reasons=tuple(reasons)
        )
        state.learned.accept(source.templates[i], target.templates[j])


def _families(side: Side, free: Iterable[int], paired: set[int]) -> set[tuple[tuple[str, ...], Shape]]:
    """The families, by shape, with some key that the other side lacks."""
    return {(side.templates[at], side.shapes[at]) for at in free if at not in paired}


def _fits(some: set[str], others: set[str] | None, shape: Shape, other: Shape) -> bool:
    """Whether nothing moved around a key of another shape, or one whose module has gained or lost keys only."""
    return shape != other or others is None or some <= others or others <= some


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


_Kind = tuple[tuple[str, ...], Shape, str]


def _group(side: Side, at: int) -> _Kind:
    name = side.names[at]
    return name.parts[:-2], side.shapes[at], name.role


def _groups(side: Side, positions: Iterable[int]) -> dict[_Kind, set[str]]:
    found: dict[_Kind, set[str]] = {}
    for at in positions:
        found.setdefault(_group(side, at), set()).add(side.names[at].text)
    return found
