"""Finds keys that cannot stand beside each other after a step: two that became one, a leaf that became a branch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sdviewer.errors import KeyCollision, RepairError
from sdviewer.repair.wording import quoted


@dataclass(frozen=True, slots=True)
class Collision:
    """Two entries that get in each other's way: their places, their old keys and their new ones.

    "same": both would have one key. "branch": the first's new key is a module path of the second's.
    """

    kind: Literal["same", "branch"]
    first: int
    second: int
    old_keys: tuple[str, str]
    new_keys: tuple[str, str]

    def __str__(self) -> str:
        old_first, old_second = self.old_keys
        first, second = self.new_keys
        if self.kind == "branch":
            return f"{quoted(old_first)} would become {quoted(first)}, under which {quoted(second)} stands"
        if old_second == second:
            return f"{quoted(old_first)} would become {quoted(first)}, which is a key already"
        return f"{quoted(old_first)} and {quoted(old_second)} would both become {quoted(first)}"


def find_collisions(keys: Sequence[str], new_keys: Sequence[str | None]) -> list[Collision]:
    """The collisions that a step makes; what the source already had is left to it."""
    # What only drops keys makes no collision.
    if all(new is None or new == old for old, new in zip(keys, new_keys, strict=True)):
        return []
    distinct = {new for new in new_keys if new is not None}
    met = len(distinct) < len(new_keys) - new_keys.count(None)
    return (_same(keys, new_keys) if met else []) + _branches(keys, new_keys, distinct)


def check_new_keys(keys: Sequence[str], new_keys: Sequence[str | None], *, colliding: bool = False) -> None:
    """Raise where a step's new keys cannot be; `colliding`: two may become one.

    Raises:
        KeyCollision: two keys would become one, or a key both a leaf and a branch.
        RepairError: a key would become empty.
    """
    if "" in new_keys:
        empty = [old for old, new in zip(keys, new_keys, strict=True) if new == "" and old]
        if empty:
            raise RepairError(f"{quoted(empty[0])} would become an empty key", key=empty[0])
    found = [one for one in find_collisions(keys, new_keys) if one.kind != "same" or not colliding]
    if found:
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        remedy = "Rename or drop one of the two first."
        raise KeyCollision(f"{found[0]}{more}", remedy=remedy, key=found[0].old_keys[0])


def _same(keys: Sequence[str], new_keys: Sequence[str | None]) -> list[Collision]:
    first_at: dict[str, int] = {}
    found = []
    for i, new in enumerate(new_keys):
        if new is None:
            continue
        first = first_at.setdefault(new, i)
        if first != i and keys[first] != keys[i]:
            # The one that was renamed is named first, whatever the order of the file.
            a, b = (i, first) if keys[first] == new else (first, i)
            found.append(Collision("same", a, b, (keys[a], keys[b]), (new, new)))
    return found


def _branches(keys: Sequence[str], new_keys: Sequence[str | None], leaves: Collection[str]) -> list[Collision]:
    """What stands under a leaf, in the order of the keys. (A key can have a million components: none is cut off.)"""
    ordered = sorted(leaves)
    # (what stands under a leaf begins with it, and so does all that is sorted in between)
    both = [leaf for leaf, after in pairwise(ordered) if leaf and after.startswith(leaf) and _below(ordered, leaf)]
    if not both:
        return []
    place = {new: i for i, new in enumerate(new_keys) if new is not None}
    found = []
    for leaf in both:
        first = place[leaf]
        for new in _below(ordered, leaf):
            second = place[new]
            if not keys[second].startswith(keys[first] + "."):
                found.append(Collision("branch", first, second, (keys[first], keys[second]), (leaf, new)))
    return sorted(found, key=lambda one: (one.second, -len(one.new_keys[0])))


def _below(ordered: Sequence[str], leaf: str) -> Sequence[str]:
    """The keys of an ordered list that stand under one."""
    above, last = f"{leaf}.", f"{leaf}/"  # (a slash comes right behind a dot)
    start = bisect_left(ordered, above)
    if start == len(ordered) or not ordered[start].startswith(above):
        return ()
    return ordered[start : bisect_left(ordered, last)]
