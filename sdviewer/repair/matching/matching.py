"""Find which tensors of a source stand for which of a target, by certainty: what nothing else can be meant by first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching import weights
from sdviewer.repair.matching.classes import take_best, take_only_ones
from sdviewer.repair.matching.contents import Contents, View, confirm_parts, take_equal_contents
from sdviewer.repair.matching.contexts import contexts
from sdviewer.repair.matching.copies import choices
from sdviewer.repair.matching.equal_keys import take_equal_keys
from sdviewer.repair.matching.families import Side
from sdviewer.repair.matching.folds import folding
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.matching.fusions import take_fused, take_stacked
from sdviewer.repair.matching.leftovers import dropped, take_last_ones, take_ties
from sdviewer.repair.matching.meanings import doubt_matrices, settle_rotary, settle_squares
from sdviewer.repair.matching.orientation import as_turned, contents_turned, turned, turned_back
from sdviewer.repair.matching.other_shapes import take_other_shapes
from sdviewer.repair.matching.reduced import Reduced, there
from sdviewer.repair.matching.state import State


def match(
    source: KeyTable,
    target: KeyTable,
    *,
    hand: Collection[tuple[int, int]] = (),
    broken: Collection[tuple[int, int]] = (),
    contents: Contents | None = None,
) -> Matching:
    """Match two tables of keys.

    `hand` are pairs of positions that a person made, `broken` those that one refused. `contents`, where both sides have
    values, is asked for what names and shapes leave open: equal values prove a pair.
    """
    asked = _Asked(source, target, hand, broken, contents)
    of_source = choices(source, target, by_hand=[i for i, _ in hand], contents=contents)
    of_target = choices(target, source, by_hand=[j for _, j in hand])
    if not of_source and not of_target:
        return _folded(asked)
    ours, theirs = Reduced.of(source, of_source), Reduced.of(target, of_target)
    return there(_folded(_without_copies(asked, ours, theirs)), ours, theirs)


def _without_copies(asked: _Asked, ours: Reduced, theirs: Reduced) -> _Asked:
    """What is asked, of the tables without the copies that are put aside."""
    of_s, of_t = ({at: number for number, at in enumerate(side.places)} for side in (ours, theirs))

    def here(pairs: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(of_s[i], of_t[j]) for i, j in pairs if i in of_s and j in of_t]

    def told(of_source: Sequence[View], of_target: Sequence[View]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        assert asked.contents is not None
        return asked.contents(ours.views(of_source), theirs.views(of_target))

    contents = None if asked.contents is None else told
    return _Asked(ours.table, theirs.table, here(asked.hand), here(asked.broken), contents)


def _folded(asked: _Asked) -> Matching:
    """Match, with weights that the source has in several tensors in one where the target has them so."""
    source, target, hand, broken, contents = asked
    folded = folding(source, target)
    if folded is None:
        return _as_they_lie(asked)
    of_folded = _Asked(
        folded.table,
        target,
        folded.here(hand),
        folded.here(broken),
        None if contents is None else folded.contents(contents),
    )
    return _folded_likely(folded.there(_as_they_lie(of_folded)))


def _folded_likely(matching: Matching) -> Matching:
    """What is made of several tensors is no more than likely, as their fold is."""
    made = {at for fold in matching.folds for parts in fold.parts for at in parts}
    found = [
        replace(one, evidence="likely") if one.evidence == "proved" and made.intersection(one.sources) else one
        for one in matching.found
    ]
    return replace(matching, found=tuple(found))


class _Asked(NamedTuple):
    """What `match` is asked."""

    source: KeyTable
    target: KeyTable
    hand: Collection[tuple[int, int]]
    broken: Collection[tuple[int, int]]
    contents: Contents | None


def _as_they_lie(asked: _Asked) -> Matching:
    """Match, with the matrices of the source turned round where those of the target lie so."""
    these = turned(asked.source, asked.target)
    if not these:
        return doubt_matrices(_matched(asked), asked.source)
    contents = None if asked.contents is None else contents_turned(asked.contents, these)
    found = _matched(asked._replace(source=as_turned(asked.source, these), contents=contents))
    return doubt_matrices(turned_back(found, asked.source, these), asked.source)


def _matched(asked: _Asked) -> Matching:
    """Match tensors that stand for one another whole, or cut and joined."""
    state = State(asked.source, asked.target, asked.broken)
    contents = asked.contents
    all_s, all_t = list(state.free_s), list(state.free_t)
    for i, j in asked.hand:
        state.take([i], [j], evidence="proved", by="hand", reasons=("Paired by hand",))
        state.learned.accept(state.source.templates[i], state.target.templates[j])
        state.by_hand.add((state.source.templates[i], state.target.templates[j]))
    take_equal_keys(state)
    if contents is not None:
        take_equal_contents(state, contents)
    if state.free_s and state.free_t:
        exact = contexts(state.source, state.target, (all_s, all_t), exact=True)
        loose = contexts(state.source, state.target, (all_s, all_t), exact=False)
        _match_shapes(state, exact, loose)
        _match_names(state)
    if contents is not None:
        confirm_parts(state, contents)
    settle_squares(state)
    settle_rotary(state)
    take_ties(state)
    take_last_ones(state)
    take_other_shapes(state)
    return Matching(tuple(state.found), dropped(state))


_Contexts = tuple[Sequence[int], Sequence[int]]
_Keys = tuple[Sequence[Hashable], Sequence[Hashable]]


def _match_shapes(state: State, exact: _Contexts, loose: _Contexts) -> None:
    """By shape and surroundings, what nothing else can be first."""
    shaped = _kinds(state, _shape)
    with_exact, with_loose = _within(shaped, exact), _within(shaped, loose)
    take_only_ones(state, with_exact, "in its module")
    take_fused(state)
    take_stacked(state)
    take_only_ones(state, with_loose, "in its module")
    take_best(state, with_exact, (loose,), least=0.0)
    take_best(state, with_loose, (exact,), least=0.0)
    take_fused(state)
    take_stacked(state)
    take_best(state, shaped, (exact, loose), least=weights.LEAST)
    take_best(state, _kinds(state, _any_order), (loose,), least=weights.LEAST)


def _match_names(state: State) -> None:
    """By names alone, where the shapes of one side are not known."""
    if any(state.target.shapes[j] is not None for j in state.free_t) and any(
        state.source.shapes[i] is not None for i in state.free_s
    ):
        return
    take_fused(state)
    take_stacked(state)
    take_best(state, _kinds(state, lambda side, at: side.names[at].role), (), least=weights.LEAST_NAMES_ONLY)


def _kinds(state: State, kind: Callable[[Side, int], Hashable]) -> _Keys:
    """The kind of what is free, None for the rest."""
    free_s, free_t = state.free_s, state.free_t
    return (
        [kind(state.source, at) if at in free_s else None for at in range(len(state.source.names))],
        [kind(state.target, at) if at in free_t else None for at in range(len(state.target.names))],
    )


def _within(kinds: _Keys, around: _Contexts) -> _Keys:
    """The same kinds, told apart by their surroundings."""
    (of_s, of_t), (around_s, around_t) = kinds, around
    return (
        [kind and (kind, context) for kind, context in zip(of_s, around_s, strict=True)],
        [kind and (kind, context) for kind, context in zip(of_t, around_t, strict=True)],
    )


def _shape(side: Side, at: int) -> Hashable:
    shape = side.shapes[at]
    return None if shape is None else (shape, side.names[at].role)


def _any_order(side: Side, at: int) -> Hashable:
    shape = side.shapes[at]
    if shape is None:
        return None
    return tuple(sorted([size for size in shape if size != 1])), side.names[at].role
