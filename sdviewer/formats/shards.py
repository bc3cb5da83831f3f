"""The files of a checkpoint that lies in several: which a name means, and what is in each.

A shard's name is text from a file. It may name nothing outside the folder that the checkpoint lies in, however it is
written and whatever a link of that name points to; only in a Hugging Face cache, where `snapshots/REVISION/NAME` is a
link to `blobs/HASH`, it may also name what lies elsewhere in the same cached repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdviewer.core.checkpoint import (
    Checkpoint,
    ObjectInfo,
    Problem,
    Role,
    Severity,
    Shard,
    StateDict,
    StorageInfo,
    TensorInfo,
    ValueInfo,
)
from sdviewer.core.paths import KeyPath
from sdviewer.core.progress import Progress
from sdviewer.core.text import plural, visible
from sdviewer.errors import CorruptCheckpoint, OpenError, SDViewerError
from sdviewer.formats.file import File, opened
from sdviewer.formats.torch_objects import role_of

READ_ONLY = "a checkpoint that lies in several files can be looked at, and not edited or saved yet"
"""Why the keys of such a checkpoint cannot be edited."""

SET_CONTAINERS = frozenset(("hf-index", "dcp", "deepspeed"))
"""Containers of several files, which cannot be a shard themselves."""

_CACHED_REPOSITORY = re.compile(r"(?:models|datasets|spaces)--.+")
_SAME_PROBLEM = 100


class UnsafeNameError(Exception):
    """A shard's name that is not followed; the message says why."""


def shard_path(folder: str, name: str) -> str:
    """The path of the shard `name` in `folder`; whether there is a file is not asked.

    Raises:
        UnsafeNameError: it could name something outside the folder.
    """
    if not name or "\0" in name:
        raise UnsafeNameError("it is no name of a file")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise UnsafeNameError("it is an absolute path")
    if "\\" in name:
        raise UnsafeNameError("it has a backslash in it")
    if ".." in name.split("/"):
        raise UnsafeNameError("it leads out of the folder")
    path = os.path.join(folder, name)  # noqa: PTH118  a Path would drop a "./" that the user wrote
    try:
        target, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder or "."))
    except (OSError, ValueError):
        raise UnsafeNameError("no file can have this name") from None
    if not target.is_relative_to(_boundary(home)):
        raise UnsafeNameError("it is a link that leads out of the folder")
    return path


def _boundary(home: Path) -> Path:
    """The folder itself, or the cached repository that it is a snapshot of."""
    for folder in (home, *home.parents):
        if _CACHED_REPOSITORY.fullmatch(folder.name):
            return folder
    return home


def shard_of(path: str, checkpoint: Checkpoint) -> Shard:
    """What is kept of a shard that was opened."""
    return Shard(path, checkpoint.identity, checkpoint.byte_order)


def open_shard(path: str, progress: Progress) -> Checkpoint:
    """What one shard holds; like `open_checkpoint`, but for a single file only.

    Raises:
        OpenError: it cannot be read, or is a set of files itself (code `shard_unreadable`).
        Cancelled: from `progress`.
    """
    with opened(path, progress) as file:
        return _open_file(file, progress)


def _open_file(file: File, progress: Progress) -> Checkpoint:
    from sdviewer.formats.registry import FORMATS
    from sdviewer.formats.sniff import refusal

    for format_ in FORMATS:
        if format_.matches(file.head):
            if SET_CONTAINERS.intersection(format_.containers):
                raise CorruptCheckpoint(f"it is no shard but itself {format_.name}", code="shard_unreadable")
            try:
                return format_.open(file, progress)
            except RecursionError:
                raise CorruptCheckpoint("it is nested too deeply", code="too_deep") from None
    raise refusal(file.head)


