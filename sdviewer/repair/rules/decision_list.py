"""Chooses few rules that together rename all keys as wished, each key by the first rule that matches it.

The list is made from its end: a wide rule that is right for many keys first, then the exceptions that go before it.
Rules are tried out on a few keys of each cell; what they get wrong on all keys is tried in the next round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from sdviewer.errors import RepairError
from sdviewer.repair.operations import Rename
from sdviewer.repair.patterns import compile_rule, literal_rule
from sdviewer.repair.rules.candidates import REST, Candidate, candidates_of
from sdviewer.repair.rules.cells import Cell, cells_of, shape_of

ROUNDS = 6
MOST_SAMPLES = 12_000
"""Keys on which rules are tried out."""
MOST_CELLS = 1500
"""Above that many ways to rename there is no pattern that a person would call one."""


@dataclass(slots=True)
class Wishes:
    """What is wished of keys: `new` by place; the others stay, but for those in `free`.

    These may become anything but one of `taken`, and of these what is `meant` for them.
    """

    keys: Sequence[str]
    new: Mapping[int, str]
    free: frozenset[int] = frozenset()
    taken: frozenset[str] = frozenset()
    meant: Mapping[int, str] = field(default_factory=dict)

    def granted(self, place: int, result: str) -> bool:
        """Whether a key may become this."""
        if place in self.free:
            return result in (self.keys[place], self.meant.get(place)) or result not in self.taken
        return result == self.new.get(place, self.keys[place])


@dataclass(slots=True)
class Rules:
    """Rules in the order in which they are tried, and all keys as they leave them.

    `unsaid` are the places of keys that do not become what is wished.
    """

    rules: list[Candidate] = field(default_factory=list)
    new_keys: list[str] = field(default_factory=list)
    unsaid: list[int] = field(default_factory=list)


def find_rules(wishes: Wishes) -> Rules:
    """Few rules that rename as wished, with what they could not say."""
    changes = {place: new for place, new in wishes.new.items() if new != wishes.keys[place]}
    if not changes:
        return Rules(new_keys=list(wishes.keys))
    cells = cells_of(wishes.keys, changes)
    if len(cells) > MOST_CELLS:
        cells = sorted(cells, key=lambda cell: -len(cell.places))[:MOST_CELLS]
        cells = [cell for cell in cells if len(cell.places) > 1]
    samples = _samples(cells, wishes)
    candidates = list(dict.fromkeys([one for cell in cells for one in candidates_of(cell)]))
    rules: list[Candidate] = []
    best = Rules(new_keys=list(wishes.keys), unsaid=list(changes))
    for _ in range(ROUNDS if candidates else 0):
        rules = _Table(samples, candidates, wishes).chosen()
        found = executed(rules, wishes)
        if len(found.unsaid) < len(best.unsaid):
            best = found
        if not found.unsaid:
            break
        more = set(_one_of_each(found.unsaid, wishes.keys)).difference(samples)
        if not more or len(samples) + len(more) > MOST_SAMPLES:
            break
        samples = sorted({*samples, *more})
    return best


def executed(rules: Sequence[Candidate], wishes: Wishes) -> Rules:
    """What a list of rules does to all keys."""
    if not rules:
        changed = wishes.keys
    else:
        changes = Rename(rules=tuple([(rule.pattern, rule.result) for rule in rules])).plan(wishes.keys)
        changed = wishes.keys if changes.refusal else [new or "" for new in changes.new_keys]
    unsaid = [place for place, new in enumerate(changed) if not wishes.granted(place, new)]
    return Rules(list(rules), list(changed), unsaid)


def literal(old: str, new: str) -> Candidate:
    """The rule that renames one key, whatever it holds."""
    return Candidate(*literal_rule(old, new))


def _samples(cells: Iterable[Cell], wishes: Wishes) -> list[int]:
    """Some places of each cell, and of each kind of key that stays."""
    found: set[int] = set()
    for cell in cells:
        found |= {cell.places[0], cell.places[len(cell.places) // 2], cell.places[-1]}
    wished = {place for cell in cells for place in cell.places}
    others = [place for place in range(len(wishes.keys)) if place not in wished]
    kinds: dict[str, list[int]] = {}
    for place in others:
        kinds.setdefault(shape_of(wishes.keys[place]), []).append(place)
    if len(kinds) > MOST_CELLS:
        return sorted(found)
    for places in kinds.values():
        found |= {places[0], places[-1]}
    return sorted(found)


def _one_of_each(places: Iterable[int], keys: Sequence[str]) -> list[int]:
    kinds: dict[str, int] = {}
    for place in places:
        kinds.setdefault(shape_of(keys[place]), place)
    return list(kinds.values())


class _Table:
    """What each candidate does to each sample, as bits: those it matches, and those that it renames as wished."""

    def __init__(self, samples: Sequence[int], candidates: Iterable[Candidate], wishes: Wishes) -> None:
        self.samples = samples
        self.wishes = wishes
        self.all = (1 << len(samples)) - 1
        self.right_before = self._bits([i for i, p in enumerate(samples) if wishes.granted(p, wishes.keys[p])])
        self.holding: dict[str, int] = {}
        for number, place in enumerate(samples):
            for component in set(wishes.keys[place].split(".")):
                self.holding[component] = self.holding.get(component, 0) | (1 << number)
        wished = self._bits([i for i, p in enumerate(samples) if p in wishes.new])
        self.known: dict[tuple[int, int], Candidate] = {}
        for candidate in candidates:
            touched, right = self._tried(candidate)
            if candidate.pattern == REST and touched != right:
                # One for all keys but those of the other rules is a trick, and no rule of its own.
                continue
            if right & wished & ~self.right_before:
                other = self.known.get((touched, right))
                if other is None or candidate.awkwardness < other.awkwardness:
                    self.known[touched, right] = candidate

    @staticmethod
    def _bits(numbers: Iterable[int]) -> int:
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return bits

    def _tried(self, candidate: Candidate) -> tuple[int, int]:
        rule = compile_rule(candidate.pattern, candidate.result)
        possible = self.all
        for component in rule.pattern.components:
            possible &= self.holding.get(component, 0)
        rename = rule.renamer(())
        touched = right = 0
        while possible:
            bit = possible & -possible
            possible ^= bit
            place = self.samples[bit.bit_length() - 1]
            try:
                new = rename(self.wishes.keys[place])
            except RepairError:
                touched |= bit
                continue
            if new is not None:
                touched |= bit
                if self.wishes.granted(place, new):
                    right |= bit
        return touched, right

    def chosen(self) -> list[Candidate]:
        """The rules, the exceptions before what they are exceptions of."""
        rows = [(touched, right, candidate) for (touched, right), candidate in self.known.items()]
        list_of: list[_Row] = []
        state = self.right_before
        scores = [_score(row, state) for row in rows]
        waiting = [(score, at) for at, score in enumerate(scores) if score is not None]
        heapify(waiting)
        while waiting:
            score, best = heappop(waiting)
            if score != scores[best]:
                continue  # (it was scored anew)
            touched, right, _ = rows[best]
            list_of.append(rows[best])
            state = (state & ~touched) | right
            for at, row in enumerate(rows):
                if row[0] & touched:
                    before, scores[at] = scores[at], _score(row, state)
                    after = scores[at]
                    if after is not None and after != before:
                        heappush(waiting, (after, at))
        return [row[2] for row in self._in_order(self._pruned(list_of[::-1]))]

    def _state(self, rows: Sequence[_Row]) -> int:
        state = self.right_before
        for touched, right, _ in reversed(rows):
            state = (state & ~touched) | right
        return state

    def _pruned(self, rows: list[_Row]) -> list[_Row]:
        """Without the rules that the others make superfluous."""
        whole = self._state(rows).bit_count()
        at = 0
        while at < len(rows):
            without = rows[:at] + rows[at + 1 :]
            if self._state(without).bit_count() >= whole:
                rows = without
            else:
                at += 1
        return rows

    def _in_order(self, rows: Sequence[_Row]) -> list[_Row]:
        """In the order of the keys, as far as exceptions stay before what they are exceptions of."""
        behind = [
            [later for later in range(at + 1, len(rows)) if rows[later][0] & row[0]] for at, row in enumerate(rows)
        ]
        ahead = Counter([later for some in behind for later in some])
        free = [(row[0] & -row[0], at) for at, row in enumerate(rows) if not ahead[at]]
        heapify(free)
        result = []
        while free:
            _, first = heappop(free)
            result.append(rows[first])
            for later in behind[first]:
                ahead[later] -= 1
                if not ahead[later]:
                    heappush(free, (rows[later][0] & -rows[later][0], later))
        return result


_Row = tuple[int, int, Candidate]
"""A rule with the samples that it touches and those that it renames as wished, as bits."""

_Score = tuple[int, int, tuple[int, int, int, int]]


def _score(row: _Row, state: int) -> _Score | None:
    """Smaller for a better rule: what it puts right less what it spoils, then what it gets wrong, then how it reads.

    None for one that puts nothing right. `state` are the samples that are right before it, as bits.
    """
    touched, right, candidate = row
    wrong = touched & ~right
    gain = (right & ~state).bit_count() - (wrong & state).bit_count()
    return (-gain, wrong.bit_count(), candidate.awkwardness) if gain > 0 else None
