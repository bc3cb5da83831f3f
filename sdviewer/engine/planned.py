"""A checkpoint as a plan makes it, for the tree: computed tensors stand in the place of what they are made of."""

from __future__ import annotations

import math
from dataclasses import replace

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.repair.plan import Computed, Plan, Target, sources

COMPUTED = "its values are computed when the copy is saved"
"""Why a computed tensor's numbers cannot be shown yet."""


def planned(checkpoint: Checkpoint, plan: Plan | None) -> tuple[Checkpoint, dict[int, list[str | None]]]:
    """The checkpoint with the tensors that a plan computes or ties, and for the edited state dict each entry's new key.

    Tensors of the source keep their indexes, new ones follow; an entry that goes keeps its place, its new key is None.
    """
    if plan is None or plan.state_dict is None:
        return checkpoint, {}
    source = checkpoint.state_dicts[plan.state_dict]
    if not plan.computes:
        keys: list[str | None] = [None] * len(source.keys)
        for target in plan.targets:
            assert target.entry is not None
            keys[target.entry] = target.key
        return checkpoint, {plan.state_dict: keys}
    # What stands in the place of each entry; targets that are made of none follow the one before them.
    standing: list[list[Target]] = [[] for _ in source.keys]
    at = 0
    for target in plan.targets:
        at = next(sources(target.value), at)
        standing[at].append(target)
    tensors = list(checkpoint.tensors)
    old_keys: list[str] = []
    tensor_of: list[int] = []
    new_keys: list[str | None] = []
    for entry, targets in enumerate(standing):
        if not targets:
            old_keys.append(source.keys[entry])
            tensor_of.append(source.tensor_of[entry])
            new_keys.append(None)
        for number, target in enumerate(targets):
            old_keys.append(source.keys[entry] if number == 0 else target.key)
            new_keys.append(target.key)
            if isinstance(target.value, Computed):
                tensor_of.append(len(tensors))
                like = tensors[source.tensor_of[entry]] if source.tensor_of[entry] >= 0 else None
                tensors.append(_computed(target, target.value, (*source.path, target.key), like))
            else:
                tensor_of.append(source.tensor_of[target.value.entry])
    edited = replace(source, keys=tuple(old_keys), tensor_of=tensor_of)
    state_dicts = list(checkpoint.state_dicts)
    state_dicts[plan.state_dict] = edited
    return replace(checkpoint, tensors=tensors, state_dicts=tuple(state_dicts)), {plan.state_dict: new_keys}


def _computed(target: Target, value: Computed, path: KeyPath, like: TensorInfo | None) -> TensorInfo:
    nbytes = math.prod(value.shape) * DTYPES[value.dtype].itemsize
    made = TensorInfo(
        *(path, None, target.key, value.shape, value.dtype, contiguous_stride(value.shape), 0, None, nbytes),
        *(None, "tensor", "torch.Tensor", None),
        unreadable=COMPUTED,
    )
    if like is None:
        return made
    return made._replace(state_dict=like.state_dict, requires_grad=like.requires_grad, location=like.location)
