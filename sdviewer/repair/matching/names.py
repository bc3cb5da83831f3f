"""How a key is read: its components, the words in them, the role that its last component gives it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sdviewer.repair.matching.words import PHRASES, ROLES, WRAPPERS

DEEPEST = 24
"""Components that are looked at. A key of more (a hostile file's can have a million) is compared as a whole only."""

LONGEST = 2048
"""Characters of a key that is read; a longer one is compared as a whole only."""

WORDY = 128
"""Characters of a component that is read for words."""

HOLE = "{}"
"""Stands for an index in a template. A key that holds it is compared as a whole only."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^A-Za-z\d_\-]+")


@dataclass(frozen=True, slots=True)
class Name:
    """A key taken apart. `parts` are its components without those that wrappers put in, `text` is all of them."""

    parts: tuple[str, ...]
    role: str
    text: str


def read_name(key: str) -> Name:
    """Take a key apart."""
    if len(key) > LONGEST or key.count(".") >= DEEPEST or HOLE in key:
        return Name((key,), "weight", key)
    parts = key.split(".")
    if WRAPPERS.isdisjoint(parts):
        return Name(tuple(parts), role_of(parts), key)
    parts = [part for part in parts[:-1] if part not in WRAPPERS] + parts[-1:]
    return Name(tuple(parts), role_of(parts), ".".join(parts))


def role_of(parts: Sequence[str]) -> str:
    """What the tensor is to its module: weight, bias, running_mean ...; all that is not known is a weight."""
    leaf = parts[-1]
    if leaf in ROLES:
        return ROLES[leaf]
    if leaf[:8] == "original" and len(parts) > 2 and parts[-3] == "parametrizations":
        return ROLES.get(f"{parts[-2]}.{leaf}", "weight")
    return "bias" if leaf.endswith(("bias", "beta")) else "weight"


@lru_cache(1 << 16)
def words_of(component: str) -> tuple[str, ...]:
    """The words of a component in lower case: `q_proj` is q proj, `LayerNorm` norm, `fc1` fc 1."""
    if len(component) > WORDY:
        return ()
    said = [word.lower() for word in _WORD.findall(component)]
    found: list[str] = []
    at = 0
    while at < len(said):
        for size in (3, 2, 1):
            phrase = tuple(said[at : at + size])
            if len(phrase) == size and phrase in PHRASES:
                found += PHRASES[phrase]
                at += size
                break
        else:
            found.append(said[at])
            at += 1
    return tuple(found)
