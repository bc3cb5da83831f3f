"""Cuts wished renamings into cells: keys that one template with indexes renames alike.

Keys are alike where they differ in numbers only. A number that never varies among alike keys is text (`mlp.0` and
`mlp.2` are two things); for one that varies, the number it becomes is said as arithmetic on those of the old key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

MARK = "\0"
"""Stands for a number in a shape of keys."""
SPECIAL = re.compile(r"[*{}\0]|^re(?:\.full)?:|^\Z")
"""What a template cannot hold as text, nor be."""

_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]{0,8})(?![0-9])")
MOST_DIVISOR = 16
MOST_SPLITS = 4
MOST_PARTS = 256
"""Values of one number for each of which there may be a rule of its own."""
MOST_KINDS = 5000
MOST_LOOKED_AT = 500_000
"""Rows of one kind that are looked at, again in each way to part them; of more nothing is said but one by one."""


class Index(NamedTuple):
    """A number of the new key: arithmetic on the numbers of the old one, `{}` standing for each of `slots` in turn."""

    slots: tuple[int, ...]
    text: str = "{}"


Atom: TypeAlias = "str | Index"
Component: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """Keys that one template renames: the components of the old and of the new key, and the places of the keys.

    In `old` an `Index` is a number that varies, by its own slot; in `new` it says what it becomes.
    """

    old: tuple[Component, ...]
    new: tuple[Component, ...]
    places: tuple[int, ...]


def shape_of(key: str) -> str:
    """The key with a mark for each of its numbers: equal for keys that differ in numbers only."""
    return _NUMBER.sub(MARK, key)


def numbers_of(key: str) -> tuple[int, ...]:
    """The numbers that `shape_of` marks, in their order."""
    return tuple(map(int, _NUMBER.findall(key)))


def cells_of(keys: Sequence[str], wishes: Mapping[int, str]) -> list[Cell]:
    """The cells of all wishes, in the order of their first keys.

    Left out are keys that no template can say, and those that are alone in their kind where there are very many kinds.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, wish in wishes.items():
        if not SPECIAL.search(keys[place]) and not SPECIAL.search(wish):
            groups.setdefault((shape_of(keys[place]), shape_of(wish)), []).append(place)
    found: list[Cell] = []
    lonely = len(groups) > MOST_KINDS
    for (old, new), places in groups.items():
        if lonely and len(places) == 1:
            continue
        rows = [_Row(numbers_of(keys[place]), numbers_of(wishes[place]), place) for place in places]
        found += [_cell(old, new, part, indexes) for part, indexes in _Fitting(MOST_LOOKED_AT).fitted(rows)]
    return sorted(found, key=lambda cell: cell.places[0])


class _Row(NamedTuple):
    old: tuple[int, ...]
    new: tuple[int, ...]
    place: int


_Fits = list[tuple[Sequence[_Row], list[Index | None]]]


@dataclass(slots=True)
class _Fitting:
    """A search that gives up what is left once it has looked at `left` more rows."""

    left: int

    def fitted(self, rows: Sequence[_Row], depth: int = 0) -> _Fits:
        """Rows in as few parts as can be found, each with what its new numbers are; None for one that never varies."""
        self.left -= len(rows)
        indexes = _indexes(rows)
        if indexes is not None:
            return [(rows, indexes)]
        best: _Fits | None = None
        for slot in range(len(rows[0].old)) if self.left > 0 else ():
            parts: dict[int, list[_Row]] = {}
            for row in rows:
                parts.setdefault(row.old[slot], []).append(row)
            if len(parts) == 1 or len(parts) > MOST_PARTS or (depth >= MOST_SPLITS and len(parts) < len(rows)):
                continue
            found = [fit for part in parts.values() for fit in self.fitted(part, depth + 1)]
            if best is None or len(found) < len(best):
                best = found
        if best is None and len(rows) <= MOST_PARTS:
            best = [([row], [None] * len(row.new)) for row in rows]
        return best or []


def _indexes(rows: Sequence[_Row]) -> list[Index | None] | None:
    """What each new number is, None for one that does not vary; None where one cannot be said."""
    columns = list(zip(*[row.old for row in rows], strict=True))
    varying = [slot for slot, column in enumerate(columns) if len(set(column)) > 1]
    found: list[Index | None] = []
    used: set[int] = set()
    for wanted in zip(*[row.new for row in rows], strict=True):
        if len(set(wanted)) == 1:
            found.append(None)
            continue
        index = _index(wanted, columns, varying, used)
        if index is None:
            return None
        used.update(index.slots)
        found.append(index)
    return found


