"""What runs through the blocks of a model: for each module of numbered blocks, each component over the block's number.

A component is a key with the block's number out: `attn.qkv.weight` of `blocks.7.attn.qkv.weight`. Modules whose paths
differ by numbers alone (`layer1` to `layer4`, `stages.0.blocks` to `stages.3.blocks`) are offered as one, too.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_SERIES = 24
MOST_BLOCKS = 20_000
"""Blocks up to which a module of blocks is a series: beyond, a list is numbered and not the depth of a model."""
FEW_MEMBERS = 8
"""Modules of blocks up to which each is offered beside all of them as one."""
SMALL = 0.02
"""Share of the largest series below which one is not offered."""
SHORT = 4
"""Blocks from which a series is preferred to a larger one that is shorter."""
LONGEST_NUMBER = 9
MOST_NUMBERS = 16
"""Numbers of a key that are looked at: for each, the key is kept once more without it."""

_NUMBER = re.compile(r"(?:^|(?<=\.))(\d{1,9})\.")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Line:
    """One component: `tensors[i]` is the index of its tensor in block `places[i]` of the series."""

    name: str
    places: tuple[int, ...]
    tensors: tuple[int, ...]
    params: int
    matrix: bool


@dataclass(frozen=True, slots=True)
class Series:
    """A module of blocks. `blocks` are their names in order; lines have the largest first."""

    name: str
    blocks: tuple[str, ...]
    lines: tuple[Line, ...]
    params: int


def find_series(keys: Iterable[tuple[int, str, Sequence[int], int]]) -> list[Series]:
    """The modules of numbered blocks among (tensor, key, shape, elements), that of the most elements first."""
    found: dict[str, dict[str, list[tuple[int, int, int, bool]]]] = defaultdict(lambda: defaultdict(list))
    for tensor, key, shape, elements in keys:
        for hit in itertools.islice(_NUMBER.finditer(key), MOST_NUMBERS):
            container, rest = key[: max(hit.start() - 1, 0)], key[hit.end() :]
            found[container][rest].append((int(hit[1]), tensor, elements, len(shape) > 1))
    made = [series for container, parts in found.items() if (series := _series(container, parts)) is not None]
    made = _together(made)
    largest = max((series.params for series in made), default=0)
    made = [series for series in made if series.params >= SMALL * largest]
    made.sort(key=lambda series: (len(series.blocks) < SHORT, -series.params))
    return made[:MOST_SERIES]


def _series(container: str, parts: dict[str, list[tuple[int, int, int, bool]]]) -> Series | None:
    numbers = sorted({number for points in parts.values() for number, *_ in points})
    if not 1 < len(numbers) <= MOST_BLOCKS:
        return None
    place = {number: at for at, number in enumerate(numbers)}
    lines = []
    for rest, points in parts.items():
        if len(points) < 2:
            continue
        points.sort()
        params = sum(elements for _, _, elements, _ in points)
        places, tensors = tuple(place[number] for number, *_ in points), tuple(tensor for _, tensor, *_ in points)
        lines.append(Line(rest, places, tensors, params, any(matrix for *_, matrix in points)))
    return _made(container, tuple(map(str, numbers)), lines)


def _together(series: list[Series]) -> list[Series]:
    """All of them, and those whose modules' paths are alike but for numbers also as one, which many are only as."""
    alike: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        if _DIGITS.search(one.name):
            alike[_DIGITS.sub("*", one.name)].append(one)
    made: list[Series] = []
    gone: set[str] = set()
    for pattern, members in alike.items():
        if len(members) > FEW_MEMBERS:
            gone |= {one.name for one in members}
        if len(members) < 2 or sum(len(one.blocks) for one in members) > MOST_BLOCKS:
            continue
        members = sorted(
            members, key=lambda one: [int(digits[:LONGEST_NUMBER]) for digits in _DIGITS.findall(one.name)]
        )
        lines: dict[str, list[tuple[Line, int]]] = defaultdict(list)
        blocks: list[str] = []
        start = 0
        for one in members:
            blocks += [f"{one.name}.{block}" for block in one.blocks]
            for line in one.lines:
                lines[line.name].append((line, start))
            start += len(one.blocks)
        joined = [
            Line(
                name,
                tuple(place + offset for line, offset in pieces for place in line.places),
                tuple(tensor for line, _ in pieces for tensor in line.tensors),
                sum(line.params for line, _ in pieces),
                any(line.matrix for line, _ in pieces),
            )
            for name, pieces in lines.items()
        ]
        if (whole := _made(pattern, tuple(blocks), joined)) is not None:
            made.append(whole)
    return [one for one in series if one.name not in gone] + made


def _made(name: str, blocks: tuple[str, ...], lines: list[Line]) -> Series | None:
    if not lines:
        return None
    lines.sort(key=lambda line: (not line.matrix, -line.params))
    return Series(name, blocks, tuple(lines), sum(line.params for line in lines))
