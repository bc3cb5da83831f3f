"""torch.save's own format since 1.6: a zip archive of one pickle and raw storages.

Facts: torch 2.13 `torch.serialization`, its miniz reader and writer, measured (docs/formats.md).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.file import File
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_objects import Objects, StoredBytes, read_objects
from sdviewer.formats.torch_source import TorchZipSource
from sdviewer.formats.zip_directory import Entry, Reader, ZipDirectory, read_member
from sdviewer.pickles.machine import Pickle, parse

_NOT_PLAIN = ("constants.pkl", "archive_format", ".data/extern_modules", "serialized_exported_program.json")
"""Members of archives that are no torch.save checkpoints although they have a data.pkl."""

_SMALL_RECORD = 4096
_MOST_MEMBERS = 100

_PICKLE_LIMIT = 64 << 20
"""A deflated pickle may always have this many bytes; beyond, at most 20 times the whole file."""


class TorchZip:
    """The format object."""

    name = "PyTorch checkpoint"
    containers = ("torch-zip",)
    suffixes = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".th", ".mar", ".pkl")
    can_write = True

    def matches(self, head: Head) -> bool:
        if head.has("data.pkl"):
            return not any(head.has(name) for name in _NOT_PLAIN)
        members = {name.lower() for name in head.members}
        return "data.pkl" in members and not members.intersection(_NOT_PLAIN)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the directory, the pickle and the small records; no storage is touched."""
        directory = file.head.directory
        problems = list(directory.problems)
        top, separator = top_of(directory, problems)
        archive = Archive(file, directory, top + separator if top else "")
        version = archive.text("version", ".data/version")
        if version is None:
            problems.append(Problem("warning", "no_version", "it has no version record; torch refuses it", ""))
        byte_order = archive.text("byteorder") or "little"
        if byte_order not in ("little", "big"):
            raise CorruptCheckpoint(f"its byte order is {visible(byte_order, 40)!r}", path=file.path)
        object_entry = archive.entry("data.pkl")
        if object_entry is None:
            raise CorruptCheckpoint("it has no data.pkl", path=file.path)
        limit = max(file.size * 20, _PICKLE_LIMIT) if object_entry.method else file.size
        data = read_member(file, directory, object_entry, limit)
        if not data:
            raise CorruptCheckpoint("its data.pkl is empty", path=file.path, remedy="Copy or download it again.")
        if object_entry.crc and zlib.crc32(data) != object_entry.crc:
            message = "its data.pkl has another checksum than the archive states: it was damaged or changed afterwards"
            problems.append(Problem("warning", "checksum", message, "data.pkl"))
        pickle = parse(data, progress=progress)
        assert pickle.root is not None
        if pickle.end != len(data):
            message = f"{len(data) - pickle.end:,} bytes follow the end of data.pkl; torch ignores them"
            problems.append(Problem("warning", "trailing_bytes", message, "data.pkl"))
        problems += refused_by_python(pickle)
        records, stored = archive.storages()
        objects = read_objects(pickle.root, stored, progress)
        refuse_hopeless(objects, file.path)
        problems += _members_nobody_needs(directory, records, objects)
        writer = {
            "version": version,
            "top": top,
            "format_version": archive.text(".format_version"),
            "storage_alignment": archive.text(".storage_alignment"),
            "protocol": pickle.protocol,
        }
        source = TorchZipSource(
            pickle=pickle,
            mappings=objects.mappings,
            directory=directory,
            top=top,
            separator=separator,
            object_entry=object_entry,
            records=records,
            other_pickles=tuple(
                [entry for entry in directory.entries if entry.name.endswith(".pkl") and entry is not object_entry]
            ),
        )
        return torch_checkpoint(file, "torch-zip", objects, problems, writer, byte_order, source)


