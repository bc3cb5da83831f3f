"""Which parameter each entry of an optimizer's state belongs to: the file numbers them, people want their names.

Facts: torch 2.13 `torch.optim.Optimizer.state_dict`: `state` is {number: {"exp_avg": tensor, ...}}, `param_groups` is a
list of groups, each with the numbers of its parameters in `params` and, where the optimizer was made from named ones
(since 2.6), their names in `param_names`. Without names the numbers follow the order in which parameters were given to
it: that of `Module.parameters()`, unless they were sorted into several groups.
"""

from __future__ import annotations

from sdviewer.core.checkpoint import Checkpoint, StateDict, TensorInfo
from sdviewer.core.paths import KeyPath, Step, TypedStep

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Last components of keys that no optimizer sees: a state dict does not tell its buffers from its parameters."""


def parameter_names(checkpoint: Checkpoint, optimizer: int) -> dict[str, str]:
    """The number of each parameter (as text) -> its key, for the optimizer state dict of this index.

    Names that the file states are taken; an order is only believed where the counts agree and each moment of a
    parameter's rank has its shape. Else {}.
    """
    path = checkpoint.state_dicts[optimizer].path
    groups, numbers, stated = _groups(checkpoint, path)
    if stated and len(stated) == len(numbers):
        return dict(zip(numbers, stated, strict=True))
    shapes = _moment_shapes(checkpoint, path)
    if not all(number.isdigit() for number in numbers) or (groups > 1 and not shapes.keys() >= set(numbers)):
        return {}  # names already (FSDP), or groups that can be in any order where no shape tells it
    for state_dict in checkpoint.state_dicts:
        if state_dict.role not in ("model", "ema"):
            continue
        for keys in _orders(checkpoint, state_dict):
            if len(keys) == len(numbers) and all(
                shapes.get(number, info.shape) == info.shape for number, (_, info) in zip(numbers, keys, strict=True)
            ):
                return {number: key for number, (key, _) in zip(numbers, keys, strict=True)}
    return {}


def _groups(checkpoint: Checkpoint, path: KeyPath) -> tuple[int, list[str], list[str]]:
    """How many groups there are, the numbers in their `params` in order, and the names in their `param_names`."""
    n = len(path)
    groups = set()
    found: dict[Step, list[str]] = {"params": [], "param_names": []}
    for info in checkpoint.values:
        if len(info.path) in (n + 3, n + 4) and info.path[:n] == path and info.path[n] == "param_groups":
            groups.add(info.path[n + 1])
            what = found.get(info.path[n + 2])
            if what is not None:
                # A long list is one value.
                items = info.value if isinstance(info.value, list) else [info.value]
                what += map(str, items)
    return len(groups), found["params"], found["param_names"]


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
