"""Find which tensors of a source stand for which of a target, by certainty: what nothing else can be meant by first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.matching.names import read_name


def match(
    source: KeyTable,
    target: KeyTable,
    *,
    hand: Collection[tuple[int, int]] = (),
    broken: Collection[tuple[int, int]] = (),
    contents: Callable[[Sequence[int], Sequence[int]], tuple[Sequence[Hashable], Sequence[Hashable]]] | None = None,
) -> Matching:
    """Match two tables of keys.

    `hand` are pairs of positions that a person made, `broken` those that one refused.
    """
    found: list[Found] = []
    refused = set(broken)
    left_s = [i for i in range(len(source)) if i not in source.not_tensors]
    left_t = [j for j in range(len(target)) if j not in target.not_tensors]
    for i, j in hand:
        found.append(Found((i,), (j,), evidence="proved", by="hand", reasons=("Paired by hand",)))
    done_s, done_t = {i for i, _ in hand}, {j for _, j in hand}
    for by, read in (("key", _whole), ("prefix", _unwrapped)):
        places = {read(target.keys[j]): j for j in left_t if j not in done_t}
        for i in left_s:
            if i in done_s:
                continue
            j = places.get(read(source.keys[i]), -1)
            if j < 0 or j in done_t or (i, j) in refused or not _agree(source.shapes[i], target.shapes[j]):
                continue
            done_s.add(i)
            done_t.add(j)
            reasons = ("Same key",) if by == "key" else ("Same key without what a wrapper put in",)
            found.append(Found((i,), (j,), evidence="proved", by=by, reasons=reasons))
    return Matching(tuple(found))


def _whole(key: str) -> str:
    return key


def _unwrapped(key: str) -> str:
    return read_name(key).text


def _agree(shape: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    return shape is None or other is None or shape == other
