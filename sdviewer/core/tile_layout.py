"""Where tiles stand: in file order from the left, with areas as their weights, alike blocks in alike rectangles.

Groups that stand in one module make a section, as broad as its share; inside, alike ones stand in a grid, others in
rows; a block that lacks a bias is alike. A squarified map would use the room better and tear apart what follows one
another. What would be too small to be seen is enlarged, and one tile is never more than `CUT` of all, so that one
embedding does not hide the rest: where either was done is said by `Layout`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

CUT: Final = 0.4
NARROWEST: Final = 58.0
"""Pixels of a section, where there is room."""
LOWEST: Final = 22.0
HEADER: Final = 19.0
"""Pixels for the name above a group's tiles; groups lower or narrower than `TIGHT` have none."""
TIGHT: Final = 30.0
GAP: Final = 4.0
INNER: Final = 1.0
SMALL_SECTION: Final = 0.04
STRIPS: Final = 12
"""Weights up to which the best rows are searched for, above which they are cut evenly."""
SLIVER: Final = 0.03
"""The least share of a group that a tile of it is drawn with."""
ALIKE: Final = 0.02
"""How much smaller than the largest a group may be that gets a cell of the same size."""


class Rect(NamedTuple):
    """In pixels, from the top left."""

    x: float
    y: float
    width: float
    height: float

    def holds(self, x: float, y: float) -> bool:
        """Whether a point is inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


class Layout(NamedTuple):
    """Rectangles of the groups and of their tiles; `cut` are (group, tile) drawn smaller than they are."""

    groups: list[Rect]
    tiles: list[list[Rect]]
    headers: list[bool]
    cut: set[tuple[int, int]]
    enlarged: bool


class Weights(NamedTuple):
    """A group for the layout: the module that it stands in, and its tiles' elements."""

    container: int
    tiles: tuple[int, ...]


def lay_out(groups: Sequence[Weights], width: float, height: float) -> Layout:
    """Rectangles for groups of tiles in an area of this size."""
    if not groups or width < 8 or height < 8:
        return Layout([], [], [], set(), False)
    tiles, cut = _cut(groups)
    sizes = [sum(inside) for inside in tiles]
    sections = _sections(groups, sizes)
    shares = [sum(sizes[at] for at in section) for section in sections]
    room = width - GAP * (len(sections) - 1)
    widths, enlarged = _share_out(shares, room, min(NARROWEST, room / len(sections)))
    rects: list[Rect] = [Rect(0, 0, 0, 0)] * len(groups)
    x = 0.0
    for section, broad in zip(sections, widths, strict=True):
        weights = [sizes[at] for at in section]
        alike = _are_alike(weights)
        placed, more = _grid(len(section), broad, height) if alike else _rows(weights, broad, height)
        enlarged = enlarged or more
        for at, rect in zip(section, placed, strict=True):
            rects[at] = rect._replace(x=rect.x + x)
        x += broad + GAP
    inside, headers = [], []
    known: dict[tuple[tuple[float, ...], int, int], list[Rect]] = {}
    for rect, weights_of in zip(rects, tiles, strict=True):
        header = rect.height >= TIGHT and rect.width >= TIGHT
        top = HEADER if header else INNER
        area = (rect.width - 2 * INNER, rect.height - top - INNER)
        key = (weights_of, round(area[0] * 8), round(area[1] * 8))
        if key not in known:
            known[key] = _strips(weights_of, *area)
        inside.append([Rect(r.x + rect.x + INNER, r.y + rect.y + top, r.width, r.height) for r in known[key]])
        headers.append(header)
    return Layout(rects, inside, headers, cut, enlarged)


def _cut(groups: Sequence[Weights]) -> tuple[list[tuple[float, ...]], set[tuple[int, int]]]:
    """The weights of all tiles; one or two that are more than `CUT` of all are made that."""
    every = sum(sum(group.tiles) for group in groups) or 1
    large = [(g, t) for g, group in enumerate(groups) for t, n in enumerate(group.tiles) if n > CUT * every]
    rest = every - sum(groups[g].tiles[t] for g, t in large)
    cut = set(large) if rest > 0 and len(groups) > 1 else set()
    made = []
    for g, group in enumerate(groups):
        weights = [CUT / (1 - CUT * len(cut)) * rest if (g, t) in cut else float(n) for t, n in enumerate(group.tiles)]
        least = sum(weights) * SLIVER
        made.append(tuple(max(weight, least, 1e-9) for weight in weights))
    return made, cut


def _sections(groups: Sequence[Weights], sizes: Sequence[float]) -> list[list[int]]:
    """Neighbours in the same module; small neighbours together, whatever they stand in."""
    total = sum(sizes)
    by_module = [
        [at for at, _ in run] for _, run in itertools.groupby(enumerate(groups), key=lambda pair: pair[1].container)
    ]
    sections: list[list[int]] = []
    for run in by_module:
        # A large one that stands between blocks and what ends the model does not join their grid.
        pieces = _alike_runs(run, sizes) if len(run) > 2 else [run]
        for piece in pieces:
            small = sum(sizes[at] for at in piece) < SMALL_SECTION * total
            if small and sections and sum(sizes[at] for at in sections[-1]) < SMALL_SECTION * total:
                sections[-1] += piece
            else:
                sections.append(list(piece))
    return sections


