"""Learns from one pair that a person made: the rule that it implies, and what else that rule would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sdviewer.core.key_table import KeyTable
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.patterns import compile_rule
from sdviewer.repair.rules.candidates import Candidate, candidates_of
from sdviewer.repair.rules.cells import Atom, Cell, Component, Index, cells_of, numbers_of
from sdviewer.repair.rules.decision_list import literal
from sdviewer.repair.rules.steps import step_of

SHOWN = 5
MOST_TRIED = 16
"""Rules that are tried on all keys."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One rule with what it does to all keys.

    `fixes` are keys that get a place of the target which nothing fills now, in the shape that it wants; `breaks` those
    that are right now and would not be, or would get a place that is taken or of another shape; `others` change and are
    right neither before nor after. The examples are a few of each, before and after.
    """

    step: Mapping[str, Any]
    pattern: str
    result: str
    fixes: int
    breaks: int
    others: int
    fixed: tuple[tuple[str, str], ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def n_keys(self) -> int:
        """The keys that it changes."""
        return self.fixes + self.breaks + self.others


@dataclass(frozen=True, slots=True)
class Lesson:
    """What pairs by hand teach: rules from the narrowest, which means only these keys, to the widest.

    `best` is the place of the one that fixes most and breaks nothing.
    """

    variants: tuple[Variant, ...]
    best: int

    @property
    def rule(self) -> Variant:
        """The rule that is proposed."""
        return self.variants[self.best]

    @property
    def wider(self) -> tuple[Variant, ...]:
        """Rules that mean more keys, the next one first."""
        return self.variants[self.best + 1 :]

    @property
    def narrower(self) -> tuple[Variant, ...]:
        """Rules that mean fewer keys, the next one first."""
        return self.variants[: self.best][::-1]


def learn(source: KeyTable, target: KeyTable, hand: Sequence[tuple[str, str]]) -> Lesson:
    """The rules that pairs made by hand imply; the last pair is the one that was just made.

    Raises:
        UsageError: there is no pair, or its keys are none of the two tables.
    """
    places = {key: place for place, key in enumerate(source.keys)}
    wanted = {key: place for place, key in enumerate(target.keys)}
    for old, new in hand:
        if old not in places or new not in wanted:
            raise UsageError("a pair by hand needs a key of the source and one of the target")
    if not hand:
        raise UsageError("there is no pair to learn from")
    trial = _Trial(source, target, wanted)
    old, new = hand[-1]
    tried: dict[tuple[int, ...], tuple[Candidate, Variant]] = {}
    for candidate in _candidates(hand):
        if candidate.is_literal and (candidate.pattern, candidate.result) != literal(old, new)[:2]:
            continue
        found = trial.of(candidate, hand)
        if found is None:
            continue
        changed, variant = found
        known = tried.get(changed)
        if known is None or candidate.awkwardness < known[0].awkwardness:
            tried[changed] = candidate, variant
    variants = sorted([variant for _, variant in tried.values()], key=lambda one: (one.n_keys, one.breaks))
    best = min(range(len(variants)), key=lambda at: (variants[at].breaks > 0, -variants[at].fixes, variants[at].others))
    return Lesson(tuple(variants), best)


def _candidates(hand: Sequence[tuple[str, str]]) -> list[Candidate]:
    """Rules that the last pair implies, alone and together with those before it."""
    old, new = hand[-1]
    last = len(hand) - 1
    keys = [one for one, _ in hand]
    found = [literal(old, new)]
    cells = [cell for cell in cells_of(keys, {place: to for place, (_, to) in enumerate(hand)}) if last in cell.places]
    for cell in cells:
        for wide in (_abstracted(cell, old, new, _equal), _abstracted(cell, old, new, _in_order), cell):
            found += _spread(list(candidates_of(wide)))
    return list(dict.fromkeys(found))[: 2 * MOST_TRIED]


def _spread(candidates: list[Candidate]) -> Iterator[Candidate]:
    """Some of many candidates, from the narrowest to the widest."""
    step = max(1, len(candidates) // MOST_TRIED)
    yield from candidates[::step]
    if candidates:
        yield candidates[-1]


_Numbers: TypeAlias = tuple[int, ...]


def _abstracted(
    cell: Cell, old: str, new: str, pairing: Callable[[_Numbers, _Numbers, Sequence[int]], Mapping[int, Index]]
) -> Cell:
    """The cell with numbers of both sides taken for indexes, although no second pair shows that they are."""
    taken = {atom.slots[0] for component in cell.old for atom in component if isinstance(atom, Index)}
    old_numbers = numbers_of(old)
    news = pairing(old_numbers, numbers_of(new), [slot for slot in range(len(old_numbers)) if slot not in taken])
    olds = {index.slots[0]: Index(index.slots) for index in news.values()}
    return Cell(_with(cell.old, olds), _with(cell.new, news), cell.places)


def _equal(old: _Numbers, new: _Numbers, free: Sequence[int]) -> dict[int, Index]:
    """Each new number is an old one that is equal to it."""
    left = list(free)
    found: dict[int, Index] = {}
    for at, number in enumerate(new):
        same = next((slot for slot in left if old[slot] == number), None)
        if same is not None:
            left.remove(same)
            found[at] = Index((same,))
    return found


def _in_order(old: _Numbers, new: _Numbers, free: Sequence[int]) -> dict[int, Index]:
    """The numbers go together in their order, where they differ by one at most: one side counts from 1."""
    found: dict[int, Index] = {}
    left = list(free)
    for at, number in enumerate(new):
        near = next((slot for slot in left if abs(old[slot] - number) <= 1), None)
        if near is not None:
            left = [slot for slot in left if slot > near]
            shift = number - old[near]
            found[at] = Index((near,), f"{{}}{shift:+d}" if shift else "{}")
    return found


def _with(components: Sequence[Component], indexes: Mapping[int, Index]) -> tuple[Component, ...]:
    """Components with indexes in the place of some numbers, counted over the whole key."""
    count = 0
    result: list[Component] = []
    for component in components:
        atoms: list[Atom] = []
        for atom in component:
            if isinstance(atom, Index):
                count += 1
                atoms.append(atom)
                continue
            text = atom
            for number in numbers_of(atom):
                before, _, text = text.partition(str(number))
                atoms += [before] if before else []
                atoms.append(indexes.get(count, str(number)))
                count += 1
            atoms += [text] if text else []
        result.append(_joined(atoms))
    return tuple(result)


def _joined(atoms: Sequence[Atom]) -> Component:
    """Atoms with neighbouring texts as one."""
    joined: list[Atom] = []
    for atom in atoms:
        if joined and isinstance(atom, str) and isinstance(joined[-1], str):
            joined[-1] += atom
        else:
            joined.append(atom)
    return tuple(joined)


class _Trial:
    """Tries rules on all keys of a source."""

    def __init__(self, source: KeyTable, target: KeyTable, wanted: Mapping[str, int]) -> None:
        self.source = source
        self.target = target
        self.wanted = wanted
        self.there = set(source.keys)

    def of(self, candidate: Candidate, hand: Sequence[tuple[str, str]]) -> tuple[tuple[int, ...], Variant] | None:
        """The places that a rule changes and what comes of it; None where it contradicts a pair by hand."""
        rename = compile_rule(candidate.pattern, candidate.result).renamer(self.source.keys)
        try:
            if rename(hand[-1][0]) != hand[-1][1] or any(rename(old) not in (None, new) for old, new in hand):
                return None
            renamed = [(place, key, rename(key)) for place, key in enumerate(self.source.keys)]
        except RepairError:
            return None
        changed = [(place, key, new) for place, key, new in renamed if new is not None and new != key]
        left = self.there.difference([key for _, key, _ in changed])
        fixed: list[tuple[str, str]] = []
        broken: list[tuple[str, str]] = []
        others = 0
        for place, key, new in changed:
            if self._is_right(place, key) or new in left:
                broken.append((key, new))
            elif self._is_right(place, new):
                fixed.append((key, new))
            elif new in self.wanted:
                broken.append((key, new))
            else:
                others += 1
            left.add(new)
        step = step_of([candidate], self.source.keys)
        places = tuple([place for place, _, _ in changed])
        pattern, result = candidate.pattern, candidate.result
        return places, Variant(
            step, pattern, result, len(fixed), len(broken), others, tuple(fixed[:SHOWN]), tuple(broken[:SHOWN])
        )

    def _is_right(self, place: int, key: str) -> bool:
        """Whether the target wants this key in the shape that the tensor has, as far as both are known."""
        at = self.wanted.get(key)
        if at is None:
            return False
        ours, theirs = self.source.shapes[place], self.target.shapes[at]
        return ours is None or theirs is None or tuple(ours) == tuple(theirs)
