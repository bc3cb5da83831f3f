"""What a tensor is for, in words: guessed from names, shapes and neighbours, never from numbers.

One guess where name and shape agree, none where they do not: a wrong word is worse than none. One file a kind of role;
each has a function that takes a `Place` and gives a `TensorRole` or None, and stands in `GUESSES`; the first that
knows a tensor wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.roles import (
    attention,
    averages,
    buffers,
    config,
    convolution,
    embeddings,
    experts,
    linear,
    lora,
    norms,
    optimizer,
    positions,
    pruning,
    quantization,
    recurrent,
)
from sdviewer.core.roles.role import Heads, Keys, Part, Place, Related, TensorRole

__all__ = ["Heads", "Part", "Related", "Roles", "TensorRole"]

Guess = Callable[[Place], TensorRole | None]

GUESSES: tuple[Guess, ...] = (
    lora.guess,
    quantization.guess,
    pruning.guess,
    norms.guess,
    positions.guess,
    attention.guess,
    recurrent.guess,
    experts.guess,
    embeddings.guess,
    convolution.guess,
    linear.guess,
    buffers.guess,
)


class Roles:
    """The roles of a checkpoint's tensors, one at a time; what several need is put together once.

    `edits` are new keys of state dicts (index -> a key an entry, None for one that goes, which keeps its old key).
    """

    def __init__(self, checkpoint: Checkpoint, edits: Mapping[int, Sequence[str | None]] | None = None) -> None:
        self._checkpoint = checkpoint
        self._edits = edits or {}
        self._keys: dict[int, Keys] = {}
        self._homes: dict[int, Mapping[int, str]] = {}

    def of(self, tensor: int) -> TensorRole | None:
        """What the tensor of this index is for, None where nothing can be said."""
        checkpoint = self._checkpoint
        info = checkpoint.tensors[tensor]
        if not info.dtype:
            return None
        at = info.state_dict
        if at is None or checkpoint.state_dicts[at].role == "optimizer":
            return self._moments.of(tensor)
        keys = self._of_state_dict(at)
        key = self._homes[at].get(tensor)
        if key is None:
            return None
        place = Place(keys, key, tensor)
        role = next((role for guess in GUESSES if (role := guess(place)) is not None), None)
        role = averages.adjusted(role, checkpoint.state_dicts[at].role, key)
        more = (*self._twins.of(tensor, at), *self._moments.beside(tensor))
        if role is None:
            return TensorRole("", related=more) if more else None
        return role.with_related(more)

    def _of_state_dict(self, at: int) -> Keys:
        if at not in self._keys:
            state_dict = self._checkpoint.state_dicts[at]
            new = self._edits.get(at) or state_dict.keys
            named = [
                (old if key is None else key, tensor)
                for key, old, tensor in zip(new, state_dict.keys, state_dict.tensor_of, strict=True)
                if tensor >= 0
            ]
            self._keys[at] = Keys(self._checkpoint.tensors, dict(named), self._config)
            self._homes[at] = {tensor: key for key, tensor in reversed(named)}
        return self._keys[at]

    @cached_property
    def _config(self) -> Mapping[str, int]:
        return config.stated(self._checkpoint.values)

    @cached_property
    def _moments(self) -> optimizer.Moments:
        return optimizer.Moments(self._checkpoint)

    @cached_property
    def _twins(self) -> averages.Twins:
        return averages.Twins(self._checkpoint)
