"""The rows of a workbench: problems in groups, all pairs in the model's order, or both trees aligned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sdviewer.core import text
from sdviewer.core.aligned import CHILDREN, GAP_A, GAP_B, AlignedTree, Group, Leaf, Side, align
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.fit_sheet import CODES
from sdviewer.core.tree import RowKind
from sdviewer.engine.fitted import Fitted

SHOWN: Final = 8
"""Pairs of a preview that are shown before somebody asks for more."""

SETTLED: Final = ("match", "left", "dropped")
"""Rows with which nothing is to be done."""

TABS: Final = ("problems", "all", "tree")


class Pair(NamedTuple):
    """One row at the bottom: what becomes of it, an entry after the recipe or -1, a key of the target or -1, an entry
    of the state dict in the file or -1."""

    status: str
    entry: int
    wanted: int
    source: int


@dataclass(slots=True)
class Laid:
    """Rows as they stand. `statuses` and `now` are by row, `opened` the rows that are open at first."""

    tree: AlignedTree
    pairs: Sequence[Pair]
    statuses: bytearray = field(default_factory=bytearray)
    now: list[str] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)


def pairs_of(fitted: Fitted, before: Fitted | None) -> list[Pair]:
    """All rows in the order of the target, then what has no place in it. `before`: what a preview is seen against."""
    pairs: list[Pair] = []
    collided = dict(fitted.collided)

    def colliding(key: str, wanted: int) -> Iterator[Pair]:
        return (Pair("collision", at, wanted, fitted.entries[at].source) for at in collided.pop(key))

    allowed = set(fitted.allowed)
    for wanted, (entry, status) in enumerate(zip(fitted.filled, fitted.status, strict=True)):
        if wanted in allowed:
            soon = before is not None and wanted not in before.allowed
            pairs.append(Pair("will_leave" if soon else "left", -1, wanted, -1))
        if not status:
            continue
        if status == "collision":
            pairs += colliding(fitted.target.table.keys[wanted], wanted)
            continue
        new = before is not None and status == "match" and before.status[wanted] != "match"
        source = fitted.entries[entry].source if entry >= 0 else -1
        pairs.append(Pair("will_match" if new else status, entry, wanted, source))
    for key in list(collided):
        pairs += colliding(key, -1)
    pairs += [Pair("unexpected", at, -1, fitted.entries[at].source) for at in fitted.unexpected]
    gone = frozenset(before.dropped) if before is not None else None
    for source in fitted.dropped:
        pairs.append(Pair("dropped" if gone is None or source in gone else "will_drop", -1, -1, source))
    return pairs


def lay(tab: str, fitted: Fitted, before: Fitted | None, checkpoint: Checkpoint, state_dict: int) -> Laid:
    """The rows of one tab."""
    pairs = pairs_of(fitted, before)
    sides = _Sides(fitted, checkpoint, state_dict)
    if tab == "tree":
        return _tree(pairs, sides)
    if tab == "all":
        laid = Laid(AlignedTree(), pairs)
        for at, pair in enumerate(pairs):
            _append(laid, pair, at, -1, 0, sides)
    else:
        laid = _problems(pairs, sides)
    return laid


class _Sides:
    """Both sides of a pair, as a row has them."""

    def __init__(self, fitted: Fitted, checkpoint: Checkpoint, state_dict: int) -> None:
        self._fitted, self._checkpoint = fitted, checkpoint
        self._source = checkpoint.state_dicts[state_dict]
        self._shapes: dict[tuple[int, ...] | None, str] = {None: ""}

    def a(self, pair: Pair) -> Side | None:
        """What the file has."""
        if pair.source < 0 and pair.entry < 0:
            return None
        tensor = self._source.tensor_of[pair.source] if pair.source >= 0 else -1
        key = self._source.keys[pair.source] if pair.source >= 0 else self._fitted.entries[pair.entry].key
        if pair.entry >= 0:
            shape = self._fitted.entries[pair.entry].shape
        else:
            shape = self._checkpoint.tensors[tensor].shape if tensor >= 0 else None
        words = self._shape(shape) if shape is not None else "no tensor"
        return Side(key, _kind(shape), words, max(pair.source, 0), tensor)

    def b(self, pair: Pair) -> Side | None:
        """What the target has."""
        if pair.wanted < 0:
            return None
        wanted = self._fitted.target.table
        shape = wanted.shapes[pair.wanted]
        words = "?" if shape is None else self._shape(shape)
        return Side(
            wanted.keys[pair.wanted], "tensor" if shape is None else _kind(shape), words, pair.wanted, pair.wanted
        )

    def now(self, pair: Pair) -> str:
        """The key after the recipe, "" where it is as it was or there is none."""
        if pair.entry < 0:
            return ""
        entry = self._fitted.entries[pair.entry]
        return "" if entry.key == entry.old else entry.key

    def _shape(self, shape: tuple[int, ...]) -> str:
        if shape not in self._shapes:
            self._shapes[shape] = text.shape(shape)
        return self._shapes[shape]


def _kind(shape: tuple[int, ...] | None) -> RowKind:
    return "value" if shape is None else "scalar" if not shape else "vector" if len(shape) == 1 else "tensor"


def _problems(pairs: Sequence[Pair], sides: _Sides) -> Laid:
    """A group for each kind of row; what is settled is folded."""
    by_status: dict[str, list[int]] = {}
    for at, pair in enumerate(pairs):
        by_status.setdefault(pair.status, []).append(at)
    laid = Laid(AlignedTree(), pairs)
    previewed = [at for name in ("will_match", "will_drop", "will_leave") for at in by_status.get(name, ())]
    groups: list[tuple[str, Sequence[int]]] = [("collision", by_status.get("collision", ())), ("preview", previewed)]
    groups += [(name, by_status.get(name, ())) for name in ("shape", "missing", "unexpected", *SETTLED)]
    for name, members in groups:
        if not members:
            continue
        top = laid.groups[name] = _append_group(laid, name, -1, 0, len(members))
        if name not in SETTLED:
            laid.opened.append(top)
        shown = SHOWN if name == "preview" and len(members) > SHOWN + 2 else len(members)
        for at in members[:shown]:
            _append(laid, pairs[at], at, top, 1, sides)
        if shown < len(members):
            rest = len(members) - shown
            below = laid.groups["more"] = _append_group(laid, f"{rest:,} more", top, 1, rest)
            for at in members[shown:]:
                _append(laid, pairs[at], at, below, 2, sides)
            laid.tree.end[below] = len(laid.tree)
        laid.tree.end[top] = len(laid.tree)
    return laid


def _append_group(laid: Laid, name: str, parent: int, depth: int, leaves: int) -> int:
    row = len(laid.tree)
    _row(laid, ("", "", name, "module", "module"), parent, depth, CHILDREN, (-1, leaves, -1, -1), ("", ""), 0, "")
    return row


def _append(laid: Laid, pair: Pair, at: int, parent: int, depth: int, sides: _Sides) -> None:
    a, b = sides.a(pair), sides.b(pair)
    flags = (GAP_A if a is None else 0) | (GAP_B if b is None else 0)
    names = (
        a.key if a else "",
        b.key if b else "",
        a.key if a else "",
        a.kind if a else "tensor",
        b.kind if b else "tensor",
    )
    tensors = (at, 1, a.tensor if a else -1, b.tensor if b else -1)
    shapes = (a.shape if a else "", b.shape if b else "")
    _row(laid, names, parent, depth, flags, tensors, shapes, CODES[pair.status], sides.now(pair))


def _row(
    laid: Laid,
    names: tuple[str, str, str, RowKind, RowKind],
    parent: int,
    depth: int,
    flags: int,
    numbers: tuple[int, int, int, int],
    shapes: tuple[str, str],
    status: int,
    now: str,
) -> None:
    """Put one row behind the others; `names` are both keys, what it is called in A, and both kinds."""
    tree = laid.tree
    key_a, key_b, name, kind_a, kind_b = names
    leaf, leaves, tensor_a, tensor_b = numbers
    for column, value in (
        *((tree.name_a, name), (tree.name_b, key_b), (tree.key_a, key_a), (tree.key_b, key_b)),
        *((tree.shape_a, shapes[0]), (tree.shape_b, shapes[1]), (tree.tensor_a, tensor_a), (tree.tensor_b, tensor_b)),
        *((tree.parent, parent), (tree.end, len(tree) + 1), (tree.depth, depth), (tree.pair, leaf), (tree.leaf, leaf)),
        *((tree.leaves, leaves), (tree.flags, flags), (laid.now, now)),
    ):
        column.append(value)  # type: ignore[arg-type]
    tree.kind_a.append(kind_a)
    tree.kind_b.append(kind_b)
    laid.statuses.append(status)


def _tree(pairs: Sequence[Pair], sides: _Sides) -> Laid:
    last = max((pair.source for pair in pairs), default=0) + 1
    pairs = sorted(pairs, key=lambda pair: pair.source if pair.source >= 0 else last)
    leaves = [Leaf(0, sides.a(pair), sides.b(pair), at) for at, pair in enumerate(pairs)]
    tree = align([Group("", "")], leaves)
    statuses = bytearray(CODES[pairs[leaf].status] if leaf >= 0 else 0 for leaf in tree.leaf)
    now = [sides.now(pairs[leaf]) if leaf >= 0 else "" for leaf in tree.leaf]
    return Laid(tree, pairs, statuses, now)


def rows_of(laid: Laid, found: Callable[[Pair], bool]) -> Iterator[int]:
    """The rows whose pair is wanted."""
    return (row for row, leaf in enumerate(laid.tree.leaf) if leaf >= 0 and found(laid.pairs[leaf]))
