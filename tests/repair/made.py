"""Checkpoints made by hand, for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdviewer.core.checkpoint import Checkpoint, Identity, Role, StateDict, TensorInfo, ValueInfo
from sdviewer.core.paths import KeyPath, to_json


def checkpoint(
    *state_dicts: tuple[KeyPath, Role, Sequence[str]],
    storages: Mapping[str, str] | None = None,
    metadata: Mapping[KeyPath, Sequence[str]] | None = None,
    values: Sequence[KeyPath] = (),
    **options: Any,
) -> Checkpoint:
    """A checkpoint of state dicts (path, role, keys) with one small tensor a key.

    `storages` names the storage of some keys (the others have their own), `metadata` the module paths of a state dict,
    `values` the paths of leaves that are no tensors; `options` go to every StateDict.
    """
    tensors: list[TensorInfo] = []
    made = []
    for index, (path, role, keys) in enumerate(state_dicts):
        first = len(tensors)
        for key in keys:
            storage = (storages or {}).get(key, f"own {len(tensors)}")
            place = ((*path, key), index, key, (2, 3), "float32", (3, 1), 0, storage, 24)
            tensors.append(TensorInfo(*place, False, "tensor", "torch.Tensor", "cpu"))
        made.append(StateDict(path, role, tuple(keys), range(first, len(tensors)), 6 * len(keys), 24, **options))
    return Checkpoint(
        "model.pt",
        "torch-zip",
        1000,
        "little",
        Identity(1, 2, 1000, 4, 5),
        state_dicts=tuple(made),
        tensors=tensors,
        values=[ValueInfo(path, "builtins.int", 1) for path in values],
        metadata={
            "state_dict": [
                {"path": to_json(path), "keys": {module: {"version": 1} for module in modules}}
                for path, modules in (metadata or {}).items()
            ]
        },
    )


def model(*keys: str, modules: Sequence[str] = (), **options: Any) -> Checkpoint:
    """A checkpoint whose root is a state dict with these keys and module paths."""
    return checkpoint(((), "model", keys), metadata={(): modules} if modules else None, **options)
