"""The matching engine for comparisons: what is one tensor on both sides, under names that no prefix explains."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sdviewer.core.key_table import KeyTable
from sdviewer.core.pairing import Side
from sdviewer.repair.matching.matching import match


def matched(
    a: Side, b: Side, made: Collection[tuple[int, int]], refused: Collection[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """More pairs of two sides, one tensor each: those that the engine is sure of, or finds likely."""
    found = match(_table(a), _table(b), hand=made, broken=refused)
    for one in found.found:
        if one.by != "hand" and one.evidence != "ambiguous" and len(one.sources) == len(one.targets) == 1:
            yield one.sources[0], one.targets[0]


def _table(side: Side) -> KeyTable:
    keys = tuple([side.names.get(at, key) for at, key in enumerate(side.keys)])
    # safetensors and others sort their keys: then their order says nothing.
    return KeyTable(keys, side.shapes, side.dtypes, ordered=list(keys) != sorted(keys))
