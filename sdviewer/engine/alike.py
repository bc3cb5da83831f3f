"""The state dicts of one file: which can be repaired, which a target means, which are alike and how they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KeyTable
from sdviewer.engine.fitted import Fitted

HALF: Final = 0.5
"""Share of the tensors of one that another has to have under names of its own: it may stand under a prefix."""
MUCH_MORE: Final = 2
"""Times the tensors of the likely one that another must have to be taken for what is meant."""
NAMED: Final = 2
"""Keys that a sentence names one by one."""


def repairable(checkpoint: Checkpoint) -> list[int]:
    """The state dicts whose keys can be edited where they stand."""
    return [
        at
        for at, found in enumerate(checkpoint.state_dicts)
        if not (found.read_only or found.is_module or found.role == "optimizer")
    ]


def most_like(checkpoint: Checkpoint, table: KeyTable, first: int) -> int:
    """The state dict that the target with this table means: `first`, unless another has much more of its tensors."""
    if not table.shapes_known:
        return first
    pairs = zip(table.keys, table.shapes, strict=True)
    theirs = Counter([(key.rpartition(".")[2], shape or ()) for key, shape in pairs])
    has = {at: (_tensors(checkpoint, at) & theirs).total() for at in (first, *repairable(checkpoint))}
    best = max(has, key=lambda at: (has[at], at == first))
    return best if has[best] > MUCH_MORE * has[first] else first


def alike(checkpoint: Checkpoint, index: int) -> list[int]:
    """The state dicts that can be repaired as the one at `index` is, that one among them, in the order of the file."""
    own = _tensors(checkpoint, index)
    found = []
    for at in sorted({index, *repairable(checkpoint)}):
        if at == index or (own & _tensors(checkpoint, at)).total() > HALF * own.total():
            found.append(at)
    return found


def _tensors(checkpoint: Checkpoint, index: int) -> Counter[tuple[str, tuple[int, ...]]]:
    """The last components of keys with the shapes there."""
    state_dict = checkpoint.state_dicts[index]
    pairs = zip(state_dict.keys, state_dict.tensor_of, strict=True)
    return Counter([(key.rpartition(".")[2], checkpoint.tensors[at].shape) for key, at in pairs if at >= 0])


def differences(one: Fitted, other: Fitted) -> str:
    """What `other` has, lacks or has otherwise, as the recipe makes both; "" for nothing."""
    ours = {entry.key: entry.shape for entry in one.entries}
    theirs = {entry.key: entry.shape for entry in other.entries}
    said = [
        ("has", [key for key in theirs if key not in ours]),
        ("lacks", [key for key in ours if key not in theirs]),
        ("has another shape in", [key for key, shape in ours.items() if key in theirs and theirs[key] != shape]),
    ]
    return ", ".join([f"{words} {_named(keys)}" for words, keys in said if keys])


def _named(keys: Sequence[str]) -> str:
    if len(keys) > NAMED:
        return text.plural(len(keys), "key")
    return " and ".join([text.visible(key, 80) for key in keys])
