"""Keys with what is known of their tensors: one side of a fit, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The entries of a state dict, or of what a model asks for.

    `shapes` and `dtypes` are by position; None and "" where they are not known (a load message names keys only).
    `ordered` says that the keys stand in the order of registration: a safetensors file sorts them. `ties` are groups of
    positions that are one tensor. `not_tensors` are positions of entries that are no tensors.
    """

    keys: tuple[str, ...]
    shapes: Sequence[tuple[int, ...] | None]
    dtypes: Sequence[str]
    ordered: bool = True
    ties: tuple[tuple[int, ...], ...] = ()
    not_tensors: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def shapes_known(self) -> bool:
        """Whether the shape of every tensor is known."""
        return all(shape is not None or at in self.not_tensors for at, shape in enumerate(self.shapes))
