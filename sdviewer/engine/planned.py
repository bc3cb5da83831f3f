"""A checkpoint as a plan makes it, for the tree: computed tensors stand in the place of what they are made of."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StateDict, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.core.tree import Changes, Edits, TensorChange, value_text
from sdviewer.repair.operations.edit import Writing
from sdviewer.repair.plan import Computed, Expression, Kept, Plan, StepReport, Target, sources, taken
from sdviewer.repair.transforms import Taken

MOST_NAMED = 5
"""Keys that a tensor is said to be made of, one by one."""
MOST_WRITTEN = 4096
"""Numbers written into a tensor up to which they are shown among those in the file."""
_WORDS = {
    "edit": "numbers edited",
    "clone": "a copy of its own",
    "scale": "multiplied",
    "clean": "NaN and infinities replaced",
    "rows": "rows changed",
    "transpose": "transposed",
    "permute": "permuted",
    "reorder": "parts in another order",
    "permute_rope": "rotary rows permuted",
    "merge_lora": "an adapter merged in",
}
"""What is said of a tensor whose key, shape and dtype stay."""
_STEPS = {"concat": ("fuse",), "clone": ("clone", "untie", "broadcast"), "reshape": ("reshape", "flatten")}
"""The operations whose steps make a transform that is not called as they are."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The checkpoint with the tensors that a plan computes or ties, and what the tree says of them.

    Tensors of the source keep their indexes, new ones follow: `computed` has what each of these is, `plans` whose it
    is. `keys` are the new keys of the edited state dicts; an entry that goes keeps its place, its new key is None.
    """

    checkpoint: Checkpoint
    keys: Edits = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    computed: Mapping[int, Computed] = field(default_factory=dict)
    plans: Mapping[int, Plan] = field(default_factory=dict)


def planned(checkpoint: Checkpoint, plan: Plan | None, also: Iterable[Plan] = ()) -> Planned:
    """What a plan makes of a checkpoint, and `also` those of the same recipe for other state dicts of it."""
    if plan is None:
        return Planned(checkpoint)
    made = _planned(checkpoint, plan)
    for other in also:
        # (what changes the file as a whole was done with the first one)
        more = _planned(made.checkpoint, replace(other, values={}, removed=()))
        tensors = {**made.changes.tensors, **more.changes.tensors}
        joins = {**made.changes.joins, **more.changes.joins}
        made = Planned(
            more.checkpoint,
            {**made.keys, **more.keys},
            replace(made.changes, tensors=tensors, joins=joins),
            {**made.computed, **more.computed},
            {**made.plans, **more.plans},
        )
    return made


def _planned(checkpoint: Checkpoint, plan: Plan) -> Planned:
    values, was = _values(checkpoint, plan)
    changes = Changes(values=was, removed=plan.removed)
    checkpoint = checkpoint if values is checkpoint.values else replace(checkpoint, values=values)
    if plan.state_dict is None:
        return Planned(checkpoint, {}, changes)
    source = checkpoint.state_dicts[plan.state_dict]
    if not plan.computes:
        keys: list[str | None] = [None] * len(source.keys)
        for target in plan.targets:
            assert target.entry is not None
            keys[target.entry] = target.key
        return Planned(checkpoint, {plan.state_dict: keys}, changes)
    return _computed(checkpoint, plan, plan.state_dict, changes)


def _values(checkpoint: Checkpoint, plan: Plan) -> tuple[Any, dict[int, str]]:
    """The plain values as they will be, and the texts of those that change as they were."""
    if not plan.values:
        return checkpoint.values, {}
    values = list(checkpoint.values)
    was: dict[int, str] = {}
    for index, info in enumerate(values):
        if info.path in plan.values:
            new = plan.values[info.path]
            was[index] = value_text(info.value)
            values[index] = info._replace(value=new, type=f"builtins.{type(new).__name__}")
    return values, was


def _computed(checkpoint: Checkpoint, plan: Plan, index: int, changes: Changes) -> Planned:
    source = checkpoint.state_dicts[index]
    # What stands in the place of each entry; targets that are made of none follow the one before them.
    standing: list[list[Target]] = [[] for _ in source.keys]
    joined: dict[int, str] = {}
    at = 0
    for target in plan.targets:
        for number, entry in enumerate(sources(target.value)):
            at = entry if number == 0 else at
            joined.setdefault(entry, target.key)
        standing[at].append(target)
    tensors = list(checkpoint.tensors)
    old_keys: list[str] = []
    tensor_of: list[int] = []
    new_keys: list[str | None] = []
    told: dict[int, TensorChange] = {}
    joins: dict[tuple[int, int], str] = {}
    computed: dict[int, Computed] = {}
    for entry, targets in enumerate(standing):
        if not targets:
            if entry in joined:
                joins[index, len(old_keys)] = f"into {_near(joined[entry], source.keys[entry])}"
            old_keys.append(source.keys[entry])
            tensor_of.append(source.tensor_of[entry])
            new_keys.append(None)
        pieces = sum(next(sources(target.value), None) is not None for target in targets)
        for number, target in enumerate(targets):
            old_keys.append(source.keys[entry] if number == 0 else target.key)
            new_keys.append(target.key)
            if isinstance(target.value, Computed):
                made = len(tensors)
                tensor_of.append(made)
                computed[made] = target.value
                like = tensors[source.tensor_of[entry]] if source.tensor_of[entry] >= 0 else None
                told[made] = _change(target, target.value, checkpoint, source, number if pieces > 1 else -1)
                tensors.append(_info(target, target.value, (*source.path, target.key), like))
            else:
                tensor_of.append(source.tensor_of[target.value.entry])
    edited = replace(source, keys=tuple(old_keys), tensor_of=tensor_of)
    state_dicts = list(checkpoint.state_dicts)
    state_dicts[index] = edited
    result = replace(checkpoint, tensors=tensors, state_dicts=tuple(state_dicts))
    changes = replace(changes, tensors=told, joins=joins)
    return Planned(result, {index: new_keys}, changes, computed, dict.fromkeys(computed, plan))


def _info(target: Target, value: Computed, path: Any, like: TensorInfo | None) -> TensorInfo:
    nbytes = math.prod(value.shape) * DTYPES[value.dtype].itemsize
    made = TensorInfo(
        *(path, None, target.key, value.shape, value.dtype, contiguous_stride(value.shape), 0, None, nbytes),
        *(None, "tensor", "torch.Tensor", None),
    )
    if like is None:
        return made
    return made._replace(state_dict=like.state_dict, requires_grad=like.requires_grad, location=like.location)


def _change(target: Target, value: Computed, checkpoint: Checkpoint, source: StateDict, number: int) -> TensorChange:
    """What the tree says of a computed tensor beside its name; `number` counts those in one place, -1: it is alone."""
    made_of = list(dict.fromkeys(sources(value)))
    origin_file = _file_of(value)
    if not made_of and origin_file:
        return TensorChange(f"from {origin_file}", shape=False, dtype=False, origin=(f"new {target.key}", 0))
    if not made_of:
        return TensorChange("new", shape=False, dtype=False, origin=(f"new {target.key}", 0))
    tensor = source.tensor_of[made_of[0]]
    origin = ("tensor" if number < 1 else f"piece {number}", tensor)
    old = checkpoint.tensors[tensor]
    shape, dtype = old.shape != value.shape, old.dtype != value.dtype
    if len(made_of) > 1:
        words = f"from {_near(source.keys[made_of[0]], target.key)} and {len(made_of) - 1:,} more"
        return TensorChange(words, shape, dtype, origin)
    if number >= 0:
        return TensorChange(f"from {_near(source.keys[made_of[0]], target.key)}", shape, dtype, origin)
    pieces = [source.keys[made_of[0]]] if source.keys[made_of[0]] != target.key else []
    pieces += [text.shape(old.shape)] if shape else []
    pieces += [DTYPES[old.dtype].short if old.dtype in DTYPES else old.dtype] if dtype else []
    if origin_file:
        pieces = [f"from {origin_file}", *([f"was {' '.join(pieces)}"] if pieces else [])]
        return TensorChange(", ".join(pieces), shape, dtype, origin)
    words = f"was {' '.join(pieces)}" if pieces else _WORDS.get(value.transform.op, "computed")
    return TensorChange(words, shape, dtype, origin)


def _file_of(value: Expression) -> str:
    """The name of the other file that a tensor comes from, "" for none."""
    file = next((one.file for one in taken(value)), "")
    return text.visible(os.path.basename(file), 60)  # noqa: PTH119  any text


def _near(key: str, other: str) -> str:
    """A key as it is said beside another: without the modules that both stand in."""
    parts, others = key.split("."), other.split(".")
    shared = 0
    while shared < min(len(parts), len(others)) - 1 and parts[shared] == others[shared]:
        shared += 1
    return ".".join(parts[shared:])


def made_of(value: Computed, checkpoint: Checkpoint, plan: Plan) -> dict[str, Any]:
    """What a computed tensor is made of and by which steps, for people.

    `{"from": [[key, shape, dtype]], "more": keys that are not listed, "steps": [[number, text]], "writes": WRITES |
    null, "source": index of the tensor whose numbers the writes change | null, "taken": whether it is one of another
    file as it is}`
    """
    assert plan.state_dict is not None
    source = checkpoint.state_dicts[plan.state_dict]
    entries = list(dict.fromkeys(sources(value, read=True)))
    others = list(dict.fromkeys(taken(value)))
    named = []
    for entry in entries[:MOST_NAMED]:
        info = checkpoint.tensors[source.tensor_of[entry]]
        named.append([text.visible(source.keys[entry], 200), text.shape(info.shape), info.dtype])
    for other in others[: MOST_NAMED - len(named)]:
        info = plan.others[other.file].tensors[other.tensor]
        where = f"{text.visible(other.key, 200)} of {text.visible(other.file, 400)}"
        named.append([where, text.shape(info.shape), info.dtype])
    writes = _writes(value)
    kept = _kept(value)
    return {
        "from": named,
        "more": max(0, len(entries) + len(others) - MOST_NAMED),
        "steps": [[number, text.visible(step.text, 200)] for number, step in _steps(value, plan.steps)],
        "writes": writes,
        "taken": isinstance(value.transform, Taken),
        "source": None if writes is None or kept is None else source.tensor_of[kept],
    }


def _transforms(value: Expression) -> Iterator[str]:
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, Computed):
            yield one.transform.op
            todo.extend(one.inputs if one.transform.reads else ())


def _steps(value: Computed, steps: Sequence[StepReport]) -> list[tuple[int, StepReport]]:
    """The steps of the recipe that may have made it: those of its operations that changed something."""
    ops = {op for made in _transforms(value) for op in (made, *_STEPS.get(made, ()))}
    return [(number, step) for number, step in enumerate(steps, 1) if step.op in ops and step.changed]


def _kept(value: Expression) -> int | None:
    """The entry into which numbers are written, None where anything else is done to it."""
    while isinstance(value, Computed) and isinstance(value.transform, Writing):
        (value,) = value.inputs
    return value.entry if isinstance(value, Kept) else None


def _writes(value: Computed) -> list[list[Any]] | None:
    """`[[indexes, [text of each number below them, or one for all]]]` in order; None where more is done than that."""
    if _kept(value) is None:
        return None
    found: list[list[Any]] = []
    count = 0
    step: Expression = value
    while isinstance(step, Computed) and isinstance(step.transform, Writing):
        texts = element_texts(step.transform.elements, value.dtype)
        count += len(texts)
        found.insert(0, [list(step.transform.at), texts])
        (step,) = step.inputs
    return found if count <= MOST_WRITTEN else None


def element_texts(raw: bytes, dtype: str) -> list[str]:
    """Elements of a dtype as the values view shows them: the fewest digits that tell one from its neighbours."""
    import numpy as np

    from sdviewer.core.arrays import array_type

    array = np.frombuffer(raw, array_type(dtype))
    if array.dtype.kind in "fc":
        return [str(number) for number in array]
    if array.dtype.kind == "V" or DTYPES[dtype].kind == "float":
        return [str(number) for number in array.astype(np.float32)]
    return [str(number) for number in array.tolist()]
