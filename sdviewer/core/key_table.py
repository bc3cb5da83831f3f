"""Keys with what is known of their tensors: one side of a fit, wherever it comes from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from sdviewer.core.checkpoint import Checkpoint, Identity, StateDict, TensorInfo, elements_in
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import contiguous_stride

SORTED_CONTAINERS = frozenset({"safetensors", "hf-index", "hdf5"})
"""Containers that give keys in an order of their own: by dtype and name, by name, by shard."""

KEY_LIST = "key-list"
"""The container of a checkpoint that is a list of keys and nothing else."""

ASSUMED_DTYPE = "float32"
"""What a tensor counts as in a key list that states no dtype: a fit does not look at dtypes."""


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


def key_table_of_checkpoint(checkpoint: Checkpoint, index: int) -> KeyTable:
    """One state dict of a checkpoint. Tensors that look into one storage in the same way are tied."""
    state_dict = checkpoint.state_dicts[index]
    shapes: list[tuple[int, ...] | None] = []
    dtypes: list[str] = []
    views: dict[Hashable, list[int]] = {}
    for position, at in enumerate(state_dict.tensor_of):
        info = checkpoint.tensors[at] if at >= 0 else None
        # A key of an index whose shard is not there has no dtype, and its shape says nothing.
        shapes.append(info.shape if info is not None and info.dtype else None)
        dtypes.append("" if info is None else info.dtype)
        if info is not None and info.storage is not None and info.nbytes:
            view = (info.shard, info.storage, info.storage_offset, info.shape, info.stride, info.dtype)
            views.setdefault(view, []).append(position)
    return KeyTable(
        state_dict.keys,
        tuple(shapes),
        tuple(dtypes),
        ordered=checkpoint.container not in SORTED_CONTAINERS,
        ties=tuple([tuple(positions) for positions in views.values() if len(positions) > 1]),
        not_tensors=frozenset([position for position, at in enumerate(state_dict.tensor_of) if at < 0]),
    )


def checkpoint_of_table(table: KeyTable, path: str = "") -> Checkpoint:
    """A header-only checkpoint with these keys as its only state dict, so that recipes can be planned on a key list.

    Its tensors have no storage: nothing of it can be read or saved. An unknown shape stands as that of a scalar, an
    unknown dtype as float32; who asks for them asks the table.
    """
    tensors: list[TensorInfo] = []
    tensor_of = []
    for position, key in enumerate(table.keys):
        if position in table.not_tensors:
            tensor_of.append(-1)
            continue
        tensor_of.append(len(tensors))
        tensors.append(_listed(key, table.shapes[position] or (), table.dtypes[position] or ASSUMED_DTYPE))
    parameters = sum([info.elements for info in tensors])
    nbytes = sum([info.nbytes for info in tensors])
    state_dict = StateDict((), "model", table.keys, tensor_of, parameters, nbytes)
    nowhere = Identity(0, 0, 0, 0, 0)
    return Checkpoint(path, KEY_LIST, 0, "little", nowhere, state_dicts=(state_dict,), tensors=tensors)


def _listed(key: str, shape: tuple[int, ...], dtype: str) -> TensorInfo:
    nbytes = elements_in(shape) * (DTYPES[dtype].itemsize if dtype in DTYPES else 1)
    return TensorInfo(
        *((key,), 0, key, shape, dtype, contiguous_stride(shape), 0, None, nbytes),
        *(None, "meta", "torch.Tensor", None),
        unreadable="it is a line of a key list, without numbers",
    )
