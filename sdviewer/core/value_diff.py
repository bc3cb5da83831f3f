"""The leaves of two checkpoints that are no tensors and differ: epoch, loss, arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.paths import dotted


class ValueDifference(NamedTuple):
    """A leaf by its dotted name, as either side has it; None where it has none."""

    dotted: str
    a: ValueInfo | None
    b: ValueInfo | None


def value_differences(a: Sequence[ValueInfo], b: Sequence[ValueInfo]) -> list[ValueDifference]:
    """The leaves of another value or type, and those of one side alone; A's order, then what only B has."""
    of_a, of_b = _by_name(a), _by_name(b)
    found = []
    for name, info in of_a.items():
        other = of_b.get(name)
        if other is None or not _equal(info, other):
            found.append(ValueDifference(name[0], info, other))
    return found + [ValueDifference(name[0], None, info) for name, info in of_b.items() if name not in of_a]


def _by_name(values: Sequence[ValueInfo]) -> dict[tuple[str, int], ValueInfo]:
    """Each leaf by its dotted name and how many of that name stand before it."""
    seen: Counter[str] = Counter()
    named = {}
    for info in values:
        name = dotted(info.path)
        named[name, seen[name]] = info
        seen[name] += 1
    return named


def _equal(a: ValueInfo, b: ValueInfo) -> bool:
    # A NaN is what it was before; 1, 1.0 and True are not the same.
    return a.type == b.type and (a.value == b.value or repr(a.value) == repr(b.value))
