"""Node graph back to bytes: the same bytes when nothing was edited (FRAME opcodes apart)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import Node, Persistent, Place, TensorRecord


@dataclass(frozen=True)
class Edits:
    """What to write differently; the graph itself is never changed.

    `keys`: this pair gets a fresh, unmemoised str key. `dropped`: this pair or item is left out. `values`: this pair
    gets another value node. `splices`: in place of this pair come the pairs of this mapping node. `root`: what the
    pickle returns instead of its root.
    """

    keys: Mapping[Place, str] = field(default_factory=dict)
    dropped: Set[Place] = frozenset()
    values: Mapping[Place, Node] = field(default_factory=dict)
    splices: Mapping[Place, Node] = field(default_factory=dict)
    root: Node | None = None


@dataclass(frozen=True, slots=True)
class Emitted:
    """The bytes, and the persistent ids in the order in which the new pickle first uses each."""

    data: bytes
    persistent: list[Persistent | TensorRecord]


def emit(pickle: Pickle, edits: Edits | None = None) -> Emitted:
    """Write a parsed pickle back."""
    raise NotImplementedError
