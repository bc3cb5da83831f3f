"""What of two open documents is compared with what: their state dicts by role, their tensors by key, their values.

The chosen state dicts, the models, come first; averages, optimizers and others follow where both sides have one. What
a state dict has no counterpart for is told, and not shown as thousands of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from sdviewer.core import text
from sdviewer.core.aligned import Group, Leaf, Side
from sdviewer.core.pairing import By, Contents, Exchange, Match, Pairing, pair_up, side_of_file, side_of_state_dict
from sdviewer.core.pairing import Side as Entries
from sdviewer.core.paths import KeyPath, dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tree import RowKind, value_text
from sdviewer.core.value_diff import ValueDifference, value_differences
from sdviewer.engine.document import Document
from sdviewer.engine.matching import matched

ROLES: Final = ("model", "ema", "optimizer", "other")

MOST_VALUE: Final = 200
"""Characters of a value's text."""

FEWEST: Final = 4
"""Pairs that a prefix exchange must make for being made without being asked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How two documents are compared: by which names, which state dicts (None: the models), which pairs by hand.

    A `match` of None is by key, and after a prefix exchange where that pairs much of what is left.
    `hand` and `broken` are pairs of tensor indexes.
    """

    match: Match | None = None
    state_dict_a: int | None = None
    state_dict_b: int | None = None
    hand: Collection[tuple[int, int]] = ()
    broken: Collection[tuple[int, int]] = ()


@dataclass(slots=True)
class Compared:
    """All pairs: their tensors by index (-1: a gap), what paired them, what the headers tell of them.

    `leaves` are the rows at the bottom of the aligned tree; leaf i is pair i as long as it is a tensor. `roles` has for
    each group the role of its state dicts. `renamed`: how many have another key in B, by what
    paired them. `alone_a` and `alone_b` are the state dicts that nothing is compared with.
    """

    groups: list[Group] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    tensors_a: list[int] = field(default_factory=list)
    tensors_b: list[int] = field(default_factory=list)
    by: list[By] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    values: list[ValueDifference] = field(default_factory=list)
    match: Match | None = None
    renamed: Counter[By] = field(default_factory=Counter)
    exchanges: list[Exchange] = field(default_factory=list)
    chosen_a: int = -1
    chosen_b: int = -1
    alone_a: list[int] = field(default_factory=list)
    alone_b: list[int] = field(default_factory=list)


def compare(a: Document, b: Document, choice: Choice, progress: Progress = no_progress) -> Compared:
    """Pair up everything; progress is that of reading what is paired by its contents."""
    made = Compared()
    for dicts_a, dicts_b in _partners(a, b, choice, made):
        _add_group(made, a, b, dicts_a, dicts_b, choice, progress)
    _add_values(made, a, b)
    return made


def _partners(a: Document, b: Document, choice: Choice, made: Compared) -> list[tuple[int, int]]:
    """The state dicts that are compared with each other, -1 for all of a file; the chosen ones first."""
    made.chosen_a = _chosen(a) if choice.state_dict_a is None else choice.state_dict_a
    made.chosen_b = _chosen(b) if choice.state_dict_b is None else choice.state_dict_b
    if made.chosen_a < 0 or made.chosen_b < 0:
        made.chosen_a = made.chosen_b = -1
        return [(-1, -1)]
    partners = [(made.chosen_a, made.chosen_b)]
    left_a = [at for at in _worth(a) if at != made.chosen_a]
    left_b = [at for at in _worth(b) if at != made.chosen_b]
    for role in ROLES:
        of_a = [at for at in left_a if a.checkpoint.state_dicts[at].role == role]
        of_b = [at for at in left_b if b.checkpoint.state_dicts[at].role == role]
        paths = {b.checkpoint.state_dicts[at].path: at for at in of_b}
        for at in of_a:
            other = paths.get(a.checkpoint.state_dicts[at].path)
            if other is None and len(of_a) == len(of_b) == 1:
                other = of_b[0]
            if other is not None:
                partners.append((at, other))
    made.alone_a = [at for at in left_a if at not in {one for one, _ in partners}]
    made.alone_b = [at for at in left_b if at not in {other for _, other in partners}]
    return partners


def _worth(document: Document) -> list[int]:
    return [at for at, state_dict in enumerate(document.checkpoint.state_dicts) if state_dict.tensors]


def _chosen(document: Document) -> int:
    """The model with the most tensors, else the state dict with the most; -1 where there is none."""
    dicts = document.checkpoint.state_dicts
    return max(_worth(document), key=lambda at: (dicts[at].role == "model", dicts[at].tensors, -at), default=-1)


def entries(document: Document, index: int) -> Entries:
    """The tensors of a state dict, or of all of the file (-1), by the keys that the recipe gives them."""
    if index < 0:
        return side_of_file(document.result)
    side = side_of_state_dict(document.result, index)
    keys = document.keys_of(index)
    if keys is None:
        return side
    state_dict = document.result.state_dicts[index]
    renamed = [key for key, tensor in zip(keys, state_dict.tensor_of, strict=True) if tensor >= 0]
    kept = [position for position, key in enumerate(renamed) if key is not None]
    return Entries(
        tuple([str(renamed[position]) for position in kept]),
        [side.shapes[position] for position in kept],
        [side.dtypes[position] for position in kept],
        [side.tensors[position] for position in kept],
        {place: side.names[position] for place, position in enumerate(kept) if position in side.names},
    )


