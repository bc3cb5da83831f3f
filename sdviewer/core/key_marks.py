"""What two keys have in common, component by component: how a pair is painted."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["same", "gone", "replaced", "new"]

LONGEST = 2000
"""Characters of a key up to which it is taken apart."""


class Mark(NamedTuple):
    """A piece of a key: both have it, it goes, something else comes in its place, or it is what comes."""

    text: str
    kind: Kind


Marks = tuple[Mark, ...]


@lru_cache(maxsize=4000)
def marks(source: str, target: str) -> tuple[Marks, Marks]:
    """The key of the source and that of the target in pieces; the texts of each joined give the key.

    A dot belongs to the component before it, so that `module.` goes as one piece.
    """
    if source == target or not source or not target or max(len(source), len(target)) > LONGEST:
        return _one(source), _one(target)
    old, new = _components(source), _components(target)
    before: list[Mark] = []
    after: list[Mark] = []
    for op, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        piece, other = ".".join(old[i:i_end]), ".".join(new[j:j_end])
        # The dot between two pieces is what both have, unless a piece goes with it.
        dot_old = "." if i_end < len(old) else ""
        dot_new = "." if j_end < len(new) else ""
        if op == "equal":
            before.append(Mark(piece + dot_old, "same"))
            after.append(Mark(other + dot_new, "same"))
        elif op == "delete":
            before.append(Mark(piece + dot_old, "gone"))
        elif op == "insert":
            after.append(Mark(other + dot_new, "new"))
        else:
            before += [Mark(piece, "replaced"), Mark(dot_old, "same")]
            after += [Mark(other, "new"), Mark(dot_new, "same")]
    return _filled(before), _filled(after)


def _components(key: str) -> list[str]:
    return key.split(".")


def _one(key: str) -> Marks:
    return (Mark(key, "same"),) if key else ()


def _filled(pieces: list[Mark]) -> Marks:
    return tuple(piece for piece in pieces if piece.text)
