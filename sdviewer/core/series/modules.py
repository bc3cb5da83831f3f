"""Which modules are followed over the steps of a series, in the order of their depth, and which one leaves the others.

A module is as much of a key as tells the parts of a model apart: numbered blocks one by one, and the large parts beside
them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sdviewer.core.series.presence import common_prefix

MOST_MODULES: Final = 64
"""Modules that are followed: so many lines can be told apart, if hardly."""

ENOUGH: Final = 8
"""Modules from which none is looked into for smaller ones."""

SPREADS: Final = 6.0
"""A line leaves the others where it is so many times as far from their middle as half of them are ..."""

LEAST: Final = math.log(1.25)
"""... and has grown or shrunk by a quarter against them."""


class Outlier(NamedTuple):
    """A line that goes another way than the others: which, and how many times as much it grew, or less than once."""

    line: int
    times: float


def modules_of(sizes: Mapping[str, int]) -> tuple[list[str], list[int]]:
    """The names of the modules that are followed, and for each key (in order, with its elements) the number of its one.

    Begins with the parts below what all keys begin with, and looks into lists of blocks, and into the largest part as
    long as there are few. Where there are too many blocks, neighbours are taken together.
    """
    keys = list(sizes)
    common = common_prefix(keys)
    homes = [_head(key, common, 1) for key in keys]
    depth = dict.fromkeys(homes, 1)
    while True:
        totals: dict[str, int] = {}
        members: dict[str, set[str]] = {}
        for key, home in zip(keys, homes, strict=True):
            totals[home] = totals.get(home, 0) + sizes[key]
            members.setdefault(home, set()).add(_head(key, common, depth[home] + 1))
        split = _to_split(totals, members)
        if split is None:
            break
        for at, key in enumerate(keys):
            if homes[at] == split:
                homes[at] = _head(key, common, depth[split] + 1)
                depth[homes[at]] = depth[split] + 1
    names = list(dict.fromkeys(homes))
    numbers = {name: at for at, name in enumerate(names)}
    groups = [numbers[home] for home in homes]
    if len(names) <= MOST_MODULES:
        return [name.removeprefix(common) for name in names], groups
    return _together([name.removeprefix(common) for name in names], groups)


def _head(key: str, common: str, parts: int) -> str:
    return common + ".".join(key[len(common) :].split(".")[:parts])


def _to_split(totals: Mapping[str, int], members: Mapping[str, set[str]]) -> str | None:
    """The module to be looked into next: a list of blocks, else the largest while there are few."""
    for name, inside in members.items():
        numbers = [part for part in inside if part.rsplit(".", 1)[-1].isdecimal() and part != name]
        if len(inside) > 1 and len(numbers) == len(inside):
            return name
    if len(totals) >= ENOUGH:
        return None
    inner = [name for name, inside in members.items() if len(inside) > 1 and _is_module(name, inside)]
    return max(inner, key=totals.__getitem__, default=None)


def _is_module(name: str, inside: set[str]) -> bool:
    """Whether what is inside are modules and not only a weight and its bias."""
    return any(not part.endswith(LEAVES) for part in inside)


LEAVES: Final = (".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked")


def _together(names: Sequence[str], groups: Sequence[int]) -> tuple[list[str], list[int]]:
    """Neighbours as one, so that there are at most `MOST_MODULES`."""
    every = -(-len(names) // MOST_MODULES)
    made = []
    for start in range(0, len(names), every):
        last = names[min(start + every, len(names)) - 1]
        made.append(names[start] if last == names[start] else f"{names[start]} \N{EN DASH} {_last(last)}")
    return made, [group // every for group in groups]


def _last(name: str) -> str:
    hit = re.search(r"\d[^.]*$", name)
    return hit[0] if hit else name


def find_outlier(lines: Sequence[Sequence[float]]) -> Outlier | None:
    """The line that has grown by far more, or less, than the others since it began; None where all go alike.

    What is no number, or no more than zero, is passed over: that such a line ends is told elsewhere.
    """
    grown = [_growth(line) for line in lines]
    known = [value for value in grown if value is not None]
    if len(known) < 4:
        return None
    middle = statistics.median(known)
    spread = statistics.median(abs(value - middle) for value in known)
    far = [(abs(value - middle), at) for at, value in enumerate(grown) if value is not None]
    most, line = max(far)
    value = grown[line]
    if value is None or most < max(SPREADS * spread, LEAST):
        return None
    return Outlier(line, math.exp(value))


def _growth(line: Sequence[float]) -> float | None:
    """The logarithm of how many times as large its last number is as its first."""
    there = [value for value in line if math.isfinite(value) and value > 0]
    return math.log(there[-1] / there[0]) if len(there) > 1 else None
