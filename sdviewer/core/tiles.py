"""A model as tiles: which modules get one when each is to be seen and there is room for some hundred.

Two levels. A group is a block (`blocks.7`), or a module or tensor that stands beside the blocks; its tiles are the
modules in it that hold tensors (`fc1`, with weight and bias). Groups and tiles stand in file order. Everything is
decided by names and element counts alone, so alike blocks are cut alike. What is too small to be seen is put together
with its neighbours, and what is too much is cut into runs; both say what they stand for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.tree import ModuleTree

MOST_GROUPS = 100
MOST_TILES = 640
MOST_IN_GROUP = 14
OPENED = 0.03
"""Share of all elements from which a module beside the blocks is opened."""
MOST_OPENED = 200
"""Rows of a group, small ones too, up to which its modules are opened."""
SMALL_GROUP = 0.004
SMALL_TILE = 0.01
"""Shares, of all and of the group, below which neighbours are put together."""
RUNS = 64
"""Groups that a module of more blocks than there may be groups is cut into."""
MOST_CROWDED = 3 * MOST_GROUPS
"""Groups above which neighbours are put together whatever they stand in."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: the row it leads to, its name inside the group, its elements, its largest tensor (-1 for none).

    `tensors` counts those it stands for, `modules` the rows of the tree: more than one where they were put together.
    """

    row: int
    name: str
    params: int
    tensor: int
    tensors: int
    modules: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """One block, or what stands beside blocks. `container` is the row of the module it stands in."""

    row: int
    name: str
    params: int
    container: int
    tiles: tuple[Tile, ...]


def model_rows(checkpoint: Checkpoint, tree: ModuleTree) -> list[int]:
    """The rows whose modules are shown: the models; where there is none, all that holds tensors but optimizers."""
    tops = [row for row in range(len(tree)) if tree.state_dict[row] >= 0 and tree.entry[row] < 0 and tree.params[row]]
    for role in ("model", "ema", "other"):
        if found := [row for row in tops if checkpoint.state_dicts[tree.state_dict[row]].role == role]:
            return _outermost(tree, found)
    row, rest = 0, []
    while row < len(tree):
        if tree.params[row]:
            rest.append(row)
        row = tree.end[row]
    return [row for row in rest if tree.kind[row] != "optimizer"] or rest


def _outermost(tree: ModuleTree, rows: Sequence[int]) -> list[int]:
    found: list[int] = []
    for row in rows:
        if not found or row >= tree.end[found[-1]]:
            found.append(row)
    return found


def module_tiles(tree: ModuleTree, roots: Sequence[int]) -> list[Group]:
    """The groups below these rows, in file order."""
    return _Cutter(tree, roots).groups()


class _Cutter:
    def __init__(self, tree: ModuleTree, roots: Sequence[int]) -> None:
        self.tree = tree
        self.roots = dict.fromkeys(roots)
        self.total = sum(tree.params[row] for row in self.roots) or 1
        self._children: dict[int, list[int]] = {}

    # What the tree says

    def children(self, row: int) -> list[int]:
        """The rows directly below that hold elements and are kept; folds are looked through."""
        known = self._children.get(row)
        if known is not None:
            return known
        tree, found = self.tree, []
        at, end = row + 1, tree.end[row]
        while at < end:
            if tree.kind[at] == "fold":
                at += 1
                continue
            if tree.params[at] and not tree.dropped[at]:
                found.append(at)
            at = tree.end[at]
        self._children[row] = found
        return found

    def is_tensor(self, row: int) -> bool:
        return self.tree.tensor[row] >= 0

    def is_numbered(self, row: int) -> bool:
        return self.tree.name[row].partition(".")[0].isdigit()

    def holds_blocks(self, row: int) -> bool:
        children = self.children(row)
        return len(children) > 1 and sum(map(self.is_numbered, children[:8])) > 1

    def largest(self, row: int) -> int:
        """The index of the largest tensor at or below a row, -1 for none."""
        tree = self.tree
        rows = [at for at in range(row, tree.end[row]) if tree.tensor[at] >= 0 and not tree.dropped[at]]
        return tree.tensor[max(rows, key=lambda at: tree.params[at])] if rows else -1

    # Groups

    def groups(self) -> list[Group]:
        rows = [(row, root) for root in self.roots for row in self.children(root) or [root]]
        made: list[Group] = []
        rows = self._open(rows)
        cap = max(1, min(MOST_IN_GROUP, MOST_TILES // max(len(rows), 1)))
        if len(rows) > MOST_GROUPS:
            modules = [list(pairs) for _, pairs in itertools.groupby(rows, key=lambda pair: pair[1])]
            if sum(min(len(pairs), RUNS) for pairs in modules) > MOST_CROWDED:
                return [self._run(run) for run in _runs(rows, RUNS)]
            for pairs in modules:
                if len(pairs) > RUNS:
                    made += [self._run(run) for run in _runs(pairs, RUNS)]
                else:
                    made += self._few(pairs, MOST_IN_GROUP)
            return made
        return self._few(rows, cap)

    def _few(self, rows: Sequence[tuple[int, int]], cap: int) -> list[Group]:
        """A group for each of these rows; small neighbours together."""
        made: list[Group] = []
        small: list[tuple[int, int]] = []

        def put_small() -> None:
            if len(small) == 1:
                row, container = small[0]
                made.append(Group(row, self._name(row), self.tree.params[row], container, (self._tile(row),)))
            elif small:
                made.append(self._together(small))
            small.clear()

        crowded = len(rows) > 3
        for row, container in rows:
            tiny = crowded and self.tree.params[row] < SMALL_GROUP * self.total
            if not tiny or (small and small[-1][1] != container):
                put_small()
            if tiny:
                small.append((row, container))
            else:
                made.append(self._group(row, container, cap))
        put_small()
        return made

    def _open(self, rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Open module after module, the largest first, while there is room."""
        closed: set[int] = set()
        while True:
            # Where there are too many already, none but one that is half of all has a chance.
            least = 0.5 * self.total if len(rows) > MOST_GROUPS else 0
            params = self.tree.params
            candidates = [row for row, _ in rows if row not in closed and params[row] >= least and self._opens(row)]
            if not candidates:
                return rows
            largest = max(candidates, key=lambda row: params[row])
            # Blocks that are alike are opened together or not at all.
            alike = [row for row in candidates if self._alike(row, largest)]
            room = MOST_GROUPS - len(rows) + len(alike)
            wanted = sum(len(self.children(row)) for row in alike)
            chosen = set(alike)
            if wanted > room and not (len(alike) == 1 and params[largest] >= 0.5 * self.total):
                closed |= chosen
                continue
            rows = [
                pair
                for row, container in rows
                for pair in ([(child, row) for child in self.children(row)] if row in chosen else [(row, container)])
            ]
            if len(rows) > MOST_GROUPS:
                return rows

    def _alike(self, row: int, other: int) -> bool:
        tree = self.tree
        return tree.params[row] == tree.params[other] and tree.end[row] - row == tree.end[other] - other

    def _opens(self, row: int) -> bool:
        """Whether what is below a row is shown in groups of its own."""
        children = self.children(row)
        if self.is_tensor(row) or not children or all(map(self.is_tensor, children)):
            return False
        if self.is_numbered(row):
            return self._is_stage(row)
        if len(children) == 1:
            return True
        if self.holds_blocks(row):
            return self.tree.params[row] >= OPENED * self.total
        blocks = any(self.holds_blocks(child) for child in children)
        return self.tree.params[row] >= (OPENED if blocks else 0.25) * self.total

    def _is_stage(self, row: int) -> bool:
        """Whether a numbered module holds blocks and is none, as in a hierarchical transformer: no two are alike."""
        inner = [at for at in (row, *self.children(row)) if self.holds_blocks(at)]
        if sum(self.tree.params[child] for child in inner) < 0.5 * self.tree.params[row]:
            return False
        above = self.tree.parent[row]
        while above >= 0 and self.tree.kind[above] == "fold":
            above = self.tree.parent[above]
        siblings = self.children(above) if above >= 0 else [row]
        return not any(self._alike(row, other) for other in siblings if other != row)

    def _name(self, row: int) -> str:
        """The module path from the root of the model, without the roots' own names unless there are several."""
        tree = self.tree
        names = [tree.name[row]]
        while row not in self.roots and (row := tree.parent[row]) >= 0:
            if tree.kind[row] != "fold" and (row not in self.roots or len(self.roots) > 1):
                names.append(tree.name[row])
        return _without_weight(".".join(reversed(names)))

    def _group(self, row: int, container: int, cap: int) -> Group:
        tiles = [self._tile(row)] if self._is_whole(row) else self._cut(row, cap)
        return Group(row, self._name(row), self.tree.params[row], container, tuple(tiles))

    def _together(self, small: Sequence[tuple[int, int]]) -> Group:
        """Several small neighbours as one group, a tile each."""
        tree = self.tree
        tiles = [self._tile(row) for row, _ in small[:MOST_IN_GROUP]]
        if len(small) > MOST_IN_GROUP:
            tiles[-1] = self._joined([row for row, _ in small[MOST_IN_GROUP - 1 :]])
        first, container = small[0]
        name = f"{self._name(first)} + {len(small) - 1:,}"
        return Group(first, name, sum(tree.params[row] for row, _ in small), container, tuple(tiles))

    def _run(self, run: Sequence[tuple[int, int]]) -> Group:
        """Many neighbours as one group and one tile."""
        tile = self._joined([row for row, _ in run])
        first = self._name(run[0][0])
        alone = run[0][1] == run[-1][1]
        last = self.tree.name[run[-1][0]] if alone else self._name(run[-1][0])
        name = first if len(run) == 1 else f"{first} – {last}"
        return Group(run[0][0], name, tile.params, run[0][1], (tile,))

    # Tiles of a group

    def _is_whole(self, row: int) -> bool:
        """Whether a module is one tile: it holds one large tensor and what belongs to that."""
        children = self.children(row)
        if self.is_tensor(row) or not children:
            return True
        if not all(map(self.is_tensor, children)):
            return False
        sizes = sorted((self.tree.params[child] for child in children), reverse=True)
        return len(sizes) < 2 or sizes[1] < 0.1 * sizes[0]

    def _cut(self, row: int, cap: int) -> list[Tile]:
        tree = self.tree
        rows = self.children(row)
        if len(rows) <= cap:
            while open_ones := [at for at in rows if not self._is_whole(at)]:
                largest = max(open_ones, key=lambda at: tree.params[at])
                alike = {at for at in open_ones if self._alike(at, largest)}
                opened = [new for at in rows for new in (self.children(at) if at in alike else [at])]
                big = sum(1 for at in opened if tree.params[at] >= SMALL_TILE * tree.params[row])
                if big > cap or len(opened) > MOST_OPENED:
                    break
                rows = opened
        large = [at for at in rows if tree.params[at] >= SMALL_TILE * tree.params[row]]
        rest = [at for at in rows if tree.params[at] < SMALL_TILE * tree.params[row]]
        if len(large) > cap:
            tiles = [self._joined(run) for run in _runs(large, cap)]
        else:
            tiles = [self._tile(at) for at in large]
        if rest:
            tiles.append(self._joined(rest))
        return tiles

    def _tile(self, row: int) -> Tile:
        return Tile(row, self._short(row), self.tree.params[row], self.largest(row), self.tree.tensors[row] or 1)

    def _short(self, row: int) -> str:
        """The last name, without the `.weight` that stands for the module; a number with what it counts."""
        name = _without_weight(self.tree.name[row])
        above = self.tree.parent[row]
        while above >= 0 and self.tree.kind[above] == "fold":
            above = self.tree.parent[above]
        return f"{self.tree.name[above]}.{name}" if name.isdigit() and above >= 0 and above not in self.roots else name

    def _joined(self, rows: Sequence[int]) -> Tile:
        if len(rows) == 1:
            return self._tile(rows[0])
        tree = self.tree
        first, last = self._short(rows[0]), self._short(rows[-1])
        if all(self.is_numbered(row) for row in rows):
            name = f"{first} – {tree.name[rows[-1]]}"
        else:
            what = "tensors" if all(map(self.is_tensor, rows)) else "modules"
            name = f"{first}, {last}" if len(rows) == 2 else f"{len(rows):,} {what}"
        biggest = max(rows, key=lambda row: tree.params[row])
        params = sum(tree.params[row] for row in rows)
        return Tile(
            rows[0], name, params, self.largest(biggest), sum(tree.tensors[row] or 1 for row in rows), len(rows)
        )


def _without_weight(name: str) -> str:
    return name.removesuffix(".weight") if "." in name else name


_Item = TypeVar("_Item")


def _runs(items: Sequence[_Item], number: int) -> list[Sequence[_Item]]:
    """The items, of which there are more, cut into so many runs of as near the same length as can be."""
    return [items[len(items) * i // number : len(items) * (i + 1) // number] for i in range(number)]
