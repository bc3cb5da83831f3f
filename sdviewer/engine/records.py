"""The pieces of a file by name: records of an archive, parts of a stream; and its storages.

A record is read when somebody looks at it, and then only its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StorageInfo
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.file import File, opened
from sdviewer.formats.torch_source import LegacyStorage, TorchLegacySource
from sdviewer.formats.zip_directory import DEFLATED, STORED, Entry, ZipDirectory, payload_offset, read_member

LONGEST_TEXT = 1 << 18
"""Bytes of a text record that are shown."""

LONGEST_DUMP = 4096
"""Bytes of a record that is no text."""

_LARGEST_DEFLATED = 1 << 24
_METHODS = {STORED: "stored", DEFLATED: "deflated", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}


class Record(NamedTuple):
    """One named run of bytes: `offset` to `offset + stored` of the file, `size` bytes when unpacked.

    `entry` is its place in the directory of an archive, else -1. `crc` is None where none is stated. `path` is the file
    it is in, "" for the one that was opened.
    """

    name: str
    what: str
    offset: int
    size: int
    stored: int
    method: str
    crc: int | None
    note: str
    entry: int = -1
    path: str = ""


class Records:
    """The records of one file, listed when first asked for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._listed: list[Record] | None = None

    def page(self, start: int, limit: int) -> dict[str, Any]:
        """`{"rows": [[number, name, what, offset, size, stored, method, crc, note]], "total", "bytes", "file"}`."""
        records = self._all()
        rows = [
            [
                start + i,
                text.visible(record.name, 300),
                record.what,
                record.offset,
                record.size,
                record.stored,
                record.method,
                None if record.crc is None else f"{record.crc:08x}",
                text.visible(record.note, 300),
            ]
            for i, record in enumerate(records[start : start + limit])
        ]
        stored = sum(record.stored for record in records)
        return {"rows": rows, "total": len(records), "bytes": stored, "file": self._checkpoint.size}

    def text_of(self, number: int) -> dict[str, Any]:
        """The beginning of a record for people: `{"name", "text", "note"}`, text as it is, anything else as a dump.

        Raises:
            CorruptCheckpoint: its bytes cannot be had.
        """
        record = self._all()[number]
        with opened(record.path or self._checkpoint.path) as file:
            data = _beginning(file, record)
        shown, kind = as_text(data, record.size)
        cut = len(data) < record.size or (kind == "bytes, in hex" and record.size > LONGEST_DUMP)
        note = f"{kind}, {text.size(record.size)}" + (", the beginning" if cut else "")
        return {"name": text.visible(record.name, 300), "text": shown, "note": note}

    def _all(self) -> list[Record]:
        if self._listed is None:
            self._listed = list(_records(self._checkpoint))
        return self._listed


def storages_page(checkpoint: Checkpoint, start: int, limit: int) -> dict[str, Any]:
    """A page of the storages, those that hold more than is used first, then the shared ones, then by file order.

    `{"rows": [[id, nbytes, unused, tensors, location, crc, [key]]], "total", "nbytes", "unused", "shared"}`
    """
    order = sorted(checkpoint.storages.values(), key=_interest)
    page = order[start : start + limit]
    wanted = {storage.id for storage in page}
    keys: dict[str, list[str]] = {}
    for info in checkpoint.tensors:
        if info.storage in wanted:
            found = keys.setdefault(str(info.storage), [])
            if len(found) < 20:
                found.append(text.visible(_name(info.path, info.key), 200))
    rows = [
        [
            text.visible(storage.id, 200),
            storage.nbytes,
            max(storage.nbytes - storage.used_bytes, 0),
            storage.tensors,
            text.visible(storage.location or "", 80),
            None if storage.crc is None else f"{storage.crc:08x}",
            keys.get(storage.id, []),
        ]
        for storage in page
    ]
    return {
        "rows": rows,
        "total": len(order),
        "nbytes": sum(storage.nbytes for storage in order),
        "unused": sum(max(storage.nbytes - storage.used_bytes, 0) for storage in order),
        "shared": sum(1 for storage in order if storage.tensors > 1),
    }


def _interest(storage: StorageInfo) -> tuple[int, bool]:
    return -max(storage.nbytes - storage.used_bytes, 0), storage.tensors < 2


def _name(path: Any, key: str | None) -> str:
    if key is not None:
        return key
    return ".".join(step if isinstance(step, str) else step.value for step in path)


