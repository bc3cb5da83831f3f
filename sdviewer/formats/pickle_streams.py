"""Every pickle of a file, for the scan: also those that nothing refers to, and of files that do not open.

Of a checkpoint of several files, every pickle of each of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike, fspath

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, OpenError, SDViewerError
from sdviewer.formats.assembly import range_file
from sdviewer.formats.bare_pickle import MOST_PICKLES, is_old_pickle
from sdviewer.formats.dcp import DcpSource
from sdviewer.formats.file import File, opened
from sdviewer.formats.folder import METADATA
from sdviewer.formats.inner_files import first_bytes, member_window
from sdviewer.formats.numpy_array import object_pickle
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.registry import FORMATS
from sdviewer.formats.shards import UnsafeNameError, shard_path
from sdviewer.formats.sniff import LEGACY_MAGIC, NUMPY_MAGIC, Head, is_dcp_metadata, is_index, refusal
from sdviewer.formats.torch_tar import is_torch_tar, read_tar
from sdviewer.formats.zip_directory import DEFLATED, Entry, Reader, ZipDirectory, read_directory, read_member
from sdviewer.pickles.machine import parse_partial
from sdviewer.pickles.scan import begins_like_a_pickle

LONGEST = 1 << 32
"""Bytes of a member beyond which it is not taken for a pickle."""

_INFLATED = 64 << 20
"""A deflated pickle may always have this many bytes; beyond, at most 20 times the whole file."""

_OBJECT_ARRAY = re.compile(rb"'[|<>=]?O\d*'")
"""An object dtype in the header of an `.npy`, by itself or in a field: its data are a pickle."""

_PICKLES_OF_LEGACY = 5
_START = 4096
"""Bytes of a member that are looked at; the header of an `.npy` is shorter."""

_DEEPEST = 4
"""Archives inside archives that are looked into."""


@dataclass(frozen=True, slots=True)
class PickleStream:
    """`data` begins with `pickles` pickles, one behind the other; None: one, and whatever follows it like one.

    `loaded`: `torch.load` reads them. `broken` says why the bytes could not be had ("" when they could); then `data`
    is empty. `refused`: `torch.load(weights_only=True)` refuses the whole file, whatever its pickles ask for.
    `number_ids`: persistent ids are bare numbers.
    """

    name: str
    data: bytes
    pickles: int | None = None
    loaded: bool = False
    broken: str = ""
    refused: bool = False
    number_ids: bool = False


def pickle_streams(
    path: str | PathLike[str],
    *,
    parts: bool = True,
    checkpoint: Checkpoint | None = None,
    progress: Progress = no_progress,
) -> list[PickleStream]:
    """The pickles of the file at `path`; none for a format that holds none.

    Without `parts` those are left out that only hold one part of a tensor of a distributed checkpoint, of which there
    can be a million. One of several files is not opened again where its `checkpoint` is given.

    Raises:
        OpenError: it is not a checkpoint, or cannot be read.
    """
    name = fspath(path)
    try:
        if checkpoint is not None and checkpoint.shards:
            return list(_of_all_files(checkpoint, parts, progress))
        if os.path.isdir(name):  # noqa: PTH112
            found = _set_of_files(name, progress)
            if isinstance(found, Checkpoint):
                return list(_of_all_files(found, parts, progress))
            name = found
        with opened(name, progress) as file:
            head = file.head
            if is_dcp_metadata(head) or is_index(head):
                found = _set_of_files(name, progress)
                if isinstance(found, Checkpoint):
                    return list(_of_all_files(found, parts, progress))
            if head.is_zip:
                refused = not head.has("data.pkl") or head.has("constants.pkl")
                streams = _members(file, head.directory)
                return [replace(stream, refused=refused) for stream in streams]
            if head.is_safetensors and not _is_pickle_too(head):
                return []
            if head.is_legacy:
                return [PickleStream("", _whole(file), _PICKLES_OF_LEGACY, loaded=True)]
            if head.is_pickle or is_old_pickle(head):
                data = _whole(file)
                return [PickleStream("", data, _pickles_in(data, progress), loaded=True, refused=True)]
            if is_torch_tar(head):
                return list(_tar(file, progress))
            if head.start.startswith(NUMPY_MAGIC):
                objects = object_pickle(file)
                return [] if objects is None else [PickleStream("", objects)]
            if any(format_.matches(head) for format_ in FORMATS):
                return []  # one that holds no pickle
            raise refusal(head)
    except SDViewerError as error:
        error.path = error.path or name
        raise


def _set_of_files(path: str, progress: Progress) -> Checkpoint | str:
    """The checkpoint of several files at `path`; else the one file that is meant.

    A `.metadata` that cannot be made sense of is a pickle all the same, and what it would run is asked here.

    Raises:
        OpenError: there is no file to look at.
    """
    try:
        checkpoint = open_checkpoint(path, progress=progress)
    except OpenError:
        metadata = os.path.join(path, METADATA)  # noqa: PTH118
        if os.path.isfile(metadata):  # noqa: PTH113
            return metadata
        if os.path.isfile(path) and not path.endswith(".json"):  # noqa: PTH113
            return path
        raise
    return checkpoint if checkpoint.shards else checkpoint.path


def _of_all_files(checkpoint: Checkpoint, parts: bool, progress: Progress) -> Iterator[PickleStream]:
    """The pickles of every file of a checkpoint of several, each with its file's name before its own."""
    for n, (name, shard) in enumerate(checkpoint.shards.items()):
        progress(n, len(checkpoint.shards))
        try:
            with opened(shard.path, progress) as file:
                if is_index(file.head):
                    continue
                source = checkpoint.source
                if isinstance(source, DcpSource) and name in source.files:
                    streams = list(_archives(file, name, source, parts))
                elif isinstance(source, DcpSource):
                    # Loaded, and by a loader without any list of names: but not by torch.load.
                    streams = [PickleStream("", _whole(file))]
                else:
                    streams = pickle_streams(shard.path, progress=progress)
        except OpenError as error:
            streams = [PickleStream("", b"", loaded=True, broken=error.message)]
        for stream in streams:
            yield replace(stream, name=f"{name}: {stream.name}" if stream.name else name)
    for problem in checkpoint.problems:
        if problem.code == "missing_shard" and problem.where.endswith(".safetensors"):
            continue  # loaders read a file of this name as safetensors, whatever is in it: no pickle is missing
        if problem.code in ("missing_shard", "unsafe_shard", "shard_unreadable"):
            yield _of_lost_file(checkpoint, problem)