def _add_group(
    made: Compared, a: Document, b: Document, of_a: int, of_b: int, choice: Choice, progress: Progress
) -> None:
    side_a, side_b = entries(a, of_a), entries(b, of_b)
    place_a = {tensor: position for position, tensor in enumerate(side_a.tensors)}
    place_b = {tensor: position for position, tensor in enumerate(side_b.tensors)}
    hand, broken = (
        [(place_a[i], place_b[j]) for i, j in pairs if i in place_a and j in place_b]
        for pairs in (choice.hand, choice.broken)
    )
    contents = _contents(a, side_a, b, side_b, progress) if choice.match == "auto" else None
    pairing = pair_up(
        side_a, side_b, choice.match or "prefix", hand=hand, broken=broken, contents=contents, matcher=matched
    )
    if choice.match is None and not _is_plain(pairing, side_a, side_b):
        pairing = pair_up(side_a, side_b, "key", hand=hand, broken=broken)
    group = len(made.groups)
    made.groups.append(
        Group(_name(a, of_a), _name(b, of_b), "optimizer" if _role(a, of_a) == "optimizer" else "module")
    )
    made.roles.append(_role(a, of_a))
    made.exchanges += pairing.exchanges
    made.match = made.match or choice.match or ("prefix" if pairing.exchanges else "key")
    for i, j, by in pairing.pairs:
        one = _side(side_a, i) if i >= 0 else None
        other = _side(side_b, j) if j >= 0 else None
        status = "only_b" if one is None else "only_a" if other is None else _status(side_a, i, side_b, j)
        made.renamed[by] += one is not None and other is not None and one.key != other.key
        pair = len(made.by)
        made.leaves.append(Leaf(group, one, other, pair, status in ("", "dtype"), by == "hand"))
        made.tensors_a.append(side_a.tensors[i] if i >= 0 else -1)
        made.tensors_b.append(side_b.tensors[j] if j >= 0 else -1)
        made.by.append(by)
        made.statuses.append(status)


def _contents(a: Document, side_a: Entries, b: Document, side_b: Entries, progress: Progress) -> Contents:
    from sdviewer.engine.comparing import Tensors, contents_of

    tensors = [Tensors(document.checkpoint, document.plan) for document in (a, b)]
    return contents_of(tensors[0], side_a, tensors[1], side_b, progress)


def _is_plain(pairing: Pairing, a: Entries, b: Entries) -> bool:
    """Whether a prefix exchange pairs so much that nobody has to be asked."""
    exchanged = sum(pair.by == "prefix" for pair in pairing.pairs)
    others = sum(pair.by in ("key", "hand") for pair in pairing.pairs)
    return exchanged >= FEWEST and 2 * exchanged >= min(len(a), len(b)) - others


def _add_values(made: Compared, a: Document, b: Document) -> None:
    """The leaves that are no tensors and differ, but for those of state dicts that nothing is compared with."""
    group = len(made.groups)
    made.groups.append(Group("values", "values", "dict"))
    made.roles.append("values")
    values = [
        [info for info in document.result.values if not _starts(info.path, document, alone)]
        for document, alone in ((a, made.alone_a), (b, made.alone_b))
    ]
    made.values = value_differences(*values)
    for order, found in enumerate(made.values):
        sides = [
            None if info is None else Side(found.dotted, "value", value_text(info.value, MOST_VALUE), order)
            for info in (found.a, found.b)
        ]
        made.leaves.append(Leaf(group, sides[0], sides[1], -1))


def _starts(path: KeyPath, document: Document, alone: Sequence[int]) -> bool:
    dicts = document.checkpoint.state_dicts
    return any(dicts[at].path and path[: len(dicts[at].path)] == dicts[at].path for at in alone)


def _status(a: Entries, i: int, b: Entries, j: int) -> str:
    if a.shapes[i] != b.shapes[j]:
        return "shape"
    return "dtype" if a.dtypes[i] != b.dtypes[j] else ""


def _side(side: Entries, position: int) -> Side:
    shape = side.shapes[position]
    kind: RowKind = "tensor" if len(shape) > 1 else "vector" if shape else "scalar"
    shown = text.shape(shape) if side.dtypes[position] else ""
    return Side(side.keys[position], kind, shown, position, side.tensors[position])


def _role(document: Document, index: int) -> str:
    return document.checkpoint.state_dicts[index].role if index >= 0 else "other"


def _name(document: Document, index: int) -> str:
    if index < 0:
        return "tensors"
    state_dict = document.checkpoint.state_dicts[index]
    return dotted(state_dict.path) or state_dict.role


def told(document: Document, indexes: Sequence[int]) -> str:
    """What nothing is compared with, in words: `optimizer (306 tensors)`."""
    dicts = document.checkpoint.state_dicts
    words = [
        f"{text.visible(_name(document, at), 60)} ({text.plural(dicts[at].tensors, 'tensor')})" for at in indexes[:3]
    ]
    more = f" and {len(indexes) - 3:,} more" if len(indexes) > 3 else ""
    return ", ".join(words) + more