def as_text(data: bytes, size: int) -> tuple[str, str]:
    """Bytes for people: readable text line by line, with what is not printable escaped, or a dump in hex.

    Returns:
        The text, and in a word what it is.
    """
    shown = _decoded(data, whole=len(data) >= size)
    if shown is None:
        return _dump(data[:LONGEST_DUMP]), "bytes, in hex"
    kind = "text"
    if len(data) >= size and shown[:1] in ("{", "["):
        try:
            shown, kind = json.dumps(json.loads(shown), indent=2, ensure_ascii=False), "JSON"
        except (ValueError, RecursionError):
            kind = "text"
    lines = shown.split("\n")
    return "\n".join(text.visible(line.rstrip("\r").replace("\t", "    "), 10_000) for line in lines), kind


def _decoded(data: bytes, *, whole: bool) -> str | None:
    """UTF-8 text without control characters, None for anything else; a character that the cut hit does not count."""
    for spare in range(1 if whole else 4):
        try:
            shown = data[: len(data) - spare].decode("utf-8")
        except UnicodeDecodeError:
            continue
        controls = sum(1 for ch in shown if ch < " " and ch not in "\n\r\t\f")
        return shown if controls * 100 <= len(shown) else None
    return None


def _dump(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), 16):
        piece = data[at : at + 16]
        printed = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{at:08x}  {piece.hex(' '):<47}  {printed}")
    return "\n".join(lines)


def _beginning(file: File, record: Record) -> bytes:
    directory = file.head.directory if file.head.is_zip else None
    if directory is None or record.entry < 0:
        return file.read(record.offset, min(record.stored, LONGEST_TEXT))
    entry = directory.entries[record.entry]
    if entry.method == STORED:
        start = payload_offset(file, entry, directory.start)
        return file.read(start, min(entry.csize, LONGEST_TEXT))
    if entry.usize > _LARGEST_DEFLATED:
        raise CorruptCheckpoint("it is packed, and too long to be unpacked for a look", code="too_large")
    return read_member(file, directory, entry, _LARGEST_DEFLATED)[:LONGEST_TEXT]


def _records(checkpoint: Checkpoint) -> Sequence[Record]:
    source = checkpoint.source
    if checkpoint.shards:
        return [
            Record(name, "file", 0, shard.identity.size, shard.identity.size, "", None, "", path=shard.path)
            for name, shard in checkpoint.shards.items()
        ]
    try:
        with opened(checkpoint.path) as file:
            if file.head.is_zip:
                return _zip_records(file.head.directory, source)
    except SDViewerError:
        return []  # a folder: its files are told elsewhere
    name = Path(checkpoint.path).name
    if isinstance(source, TorchLegacySource):
        return _stream_records(source.spans, source.storages, checkpoint)
    spans = getattr(source, "spans", None)
    if spans:
        whole = [(key, span) for key, span in spans.items() if not span.member]
        return [_plain(f"storage {key}", "storage", span.start, span.nbytes) for key, span in whole]
    tensors = getattr(source, "tensors", None)
    if hasattr(source, "header") and tensors is not None:
        header = Record("header", "JSON", 8, len(source.header), len(source.header), "", None, "")
        return [header, *(_plain(tensor.name, "tensor", tensor.start, tensor.end - tensor.start) for tensor in tensors)]
    return [_plain(name, "file", 0, checkpoint.size)]


def _plain(name: str, what: str, offset: int, size: int, note: str = "") -> Record:
    return Record(name, what, offset, size, size, "", None, note)


_PICKLES = ("magic number", "protocol version", "system information", "objects", "storage keys")


def _stream_records(
    spans: Sequence[tuple[int, int]], storages: Mapping[str, LegacyStorage], checkpoint: Checkpoint
) -> list[Record]:
    records = [
        _plain(f"pickle {i + 1}", _PICKLES[i] if i < len(_PICKLES) else "pickle", start, end - start)
        for i, (start, end) in enumerate(spans)
    ]
    for key, storage in storages.items():
        missing = "" if key in checkpoint.storages else "no tensor uses it"
        records.append(_plain(f"storage {key}", "storage", storage.offset, storage.nbytes, missing))
    return records


def _zip_records(directory: ZipDirectory, source: Any) -> list[Record]:
    storages = {entry.name for entry in getattr(source, "records", {}).values()}
    main = getattr(getattr(source, "object_entry", None), "name", "")
    return [
        Record(
            entry.name,
            _what(entry, storages, main),
            entry.header_offset,
            entry.usize,
            entry.csize,
            _METHODS.get(entry.method, f"method {entry.method}"),
            entry.crc or None,
            directory.unreadable.get(place, ""),
            place,
        )
        for place, entry in enumerate(directory.entries)
    ]


def _what(entry: Entry, storages: set[str], main: str) -> str:
    name = entry.name.lower()
    if entry.name == main:
        return "objects"
    if entry.name in storages:
        return "storage"
    if name.endswith((".pkl", ".pickle")):
        return "pickle"
    if name.endswith((".py", ".json", ".txt", ".md", ".debug_pkl")):
        return "text" if not name.endswith("_pkl") else "pickle"
    return "record"
