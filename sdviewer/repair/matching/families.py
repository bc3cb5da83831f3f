"""Keys of one pattern: a table taken apart into templates and the numbers in them.

`blocks.0.attn.qkv.weight` ... `blocks.11.attn.qkv.weight` are the family `blocks.{}.attn.qkv.weight` with the indices
(0) ... (11). A number is an index where what stands below it repeats; that of `norm1` or `mlp.2` is part of the name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.names import Name, read_name

LONG_LIST = 4
"""Modules without children that are numbered: fewer are named one by one (`mlp.0`, `mlp.2`), more are a list."""

ALIKE = 0.6
"""What share of the keys below a number has to occur below another one, for the number to be an index."""

_NUMBERED = re.compile(r"(.*[A-Za-z_])(\d{1,6})\Z", re.DOTALL)

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
    modules: list[tuple[int, ...]]
    """The modules around each key, from the root down, as numbers of this table."""
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
    numbers = [_numbers(name.parts) for name in names]
    repeats = _repeating(names, numbers)
    templates: list[tuple[str, ...]] = []
    indices: list[Indices] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, found in zip(names, numbers, strict=True):
        parts = list(name.parts)
        chosen = []
        for at, before, number, around in found:
            if around in repeats:
                parts[at] = before + "{}"
                chosen.append(number)
        template = tuple(parts)
        templates.append(known.setdefault(template, template))
        indices.append(tuple(chosen))
    modules = _modules(names)
    return Side(
        table, names, templates, indices, _places(table, names, numbers), table.shapes, modules, _leaves(names, modules)
    )


def _modules(names: Sequence[Name]) -> list[tuple[int, ...]]:
    known: dict[tuple[int, str], int] = {}
    found = []
    for name in names:
        module, around = 0, [0]
        for part in name.parts[:-1]:
            module = known.setdefault((module, part), len(known) + 1)
            around.append(module)
        found.append(tuple(around))
    return found


def _leaves(names: Sequence[Name], modules: Sequence[tuple[int, ...]]) -> list[frozenset[str]]:
    found: dict[int, set[str]] = {}
    for name, around in zip(names, modules, strict=True):
        found.setdefault(around[-1], set()).add(name.role)
    n = max([around[-1] for around in modules], default=0) + 1
    return [frozenset(found.get(module, set()) - {"num_batches_tracked"}) for module in range(n)]


_Number = tuple[int, str, int, str]
"""Component, its text before the number, the number, and the key before it with `#` for every number."""


def _numbers(parts: Sequence[str]) -> list[_Number]:
    found: list[_Number] = []
    abstract: list[str] = []
    for at, part in enumerate(parts):
        if part.isdecimal() and len(part) < 7:
            found.append((at, "", int(part), ".".join(abstract) + "."))
            abstract.append("#")
        elif at < len(parts) - 1 and part[-1:].isdecimal() and (numbered := _NUMBERED.match(part)):
            before = numbered[1]
            found.append((at, before, int(numbered[2]), ".".join([*abstract, before])))
            abstract.append(before + "#")
        else:
            abstract.append(part)
    return found


def _repeating(names: Sequence[Name], numbers: Sequence[list[_Number]]) -> set[str]:
    """The texts before a number after which the number is an index."""
    below: dict[str, dict[int, set[tuple[str, ...]]]] = {}
    for name, found in zip(names, numbers, strict=True):
        if not found:
            continue
        abstract = list(name.parts)
        for at, before, _, _ in found:
            abstract[at] = before + "#"
        for at, _, number, around in found:
            below.setdefault(around, {}).setdefault(number, set()).add(tuple(abstract[at + 1 :]))
    return {around for around, values in below.items() if _repeats(around, values)}


def _repeats(around: str, values: dict[int, set[tuple[str, ...]]]) -> bool:
    if len(values) < 2:
        return False
    if all(len(rest) < 2 for some in values.values() for rest in some):
        return len(values) >= (LONG_LIST if around.endswith(".") else 2 * LONG_LIST)
    times: dict[tuple[str, ...], int] = {}
    for some in values.values():
        for rest in some:
            times[rest] = times.get(rest, 0) + 1
    shares = [sum(times[rest] > 1 for rest in some) / len(some) for some in values.values()]
    return sum(shares) / len(shares) >= ALIKE


def _places(table: KeyTable, names: Sequence[Name], numbers: Sequence[list[_Number]]) -> list[int]:
    if table.ordered:
        return list(range(len(table)))

    def by_number(at: int) -> list[tuple[int, int, str]]:
        keys = [(1, 0, part) for part in names[at].parts]
        for place, before, number, _ in numbers[at]:
            keys[place] = (0, number, before) if not before else (1, number, before)
        return keys

    places = [0] * len(table)
    for rank, at in enumerate(sorted(range(len(table)), key=by_number)):
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


def spelled_out(family: Family, which: int, side: Side) -> list[Family]:
    """The family with one of its indices made part of the name: one a value."""
    holes = [at for at, part in enumerate(family.template) if part.endswith("{}")]
    found: dict[int, Family] = {}
    for indices, at in family.members:
        number = indices[which]
        one = found.get(number)
        if one is None:
            template = list(family.template)
            template[holes[which]] = template[holes[which]][:-2] + str(number)
            one = found[number] = Family(tuple(template), [], side.places[at])
        one.members.append((indices[:which] + indices[which + 1 :], at))
        one.place = min(one.place, side.places[at])
    return sorted(found.values(), key=lambda one: one.place)
