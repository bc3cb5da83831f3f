"""Says what becomes of tensors that are cut, joined or put on end as few steps with templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdviewer.repair.rules.candidates import LAST
from sdviewer.repair.rules.cells import NAMES, Cell, Component, Index, cells_of, said
from sdviewer.repair.rules.steps import Step

_BETWEEN = "\x1f"
"""A component that stands between the keys of several tensors that are told as one."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """A step, and after it those that go on with what it made; `found` are the relations that it is meant for."""

    steps: tuple[Step, ...]
    found: tuple[int, ...]


@dataclass(slots=True)
class Keyed:
    """A relation with its keys as they stand when the step comes."""

    number: int
    sources: Sequence[str]
    targets: Sequence[str]
    fields: Mapping[str, Any] = field(default_factory=dict)


def splits(relations: Sequence[Keyed]) -> Iterator[Proposed]:
    """Ways to say a split, those that say more of them first."""
    for options, group in _alike(relations, ("dim", "groups")):
        for equal, some in _by_sizes(group):
            sizes = {} if equal else {"sizes": list(some[0].fields["sizes"])}
            for cell in _cells([(one.sources[0], one.targets) for one in some]):
                numbers = tuple([some[place].number for place in cell.places])
                for old, parts in _widened(cell):
                    told = [said(old, part) for part in parts]
                    if all(told):
                        into = [one[1] for one in told if one is not None]
                        assert told[0] is not None
                        step = {"op": "split", "from": told[0][0], "into": into, **options, **sizes}
                        yield Proposed((step,), numbers)


def fuses(relations: Sequence[Keyed]) -> Iterator[Proposed]:
    """Ways to say that tensors are joined one behind the other."""
    for options, group in _alike(relations, ("dim", "groups")):
        for cell in _cells([(one.sources[0], [*one.sources[1:], one.targets[0]]) for one in group]):
            numbers = tuple([group[place].number for place in cell.places])
            for old, parts in _widened(cell):
                step = _fuse(old, parts[:-1], parts[-1])
                if step is not None:
                    yield Proposed((step | options,), numbers)


def stacks(relations: Sequence[Keyed]) -> Iterator[Proposed]:
    """Ways to say that numbered tensors are put on end."""
    for options, group in _alike(relations, ("dim",)):
        rows = [(source, one.targets[0], one.number) for one in group for source in one.sources]
        for cell in _cells([(source, [target]) for source, target, _ in rows]):
            numbers = tuple(dict.fromkeys([rows[place][2] for place in cell.places]))
            for old, (new,) in _widened(cell):
                step = _stack(old, new)
                if step is not None:
                    yield Proposed((step | options,), numbers)


def joined_stacks(relations: Sequence[Keyed]) -> Iterator[Proposed]:
    """Ways to say that tensors are joined in pairs or more, and these are put on end."""
    for options, group in _alike(relations, ("concat_dim", "stack_dim")):
        rows: list[tuple[str, list[str], int]] = []
        for one in group:
            # All that go first into a pair stand before all that go second, each in the order of its place on end.
            places = len(one.sources) // _parts(one)
            for place in range(places):
                first, *others = one.sources[place::places]
                rows.append((first, [*others, one.targets[0]], one.number))
        for cell in _cells([(first, others) for first, others, _ in rows]):
            numbers = tuple(dict.fromkeys([rows[place][2] for place in cell.places]))
            for old, parts_of in _widened(cell):
                between = _between(old, parts_of[:-1], parts_of[-1])
                fuse = _fuse(old, parts_of[:-1], between)
                stack = _stack(between, parts_of[-1])
                if fuse is not None and stack is not None:
                    joined = fuse | _dim(options.get("concat_dim", 0))
                    yield Proposed((joined, stack | _dim(options.get("stack_dim", 0))), numbers)


def unstacks(relations: Sequence[Keyed]) -> Iterator[Proposed]:
    """Ways to say that the places along a dimension become tensors of their own."""
    for options, group in _alike(relations, ("dim",), many=True):
        rows = [(target, one.sources[0], one.number) for one in group for target in one.targets]
        for cell in _cells([(target, [source]) for target, source, _ in rows]):
            numbers = tuple(dict.fromkeys([rows[place][2] for place in cell.places]))
            for new, (old,) in _widened(cell):
                step = _stack(new, old)
                if step is not None:
                    yield Proposed(({"op": "unstack", "from": step["into"], "into": step["from"], **options},), numbers)


def _dim(dim: int) -> Step:
    return {"dim": dim} if dim else {}


def _parts(one: Keyed) -> int:
    """How many tensors are joined into each place: told, or seen from the names."""
    told = one.fields.get("parts")
    if isinstance(told, int) and told > 0 and len(one.sources) % told == 0:
        return told
    return 2 if len(one.sources) % 2 == 0 else 1


def _alike(
    relations: Sequence[Keyed], names: Sequence[str], *, many: bool = False
) -> Iterator[tuple[Step, list[Keyed]]]:
    """Relations with the same fields together; a field that has its default is left out.

    With `many` they may have any number of targets.
    """
    groups: dict[tuple[Any, ...], list[Keyed]] = {}
    for one in relations:
        count = 0 if many else len(one.targets)
        groups.setdefault((count, *[one.fields.get(name, 0) for name in names]), []).append(one)
    for (_, *values), group in groups.items():
        yield {name: value for name, value in zip(names, values, strict=True) if value not in (0, None, "")}, group


def _by_sizes(relations: Sequence[Keyed]) -> Iterator[tuple[bool, list[Keyed]]]:
    groups: dict[tuple[int, ...], list[Keyed]] = {}
    for one in relations:
        sizes = tuple(one.fields.get("sizes") or ())
        groups.setdefault(() if len(set(sizes)) < 2 else sizes, []).append(one)
    for sizes, group in groups.items():
        yield not sizes, group


def _cells(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[Cell]:
    """The cells of keys that each go with several others."""
    joint = f".{_BETWEEN}."
    return cells_of([old for old, _ in pairs], {place: joint.join(new) for place, (_, new) in enumerate(pairs)})


def _widened(cell: Cell) -> Iterator[tuple[list[Component], list[list[Component]]]]:
    """A cell's template and those of its parts, the wide ones first: for all tensors of a module, then as it is."""
    old = list(cell.old)
    parts: list[list[Component]] = [[]]
    for component in cell.new:
        if component == (_BETWEEN,):
            parts.append([])
        else:
            parts[-1].append(component)
    last = old[-1]
    if all(len(part) > 1 and part[-1] == last for part in parts) and len(old) > 1:
        yield [*old[:-1], (LAST,)], [[*part[:-1], (LAST,)] for part in parts]
    ends = {part[-1] for part in parts}
    if len(ends) == 1 and len(last) == 1 and isinstance(last[0], str):
        (end,) = ends
        if len(end) == 1 and isinstance(end[0], str) and last[0].endswith("_" + end[0]):
            head = last[0].removesuffix(end[0])
            yield [*old[:-1], (head + "*",)], [[*part[:-1], ("*",)] for part in parts]
    yield old, parts