def _alike_runs(run: list[int], sizes: Sequence[float]) -> list[list[int]]:
    """A run cut before and behind the alike ones of it where those are most of it, and at least three."""
    runs: list[list[int]] = []
    for at in run:
        if runs and _are_alike([sizes[other] for other in (*runs[-1], at)]):
            runs[-1].append(at)
        else:
            runs.append([at])
    longest = max(runs, key=len)
    if len(longest) < 3 or len(longest) * 2 < len(run):
        return [run]
    start = run.index(longest[0])
    return [part for part in (run[:start], longest, run[start + len(longest) :]) if part]


def _are_alike(sizes: Sequence[float]) -> bool:
    return min(sizes) >= (1 - ALIKE) * max(sizes)


def _share_out(weights: Sequence[float], room: float, least: float) -> tuple[list[float], bool]:
    """`room` in the proportion of weights, none less than `least`; whether any was enlarged to that."""
    small: set[int] = set()
    while True:
        rest = sum(weight for at, weight in enumerate(weights) if at not in small) or 1.0
        free = room - least * len(small)
        more = {at for at, weight in enumerate(weights) if at not in small and weight / rest * free < least}
        if not more or len(small) + len(more) == len(weights):
            break
        small |= more
    if len(small) == len(weights):
        return [room / len(weights)] * len(weights), True
    return [least if at in small else weight / rest * free for at, weight in enumerate(weights)], bool(small)


def _grid(number: int, width: float, height: float) -> tuple[list[Rect], bool]:
    """Equal cells, row by row."""

    def badness(rows: int) -> float:
        columns = -(-number // rows)
        across, down = width / columns, height / rows
        # Somewhat broader than high suits names.
        aspect = max(across / (down * 1.3), down * 1.3 / across)
        return aspect + 3 * (columns * rows - number) / number

    rows = min(range(1, number + 1), key=badness)
    columns = -(-number // rows)
    across = (width - GAP * (columns - 1)) / columns
    down = (height - GAP * (rows - 1)) / rows
    cells = [
        Rect(at % columns * (across + GAP), at // columns * (down + GAP), max(across, 1), max(down, 1))
        for at in range(number)
    ]
    return cells, False


def _rows(weights: Sequence[float], width: float, height: float) -> tuple[list[Rect], bool]:
    """Rows in order, each as high as its share, its groups as broad as theirs."""
    rows = _best_rows(weights, width, height)
    room = height - GAP * (len(rows) - 1)
    highs, enlarged = _share_out([sum(weights[at] for at in row) for row in rows], room, min(LOWEST, room / len(rows)))
    made: list[Rect] = []
    y = 0.0
    for row, high in zip(rows, highs, strict=True):
        across = width - GAP * (len(row) - 1)
        broads, more = _share_out([weights[at] for at in row], across, min(LOWEST, across / len(row)))
        enlarged = enlarged or more
        x = 0.0
        for broad in broads:
            made.append(Rect(x, y, max(broad, 1), max(high, 1)))
            x += broad + GAP
        y += high + GAP
    return made, enlarged


def _best_rows(weights: Sequence[float], width: float, height: float) -> list[range]:
    """The weights in order cut into rows whose rectangles are as square as can be."""
    n, total = len(weights), sum(weights)
    sums = [0.0, *itertools.accumulate(weights)]

    def badness(start: int, end: int) -> float:
        high = (sums[end] - sums[start]) / total * height
        worst = 0.0
        for at in range(start, end):
            broad = weights[at] / (sums[end] - sums[start]) * width
            worst += max(broad / high, high / broad) * weights[at]
        return worst

    if n > STRIPS:

        def even(number: int) -> list[range]:
            ends, at = [], 0
            for row in range(1, number):
                while at < n and sums[at] < total * row / number:
                    at += 1
                ends.append(at)
            return [range(a, b) for a, b in itertools.pairwise([0, *ends, n]) if b > a]

        choices = [even(number) for number in range(1, min(n, 16) + 1)]
        return min(choices, key=lambda rows: sum(badness(row.start, row.stop) for row in rows))
    best: list[tuple[float, list[range]]] = [(0.0, [])]
    for end in range(1, n + 1):
        best.append(
            min(
                ((best[start][0] + badness(start, end), [*best[start][1], range(start, end)]) for start in range(end)),
                key=lambda pair: pair[0],
            )
        )
    return best[n][1]


def _strips(weights: Sequence[float], width: float, height: float) -> list[Rect]:
    """A group's tiles in columns, without gaps but a line; what lies flat is laid in rows."""
    if width <= 1 or height <= 1:
        # Less than a pixel: the first has it.
        return [Rect(0, 0, max(width, 0), max(height, 0)), *[Rect(0, 0, 0, 0)] * (len(weights) - 1)]
    turned = width > height * 2.2
    long, short = (width, height) if turned else (height, width)
    total = sum(weights)
    made: list[Rect] = []
    across = 0.0
    for row in _best_rows(weights, long, short):
        share = sum(weights[at] for at in row)
        thick = share / total * short
        along = 0.0
        for at in row:
            length = weights[at] / share * long
            made.append(Rect(along, across, length, thick) if turned else Rect(across, along, thick, length))
            along += length
        across += thick
    return made
