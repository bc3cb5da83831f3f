"""Operations on what stands around the state dict: plain values, whole entries, the optimizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import KeyPath
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.plan import PlanWarning

Plain: TypeAlias = "bool | int | float | str | None"
"""What a value of a file can be changed to."""


@dataclass(slots=True)
class FileChanges:
    """What the steps have made of the whole file so far.

    `state_dict` is the path of the one that the recipe edits (None: it edits none). `values` are plain values by their
    paths, `removed` paths that go with everything below them, `wrap` the key under which the root is put; `renumber`
    says that the optimizer shall follow dropped keys. `metadata` are entries of a safetensors file's text: the new
    text, None where one goes.
    """

    checkpoint: Checkpoint
    state_dict: KeyPath | None = None
    values: dict[KeyPath, Plain] = field(default_factory=dict)
    removed: dict[KeyPath, None] = field(default_factory=dict)
    wrap: str = ""
    renumber: bool = False
    metadata: dict[str, str | None] = field(default_factory=dict)
    warnings: list[PlanWarning] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOperation(WholeFile):
    """An operation on the file as a whole that changes what stands around the state dict."""

    @abstractmethod
    def change_file(self, changes: FileChanges) -> int:
        """Make the changes; how many things it found to change.

        Raises:
            RepairError: it cannot be done to this file.
        """


def all_paths(checkpoint: Checkpoint) -> Iterable[KeyPath]:
    """The path of everything that a checkpoint lists."""
    for things in (checkpoint.tensors, checkpoint.values, checkpoint.objects):
        for thing in things:
            yield thing.path
