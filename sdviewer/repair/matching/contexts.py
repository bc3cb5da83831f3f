"""What stands around a key, whatever it is called: the shapes in the modules that hold it.

Modules of equal contents meet although `blocks.{}` and `vit.encoder.layer.{}` are named and nested otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod

from sdviewer.repair.matching.families import Side
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
    shared = set(sums[0].values()) & set(sums[1].values())
    return _of_keys(source, which[0], sums[0], shared), _of_keys(target, which[1], sums[1], shared)


def hold_the_same(source: Side, target: Side) -> bool:
    """Whether both tables hold as many elements, so that every tensor has its counterpart (fused, split or as it is).

    Single numbers and what newer code computes anew do not count.
    """
    totals = []
    for side in (source, target):
        shapes = [shape for shape, name in zip(side.shapes, side.names, strict=True) if name.parts[-1] not in TRANSIENT]
        if any(shape is None for shape in shapes):
            return False
        totals.append(sum([prod(shape) for shape in shapes if shape]))
    return totals[0] == totals[1]


def _sums(side: Side, positions: Collection[int], exact: bool) -> dict[int, int]:
    """By module: a number that is equal for modules of equal contents, in whatever order."""
    sums: dict[int, int] = {}
    for at in positions:
        shape = side.shapes[at]
        if shape is None or side.names[at].parts[-1] in TRANSIENT:
            continue
        amount = hash((shape, side.names[at].role)) & _BITS if exact else prod(shape)
        for module in side.modules[at][1:]:
            sums[module] = (sums.get(module, 0) + amount) & _BITS
    return sums


def _of_keys(side: Side, positions: Collection[int], sums: dict[int, int], shared: set[int]) -> list[int]:
    found = [0] * len(side.names)
    of_module: dict[int, int] = {}
    for at in positions:
        around = side.modules[at]
        known = of_module.get(around[-1])
        if known is None:
            these = frozenset([sums.get(module, 0) for module in around[1:]])
            known = of_module[around[-1]] = hash(these & shared)
        found[at] = known
    return found
