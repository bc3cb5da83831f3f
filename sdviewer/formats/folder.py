"""A folder as a checkpoint: its index, its `.metadata`, its parts, or the only checkpoint file in it.

Which of these a folder is, is asked in this order, because a sharded checkpoint's folder holds its shards too. Files
are known by their content. Where several checkpoints are found, none is guessed: they are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import OpenError, SDViewerError, UnknownFormat, UnsupportedContainer
from sdviewer.formats.file import opened
from sdviewer.formats.sniff import folder_refusal, refusal

METADATA = ".metadata"
"""What torch.distributed.checkpoint calls its description of a folder."""

_DEEPEST = 3
_MOST_ENTRIES = 20_000
"""Entries of a folder and its subfolders that are looked at in search of checkpoints."""

_SHOWN = 8


def open_folder(path: str, progress: Progress) -> Checkpoint:
    """What the folder at `path` holds.

    Raises:
        UnknownFormat: there is no checkpoint in it.
        UnsupportedContainer: it is another program's, and not read.
        OpenError: there are several (code `several_checkpoints`), or it may not be read.
        CorruptCheckpoint: nothing of its checkpoint can be read.
        Cancelled: from `progress`.
    """
    from sdviewer.formats.registry import FOLDERS

    names = _names(path)
    entry = _entry(path, names)
    if entry is not None:
        return open_file(os.path.join(path, entry), progress)  # noqa: PTH118
    for format_ in FOLDERS:
        if format_.matches(path, names):
            return format_.open(path, progress)
    known = folder_refusal(path, names)
    if known is not None:
        raise known
    found = os.path.join(path, only_checkpoint(path, names, progress))  # noqa: PTH118
    return open_folder(found, progress) if os.path.isdir(found) else open_file(found, progress)  # noqa: PTH112


def open_file(path: str, progress: Progress) -> Checkpoint:
    """What the file at `path` holds, by the format that claims it.

    Raises:
        OpenError: no format does, or it cannot be read.
    """
    from sdviewer.formats.registry import FORMATS

    with opened(path, progress) as file:
        progress(0, 0)
        for format_ in FORMATS:
            if format_.matches(file.head):
                try:
                    return format_.open(file, progress)
                except SDViewerError as error:
                    error.path = error.path or path
                    raise
        raise refusal(file.head)


def _names(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted([entry.name for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False)])
    except PermissionError:
        raise OpenError(
            "the folder may not be read", path=path, code="no_permission", remedy="Change its permissions."
        ) from None
    except OSError as error:
        raise OpenError(f"the folder cannot be read: {error.strerror}", path=path) from None


def _entry(path: str, names: list[str]) -> str | None:
    """The file that describes the folder: a Hugging Face index, else the `.metadata` of a distributed checkpoint."""
    from sdviewer.formats.sniff import is_index

    indexes = []
    for name in names:
        if ".index." in name and name.endswith(".json"):
            try:
                with opened(os.path.join(path, name)) as file:  # noqa: PTH118
                    if is_index(file.head):
                        indexes.append(name)
            except OpenError:
                continue
    if len(indexes) > 1:
        raise several(path, indexes)
    if indexes:
        return indexes[0]
    return METADATA if METADATA in names and _describes(os.path.join(path, METADATA)) else None  # noqa: PTH118


def _describes(path: str) -> bool:
    """Whether a file called `.metadata` is that of a distributed checkpoint, or one that cannot be looked at."""
    from sdviewer.formats.sniff import is_dcp_metadata

    try:
        with opened(path) as file:
            return is_dcp_metadata(file.head)
    except OpenError:
        return True


def only_checkpoint(path: str, names: list[str], progress: Progress) -> str:
    """The one checkpoint file in a folder, or, where it has none itself, below it.

    Raises:
        UnknownFormat: there is none.
        OpenError: there are several; they are named.
    """
    found = [name for name in names if is_checkpoint(os.path.join(path, name), progress)]  # noqa: PTH118
    if not found:
        found = list(_below(path, progress))
    if len(found) > 1:
        raise several(path, found)
    if not found:
        raise UnknownFormat(
            "there is no checkpoint in this folder",
            path=path,
            remedy="Name a file, or the folder that holds the checkpoint.",
        )
    return found[0]


def several(path: str, found: list[str]) -> OpenError:
    """The error that names the checkpoints of a folder."""
    shown = [visible(name, 120) for name in found[:_SHOWN]]
    more = len(found) - len(shown)
    tail = f" and {more} more" if more else ""
    return OpenError(
        f"there are {len(found):,} checkpoints in this folder: {', '.join(shown)}{tail}",
        path=path,
        code="several_checkpoints",
        remedy="Name one of them.",
    )


def is_checkpoint(path: str, progress: Progress) -> bool:
    """Whether a file is a checkpoint by its content, also of a kind that is not read yet."""
    from sdviewer.formats.registry import FORMATS

    if not os.path.isfile(path):  # noqa: PTH113
        return False
    try:
        with opened(path, progress) as file:
            if any(format_.matches(file.head) for format_ in FORMATS):
                return True
            return isinstance(refusal(file.head), UnsupportedContainer)
    except SDViewerError:
        return path.endswith((".pt", ".pth", ".ckpt", ".safetensors", ".bin"))


def _below(path: str, progress: Progress) -> Iterator[str]:
    """Checkpoints in subfolders, a folder that is one checkpoint as the folder; links to folders are not followed."""
    left = _MOST_ENTRIES
    todo = [("", 0)]
    while todo:
        inside, depth = todo.pop(0)
        progress(0, 0)
        try:
            names = _names(os.path.join(path, inside))  # noqa: PTH118
        except OpenError:
            continue
        left -= len(names)
        if left < 0:
            return
        if inside and is_set(os.path.join(path, inside), names):  # noqa: PTH118
            yield inside
            continue
        for name in names:
            at = os.path.join(inside, name)  # noqa: PTH118
            full = os.path.join(path, at)  # noqa: PTH118
            if os.path.islink(full) and os.path.isdir(full):  # noqa: PTH112, PTH114
                continue
            if os.path.isdir(full):  # noqa: PTH112
                if depth < _DEEPEST:
                    todo.append((at, depth + 1))
            elif inside and is_checkpoint(full, progress):
                yield at


def is_set(path: str, names: list[str]) -> bool:
    """Whether a folder is one checkpoint of several files."""
    from sdviewer.formats.registry import FOLDERS

    try:
        return _entry(path, names) is not None or any(format_.matches(path, names) for format_ in FOLDERS)
    except OpenError:
        return True
