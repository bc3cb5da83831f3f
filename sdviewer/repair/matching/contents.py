"""Equal values under another name: whole, transposed, and as parts of what the other side stores as one.

Nothing is read here: `Contents` asks somebody who can.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, permutations
from math import prod
from typing import NamedTuple

from sdviewer.repair.matching.families import Side
from sdviewer.repair.matching.found import Found, Relation
from sdviewer.repair.matching.state import State


class View(NamedTuple):
    """What is to be told of a tensor by its position: the elements of a part of it, in row-major order.

    `narrow` are axes with where the part starts and how long it is; `transposed` turns all axes round first.
    """

    at: int
    transposed: bool = False
    narrow: tuple[tuple[int, int, int], ...] = ()


Contents = Callable[[Sequence[View], Sequence[View]], tuple[Sequence[Hashable], Sequence[Hashable]]]
"""Views of the source and of the target -> for each what is equal for equal elements, None where it cannot be told."""

SMALLEST = 2
"""Elements from which on equal values say something."""


def take_equal_contents(state: State, contents: Contents) -> None:
    """Pair what holds the same values and is the only such on both sides; then what does when it is transposed."""
    for transposed in (False, True):
        of_s = _by_kind(state.source, state.free_s, transposed)
        of_t = _by_kind(state.target, state.free_t, False)
        shared = [kind for kind in of_s if kind in of_t]
        some, others = ([at for kind in shared for at in side[kind]] for side in (of_s, of_t))
        if not some:
            continue
        told_s, told_t = contents([View(at, transposed) for at in some], [View(at) for at in others])
        known_s, known_t = _only(some, told_s), _only(others, told_t)
        pairs = [(i, known_t.get(told, -1)) for told, i in known_s.items()]
        pairs = [(i, j) for i, j in pairs if i >= 0 and j >= 0 and state.can(i, j)]
        for i, j in _saying_something(pairs, state, contents):
            said = "The same values, with the two axes exchanged" if transposed else "The same values, bit for bit"
            reasons = (said, "No other tensor of either side holds them")
            relation: Relation = "transpose" if transposed else "rename"
            state.take([i], [j], relation, evidence="proved", by="content", reasons=reasons)
            state.learned.accept(state.source.templates[i], state.target.templates[j])


_Kind = tuple[tuple[int, ...], str]


def _by_kind(side: Side, free: dict[int, None], transposed: bool) -> dict[_Kind, list[int]]:
    found: dict[_Kind, list[int]] = {}
    for at in free:
        shape = side.shapes[at]
        if shape is None or prod(shape) < SMALLEST or (transposed and len(shape) != 2):
            continue
        found.setdefault((shape[::-1] if transposed else shape, side.table.dtypes[at]), []).append(at)
    return found


def _only(positions: Sequence[int], told: Sequence[Hashable]) -> dict[Hashable, int]:
    """What only one tensor holds; -1 for what several do."""
    found: dict[Hashable, int] = {}
    for at, one in zip(positions, told, strict=True):
        if one is not None:
            found[one] = -1 if one in found else at
    return found


def _saying_something(pairs: Sequence[tuple[int, int]], state: State, contents: Contents) -> list[tuple[int, int]]:
    """The pairs but for those of a constant, as of a norm or bias that was never trained: any other could hold it."""
    views = [_three_pieces(i, state.source.shapes[i] or ()) for i, _ in pairs]
    told, _ = contents([view for some in views for view in some], [])
    pieces = [set(told[at : at + 3]) for at in range(0, len(told), 3)]
    return [pair for pair, some in zip(pairs, pieces, strict=True) if len(some) > 1 or None in some]


def _three_pieces(at: int, shape: tuple[int, ...]) -> list[View]:
    """The first, a middle and the last row of a tensor, or thirds of what is a vector: equal in a constant."""
    dim = next(dim for dim, size in enumerate(shape) if size > 1)
    size = 1 if prod(shape) > shape[dim] else max(shape[dim] // 3, 1)
    last = shape[dim] - size
    return [View(at, narrow=((dim, start, size),)) for start in (0, last // 2, last)]


def confirm_parts(state: State, contents: Contents) -> None:
    """Prove fused and stacked tensors by the values of their parts, and put parts in the order in which they are."""
    for n, found in enumerate(state.found):
        if found.by == "content" or found.relation not in ("split", "concat", "stack", "unstack", "stack_concat"):
            continue
        state.found[n] = _confirmed(state, found, contents)


def _confirmed(state: State, found: Found, contents: Contents) -> Found:
    """The find with the parts in the order of their values; as it was where values are others, or the same in two."""
    one_is_source = found.relation in ("split", "unstack")
    one, parts = (found.sources, found.targets) if one_is_source else (found.targets, found.sources)
    side = state.target if one_is_source else state.source
    shapes = [side.shapes[at] for at in parts]
    if any(shape is None for shape in shapes):
        return found
    for order in _orders(found, parts):
        views = list(_views(one[0], found, [shapes[at] or () for at in order]))
        whole_parts = [View(parts[at]) for at in order]
        told = contents(views, whole_parts) if one_is_source else contents(whole_parts, views)
        if list(told[0]) == list(told[1]) and None not in told[0] and len(set(told[0])) == len(parts):
            ordered = tuple([parts[at] for at in order])
            fields = dict(found.fields)
            if "sizes" in fields:
                fields["sizes"] = [(shapes[at] or ())[int(fields["dim"])] for at in order]
            return replace(
                found,
                sources=found.sources if one_is_source else ordered,
                targets=ordered if one_is_source else found.targets,
                fields=fields,
                evidence="proved",
                by="content",
                reasons=(*found.reasons, "The values of its parts are the same, bit for bit"),
            )
    return found


def _orders(found: Found, parts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    n = len(parts)
    if found.relation in ("split", "concat") and n <= 4:
        yield from permutations(range(n))
    elif found.relation == "stack_concat":
        half = n // 2
        yield tuple(range(n))
        yield (*range(half, n), *range(half))
    else:
        yield tuple(range(n))


def _views(one: int, found: Found, shapes: Sequence[tuple[int, ...]]) -> Iterator[View]:
    """The views of a fused or stacked tensor that are its parts."""
    if found.relation in ("split", "concat"):
        dim = int(found.fields["dim"])
        sizes = [shape[dim] for shape in shapes]
        for start, size in zip(accumulate([0, *sizes]), sizes, strict=False):
            yield View(one, narrow=((dim, start, size),))
    elif found.relation == "stack_concat":
        half, dim = len(shapes) // 2, int(found.fields["concat_dim"])
        for at, shape in enumerate(shapes):
            part = (dim + 1, shape[dim] * (at // half), shape[dim])
            yield View(one, narrow=((0, at % half, 1), part))
    else:
        for at in range(len(shapes)):
            yield View(one, narrow=((0, at, 1),))
