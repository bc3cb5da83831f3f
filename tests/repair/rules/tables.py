"""Key tables and matchings for tests of rules, made of what should become of each key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.execution import map_of
from sdviewer.repair.matching.found import Evidence, Found, Matching
from sdviewer.repair.operations import Operation, operation_from_step
from sdviewer.repair.suggestion import Suggestion

SQUARE = (4, 4)


def table(keys: Iterable[str], shapes: Mapping[str, tuple[int, ...]] | None = None) -> KeyTable:
    """A table whose tensors are 4×4 where no other shape is said."""
    names = tuple(keys)
    known = shapes or {}
    return KeyTable(names, [known.get(key, SQUARE) for key in names], ["float32"] * len(names))


def renamed(wishes: Mapping[str, str], doubtful: Iterable[str] = ()) -> tuple[KeyTable, KeyTable, Matching]:
    """Tables in which each key has one of the target; those in `doubtful` could have others too."""
    source, target = table(wishes), table(dict.fromkeys(wishes.values()))
    places = {key: place for place, key in enumerate(target.keys)}
    unsure = set(doubtful)
    found = []
    for place, (old, new) in enumerate(wishes.items()):
        evidence: Evidence = "ambiguous" if old in unsure else "proved"
        found.append(Found((place,), (places[new],), evidence=evidence))
    return source, target, Matching(tuple(found))


def related(
    source: KeyTable, target: KeyTable, relation: Any, pairs: Iterable[tuple[list[str], list[str]]], **fields: Any
) -> list[Found]:
    """Relations between keys of the two tables."""
    return [
        Found(
            tuple(map(source.keys.index, old)), tuple(map(target.keys.index, new)), relation, fields, evidence="likely"
        )
        for old, new in pairs
    ]


def operations(suggestions: Iterable[Suggestion]) -> list[Operation]:
    """The steps of suggestions."""
    return [operation_from_step(suggestion.step) for suggestion in suggestions]


def carried_out(source: KeyTable, suggestions: Iterable[Suggestion]) -> dict[str, Any]:
    """What planning makes of each key."""
    return dict(map_of(source, operations(suggestions)))


def texts(suggestions: Iterable[Suggestion]) -> list[str]:
    """What the steps say of themselves."""
    return [suggestion.text for suggestion in suggestions]
