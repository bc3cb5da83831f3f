"""What stands around a key, whatever it is called: the shapes in the modules that hold it.

Modules of equal contents meet although `blocks.{}` and `vit.encoder.layer.{}` are named and nested otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

from sdviewer.repair.matching.families import Shape, Side
from sdviewer.repair.matching.words import TRANSIENT

_BITS = (1 << 61) - 1

Contexts = tuple[Sequence[int], Sequence[int]]
"""By position of source and target: equal numbers for equal surroundings."""


def contexts(source: Side, target: Side, which: tuple[Collection[int], Collection[int]], *, exact: bool) -> Contexts:
    """Surroundings by the shapes of all tensors in each module around a key, or (not exact) by their elements.

    The number of elements stays when tensors are fused, split, stacked or transposed. Only modules that occur on both
    sides count, so what only one side has changes nothing.
    """
    sums = [_sums(side, some, exact) for side, some in zip((source, target), which, strict=True)]
    shared = set(sums[0][1:]).intersection(sums[1][1:]) - {0}
    return _of_keys(source, sums[0], shared), _of_keys(target, sums[1], shared)


def holding_the_same(source: Side, target: Side) -> tuple[frozenset[int], frozenset[int]]:
    """Positions of both tables that hold as many elements, so that each tensor has its counterpart among them.

    These are all, or what one module holds and all of the other table: a network in a file that has a loss and a
    projector besides. Failing that, the same without tensors of sizes that the other table lacks, such as a head. None
    where two modules could be meant. Single numbers and what newer code computes anew do not count.
    """
    some, others = _elements(source), _elements(target)
    if some is None or others is None:
        return frozenset(), frozenset()
    known = {_sizes(shape) for shape in source.shapes}.intersection(map(_sizes, target.shapes))
    for shared in (None, known):
        of_s, of_t = _of_sizes(source, some, shared), _of_sizes(target, others, shared)
        total_s, total_t = sum(of_s.values()), sum(of_t.values())
        if total_s == total_t:
            return frozenset(of_s), frozenset(of_t)
        if total_s > total_t and (inside := _inside(source, of_s, total_t)):
            return inside, frozenset(of_t)
        if total_s < total_t and (inside := _inside(target, of_t, total_s)):
            return frozenset(of_s), inside
    return frozenset(), frozenset()


def _sizes(shape: Shape) -> Shape:
    """What of a shape stays when axes are exchanged or left out."""
    return shape and tuple(sorted([size for size in shape if size != 1]))


def _of_sizes(side: Side, amounts: Sequence[int], known: Collection[Shape] | None) -> dict[int, int]:
    """What the tensors of some sizes count, by position."""
    return {at: n for at, n in enumerate(amounts) if known is None or _sizes(side.shapes[at]) in known}


def _elements(side: Side) -> list[int] | None:
    """What each tensor counts; None where a shape is not known."""
    found = []
    for shape, name in zip(side.shapes, side.names, strict=True):
        counts = name.parts[-1] not in TRANSIENT
        if counts and shape is None:
            return None
        found.append(prod(shape) if counts and shape else 0)
    return found


def _inside(side: Side, amounts: Mapping[int, int], total: int) -> frozenset[int]:
    """The positions in the one module that holds so many elements."""
    sums = [0] * len(side.parents)
    for at, amount in amounts.items():
        sums[side.modules[at]] += amount
    for module in range(len(sums) - 1, 0, -1):
        sums[side.parents[module]] += sums[module]
    held = [module > 0 and amount == total > 0 for module, amount in enumerate(sums)]
    outer = [module for module, holds in enumerate(held) if holds and not held[side.parents[module]]]
    if len(outer) != 1:
        return frozenset()
    below = [False] * len(sums)
    for module in range(1, len(sums)):  # A module has a greater number than the one that holds it.
        below[module] = module == outer[0] or below[side.parents[module]]
    return frozenset([at for at in amounts if below[side.modules[at]]])


def _sums(side: Side, positions: Collection[int], exact: bool) -> list[int]:
    """By module: a number that is equal for modules of equal contents, in whatever order; 0 for an empty one."""
    sums = [0] * len(side.parents)
    amounts: dict[tuple[Shape, str], int] = {}
    for at in positions:
        name = side.names[at]
        if name.parts[-1] in TRANSIENT:
            continue
        kind = side.shapes[at], name.role
        amount = amounts.get(kind)
        if amount is None:
            amount = amounts[kind] = _amount(*kind, exact)
        sums[side.modules[at]] += amount
    for module in range(len(sums) - 1, 0, -1):  # A module has a greater number than the one that holds it.
        sums[module] &= _BITS
        sums[side.parents[module]] += sums[module]
    return sums


def _amount(shape: Shape, role: str, exact: bool) -> int:
    if shape is None:
        return 0
    return hash((shape, role)) & _BITS if exact else prod(shape)


def _of_keys(side: Side, sums: Sequence[int], shared: Collection[int]) -> list[int]:
    """By position: the numbers of the modules around it that occur on both sides."""
    around = [frozenset[int]()] * len(sums)
    told = [hash(around[0])] * len(sums)
    for module in range(1, len(sums)):
        above = around[side.parents[module]]
        around[module] = above | {sums[module]} if sums[module] in shared else above
        told[module] = hash(around[module])
    return [told[module] for module in side.modules]
