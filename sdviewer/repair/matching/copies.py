"""A network that one side holds several times and the other has fewer places for: a momentum encoder, an average.

Training keeps such copies: MoCo `encoder_k`, BYOL `target_encoder`, DINO `teacher`, an EMA beside its model. All have
the keys and shapes of their network, so nothing tells their tensors apart but the names in front of them. Matched
tensor by tensor, what loads would be a mixture of several trainings: one copy is chosen, the others are put aside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, NamedTuple

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.contents import Contents, View
from sdviewer.repair.matching.families import Shape
from sdviewer.repair.matching.names import read_name, words_of
from sdviewer.repair.matching.similarity import SYNONYM, alike
from sdviewer.repair.wording import quoted

LEAST: Final = 4
"""Tensors that a copy has at least."""

SHARE: Final = 0.15
"""Share of all tensors that a copy has at least: two layers that are alike are none."""

HALF: Final = 0.5
"""Share of a copy that must have its place on the other side, for that to have one at all."""

QUARTER: Final = 0.25
"""Share of a copy that must have shapes of the other side, for these to tell how many copies that has."""

SAMPLE: Final = 6
"""Tensors of each copy whose values are compared."""

FOLLOWERS: Final = frozenset(
    {"momentum", "ema", "avg", "average", "averaged", "swa", "shadow", "polyak", "slow", "target", "k", "moving"}
)
"""Words for the copy that follows the network in training, and is not loaded where that is asked for."""

ANY_NETWORK: Final = frozenset({"model", "backbone", "transformer", "encoder", "decoder", "net", "network", "module"})
"""Words that say nothing of a network but that it is one."""

EITHER: Final = frozenset({"teacher", "student"})
"""Words for two copies of which people load now the one, now the other."""

_BITS: Final = (1 << 61) - 1
_NUMBER: Final = re.compile(r"\d+$")

Path = tuple[str, ...]


class Copy(NamedTuple):
    """What stands below a path: positions of its tensors in the table, and of the ones that all copies have."""

    path: Path
    positions: Sequence[int]
    alike: Sequence[int]


@dataclass(frozen=True, slots=True)
class Choice:
    """Of some copies those that are matched and those that are put aside; `sure`: names or values tell which."""

    taken: Sequence[Copy]
    aside: Sequence[Copy]
    sure: bool

    @property
    def reason(self) -> str:
        """Why the others go, within a sentence."""
        return f"another copy of {_named(self.taken)}"

    @property
    def doubt(self) -> str:
        """What a person has to know who takes these."""
        which, taken = _named([*self.taken, *self.aside]), _named(self.taken)
        said = f"{which[:1].upper()}{which[1:]} are copies of one network, and nothing tells which is meant"
        return f"{said}: {taken} would be taken; drop it first to take another"


def choices(
    table: KeyTable, other: KeyTable, *, by_hand: Collection[int] = (), contents: Contents | None = None
) -> list[Choice]:
    """What of a table is matched where it has more copies of a network than the other one.

    `by_hand` are positions of tensors that a person paired: their copies are meant. `contents` is as for `match`.
    """
    if not _has_more(table, other):
        return []
    tree = _Tree.of(table)
    found: list[Choice] = []
    roots: list[Path] = []
    others: set[str] | None = None
    for paths, shared in _alike(tree, table):
        copies_at = _roots(paths)
        apart = [path for path in copies_at or () if path]
        if copies_at is None or any(_within(path, root) or _within(root, path) for path in apart for root in roots):
            continue
        wanted = _places(shared[0], table, other)
        if not 0 < wanted < len(paths) or _has_all(other, copies_at):
            continue
        others = _words(other) if others is None else others
        below = _below(tree, copies_at)
        if () in copies_at:  # (of the whole table only what the others have as well)
            below[copies_at.index(())] = shared[copies_at.index(())]
        copies = [Copy(*one) for one in zip(copies_at, below, shared, strict=True)]
        told = (
            [at for at, copy in enumerate(copies) if set(by_hand).intersection(copy.positions)],
            _same_values(copies, table, other, contents),
            _same_keys(copies, table, other),
        )
        found.append(_chosen(copies, wanted, told, others))
        roots += filter(None, copies_at)
    return [*found, *_flattened(tree, table, other)]


@dataclass(slots=True)
class _Tree:
    """The modules of a table by number: 0 is the root, and one has a greater number than the one that holds it.

    `homes` are the modules of the keys, `parts` their components. By module: `parents` and `names` as they say, `own`
    how many tensors it holds itself, `counts` how many stand below it, `marks` equal numbers for equal keys and shapes.
    """

    parts: list[Path]
    homes: list[int]
    parents: list[int]
    names: list[str]
    own: list[int]
    counts: list[int]
    marks: list[int]

    @classmethod
    def of(cls, table: KeyTable) -> _Tree:
        """Read all keys of a table."""
        parts_of = [read_name(key).parts for key in table.keys]
        known: dict[Path, int] = {(): 0}
        parents, names, marks, own = [0], [""], [0], [0]
        homes = []
        for parts, shape in zip(parts_of, table.shapes, strict=True):
            path = parts[:-1]
            module = known.get(path, -1)
            if module < 0:
                module = 0
                for depth in range(1, len(path) + 1):
                    below = known.get(path[:depth], -1)
                    if below < 0:
                        below = known[path[:depth]] = len(parents)
                        parents.append(module)
                        names.append(path[depth - 1])
                        marks.append(0)
                        own.append(0)
                    module = below
            homes.append(module)
            marks[module] += hash((parts[-1], shape))
            own[module] += 1
        counts = list(own)
        for module in range(len(parents) - 1, 0, -1):
            marks[module] &= _BITS
            marks[parents[module]] += hash((names[module], marks[module]))
            counts[parents[module]] += counts[module]
        return cls(parts_of, homes, parents, names, own, counts, marks)

    def path(self, module: int) -> Path:
        """The components that lead to a module."""
        path: list[str] = []
        while module:
            path.append(self.names[module])
            module = self.parents[module]
        return tuple(reversed(path))


def _flattened(tree: _Tree, table: KeyTable, other: KeyTable) -> list[Choice]:
    """Averages that keep every key of a module in one component, without its dots.

    Fact: `LitEma` of latent-diffusion: `model_ema.` and the key of the parameter in `model`, with its dots taken out.
    """
    least = max(LEAST, SHARE * len(table))
    found = []
    for module in [module for module, own in enumerate(tree.own) if module and own >= least]:
        flat = tree.path(module)
        names = {parts[-1]: at for at, parts in enumerate(tree.parts) if tree.homes[at] == module}
        if any(_within(read_name(key).parts, flat) for key in other.keys):
            continue
        met: Counter[Path] = Counter()
        for at, parts in enumerate(tree.parts):
            for depth in range(len(parts) - 1):
                twin = names.get("".join(parts[depth:]), -1)
                if twin >= 0 and table.shapes[twin] == table.shapes[at]:
                    met[parts[:depth]] += 1
                    break
        path, n = max(met.items(), key=lambda one: one[1], default=((), 0))
        if n >= least and n > 0.9 * len(names):
            below = [at for at, parts in enumerate(tree.parts) if _within(parts, path) and not _within(parts, flat)]
            found.append(Choice([Copy(path, below, below)], [Copy(flat, list(names.values()), [])], sure=True))
    return found


def _has_more(table: KeyTable, other: KeyTable) -> bool:
    """Whether it has so many tensors that the other lacks that they could be a copy; most tables end here."""
    if table.shapes_known and other.shapes_known:
        more = Counter(table.shapes)
        more.subtract(other.shapes)
        return sum([n for n in more.values() if n > 0]) >= max(LEAST, HALF * SHARE * len(table))
    return len(table) - len(other) >= max(LEAST, HALF * SHARE * len(table))


def _alike(tree: _Tree, table: KeyTable) -> Iterator[tuple[list[Path], list[list[int]]]]:
    """Paths below which the same keys and shapes stand, with the positions of these; the largest first."""
    least = max(LEAST, SHARE * len(table))
    groups: dict[tuple[int, int], list[int]] = {}
    for module, count in enumerate(tree.counts):
        if module and count >= least:
            groups.setdefault((count, tree.marks[module]), []).append(module)
    for _, modules in sorted(groups.items(), key=lambda one: (-one[0][0], one[1])):
        paths = [tree.path(module) for module in modules]
        # (what differs in a number is a list of layers)
        if len(paths) > 1 and len({tuple([_NUMBER.sub("", part) for part in path]) for path in paths}) == len(paths):
            yield paths, _below(tree, paths)


def _roots(paths: Sequence[Path]) -> list[Path] | None:
    """The paths up to where they differ: of `student.blocks` and `teacher.blocks` these are `student` and `teacher`.

    One can be the whole table: of `blocks` and `ema.blocks` they are this and `ema`. None where one would hold another.
    """
    for same in range(min(map(len, paths)), -1, -1):
        roots = [path[: len(path) - same] for path in paths]
        ends = {path[len(path) - same :] for path in paths}
        apart = [root for root in roots if root]
        nested = any(_within(one, two) for one in apart for two in apart if one is not two)
        if len(ends) == 1 and len(apart) >= len(roots) - 1 and not nested:
            return roots
    return None


def _within(path: Path, root: Path) -> bool:
    return path[: len(root)] == root


def _below(tree: _Tree, roots: Sequence[Path]) -> list[list[int]]:
    """The positions of all that stands below each path."""
    found: dict[Path, list[int]] = {root: [] for root in roots}
    depths = {len(root) for root in roots}
    for at, parts in enumerate(tree.parts):
        for depth in depths:
            if len(parts) > depth and parts[:depth] in found:
                found[parts[:depth]].append(at)
    return [found[root] for root in roots]


def _places(alike: Sequence[int], table: KeyTable, other: KeyTable) -> int:
    """How many copies the other side has places for, by the shapes; where it fuses or stacks them, by the elements."""
    if not (table.shapes_known and other.shapes_known):
        filled = len(other) / len(alike)
    else:
        ours, theirs = Counter([table.shapes[at] for at in alike]), Counter(other.shapes)
        most = len(table) // len(alike)
        shared = {shape: n for shape, n in ours.items() if shape in theirs}
        filled = sum([min(theirs[shape], most * n) for shape, n in shared.items()]) / max(sum(shared.values()), 1)
        if sum(shared.values()) < QUARTER * len(alike):
            filled = _elements(theirs) / max(_elements(ours), 1)
    return max(1, round(filled)) if filled >= HALF else 0


def _elements(shapes: Counter[Shape]) -> int:
    return sum([prod(shape) * n for shape, n in shapes.items() if shape])


def _has_all(other: KeyTable, roots: Sequence[Path]) -> bool:
    """Whether the other side has each of some copies under its name."""
    common = set(roots[0]).intersection(*roots[1:])
    own = [set(root) - common for root in roots]
    theirs = {part for key in other.keys for part in read_name(key).parts} if all(own) else set()
    return all(parts and parts <= theirs for parts in own)


def _chosen(copies: Sequence[Copy], wanted: int, told: Sequence[Collection[int]], others: Collection[str]) -> Choice:
    """The copies that are meant: by what is `told` of them, by a word that the other side has too, by what follows."""
    said = [{word for part in copy.path for word in words_of(part)} for copy in copies]
    own = [words.difference(ANY_NETWORK, *[other for other in said if other is not words]) for words in said]
    either = any(words & EITHER for words in own)
    signs: tuple[Collection[int], ...] = (
        *told,
        [at for at, words in enumerate(own) if any(alike(one, other) >= SYNONYM for one in words for other in others)],
        [] if either else [at for at, words in enumerate(own) if not words & FOLLOWERS],
    )
    taken: list[int] = []
    left = list(range(len(copies)))
    for meant in signs:
        more = [at for at in left if at in meant]
        if 0 < len(more) <= wanted - len(taken):
            taken += more
            left = [at for at in left if at not in meant]
        elif more:
            left = more
        if len(taken) == wanted:
            break
    sure = len(taken) == wanted
    taken += left[: wanted - len(taken)]
    aside = [copy for at, copy in enumerate(copies) if at not in taken]
    return Choice([copies[at] for at in sorted(taken)], aside, sure)


def _same_keys(copies: Sequence[Copy], table: KeyTable, other: KeyTable) -> list[int]:
    """Which of the copies have the keys of the other side, most of them."""
    theirs = set(other.keys)
    return [
        at
        for at, copy in enumerate(copies)
        if sum([table.keys[place] in theirs for place in copy.alike]) > HALF * len(copy.alike)
    ]


def _words(table: KeyTable) -> set[str]:
    """The words for what a table consists of: those of its keys before the first number, else before the module."""
    parts = {_numbered(read_name(key).parts) for key in table.keys}
    return {word for path in parts for part in path for word in words_of(part)}


def _numbered(parts: Path) -> Path:
    first = next((at for at, part in enumerate(parts) if _NUMBER.search(part)), max(len(parts) - 2, 0))
    return parts[:first]


def _same_values(copies: Sequence[Copy], table: KeyTable, other: KeyTable, contents: Contents | None) -> set[int]:
    """Which of the copies have tensors that the other side holds bit for bit; none where all have, or nobody tells."""
    if contents is None:
        return set()
    times = Counter(other.shapes)
    sample = sorted(
        [n for n, at in enumerate(copies[0].alike) if len(table.shapes[at] or ()) > 1],
        key=lambda n: (times[table.shapes[copies[0].alike[n]]] or len(other), n),
    )[:SAMPLE]
    ours = [[copy.alike[n] for n in sample] for copy in copies]
    shapes = {table.shapes[at] for at in ours[0]}
    theirs = [at for at, shape in enumerate(other.shapes) if shape in shapes]
    told, held = contents([View(at) for some in ours for at in some], [View(at) for at in theirs])
    known = set(held) - {None}
    having = {at for at in range(len(copies)) if known.intersection(told[at * len(sample) : (at + 1) * len(sample)])}
    return having if len(having) < len(copies) else set()


def _named(copies: Sequence[Copy]) -> str:
    *some, last = [quoted(".".join(copy.path)) if copy.path else "the keys at the top" for copy in copies]
    return " and ".join([", ".join(some), last] if some else [last])
