"""How alike two templates are by their words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sdviewer.repair.matching.names import HOLE, words_of
from sdviewer.repair.matching.words import (
    ATTENTION,
    COMPONENT_ORDINALS,
    EXCLUSIVE,
    ORDINALS,
    PATH_ORDINALS,
    ROLES,
    SYNONYMS,
)

_GROUPS: dict[str, frozenset[int]] = {
    word: frozenset([at for at, group in enumerate(SYNONYMS) if word in group]) for group in SYNONYMS for word in group
}
_NONE: frozenset[int] = frozenset()

SYNONYM = 0.85
ABBREVIATED = 0.6
NUMBER = 0.15
"""What a number that is part of the name counts, against a word."""

FADING = 0.72
"""Each component further from the end counts this much less."""

NEAR = FADING**2
"""What a word counts at least that stands in the last three components with words."""

Template = tuple[str, ...]


@lru_cache(1 << 16)
def weighted_words(template: Template) -> tuple[tuple[str, float], ...]:
    """The words of a template, the last first, with what they count; the role is no word of it."""
    parts = template[:-1] if template[-1] in ROLES else template
    if len(parts) > 2 and parts[-2] == "parametrizations":
        parts = parts[:-2]
    found: list[tuple[str, float]] = []
    weight = 1.0
    for part in reversed(parts):
        words = (COMPONENT_ORDINALS[part][0],) if part in COMPONENT_ORDINALS else words_of(part.removesuffix(HOLE))
        for word in words:
            found.append((word, weight * NUMBER if word.isdecimal() else weight))
        if words:
            weight = max(weight * FADING, 0.15)
    return tuple(found[:24])


@lru_cache(1 << 16)
def alike(word: str, other: str) -> float:
    """How alike two words are, 0 to 1."""
    if word == other:
        return 1.0
    if not _GROUPS.get(word, _NONE).isdisjoint(_GROUPS.get(other, _NONE)):
        return SYNONYM
    short, long = sorted((word, other), key=len)
    if len(short) >= 3 and long.startswith(short):
        return ABBREVIATED + 0.25 * (len(long) - len(short) < 3)
    return 0.0


@lru_cache(1 << 18)
def name_similarity(template: Template, other: Template) -> float:
    """How much of the words of two templates is said by both, 0 to 1."""
    some, others = weighted_words(template), weighted_words(other)
    total = sum([weight for _, weight in some]) + sum([weight for _, weight in others])
    if not total:
        return 1.0 if template == other else 0.5
    free = list(others)
    said = 0.0
    for word, weight in some:
        best, place = 0.0, -1
        for at, (against, weight_b) in enumerate(free):
            likeness = alike(word, against)
            if likeness:
                worth = likeness * (weight + weight_b) / (1.0 + abs(weight - weight_b))
                if worth > best:
                    best, place = worth, at
        if place >= 0:
            said += best
            free.pop(place)
    return min(1.0, said / total)


@lru_cache(1 << 16)
def said_exclusively(template: Template) -> tuple[frozenset[str], ...]:
    """What a template says of each table of words that exclude each other."""
    words = weighted_words(template)
    near = frozenset([ATTENTION[word] for word, weight in words if weight >= NEAR and word in ATTENTION])
    return near, *[frozenset([table[word] for word, _ in words if word in table]) for table in EXCLUSIVE]


@lru_cache(1 << 18)
def excluded(template: Template, other: Template) -> int:
    """In how many ways the words of two templates exclude each other."""
    return sum(
        [
            bool(a) and bool(b) and a.isdisjoint(b)
            for a, b in zip(said_exclusively(template), said_exclusively(other), strict=True)
        ]
    )


@lru_cache(1 << 16)
def ordinal(template: Template) -> tuple[Template, float] | None:
    """Where in its block a template says that it stands: what it shares with its siblings, and the number or word.

    `blocks.{}.norm1` shares `norm` with `blocks.{}.norm2`, `layer.0.convolution` shares `layer.#.convolution`.
    """
    parts = template[:-1] if template[-1] in ROLES else template
    for ending, place in PATH_ORDINALS:
        if parts[-len(ending) :] == ending:
            return (*parts[: -len(ending)], "norm"), place
    for at in range(len(parts) - 1, max(len(parts) - 4, -1), -1):
        if parts[at].endswith(HOLE):
            break
        if found := _said_of_place(parts[at]):
            return (*parts[:at], found[0], *parts[at + 1 :]), found[1]
    return None


def _said_of_place(part: str) -> tuple[str, float] | None:
    if part in COMPONENT_ORDINALS:
        return COMPONENT_ORDINALS[part]
    words = words_of(part)
    for place in range(len(words) - 1, -1, -1):
        if words[place].isdecimal() and len(words[place]) < 4:
            return _kind([*words[:place], "#", *words[place + 1 :]]), float(words[place])
    said = next((ORDINALS[word] for word in words if word in ORDINALS), None)
    return None if said is None else (_kind([word for word in words if word not in ORDINALS]), said)


def _kind(words: Sequence[str]) -> str:
    """Norms of a block are siblings however they are numbered or named."""
    return "norm" if "norm" in words else "_".join(words)


def ranks(templates: Sequence[Template]) -> list[tuple[int, int] | None]:
    """The rank of each among its siblings and how many they are, None where it has none or does not say."""
    said = [ordinal(template) for template in templates]
    groups: dict[Template, set[float]] = {}
    for one in said:
        if one:
            groups.setdefault(one[0], set()).add(one[1])
    orders = {shared: sorted(values) for shared, values in groups.items() if len(values) > 1}
    return [(orders[one[0]].index(one[1]), len(orders[one[0]])) if one and one[0] in orders else None for one in said]