class ShardProblems:
    """Problems of a checkpoint of many files, at most a hundred of one code one by one."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._counts: dict[str, int] = {}

    def add_problem(self, severity: Severity, code: str, message: str, where: str = "") -> None:
        """Tell one."""
        n = self._counts[code] = self._counts.get(code, 0) + 1
        if n <= _SAME_PROBLEM:
            self._found.append(Problem(severity, code, message, visible(where, 400)))

    def from_shard(self, name: str, problems: tuple[Problem, ...]) -> None:
        """Those of one file, which say in which file they are."""
        for severity, code, message, where in problems:
            self.add_problem(severity, code, message, f"{name}: {where}" if where else name)

    def not_read(self, name: str, error: SDViewerError, keys: int) -> str:
        """A shard that cannot be read, with how many keys that costs; returns the reason for their rows."""
        lost = f"; {plural(keys, 'key')} of the checkpoint {'is' if keys == 1 else 'are'} in it" if keys else ""
        if isinstance(error, OpenError) and error.code == "not_found":
            self.add_problem("error", "missing_shard", f"the file {visible(name, 200)} is not there{lost}", name)
            return f"its file {visible(name, 200)} is not there"
        message = f"the file {visible(name, 200)} cannot be read: {error.message}{lost}"
        self.add_problem("error", "shard_unreadable", message, name)
        return f"its file {visible(name, 200)} cannot be read: {error.message}"

    def unsafe(self, name: str, error: UnsafeNameError, keys: int) -> str:
        """A name that is not followed; returns the reason for the rows of its keys."""
        message = f"the file {visible(name, 200)} is not opened: {error}; {plural(keys, 'key')} should be in it"
        self.add_problem("error", "unsafe_shard", message, name)
        return f"its file {visible(name, 200)} is not opened: {error}"

    def all(self) -> tuple[Problem, ...]:
        """Those told, and how many of each code were not."""
        more = [
            Problem("info", code, f"{n - _SAME_PROBLEM:,} more of this kind", "")
            for code, n in self._counts.items()
            if n > _SAME_PROBLEM
        ]
        return (*self._found, *more)


@dataclass(slots=True)
class Rows:
    """Rows of a checkpoint of several files, and those of its parts put below paths of their own.

    `before` is how many state dicts there are besides `state_dicts`, whose indexes come first.
    """

    tensors: list[TensorInfo] = field(default_factory=list)
    values: list[ValueInfo] = field(default_factory=list)
    objects: list[ObjectInfo] = field(default_factory=list)
    storages: dict[str, StorageInfo] = field(default_factory=dict)
    state_dicts: list[StateDict] = field(default_factory=list)
    before: int = 0

    def new_id(self, wanted: str) -> str:
        """A storage id that is not taken; text from files can make two alike."""
        while wanted in self.storages:
            wanted += "#"
        return wanted

    def add(self, part: Checkpoint, prefix: KeyPath, shard: str, name: str) -> dict[str, str]:
        """The rows of `part` below `prefix`; its storages are called `name/ID`. Returns their new ids by the old."""
        for value in part.values:
            self.values.append(value._replace(path=(*prefix, *value.path)))
        for found in part.objects:
            self.objects.append(found._replace(path=(*prefix, *found.path)))
        ids = {}
        for inner, storage in part.storages.items():
            ids[inner] = made = self.new_id(f"{name}/{inner}")
            self.storages[made] = storage._replace(id=made)
        first, base = len(self.tensors), self.before + len(self.state_dicts)
        for found_dict in part.state_dicts:
            path = (*prefix, *found_dict.path)
            role = role_of(path, found_dict.keys) if found_dict.role != "optimizer" else found_dict.role
            tensor_of = tuple([first + row if row >= 0 else -1 for row in found_dict.tensor_of])
            self.state_dicts.append(replace(found_dict, path=path, role=role, tensor_of=tensor_of, read_only=READ_ONLY))
        for tensor in part.tensors:
            self.tensors.append(
                tensor._replace(
                    path=(*prefix, *tensor.path),
                    state_dict=None if tensor.state_dict is None else base + tensor.state_dict,
                    storage=None if tensor.storage is None else ids.get(tensor.storage),
                    shard=shard,
                )
            )
        return ids


@dataclass(slots=True)
class JoinedStateDict:
    """A state dict that is put together from what several files hold; `nbytes` counts each storage once."""

    index: int
    path: KeyPath
    role: Role
    keys: list[str] = field(default_factory=list)
    tensor_of: list[int] = field(default_factory=list)
    parameters: int = 0
    nbytes: int = 0

    def finish(self) -> StateDict:
        """As it is told, read-only."""
        return StateDict(
            self.path,
            self.role,
            tuple(self.keys),
            tuple(self.tensor_of),
            self.parameters,
            self.nbytes,
            read_only=READ_ONLY,
        )


def total_size(shards: Mapping[str, Shard]) -> int:
    """Bytes of all files; one that has two names counts once."""
    files = {(shard.identity.device, shard.identity.inode): shard.identity.size for shard in shards.values()}
    return sum(files.values())
