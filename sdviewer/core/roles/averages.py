"""Moving averages (EMA, SWA) and the parameters that they follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from sdviewer.core.checkpoint import Checkpoint, Role
from sdviewer.core.roles.role import Related, TensorRole

_WRAPPERS = ("module.", "_orig_mod.", "model.", "shadow.", "ema_model.")


def adjusted(role: TensorRole | None, of: Role, key: str) -> TensorRole | None:
    """The same, said of an average, for a tensor of a state dict that holds averages."""
    if of != "ema" or (role is not None and role.kind in ("buffer", "step")):
        return role
    if role is None:
        return TensorRole("moving average", "average")
    return replace(role, words=f"moving average: {role.words}" if role.words else "moving average", kind="average")


class Twins:
    """For a tensor of the model its average, for an average the tensor that it follows: equal key and equal shape."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def of(self, tensor: int, state_dict: int) -> tuple[Related, ...]:
        """The twin in another state dict."""
        checkpoint = self._checkpoint
        role = checkpoint.state_dicts[state_dict].role
        if not self._has_averages:
            return ()
        key = checkpoint.tensors[tensor].key or ""
        if role == "ema":
            return self._in("model", tensor, key, "the model's own")
        return self._in("ema", tensor, key, "moving average") if role == "model" else ()

    def _in(self, role: Role, tensor: int, key: str, words: str) -> tuple[Related, ...]:
        found = self._by_key[role].get(_bare(key))
        tensors = self._checkpoint.tensors
        if found is None or found == tensor or tensors[found].shape != tensors[tensor].shape:
            return ()
        return (Related(words, found),)

    @cached_property
    def _has_averages(self) -> bool:
        return any(state_dict.role == "ema" for state_dict in self._checkpoint.state_dicts)

    @cached_property
    def _by_key(self) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {"model": {}, "ema": {}}
        for state_dict in self._checkpoint.state_dicts:
            if state_dict.role in found:
                for key, tensor in zip(state_dict.keys, state_dict.tensor_of, strict=True):
                    if tensor >= 0:
                        found[state_dict.role].setdefault(_bare(key), tensor)
        return found


def _bare(key: str) -> str:
    """A key without what wrappers put before it: an average is often kept of a model that is not wrapped."""
    while (wrapper := next((w for w in _WRAPPERS if key.startswith(w)), None)) is not None:
        key = key[len(wrapper) :]
    return key
