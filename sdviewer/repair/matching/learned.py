"""What accepted pairs teach about those still open: how prefixes are translated, how indices are."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from sdviewer.repair.matching.families import Family, Indices, holes
from sdviewer.repair.matching.names import HOLE
from sdviewer.repair.matching.words import REVERSED

Template = tuple[str, ...]

DEEP = 10
"""Components of a prefix that is learned."""


class Learned:
    """The votes of the pairs accepted so far."""

    def __init__(self) -> None:
        self._pairs: Counter[tuple[Template, Template]] = Counter()
        self._of_s: Counter[Template] = Counter()
        self._of_t: Counter[Template] = Counter()
        self._insides: Counter[tuple[Template, Template]] = Counter()
        self._inside_s: Counter[Template] = Counter()
        self._inside_t: Counter[Template] = Counter()
        self._indices: dict[tuple[Template, Template], dict[int, int | None]] = {}
        self.lessons = 0
        self._seen: set[tuple[Template, Template]] = set()

    def accept(self, source: Template, target: Template) -> None:
        """Let a pair of templates vote, once."""
        if (source, target) in self._seen:
            return
        self._seen.add((source, target))
        self.lessons += 1
        some, others = prefixes(source), prefixes(target)
        self._of_s.update([prefix for prefix, _ in some])
        self._of_t.update([prefix for prefix, _ in others])
        for prefix, count in some:
            for other, count_b in others:
                if count == count_b:
                    self._pairs[prefix, other] += 1
        one, two = inside(source), inside(target)
        self._inside_s[one] += 1
        self._inside_t[two] += 1
        self._insides[one, two] += 1

    def prefix(self, source: Template, target: Template) -> float:
        """How surely some prefix of one was translated into some prefix of the other, times how much of them it is."""
        if not self._seen:
            return 0.0
        best = 0.0
        n_s, n_t = len(source), len(target)
        others = prefixes(target)
        for prefix, count in prefixes(source):
            of_s = self._of_s.get(prefix)
            if not of_s:
                continue
            for other, count_b in others:
                if count == count_b and (both := self._pairs.get((prefix, other))):
                    sure = both * both / (of_s * self._of_t[other])
                    best = max(best, sure * (len(prefix) / n_s + len(other) / n_t) / 2)
        return best

    def inside(self, source: Template, target: Template) -> float:
        """How surely the name inside the block was translated into the other."""
        one, two = inside(source), inside(target)
        both = self._insides.get((one, two))
        return both * both / (self._inside_s[one] * self._inside_t[two]) if both else 0.0

    def accept_indices(self, source: Template, target: Template, one: Indices, two: Indices) -> None:
        """Let a pair that nothing else could be say how its indices are translated."""
        if len(one) != len(two):
            return
        for before, other, i, j in zip(_lists(source), _lists(target), one, two, strict=True):
            known = self._indices.setdefault((before, other), {})
            known[i] = j if known.get(i, j) == j else None

    def translation(self, source: Template, target: Template) -> list[tuple[int, int]] | None:
        """Sign and offset by which each index of the source becomes that of the target, None where one is not known."""
        some, others = _lists(source), _lists(target)
        if len(some) != len(others):
            return None
        found = [self._relation(before, other) for before, other in zip(some, others, strict=True)]
        known = [relation for relation in found if relation is not None]
        return known if len(known) == len(found) else None

    def knows(self, source: Template, target: Template) -> bool:
        """Whether something was learned of how the first index is translated."""
        one, two = _lists(source), _lists(target)
        return bool(one and two and self._relation(one[0], two[0]))

    def _relation(self, before: Template, other: Template) -> tuple[int, int] | None:
        known = self._indices.get((before, other))
        if not known:
            return None
        pairs = [(i, j) for i, j in known.items() if j is not None]
        if len(pairs) != len(known):
            return None
        shifts = {j - i for i, j in pairs}
        if len(shifts) == 1:
            return (1, shifts.pop()) if len(pairs) > 1 or 0 in {j - i for i, j in pairs} else None
        sums = {i + j for i, j in pairs}
        return (-1, sums.pop()) if len(sums) == 1 else None


@lru_cache(1 << 16)
def prefixes(template: Template) -> list[tuple[Template, int]]:
    """The prefixes of a template without its last component, each with how many indices are in it."""
    found, count = [], 0
    for at, part in enumerate(template[:-1][:DEEP]):
        count += part.endswith(HOLE)
        found.append((template[: at + 1], count))
    return found


@lru_cache(1 << 16)
def inside(template: Template) -> Template:
    """What stands behind the last index, without the last component; at most three components."""
    parts = template[:-1]
    last = max(holes(parts), default=-1) + 1
    return parts[max(last, len(parts) - 3) :]


def _lists(template: Template) -> list[Template]:
    """For each index of a template, what stands before it."""
    return [(*template[:at], template[at].removesuffix(HOLE)) for at in holes(template)]


def _turned(source: Family, target: Family) -> list[tuple[int, int]]:
    """The pairs where one numbers a list from the other end, as two codebases are known to."""
    holes_s, holes_t = holes(source.template), holes(target.template)
    if len(holes_s) != len(holes_t):
        return []
    lists = [(source.template[a - 1 : a], target.template[b - 1 : b]) for a, b in zip(holes_s, holes_t, strict=True)]
    which = [at for at, (one, two) in enumerate(lists) if one and two and (one[0], two[0]) in REVERSED]
    if not which:
        return []
    most = [max(indices[at] for indices, _ in source.members) for at in range(len(holes_s))]
    places = dict(target.members)
    found = []
    for indices, position in source.members:
        other = tuple([most[at] - number if at in which else number for at, number in enumerate(indices)])
        if other not in places:
            return []
        found.append((position, places[other]))
    return found


def align(source: Family, target: Family, learned: Learned) -> tuple[list[tuple[int, int]], str]:
    """Pair the members of two families by their indices; and how: one, learned, same, order."""
    if len(source) == len(target) == 1:
        return [(source.members[0][1], target.members[0][1])], "one"
    places = dict(target.members)
    if (turned := _turned(source, target)) and not learned.knows(source.template, target.template):
        return turned, "learned"
    translation = learned.translation(source.template, target.template)
    if translation is not None:
        guesses = [
            tuple([sign * i + offset for i, (sign, offset) in zip(indices, translation, strict=True)])
            for indices, _ in source.members
        ]
        if all(map(places.__contains__, guesses)) and len(set(guesses)) == len(guesses):
            return [(at, places[guess]) for (_, at), guess in zip(source.members, guesses, strict=True)], "learned"
    same = [(at, places[indices]) for indices, at in source.members if indices in places]
    if len(same) == len(source) or (same and len(source) != len(target)):
        return same, "same"
    if len(source) != len(target):
        return [], "none"
    return [(one[1], two[1]) for one, two in zip(sorted(source.members), sorted(target.members), strict=True)], "order"