def _fuse(first: Sequence[Component], others: Sequence[Sequence[Component]], into: Sequence[Component]) -> Step | None:
    told = [said(first, part) for part in (*others, into)]
    if any(one is None for one in told):
        return None
    results = [one[1] for one in told if one is not None]
    assert told[0] is not None
    return {"op": "fuse", "from": [told[0][0], *results[:-1]], "into": results[-1]}


def _stack(old: Sequence[Component], new: Sequence[Component]) -> Step | None:
    """The number that only the old key has is the place."""
    slots = [atom.slots[0] for component in old for atom in component if isinstance(atom, Index)]
    kept = {slot for component in new for atom in component if isinstance(atom, Index) for slot in atom.slots}
    over = [slot for slot in dict.fromkeys(slots) if slot not in kept]
    told = said(old, new)
    if len(over) != 1 or told is None:
        return None
    name = NAMES[list(dict.fromkeys(slots)).index(over[0])]
    return {"op": "stack", "from": told[0], "over": name, "into": told[1]}


def _between(
    first: Sequence[Component], others: Sequence[Sequence[Component]], into: Sequence[Component]
) -> list[Component]:
    """The key of what is joined and not yet on end: what the parts have in common, and the last name of the result."""
    common: list[Component] = []
    for components in zip(first, *others, strict=False):
        if any(component != components[0] for component in components):
            break
        common.append(components[0])
    last = into[-1]
    return [*common, into[-2], last] if last == (LAST,) and len(into) > 1 else [*common, last]
