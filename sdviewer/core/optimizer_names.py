"""Which parameter each entry of an optimizer's state belongs to: the file numbers them, people want their names.

Facts: torch 2.13 `torch.optim.Optimizer.state_dict`: `state` is {number: {"exp_avg": tensor, ...}}, `param_groups` is a
list of groups, each with the numbers of its parameters in `params` and, where the optimizer was made from named ones
(since 2.6), their names in `param_names`. Without names the numbers follow the order of `Module.parameters()`.
"""

from __future__ import annotations

from sdviewer.core.checkpoint import Checkpoint, StateDict, TensorInfo
from sdviewer.core.paths import KeyPath, TypedStep

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Last components of keys that no optimizer sees: a state dict does not tell its buffers from its parameters."""


def parameter_names(checkpoint: Checkpoint, optimizer: int) -> dict[str, str]:
    """The number of each parameter (as text) -> its key, for the optimizer state dict of this index.

    Names that the file states are taken; an order is only believed where the counts agree and each moment of a
    parameter's rank has its shape. Else {}.
    """
    path = checkpoint.state_dicts[optimizer].path
    numbers, stated = _groups(checkpoint, path)
    if stated and len(stated) == len(numbers):
        return dict(zip(numbers, stated, strict=True))
    shapes = _moment_shapes(checkpoint, path)
    for state_dict in checkpoint.state_dicts:
        if state_dict.role not in ("model", "ema"):
            continue
        for keys in _orders(checkpoint, state_dict):
            if len(keys) == len(numbers) and all(
                shapes.get(number, info.shape) == info.shape for number, (_, info) in zip(numbers, keys, strict=True)
            ):
                return {number: key for number, (key, _) in zip(numbers, keys, strict=True)}
    return {}


def _groups(checkpoint: Checkpoint, path: KeyPath) -> tuple[list[str], list[str]]:
    """The numbers in `params` of all groups in order, and the names in `param_names`; a long list is one value."""
    n = len(path)
    found: dict[str, list[str]] = {"params": [], "param_names": []}
    for info in checkpoint.values:
        if len(info.path) < n + 3 or info.path[:n] != path or info.path[n] != "param_groups":
            continue
        listed = found.get(str(info.path[n + 2]))
        if listed is not None:
            listed.extend(map(str, info.value) if isinstance(info.value, list) else [str(info.value)])
    return found["params"], found["param_names"]


def _moment_shapes(checkpoint: Checkpoint, path: KeyPath) -> dict[str, tuple[int, ...]]:
    """For each number the shape of its first tensor that is no scalar."""
    n = len(path)
    shapes: dict[str, tuple[int, ...]] = {}
    for info in checkpoint.tensors:
        if len(info.path) >= n + 3 and info.shape and info.path[:n] == path and info.path[n] == "state":
            step = info.path[n + 1]
            shapes.setdefault(step.value if isinstance(step, TypedStep) else step, info.shape)
    return shapes


def _orders(checkpoint: Checkpoint, state_dict: StateDict) -> list[list[tuple[str, TensorInfo]]]:
    """The parameters of a model in order: all of them, and each storage once, as `parameters()` does."""
    every = [
        (key, checkpoint.tensors[index])
        for key, index in zip(state_dict.keys, state_dict.tensor_of, strict=True)
        if index >= 0 and key.rpartition(".")[2] not in _BUFFERS and checkpoint.tensors[index].kind != "buffer"
    ]
    once, seen = [], set()
    for key, info in every:
        place = (info.storage, info.storage_offset, info.shape)
        if info.storage is None or place not in seen:
            seen.add(place)
            once.append((key, info))
    return [every, once]
