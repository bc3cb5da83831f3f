"""Keys of one pattern: a table taken apart into templates and the numbers in them.

`blocks.0.attn.qkv.weight` ... `blocks.11.attn.qkv.weight` are the family `blocks.{}.attn.qkv.weight` with the indices
(0) ... (11). A number is an index where what stands below it repeats; that of `norm1` or `mlp.2` is part of the name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import NamedTuple

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.names import HOLE, Name, read_name

LONG_LIST = 4
"""Modules without children that are numbered: fewer are named one by one (`mlp.0`, `mlp.2`), more are a list."""

ALIKE = 0.6
"""What share of the keys below a number has to occur below another one, for the number to be an index."""

MOST_DIGITS = 6
"""Digits of a number that is looked at: nobody counts further."""

_BEFORE_NUMBER = frozenset(ascii_letters + "_")

Shape = tuple[int, ...] | None
Indices = tuple[int, ...]


@dataclass(slots=True)
class Side:
    """A table taken apart, by position. `places` is the order that can be compared: of registration, else by number."""

    table: KeyTable
    names: list[Name]
    templates: list[tuple[str, ...]]
    indices: list[Indices]
    places: list[int]
    shapes: Sequence[Shape]
    modules: list[int]
    """The module of each key, as a number of this table; 0 is the root."""
    parents: list[int]
    """By module: the one that holds it, which has a smaller number; of the root itself."""
    leaves: list[frozenset[str]]
    """By module: the roles of what it holds itself."""


@dataclass(slots=True)
class Family:
    """Keys of one template: `members` are their indices and positions."""

    template: tuple[str, ...]
    members: list[tuple[Indices, int]]
    place: int

    def __len__(self) -> int:
        return len(self.members)


def read_side(table: KeyTable) -> Side:
    """Take all keys of a table apart."""
    names = [read_name(key) for key in table.keys]
    numbers = _Numbers(names)
    templates: list[tuple[str, ...]] = []
    indices: list[Indices] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, found in zip(names, numbers.found, strict=True):
        chosen = [number for number in found if number.around in numbers.repeating]
        template = name.parts
        if chosen:
            parts = list(template)
            for at, before, _, _ in chosen:
                parts[at] = before + HOLE
            template = tuple(parts)
        templates.append(known.setdefault(template, template))
        indices.append(tuple([number.value for number in chosen]))
    modules, parents = _modules(names)
    places = list(range(len(table))) if table.ordered else _by_number(names, numbers.found)
    leaves = _leaves(names, modules, len(parents))
    return Side(table, names, templates, indices, places, table.shapes, modules, parents, leaves)


def _modules(names: Sequence[Name]) -> tuple[list[int], list[int]]:
    """The module of each name, and the parent of each module."""
    known: dict[tuple[int, str], int] = {}
    modules, parents = [], [0]
    for name in names:
        module = 0
        for part in name.parts[:-1]:
            below = known.get((module, part))
            if below is None:
                below = known[module, part] = len(parents)
                parents.append(module)
            module = below
        modules.append(module)
    return modules, parents


def _leaves(names: Sequence[Name], modules: Sequence[int], count: int) -> list[frozenset[str]]:
    found: list[set[str]] = [set() for _ in range(count)]
    for name, module in zip(names, modules, strict=True):
        found[module].add(name.role)
    known: dict[frozenset[str], frozenset[str]] = {}
    leaves = [frozenset(roles - {"num_batches_tracked"}) for roles in found]
    return [known.setdefault(roles, roles) for roles in leaves]


class _Number(NamedTuple):
    """A number in a key: its component, the text before it there, and a mark that is equal for equal texts before it,
    whatever their numbers are."""

    at: int
    before: str
    value: int
    around: int


class _Numbers:
    """The numbers of all keys, and the marks of those that are an index: what stands below them repeats."""

    def __init__(self, names: Sequence[Name]) -> None:
        self._known: dict[tuple[int, str], int] = {}
        self._numbered: dict[str, tuple[str, int] | None] = {}
        self._alone: dict[int, bool] = {}
        """By mark: whether a number is all of its component."""
        self._deep: set[int] = set()
        """Marks below which some key has more than one component."""
        self._below: dict[int, dict[int, set[int]]] = {}
        """By mark and number: marks of all that stands below, numbers left out."""
        self.found = [self._read(name.parts) for name in names]
        self.repeating = {mark for mark, values in self._below.items() if self._repeats(mark, values)}

    def _read(self, parts: Sequence[str]) -> list[_Number]:
        found: list[_Number] = []
        known = self._known
        mark, last = 0, len(parts) - 1
        for at, part in enumerate(parts):
            if part not in self._numbered:
                self._numbered[part] = _number_in(part)
            numbered = self._numbered[part]
            if numbered is None or (at == last and numbered[0]):
                mark = known.setdefault((mark, part), len(known) + 1)
            else:
                before, value = numbered
                mark = known.setdefault((mark, before + HOLE), len(known) + 1)
                found.append(_Number(at, before, value, mark))
        for at, before, value, around in found:
            self._alone[around] = not before
            if last - at > 1:
                self._deep.add(around)
            self._below.setdefault(around, {}).setdefault(value, set()).add(mark)
        return found

    def _repeats(self, around: int, values: Mapping[int, set[int]]) -> bool:
        if len(values) < 2:
            return False
        if around not in self._deep:
            return len(values) >= (LONG_LIST if self._alone[around] else 2 * LONG_LIST)
        times = Counter([mark for some in values.values() for mark in some])
        shares = [sum([times[mark] > 1 for mark in some]) / len(some) for some in values.values()]
        return sum(shares) / len(shares) >= ALIKE


def _number_in(part: str) -> tuple[str, int] | None:
    """The text before the number that a component is or ends with, and the number; None where it has none."""
    before = part.rstrip(digits)
    number = part[len(before) :]
    if not 0 < len(number) <= MOST_DIGITS or (before and before[-1] not in _BEFORE_NUMBER):
        return None
    return before, int(number)


def _by_number(names: Sequence[Name], numbers: Sequence[Sequence[_Number]]) -> list[int]:
    """The place of each in an order in which 2 comes before 10."""

    def order(at: int) -> list[tuple[int, int, str]]:
        keys = [(1, 0, part) for part in names[at].parts]
        for place, before, number, _ in numbers[at]:
            keys[place] = (1, number, before) if before else (0, number, "")
        return keys

    places = [0] * len(names)
    for rank, at in enumerate(sorted(range(len(names)), key=order)):
        places[at] = rank
    return places


def families(side: Side, positions: Sequence[int]) -> list[Family]:
    """The families of some keys, in order."""
    found: dict[tuple[str, ...], Family] = {}
    for at in positions:
        family = found.get(side.templates[at])
        if family is None:
            family = found[side.templates[at]] = Family(side.templates[at], [], side.places[at])
        family.members.append((side.indices[at], at))
        family.place = min(family.place, side.places[at])
    return sorted(found.values(), key=lambda family: family.place)


def holes(template: Sequence[str]) -> list[int]:
    """The places of a template's components that are or end with an index."""
    return [at for at, part in enumerate(template) if part.endswith(HOLE)]


def spelled_out(family: Family, which: int, side: Side) -> list[Family]:
    """The family with one of its indices made part of the name: one a value."""
    hole = holes(family.template)[which]
    found: dict[int, Family] = {}
    for indices, at in family.members:
        number = indices[which]
        one = found.get(number)
        if one is None:
            template = list(family.template)
            template[hole] = template[hole].removesuffix(HOLE) + str(number)
            one = found[number] = Family(tuple(template), [], side.places[at])
        one.members.append((indices[:which] + indices[which + 1 :], at))
        one.place = min(one.place, side.places[at])
    return sorted(found.values(), key=lambda one: one.place)
