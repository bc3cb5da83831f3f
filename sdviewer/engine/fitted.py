"""A checkpoint as its recipe makes it, against what a model asks for: which keys are filled, what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KeyTable
from sdviewer.core.strict_words import strict_words
from sdviewer.repair.key_check import check_keys
from sdviewer.repair.operations.operation import selection
from sdviewer.repair.plan import Computed, Plan, sources
from sdviewer.repair.target import Target

Status = Literal["collision", "match", "shape", "missing", "unexpected", "dropped", ""]
"""What becomes of a key; "" for one that no loader asks for, "collision" where several entries have it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the state dict after the recipe.

    `old` is the key in the file of what it is made of ("" for what is made of nothing), `source` that entry of the
    state dict (-1), `tensor` its tensor in the file (-1), `more` how many others it is made of. `shape` is None for
    what is no tensor. `made`: its value is computed.
    """

    key: str
    old: str
    source: int
    tensor: int
    shape: tuple[int, ...] | None
    dtype: str
    more: int = 0
    made: bool = False


@dataclass(frozen=True, slots=True)
class Fitted:
    """All entries, for each key of the target the entry that has it (-1: missing), and what the recipe drops.

    `status` is by key of the target; `unexpected` are entries, `dropped` entries of the state dict in the file, and
    `would_be` the keys that they would have if no step dropped them;
    `allowed` are keys of the target that are missing and may be. `collided` are the entries that have a key together,
    by that key: they fill nothing.
    """

    target: Target
    entries: Sequence[Entry]
    filled: Sequence[int]
    status: Sequence[Status]
    unexpected: Sequence[int]
    dropped: Sequence[int]
    counts: dict[Status, int] = field(default_factory=dict)
    allowed: Sequence[int] = ()
    collided: Mapping[str, Sequence[int]] = field(default_factory=dict)
    would_be: Mapping[int, str] = field(default_factory=dict)

    @property
    def problems(self) -> int:
        """How much stands against a strict load."""
        return sum([self.counts[status] for status in ("collision", "shape", "missing", "unexpected")])

    def table(self, *, ordered: bool) -> KeyTable:
        """The entries as one side of a fit."""
        return _table(self.entries, ordered=ordered)

    @property
    def asked(self) -> int:
        """How many keys the model asks for."""
        return self.counts["match"] + self.counts["missing"] + self.counts["shape"] + self.status.count("collision")

    def strict_words(self, most: int | None = None) -> str:
        """What a strict load would say; `most`: how many keys of a kind it names."""
        wanted = self.target.table
        by_status: dict[Status, list[int]] = {"collision": [], "missing": [], "shape": [], "match": [], "": []}
        for at, status in enumerate(self.status):
            by_status[status].append(at)
        by_status["missing"] = sorted([*by_status["missing"], *self.allowed])  # torch knows of no permission
        wrong = [(wanted.keys[at], self.entries[self.filled[at]].shape, wanted.shapes[at]) for at in by_status["shape"]]
        return strict_words(
            self.target.model or "Model",
            _cut([wanted.keys[at] for at in by_status["missing"]], most),
            _cut([self.entries[at].key for at in self.unexpected], most),
            [(key, found or (), shape or ()) for key, found, shape in wrong[:most]],
        )


def _cut(keys: list[str], most: int | None) -> list[str]:
    if most is None or len(keys) <= most:
        return keys
    return [*keys[:most], f"\N{HORIZONTAL ELLIPSIS} and {len(keys) - most:,} more"]


def fitted_to(
    checkpoint: Checkpoint, state_dict: int, plan: Plan | None, target: Target, allow_missing: Sequence[str] = ()
) -> Fitted:
    """What a recipe makes of a state dict, against a target. Shapes that are not known are taken to agree.

    `allow_missing` are patterns of keys that may be missing: they are no problem, and nothing waits for them.
    """
    entries = _entries(checkpoint, state_dict, plan)
    collided: dict[str, list[int]] = {key: [] for key in plan.collisions} if plan is not None else {}
    for at, entry in enumerate(entries) if collided else ():
        if entry.key in collided:
            collided[entry.key].append(at)
    alone = [entry for entry in entries if entry.key not in collided]
    load = check_keys(_table(alone), target.table, target.unreported)
    known: dict[str, Status] = dict.fromkeys(load.matched, "match")
    may_be = selection(allow_missing) if allow_missing else None
    waiting = [key for key in load.missing if key not in collided]
    absent = frozenset(key for key in waiting if may_be is not None and may_be(key))
    known |= {key: "missing" for key in waiting if key not in absent}
    known |= {key: "collision" for key in load.missing if key in collided}
    known |= dict.fromkeys([one.key for one in load.mismatched], "shape")
    at_key = {entry.key: at for at, entry in enumerate(entries)}
    status = [known.get(key, "") for key in target.table.keys]
    filled = [
        at_key[key] if word in ("match", "shape") else -1 for key, word in zip(target.table.keys, status, strict=True)
    ]
    dropped = list(plan.dropped) if plan is not None and plan.state_dict == state_dict else []
    counts: dict[Status, int] = {
        "collision": sum(map(len, collided.values())),
        "match": len(load.matched),
        "shape": len(load.mismatched),
        "missing": len(waiting) - len(absent),
        "unexpected": len(load.unexpected),
        "dropped": len(dropped),
    }
    allowed = [at for at, key in enumerate(target.table.keys) if key in absent]
    unexpected = [at_key[key] for key in load.unexpected]
    would_be = plan.would_be if dropped and plan is not None else {}
    return Fitted(target, entries, filled, status, unexpected, dropped, counts, allowed, collided, would_be)


def _table(entries: Sequence[Entry], *, ordered: bool = True) -> KeyTable:
    return KeyTable(
        tuple([entry.key for entry in entries]),
        [entry.shape for entry in entries],
        [entry.dtype for entry in entries],
        ordered,
        not_tensors=frozenset([at for at, entry in enumerate(entries) if entry.shape is None]),
    )


def _entries(checkpoint: Checkpoint, index: int, plan: Plan | None) -> list[Entry]:
    source = checkpoint.state_dicts[index]
    tensors = checkpoint.tensors
    if plan is None or plan.state_dict != index:
        made = []
        for at, (key, tensor) in enumerate(zip(source.keys, source.tensor_of, strict=True)):
            info = tensors[tensor] if tensor >= 0 else None
            made.append(Entry(key, key, at, tensor, info and info.shape, info.dtype if info else ""))
        return made
    entries = []
    for key, value in plan.targets:
        if not isinstance(value, Computed):
            tensor = source.tensor_of[value.entry]
            info = tensors[tensor] if tensor >= 0 else None
            shape, dtype = (info.shape, info.dtype) if info else (None, "")
            entries.append(Entry(key, source.keys[value.entry], value.entry, tensor, shape, dtype))
            continue
        of = list(dict.fromkeys(sources(value)))
        first = of[0] if of else -1
        old, tensor = (source.keys[first], source.tensor_of[first]) if of else ("", -1)
        entries.append(Entry(key, old, first, tensor, value.shape, value.dtype, max(len(of) - 1, 0), made=True))
    return entries
