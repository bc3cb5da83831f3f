"""The inert pickle machine: bytes in, node graph out; nothing imported, hashed or called."""

from __future__ import annotations

from dataclasses import dataclass

from sdviewer.core.progress import Progress, no_progress
from sdviewer.pickles.nodes import Call, Node, TensorRecord


@dataclass(slots=True)
class Pickle:
    """One parsed pickle: `data[start:end]` (end is behind STOP) and the node its STOP returned.

    `broken` says why it broke off before STOP ("" when it did not); then `root` is None and `nodes_seen` still holds
    what was made before. `unfaithful` says why it cannot be written back from its nodes, else "".
    """

    data: bytes
    start: int
    end: int
    protocol: int
    root: Node | None
    broken: str = ""
    unfaithful: str = ""

    def expand(self, record: TensorRecord) -> Call:
        """The nodes that a tensor record stands for, made on first call."""
        raise NotImplementedError


def parse(data: bytes, start: int = 0, *, progress: Progress = no_progress) -> Pickle:
    """Read one pickle from `data[start:]` up to its STOP (several may follow one another in one stream).

    Raises:
        CorruptCheckpoint: without a path, which the caller knows (code `bad_pickle`, message with the byte offset).
        Cancelled: from `progress`, called with bytes done and total every few thousand opcodes.
    """
    raise NotImplementedError
