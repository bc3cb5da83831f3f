"""Whether the bytes of a file are those that were written: the CRC-32 of each record, as its archive states it.

Only zip archives state checksums (torch since 1.6, npz, TorchScript ...). torch itself does not look at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Identity, Problem
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.errors import OpenError
from sdviewer.formats.storage import Checksum, TensorSource, checksum
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.zip_directory import Entry, ZipDirectory

MOST_TOLD = 200
"""Records with a wrong checksum that are told one by one."""

_MOST_TENSORS = 5


class Record(NamedTuple):
    """One member that states a checksum: the file it is in, and the byte before which it ends."""

    path: str
    identity: Identity
    entry: Entry
    limit: int


@dataclass(frozen=True, slots=True)
class ContentsCheck:
    """What a check found. `records` were read (`nbytes` when unpacked), `wrong` of them are not what was written.

    `unstated` records state no checksum, so nothing is known of them. `lost` are those that cannot be read: damaged,
    cut off, or named by a pickle and not there. `broken_off`: the file ends before its zip directory, so there may have
    been more than anybody knows of.
    """

    records: int
    unstated: int
    nbytes: int
    wrong: int
    problems: tuple[Problem, ...]
    lost: int = 0
    broken_off: bool = False


def records_to_check(checkpoint: Checkpoint) -> tuple[list[Record], int]:
    """The records that state a checksum and can be read, and how many state none."""
    members = list(_members(checkpoint))
    stated = [record for record in members if record.entry.crc]
    return stated, len(members) - len(stated)


def check_contents(checkpoint: Checkpoint, *, progress: Progress = no_progress) -> ContentsCheck:
    """Read every record that states a checksum, from first to last, and compare.

    Raises:
        CorruptCheckpoint: a file has changed (code `file_changed`); nothing is said of it then.
        Cancelled: from `progress`, called with bytes.
    """
    records, unstated = records_to_check(checkpoint)
    total = sum(record.entry.usize for record in records)
    problems: list[Problem] = []
    done = wrong = 0
    tensors: dict[tuple[str, str], list[str]] | None = None
    for record in records:
        progress(done, total)
        found = _compare(record, partial(_from, progress, done, total))
        done += record.entry.usize
        if not found:
            continue
        wrong += found.severity == "error"
        if len(problems) < MOST_TOLD:
            tensors = _tensors_by_record(checkpoint) if tensors is None else tensors
            problems.append(_named(found, tensors.get((record.path, record.entry.name), [])))
    directory = getattr(checkpoint.source, "directory", None)
    broken_off = isinstance(directory, ZipDirectory) and directory.broken_off
    return ContentsCheck(len(records), unstated, total, wrong, tuple(problems), _lost(checkpoint), broken_off)


def _from(progress: Progress, start: int, total: int, done: int, _: int) -> None:
    progress(start + done, total)


def _compare(record: Record, progress: Progress) -> Problem | None:
    entry = record.entry
    name = f"record {text.visible(entry.name, 120)}"
    layout = TensorLayout("uint8", (entry.usize,), (1,), 0)
    source = TensorSource(record.path, record.identity, StorageSpan(0, entry.usize, entry, record.limit), layout)
    try:
        found: Checksum = checksum(source, progress=progress)
    except OpenError as error:
        if error.code == "file_changed":
            raise
        return Problem("error", "checksum", f"{name} cannot be read: {error.message}", entry.name)
    if not found.problem:
        return None
    damaged = found.stated != found.found
    return Problem("error" if damaged else "warning", "checksum", f"{name}: {found.problem}", entry.name)


def _named(problem: Problem, tensors: list[str]) -> Problem:
    """With the tensors that lie in the record; the first of them is where it is."""
    if not tensors:
        return problem
    shown = ", ".join(text.visible(name, 120) for name in tensors[:_MOST_TENSORS])
    more = f" and {len(tensors) - _MOST_TENSORS:,} more" if len(tensors) > _MOST_TENSORS else ""
    return problem._replace(message=f"{problem.message}. It holds {shown}{more}", where=tensors[0])


def _members(checkpoint: Checkpoint) -> Iterator[Record]:
    """All members of an archive; of a checkpoint of several files, those that are storages."""
    directory = getattr(checkpoint.source, "directory", None)
    if isinstance(directory, ZipDirectory):
        lost = _lost_members(directory)
        for place, entry in enumerate(directory.entries):
            if entry.usize and place not in lost:
                yield Record(checkpoint.path, checkpoint.identity, entry, directory.limit_of(entry))
        return
    seen: set[tuple[str, int]] = set()
    for storage in checkpoint.storages:
        span = _span(checkpoint, storage)
        if span is None or span.member is None or not span.member.usize:
            continue
        shard = checkpoint.shards.get(span.shard) if span.shard else None
        path, identity = (checkpoint.path, checkpoint.identity) if shard is None else (shard.path, shard.identity)
        if (path, span.member.header_offset) not in seen:
            seen.add((path, span.member.header_offset))
            yield Record(path, identity, span.member, span.limit)


def _lost_members(directory: ZipDirectory) -> set[int]:
    """Places of the members whose bytes cannot be had, the one in which the file breaks off among them."""
    return {*directory.unreadable, *([len(directory.entries) - 1] if directory.cut else ())}


def _lost(checkpoint: Checkpoint) -> int:
    """How many records cannot be read, of which the archive or a pickle tells."""
    directory = getattr(checkpoint.source, "directory", None)
    members = len(_lost_members(directory)) if isinstance(directory, ZipDirectory) else 0
    return members + sum(1 for storage in checkpoint.storages if not _is_there(checkpoint, storage))


def _is_there(checkpoint: Checkpoint, storage: str) -> bool:
    try:
        checkpoint.source.span(storage)
    except (KeyError, OpenError):
        return False
    return True


def _span(checkpoint: Checkpoint, storage: str) -> StorageSpan | None:
    """Where a storage is, if that is one place; None too where nothing of it is there."""
    try:
        span: Any = checkpoint.source.span(storage)
    except (KeyError, OpenError):
        return None
    return span if isinstance(span, StorageSpan) else None


def _tensors_by_record(checkpoint: Checkpoint) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for info in checkpoint.tensors:
        span = _span(checkpoint, info.storage) if info.storage is not None else None
        if span is None or span.member is None:
            continue
        shard = checkpoint.shards.get(span.shard) if span.shard else None
        path = checkpoint.path if shard is None else shard.path
        found.setdefault((path, span.member.name), []).append(dotted(info.path))
    return found