def _of_lost_file(checkpoint: Checkpoint, problem: Problem) -> PickleStream:
    """What a file that is no shard would run all the same where it is a pickle; why it cannot be known of any other."""
    if problem.code == "shard_unreadable":
        with suppress(OpenError, UnsafeNameError):
            folder = os.path.dirname(checkpoint.path)  # noqa: PTH120
            with opened(shard_path(folder, problem.where)) as file:
                if file.head.is_pickle or file.head.is_legacy or is_old_pickle(file.head):
                    return PickleStream(problem.where, _whole(file), loaded=True)
    return PickleStream(problem.where, b"", loaded=True, broken=problem.message)


def _archives(file: File, name: str, source: DcpSource, parts: bool) -> Iterator[PickleStream]:
    """The pickles of the archives that stand one behind the other in a data file of a distributed checkpoint."""
    if file.head.is_safetensors:
        return
    wanted = {at for (_, offsets), at in source.places.items() if at.file == name and (parts or offsets is None)}
    for at in sorted(wanted):
        where = f"byte {at.offset}"
        try:
            part = range_file(file, at.offset, at.length)
            if part.head.is_zip:
                found = list(_members(part, part.head.directory))
            else:
                legacy = _PICKLES_OF_LEGACY if part.head.is_legacy else 1
                found = [PickleStream("", part.read(0, min(part.size, LONGEST)), legacy, loaded=True)]
        except OpenError as error:
            found = [PickleStream("", b"", loaded=True, broken=error.message)]
        for stream in found:
            yield replace(stream, name=f"{where}, {stream.name}" if stream.name else where)


