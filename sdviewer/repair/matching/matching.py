"""Find which tensors of a source stand for which of a target, by certainty: what nothing else can be meant by first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching import weights
from sdviewer.repair.matching.classes import take_best, take_only_ones
from sdviewer.repair.matching.contexts import contexts
from sdviewer.repair.matching.equal_keys import take_equal_keys
from sdviewer.repair.matching.families import Side
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.matching.fusions import take_fused, take_stacked
from sdviewer.repair.matching.leftovers import dropped, take_ties
from sdviewer.repair.matching.state import State


def match(
    source: KeyTable,
    target: KeyTable,
    *,
    hand: Collection[tuple[int, int]] = (),
    broken: Collection[tuple[int, int]] = (),
    contents: Callable[[Sequence[int], Sequence[int]], tuple[Sequence[Hashable], Sequence[Hashable]]] | None = None,
) -> Matching:
    """Match two tables of keys.

    `hand` are pairs of positions that a person made, `broken` those that one refused.
    """
    state = State(source, target, broken)
    for i, j in hand:
        state.take([i], [j], evidence="proved", by="hand", reasons=("Paired by hand",))
        state.learned.accept(state.source.templates[i], state.target.templates[j])
        state.by_hand.add((state.source.templates[i], state.target.templates[j]))
    all_s, all_t = list(state.free_s), list(state.free_t)
    take_equal_keys(state)
    if state.free_s and state.free_t:
        exact = contexts(state.source, state.target, (all_s, all_t), exact=True)
        loose = contexts(state.source, state.target, (all_s, all_t), exact=False)
        _match_shapes(state, exact, loose)
        _match_names(state)
    take_ties(state)
    return Matching(tuple(state.found), dropped(state))


_Contexts = tuple[Sequence[int], Sequence[int]]


def _match_shapes(state: State, exact: _Contexts, loose: _Contexts) -> None:
    shaped = _kinds(state.source, _shape), _kinds(state.target, _shape)
    with_exact, with_loose = (
        tuple(
            [
                [kind and (kind, one) for kind, one in zip(*pair, strict=True)]
                for pair in zip(shaped, around, strict=True)
            ]
        )
        for around in (exact, loose)
    )
    take_only_ones(state, *with_exact, "in its module")
    take_fused(state)
    take_stacked(state)
    take_only_ones(state, *with_loose, "in its module")
    take_best(state, *with_exact, (loose,), least=0.0)
    take_best(state, *with_loose, (exact,), least=0.0)
    take_fused(state)
    take_stacked(state)
    take_best(state, *shaped, (exact, loose), least=weights.LEAST)
    moved = _kinds(state.source, _any_order), _kinds(state.target, _any_order)
    take_best(state, *moved, (loose,), least=weights.LEAST)


def _match_names(state: State) -> None:
    unknown = (
        all(state.target.shapes[j] is None for j in state.free_t),
        all(state.source.shapes[i] is None for i in state.free_s),
    )
    if not any(unknown):
        return
    take_fused(state)
    take_best(
        state, [n.role for n in state.source.names], [n.role for n in state.target.names], (),
        least=weights.LEAST_NAMES_ONLY,
    )  # fmt: skip


def _kinds(side: Side, kind: Callable[[Side, int], Hashable]) -> list[Hashable]:
    return [kind(side, at) for at in range(len(side.names))]


def _shape(side: Side, at: int) -> Hashable:
    shape = side.shapes[at]
    return None if shape is None else (shape, side.names[at].role)


def _any_order(side: Side, at: int) -> Hashable:
    shape = side.shapes[at]
    if shape is None:
        return None
    return tuple(sorted([size for size in shape if size != 1])), side.names[at].role