def _index(
    wanted: tuple[int, ...], columns: Sequence[tuple[int, ...]], varying: Sequence[int], used: set[int]
) -> Index | None:
    # With few keys several things can be meant: numbers that stand in one order on both sides, with a shift at most.
    following = next((slot for slot in varying if slot > max(used, default=-1)), None)
    if following is not None:
        text = "{}" if columns[following] == wanted else _shifted(wanted, columns[following])
        if text.startswith("{}"):
            return Index((following,), text)
    # (a number that no other one of the new key has taken goes first)
    slots = sorted(varying, key=lambda slot: slot in used)
    for slot in slots:
        if columns[slot] == wanted:
            return Index((slot,))
    for said_by in (_shifted, _divided):
        for slot in slots:
            text = said_by(wanted, columns[slot])
            if text:
                return Index((slot,), text)
    for first in varying:
        for second in varying:
            text = _combined(wanted, columns[first], columns[second]) if first != second else ""
            if text:
                return Index((first, second), text)
    return None


def _shifted(wanted: Sequence[int], column: Sequence[int]) -> str:
    shift = wanted[0] - column[0]
    if all(new - old == shift for new, old in zip(wanted, column, strict=True)):
        return f"{{}}{shift:+d}"
    total = wanted[0] + column[0]
    return f"{total}-{{}}" if all(new + old == total for new, old in zip(wanted, column, strict=True)) else ""


def _divided(wanted: Sequence[int], column: Sequence[int]) -> str:
    pairs = sorted(set(zip(column, wanted, strict=True)))
    if len(pairs) < 3 or len({old for old, _ in pairs}) < len(pairs):
        return ""
    for shift in (0, -1, 1, -2, 2):
        moved = f"({{}}{shift:+d})" if shift else "{}"
        for by in range(2, MOST_DIVISOR):
            if all((old + shift) // by == new for old, new in pairs):
                return f"{moved}//{by}"
            # (without a number that comes again, a remainder is a shift that happens to fit)
            if all((old + shift) % by == new for old, new in pairs) and len({new for _, new in pairs}) < len(pairs):
                return f"{moved}%{by}"
    return ""


def _combined(wanted: Sequence[int], first: Sequence[int], second: Sequence[int]) -> str:
    triples = sorted(set(zip(first, second, wanted, strict=True)))
    steps = {
        (after[2] - before[2]) - (after[1] - before[1])
        for before, after in pairwise(triples)
        if after[0] - before[0] == 1
    }
    if len(steps) != 1:
        return ""
    (by,) = steps
    fits = by > 1 and all(by * a + b == new for a, b, new in triples)
    return f"{by}*{{}}+{{}}" if fits else ""


def _cell(old: str, new: str, rows: Sequence[_Row], indexes: Sequence[Index | None]) -> Cell:
    first = rows[0]
    columns = list(zip(*[row.old for row in rows], strict=True))
    slots = [Index((slot,)) if len(set(column)) > 1 else None for slot, column in enumerate(columns)]
    return Cell(
        _components(old, slots, first.old), _components(new, indexes, first.new), tuple([row.place for row in rows])
    )


def _components(shape: str, indexes: Iterable[Index | None], numbers: Sequence[int]) -> tuple[Component, ...]:
    """A shape cut at its dots, with an index or a number as text for each mark."""
    following = iter(zip(indexes, numbers, strict=True))
    result: list[Component] = []
    for component in shape.split("."):
        atoms: list[Atom] = []
        for number, piece in enumerate(component.split(MARK)):
            if number:
                index, value = next(following)
                _add(atoms, str(value) if index is None else index)
            if piece:
                _add(atoms, piece)
        result.append(tuple(atoms))
    return tuple(result)


def _add(atoms: list[Atom], atom: Atom) -> None:
    if atoms and isinstance(atom, str) and isinstance(atoms[-1], str):
        atoms[-1] += atom
    else:
        atoms.append(atom)


NAMES = ("i", "j", "k", "l", "m", "a", "b", "c", "d", "e", "f", "g", "h")
Namer: TypeAlias = Callable[[int], str]


def said(old: Sequence[Component], new: Sequence[Component]) -> tuple[str, str] | None:
    """Pattern and result of a rule, its numbers called i, j ... in their order; None where there are too many."""
    names: dict[int, str] = {}
    for atom in [atom for component in old for atom in component]:
        if isinstance(atom, Index) and atom.slots[0] not in names:
            if len(names) == len(NAMES):
                return None
            names[atom.slots[0]] = NAMES[len(names)]
    needed = {slot for component in new for atom in component if isinstance(atom, Index) for slot in atom.slots}
    if not needed <= names.keys():
        return None
    return _said(old, names), _said(new, names)


def _said(components: Sequence[Component], names: Mapping[int, str]) -> str:
    return ".".join([
        "".join([
            atom if isinstance(atom, str) else "{" + atom.text.format(*[names[slot] for slot in atom.slots]) + "}"
            for atom in component
        ])
        for component in components
    ])  # fmt: skip
