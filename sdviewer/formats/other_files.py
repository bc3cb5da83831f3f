"""The files besides the source that tensors are taken from: opened when a recipe is planned, checked when it is saved.

Law: they are inputs as the source is: never written, and what is taken is what they held when they were opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.errors import OpenError, SaveError
from sdviewer.formats.file import identity_of, same_file
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.storage import checksum, tensor_source
from sdviewer.repair.other_files import placed
from sdviewer.repair.plan import Expression, taken

OTHER_CHANGED = "other_changed"
"""The code of a save that stopped because a file that tensors are taken from is not what it was."""

MOST_OPEN = 8
"""Checkpoints that are remembered."""


class OtherFiles:
    """Opens the checkpoints at the paths of a recipe, and remembers each as long as it stays the file that it was.

    A relative path is one in `folder`: that of the recipe, else the current one.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._opened: dict[str, Checkpoint] = {}

    def __call__(self, path: str) -> Checkpoint:
        """The checkpoint at a path, header only.

        Raises:
            OpenError: it cannot be read.
        """
        where = placed(path, self._folder)
        known = self._opened.pop(where, None)
        if known is None or not is_unchanged(known):
            known = open_checkpoint(where)
        self._opened[where] = known
        while len(self._opened) > MOST_OPEN:
            del self._opened[next(iter(self._opened))]
        return known


def files_of(checkpoints: Iterable[Checkpoint]) -> Iterator[str]:
    """The paths of the files that checkpoints lie in."""
    for checkpoint in checkpoints:
        yield checkpoint.path
        yield from [shard.path for shard in checkpoint.shards.values()]


def is_unchanged(checkpoint: Checkpoint) -> bool:
    """Whether the file of a checkpoint, or each of several, is still the one that was read."""
    files = [(shard.path, shard.identity) for shard in checkpoint.shards.values()]
    found = [(identity_at(path), identity) for path, identity in files or [(checkpoint.path, checkpoint.identity)]]
    return all(now is not None and same_file(now, before) for now, before in found)


def identity_at(path: str) -> Identity | None:
    """What is at a path now, None where nothing can be asked."""
    try:
        return identity_of(Path(path).stat())
    except (OSError, ValueError):
        return None


def changed(path: str, code: str = "file_changed") -> SaveError:
    """An input is not the file any more that was opened; to be raised. `code` says which input."""
    return SaveError(
        "it was changed on disk after it was opened",
        path=path,
        remedy="Open it again; the recipe can be applied to it as it is now.",
        code=code,
    )


def identities(checkpoint: Checkpoint) -> list[dict[str, int]]:
    """Which file it was when it was opened, or each of several, as plain values."""
    return [asdict(one) for one in (checkpoint.identity, *[shard.identity for shard in checkpoint.shards.values()])]


def check_others(others: Iterable[Checkpoint]) -> None:
    """Make sure that the files which tensors are taken from are still those that were opened.

    Raises:
        SaveError: one is not (code `other_changed`).
    """
    for other in others:
        if not is_unchanged(other):
            raise changed(other.path, OTHER_CHANGED)


def check_taken(values: Iterable[Expression], others: Mapping[str, Checkpoint], tell: Callable[[], None]) -> None:
    """Compare the checksums of the storages that tensors are taken from, where their archive states some.

    A copy would get a new checksum, that of the damaged bytes: nobody could see it any more. `tell` may cancel.

    Raises:
        SaveError: the bytes cannot be read, or are not those that were written.
        Cancelled: from `tell`.
    """
    seen: set[tuple[str, str | None]] = set()
    for tensor in dict.fromkeys(one for value in values for one in taken(value)):
        other = others[tensor.file]
        storage = (tensor.file, other.tensors[tensor.tensor].storage)
        if storage in seen:
            continue
        seen.add(storage)
        try:
            problem = checksum(tensor_source(other, tensor.tensor), progress=lambda *_: tell()).problem
        except OpenError as error:
            raise cannot_take(tensor.key, tensor.file, error.message, error.code) from error
        if problem:
            raise cannot_take(tensor.key, tensor.file, problem)


def cannot_take(key: str, file: str, why: str, code: str = "") -> SaveError:
    """A tensor of another file cannot be read, as reading it failed with this code; to be raised."""
    return SaveError(
        f"{text.visible(key, 80)} cannot be taken from it: {why}",
        path=file,
        remedy="Leave it out of the step, or get the file again.",
        code=OTHER_CHANGED if code == "file_changed" else "other_unreadable",
        key=key,
    )