class Archive:
    """The records below the top folder."""

    def __init__(self, file: Reader, directory: ZipDirectory, prefix: str) -> None:
        self.file = file
        self.directory = directory
        self.prefix = prefix

    def entry(self, name: str) -> Entry | None:
        return self.directory.find(self.prefix + name)

    def text(self, *names: str) -> str | None:
        """A small text record, the first of the names that is there; digits of a version may have text behind them."""
        for name in reversed(names):
            entry = self.entry(name)
            if entry is not None and self.directory.place(entry.name) not in self.directory.unreadable:
                data = read_member(self.file, self.directory, entry, _SMALL_RECORD)
                return data.decode("utf-8", "backslashreplace").removesuffix("\n" if "version" in name else "")
        return None

    def storages(self, folder: str = "data") -> tuple[Mapping[str, Entry], StoredBytes]:
        """The members below `data/` or another folder, by storage key."""
        directory, prefix = self.directory, f"{self.prefix}{folder}{self.prefix[-1:] if self.prefix else '/'}"
        n = len(prefix)
        entries = directory.entries
        records = {entry[0][n:]: entry for entry in entries if entry[0].startswith(prefix)}
        if len(directory.places) != len(entries):
            for key in records:
                records[key] = entries[directory.places[prefix + key]]
        sizes = {key: entry[3] for key, entry in records.items()}
        crcs = {key: entry[4] for key, entry in records.items()}
        if not any(crcs.values()):
            # Written with compute_crc32=False: no checksum, not a wrong one.
            crcs = {}
        unreadable = {}
        for place, why in directory.unreadable.items():
            name = entries[place].name
            if name.startswith(prefix) and directory.places.get(name) == place:
                unreadable[name[n:]] = why
        return records, StoredBytes(sizes, crcs, unreadable)


def _members_nobody_needs(directory: ZipDirectory, records: Mapping[str, Entry], objects: Objects) -> Iterator[Problem]:
    """The members that cannot be read and that no tensor tells of."""
    if not directory.unreadable:
        return
    needed = {id(records[key]) for key in objects.storages if key in records}
    places = [place for place in directory.unreadable if id(directory.entries[place]) not in needed]
    for place in places[:_MOST_MEMBERS]:
        name = visible(directory.entries[place].name, 200)
        yield Problem("warning", "zip_member", directory.unreadable[place], name)
    if len(places) > _MOST_MEMBERS:
        yield Problem("warning", "zip_member", f"{len(places) - _MOST_MEMBERS:,} more members cannot be read", "")


def refused_by_python(pickle: Pickle) -> list[Problem]:
    """The problem of an object pickle that Python cannot load although all of it is shown."""
    if not pickle.refused:
        return []
    at, what = pickle.refused[0]
    more = f" (and at {len(pickle.refused) - 1:,} more places)" if len(pickle.refused) > 1 else ""
    message = f"its pickle holds {what} at byte {at:,}{more}; Python refuses to load it"
    return [Problem("warning", "python_refuses", message, "")]


def refuse_hopeless(objects: Objects, path: str) -> None:
    """Raise when there are tensors and not one of them makes sense.

    Raises:
        CorruptCheckpoint: with what is wrong with the first.
    """
    broken = next((problem for problem in objects.problems if problem.severity == "error"), None)
    if broken is not None and objects.tensors and not objects.coherent:
        where = f"{broken.where}: " if broken.where else ""
        raise CorruptCheckpoint(f"no tensor in it can be read; {where}{broken.message}", path=path)


def torch_checkpoint(
    file: File,
    container: str,
    objects: Objects,
    problems: list[Problem],
    writer: Mapping[str, Any],
    byte_order: str,
    source: Any,
) -> Checkpoint:
    """The checkpoint that an object pickle and its storages make."""
    return Checkpoint(
        path=file.path,
        container=container,
        size=file.size,
        byte_order="big" if byte_order == "big" else "little",
        identity=file.identity,
        writer={key: value for key, value in writer.items() if value is not None},
        state_dicts=objects.state_dicts,
        tensors=objects.tensors,
        values=objects.values,
        objects=objects.objects,
        storages=objects.storages,
        metadata={"state_dict": objects.metadata} if objects.metadata else {},
        problems=(*problems, *objects.problems),
        source=source,
    )


def top_of(directory: ZipDirectory, problems: list[Problem]) -> tuple[str, str]:
    """The folder of the checkpoint and what stands behind it; torch takes the first member's, we also look further."""
    top = directory.top
    if top and directory.find(f"{top}/data.pkl"):
        return top, "/"
    for entry in directory.entries:
        found = re.fullmatch(r"(?:(.*?)([/\\]))?data\.pkl", entry.name, re.IGNORECASE | re.DOTALL)
        if found:
            message = (
                f"its data.pkl is {visible(entry.name, 80)}, not in the folder of the first member; torch refuses it"
            )
            problems.append(Problem("warning", "zip_top", message, ""))
            return found[1] or "", found[2] or ""
    raise CorruptCheckpoint("it has no data.pkl", path=directory.path)