def _members(file: Reader, directory: ZipDirectory, inside: str = "", depth: int = 0) -> Iterator[PickleStream]:
    """The members of an archive that are pickles by their name or by their first bytes, storages apart.

    A member that is a torch file of its own is looked into.
    """
    main = (directory.find(f"{directory.top}/data.pkl") or directory.find("data.pkl")) if not depth else None
    for entry in directory.entries:
        name = inside + entry.name
        start = b"" if _is_storage(entry) else first_bytes(file, directory, entry, _START)
        if start.startswith(b"PK\3\4") and depth == _DEEPEST:
            yield PickleStream(name, b"", broken="it is an archive in too many archives")
        elif start.startswith(b"PK\3\4"):
            yield from _inner_archive(file, directory, entry, name, depth)
        elif entry.name.lower().endswith((".pkl", ".pickle")):
            pickles = _PICKLES_OF_LEGACY if LEGACY_MAGIC in start[:32] else None
            data, broken = _read(file, directory, entry)
            yield PickleStream(name, data, pickles, loaded=entry is main, broken=broken)
        elif begins_like_a_pickle(start) or _holds_objects(start):
            data, broken = _read(file, directory, entry)
            data = data[_array_header(data) :] if start.startswith(NUMPY_MAGIC) else data
            if broken or _is_pickle(data):
                yield PickleStream(
                    name, data, _PICKLES_OF_LEGACY if LEGACY_MAGIC in start[:32] else None, broken=broken
                )


def _read(file: Reader, directory: ZipDirectory, entry: Entry) -> tuple[bytes, str]:
    """A member's bytes, or why they cannot be had."""
    longest = min(LONGEST, max(_INFLATED, 20 * file.size)) if entry.method == DEFLATED else LONGEST
    try:
        return read_member(file, directory, entry, longest), ""
    except CorruptCheckpoint as error:
        return b"", error.message


def _array_header(start: bytes) -> int:
    """Bytes of an `.npy` before its data."""
    wide = start[6:7] > b"\x01"
    return (12 if wide else 10) + int.from_bytes(start[8 : 12 if wide else 10], "little")


def _holds_objects(start: bytes) -> bool:
    return start.startswith(NUMPY_MAGIC) and _OBJECT_ARRAY.search(start, 0, _array_header(start)) is not None


def _is_pickle(data: bytes) -> bool:
    """Whether bytes that begin like a pickle are one: text may begin so too, and then breaks off without a call."""
    if data.startswith(b"\x80"):
        return True
    pickle = parse_partial(data) if data else None
    return pickle is not None and bool(not pickle.broken or pickle.calls)


def _inner_archive(
    file: Reader, directory: ZipDirectory, entry: Entry, name: str, depth: int
) -> Iterator[PickleStream]:
    try:
        within = member_window(file, directory, entry)
        inner = read_directory(within)
    except CorruptCheckpoint as error:
        yield PickleStream(name, b"", broken=error.message)
    else:
        yield from _members(within, inner, f"{name}/", depth + 1)


def _is_storage(entry: Entry) -> bool:
    """Whether a member is raw numbers by its place: `TOP/data/KEY`, `TOP/constants/KEY`, `*.storage`."""
    folder, _, name = entry.name.rpartition("/")
    raw = folder.endswith(("data", "constants", "tensors", "traced_inputs")) and name.isdigit()
    return raw or name.endswith(".storage")


def _whole(file: File) -> bytes:
    """A file up to its end: how long its pickles are is known when they have been read."""
    return file.read(0, min(file.size, LONGEST))


def _is_pickle_too(head: Head) -> bool:
    """Whether a safetensors file is a pickle at the same time: its length and header are the pickle's first text.

    The length of an honest header may begin like a pickle, and goes on like none.
    """
    if not head.is_pickle:
        return False
    pickle = parse_partial(head.start)
    return not pickle.broken or pickle.is_cut or bool(pickle.calls)


def _pickles_in(data: bytes, progress: Progress) -> int:
    """How many pickles follow one another; what is none behind the last counts where it would call something."""
    at = n = 0
    while at < len(data) and n < MOST_PICKLES:
        pickle = parse_partial(data, at, progress=progress)
        if pickle.broken and n and not pickle.calls:
            break
        n += 1
        if pickle.broken:
            break
        at = pickle.end
    return n


def _tar(file: File, progress: Progress) -> Iterator[PickleStream]:
    """The pickles of a tar of torch before 0.1.10, the small ones between its numbers too."""
    tar = read_tar(file, progress, keep=True)
    for found in tar.pickles:
        name = f"{found.member}:{found.at}"
        yield PickleStream(name, found.data, loaded=True, refused=True, number_ids=True)
