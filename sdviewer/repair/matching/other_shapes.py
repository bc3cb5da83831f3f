"""What is left over on both sides and named alike, though it has another shape: a head, positions, a stem.

Nothing proves that one is meant to become the other, so all of it is ambiguous; what is done about the shape is a step
of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.core import text
from sdviewer.repair.matching.assignment import assign
from sdviewer.repair.matching.families import Family, Side, families
from sdviewer.repair.matching.learned import align
from sdviewer.repair.matching.leftovers import why_computed_again
from sdviewer.repair.matching.similarity import excluded, name_similarity
from sdviewer.repair.matching.state import State

MOST = 2_000
"""Pairs of families that are compared: of a fit that is meant a few are left."""

LEAST = 0.5
"""What names, and what was learned of them, have to say."""

MARGIN = 0.1
"""How much better than the next possibility it has to be."""


def take_other_shapes(state: State) -> None:
    """Pair what is named alike and differs in some sizes."""
    some = [one for one in families(state.source, list(state.free_s)) if _is_kept(one, state.source)]
    others = [one for one in families(state.target, list(state.free_t)) if _is_kept(one, state.target)]
    if not some or not others or len(some) * len(others) > MOST:
        return
    scores = [[_score(state, source, target) for target in others] for source in some]
    for i, j, margin in assign(scores):
        if scores[i][j] >= LEAST and margin >= MARGIN:
            _take(state, some[i], others[j])


def _is_kept(family: Family, side: Side) -> bool:
    """Whether shapes are known, and it is nothing that newer code computes anew."""
    shapes = [side.shapes[at] for _, at in family.members]
    leaf = family.template[-1]
    return not any(shape is None or why_computed_again(leaf, shape) for shape in shapes)


def _score(state: State, source: Family, target: Family) -> float:
    """How alike the names are; 0 for what cannot be the same."""
    i, j = source.members[0][1], target.members[0][1]
    shape, other = state.source.shapes[i] or (), state.target.shapes[j] or ()
    one, two = source.template, target.template
    if len(source) != len(target) or state.source.names[i].role != state.target.names[j].role:
        return 0.0
    if not _may_become(shape, other) or excluded(one, two):
        return 0.0
    return name_similarity(one, two) + state.learned.prefix(one, two)


def _may_become(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes differ, and no more than those of one layer in two models do."""
    if len(shape) != len(other) or not shape or shape == other:
        return False
    return len(shape) == 1 or any(size == wanted and size > 1 for size, wanted in zip(shape, other, strict=True))


def _take(state: State, source: Family, target: Family) -> None:
    pairs, _ = align(source, target, state.learned)
    for i, j in pairs:
        if state.can(i, j):
            ours, theirs = text.shape(state.source.shapes[i] or ()), text.shape(state.target.shapes[j] or ())
            told = ("The words of both keys are the same or mean the same", f"Its shape is {ours}, and {theirs} there")
            state.take([i], [j], evidence="ambiguous", by="name", reasons=told)
