"""An edited torch zip: the same records with another `data.pkl`, laid out so that every way of loading still works.

`torch.load` may compute where storages lie when the archive has a `.format_version`: then they must lie one behind the
other in the order in which `data.pkl` first names them, "0" first. Where that cannot be, the record goes, and torch
reads every header instead.

Facts: torch 2.13 (`torch.serialization._load`), measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from sdviewer.core.checkpoint import TensorInfo
from sdviewer.core.paths import dotted
from sdviewer.core.text import plural, visible
from sdviewer.errors import CorruptCheckpoint, SaveError, SourceDamaged
from sdviewer.formats.file import File
from sdviewer.formats.pieces import Copy, Layout, Piece
from sdviewer.formats.pread import is_of_the_disk
from sdviewer.formats.torch_clean import Cleaning
from sdviewer.formats.torch_computed import ComputedTensors, NewStorage
from sdviewer.formats.torch_edits import StorageUse, storage_keys, storage_uses, write_back
from sdviewer.formats.torch_source import TorchZipSource
from sdviewer.formats.torch_tensors import storage_dtype
from sdviewer.formats.zip_directory import STORED, Entry, payload_offset, read_member
from sdviewer.formats.zip_writer import DEFAULT_ALIGNMENT, LARGEST_ALIGNMENT, Member, lay_out
from sdviewer.pickles.emit import Edits, Emitted, emit
from sdviewer.pickles.machine import parse

LARGEST_OTHER_PICKLE = 1 << 30
MOST_NAMED = 10
"""Tensors that an error names."""

VERSION = b"3\n"
"""What torch.save has written into its record `version` since 1.6."""


def lay_out_torch_zip(
    file: File,
    source: TorchZipSource,
    edits: Edits,
    tensors: Sequence[TensorInfo] = (),
    *,
    computed: ComputedTensors | None = None,
    cleaning: Cleaning | None = None,
) -> Layout:
    """The pieces of the edited archive; `tensors` are named where their storages are damaged.

    `computed` are the tensors that the plan computes; `cleaning` says which records a clean copy leaves out.

    Raises:
        SaveError: a record cannot be copied, or the pickle cannot be written back.
        CorruptCheckpoint: a record is not where the directory says.
    """
    emitted = write_back(source, edits, file.path, computed)
    return _Archive(file, source, tensors, cleaning, computed.storages if computed else {}).edited(emitted)


class _Archive:
    def __init__(
        self,
        file: File,
        source: TorchZipSource,
        tensors: Sequence[TensorInfo],
        cleaning: Cleaning | None,
        computed: Mapping[str, NewStorage],
    ) -> None:
        self.file = file
        self.tensors = tensors
        self.cleaning = cleaning
        self.source = source
        self.entries = source.directory.entries
        self.payloads: dict[int, Piece] = {}
        self.has_checksums = any(entry.crc for entry in self.entries)
        self.prefix = source.top + source.separator if source.top else ""
        # The storages as they will be: those of the source, and in the place of some, or besides, the computed ones.
        self.computed = {key: self._computed_entry(key, storage) for key, storage in computed.items()}
        self.records: dict[str, Entry] = {**source.records, **self.computed}

    def edited(self, emitted: Emitted) -> Layout:
        self._refuse_doubles()
        notes = []
        used = storage_keys(emitted)
        self._refuse_incomplete(storage_uses(emitted))
        gone = self._unused([key for key in used if key not in self.computed])
        left_out = {id(self.source.records[key]) for key in gone}
        if gone:
            nbytes = sum(self.source.records[key].usize for key in gone)
            notes.append(f"{plural(len(gone), 'storage')} of {nbytes:,} bytes left out: nothing uses them any more")
        fingerprint = self._control(".data/serialization_id")
        if fingerprint is not None:
            left_out.add(id(fingerprint))
            notes.append("record .data/serialization_id left out: a fingerprint of the old file, which nobody checks")
        for entry in self._damaged(used):
            if id(entry) not in left_out:
                left_out.add(id(entry))
                notes.append(f"record {visible(entry.name, 80)} left out: it is damaged, and no pickle names it")
        for entry in self._unclean(self.cleaning) if self.cleaning is not None else ():
            left_out.add(id(entry))
            notes.append(
                f"record {visible(entry.name, 80)} left out: a pickle that asks for more than torch's own names"
            )
        order = [entry for entry in self.entries if id(entry) not in left_out]
        order = self._with_computed(order)
        version = self._control(".format_version")
        if version is not None:
            why = self._why_not_computable(storage_uses(emitted))
            if why:
                order = [entry for entry in order if entry is not version]
                notes.append(f"record .format_version left out: {why}; torch reads each record's header instead")
            else:
                order = self._in_first_use_order(order, used)
        pickle = self.source.pickle
        # torch ignores what follows STOP; it stays, but for a clean copy: it could be another pickle.
        data = emitted.data + (b"" if self.cleaning is not None else pickle.data[pickle.end :])
        members = [self._member(entry, data) for entry in order]
        if self.source.directory.salvaged and self._control("version") is self._control(".data/version") is None:
            # torch refuses an archive without it, and it stands at the end, where this one breaks off.
            name = f"{self.prefix}version"
            members.append(Member(name.encode("utf-8", "surrogateescape"), VERSION, len(VERSION), zlib.crc32(VERSION)))
            notes.append("record version added: the file breaks off before it, and torch wants it")
        return Layout(lay_out(members, self._alignment() or DEFAULT_ALIGNMENT), tuple(notes))

    def _computed_entry(self, key: str, storage: NewStorage) -> Entry:
        """The record of a computed storage, in the place of a source's record."""
        nbytes = storage.made.nbytes
        entry = Entry(f"{self.prefix}data/{key}", 0, nbytes, nbytes, 0, STORED, 0)
        self.payloads[id(entry)] = storage.made if nbytes else b""
        return entry

    def _with_computed(self, order: list[Entry]) -> list[Entry]:
        """The computed storages behind the others: torch wants what comes last in its archives to stay there."""
        if not self.computed:
            return order
        storages = {id(entry) for entry in self.source.records.values()} | {id(self.source.object_entry)}
        last = max([place for place, entry in enumerate(order) if id(entry) in storages], default=len(order) - 1)
        return [*order[: last + 1], *self.computed.values(), *order[last + 1 :]]

    def _control(self, name: str) -> Entry | None:
        return self.source.directory.find(self.prefix + name)

    def _member(self, entry: Entry, data_pkl: bytes) -> Member:
        name = entry.name.encode("utf-8", "surrogateescape")
        if entry is self.source.object_entry:
            crc = zlib.crc32(data_pkl) if self.has_checksums else 0
            return Member(name, data_pkl, len(data_pkl), crc)
        return Member(name, self.payloads[id(entry)], entry.usize, entry.crc, entry.method)

    def _unclean(self, cleaning: Cleaning) -> list[Entry]:
        """The records that a clean copy leaves out."""
        storages = {id(entry) for entry in self.source.records.values()}
        return [entry for entry in self.entries if id(entry) not in storages and cleaning.takes_record(entry.name)]

    def _damaged(self, used: list[str]) -> list[Entry]:
        """Find every record's bytes; those whose bytes cannot be had and that nothing needs.

        Raises:
            SaveError: a record that is needed is damaged.
        """
        needed = {id(self.records[key]) for key in used if key in self.records}
        damaged = []
        for place, entry in enumerate(self.entries):
            if entry is self.source.object_entry:
                continue
            try:
                self.payloads[id(entry)] = self._payload(place, entry)
            except CorruptCheckpoint as error:
                if is_of_the_disk(error):
                    raise
                if id(entry) in needed:
                    keys = {key for key, record in self.source.records.items() if record is entry}
                    raise self._source_damaged(
                        f"record {visible(entry.name)} cannot be copied: {error.message}", keys
                    ) from None
                damaged.append(entry)
        return damaged

    def _payload(self, place: int, entry: Entry) -> Piece:
        why = self.source.directory.unreadable.get(place)
        if why:
            raise CorruptCheckpoint(why)
        start = payload_offset(self.file, entry, self.source.directory.limit_of(entry))
        return Copy(start, entry.csize) if entry.csize else b""

    def _refuse_incomplete(self, uses: list[StorageUse]) -> None:
        """Refuse to write a pickle that names storages of which the file has nothing, or not all.

        torch could load nothing of such a copy, and what is lost would be lost without a word.
        """
        gone = []
        for use in uses:
            entry, dtype = self.records.get(use.key), storage_dtype(use.cls)
            if dtype is not None and use.numel is not None and use.numel > 0:
                there = 0 if entry is None else entry.usize
                if there < use.numel * dtype.itemsize:
                    gone.append(use.key)
        if gone:
            some = "its storage is" if len(gone) == 1 else f"{len(gone):,} storages are"
            raise self._source_damaged(f"{some} not whole in the file", set(gone))

    def _source_damaged(self, message: str, storages: set[str]) -> SourceDamaged:
        """The error that names the tensors to drop, in words that can be put into a recipe."""
        keys = [tensor.key or dotted(tensor.path) for tensor in self.tensors if tensor.storage in storages]
        named = ", ".join([visible(key, 80) for key in keys[:MOST_NAMED]])
        more = f" and {len(keys) - MOST_NAMED:,} more" if len(keys) > MOST_NAMED else ""
        return SourceDamaged(
            f"{named}{more} cannot be copied: {message}" if keys else message,
            path=self.file.path,
            remedy="Drop the tensors that use it, or get the file again."
            if len(storages) == 1
            else "Drop the tensors that use them, or get the file again.",
            storages=storages,
            key=keys[0] if keys else "",
        )

    def _refuse_doubles(self) -> None:
        """Of two records of one name torch reads one and other programs the other: an edit cannot be for both."""
        names = [entry.name.lower() for entry in self.entries]
        if len(set(names)) == len(names):
            return
        read = {entry.name.lower() for entry in (self.source.object_entry, *self.source.records.values())}
        seen: set[str] = set()
        for name in names:
            if name in seen and name in read:
                raise SaveError(
                    f"two records of the archive are called {visible(name)}, and programs differ in which they read",
                    path=self.file.path,
                    remedy="Load it with torch and save it anew.",
                    code="duplicate_member",
                )
            seen.add(name)

    def _unused(self, used: list[str]) -> list[str]:
        """The storages that were in use before the edit and that no pickle of the archive names after it."""
        if self.source.records.keys() <= set(used):
            return []
        before = storage_keys(emit(self.source.pickle))
        gone = set(before) - set(used)
        if not gone:
            return []
        for entry in self.source.other_pickles:
            try:
                data = read_member(self.file, self.source.directory, entry, LARGEST_OTHER_PICKLE)
                other = parse(data)
            except CorruptCheckpoint as error:
                if is_of_the_disk(error):
                    raise
                return []  # what it names is not known, so everything stays
            if other.unfaithful:
                return []
            gone -= set(storage_keys(emit(other)))
        return [key for key in self.source.records if key in gone]

    # `.format_version`

    def _alignment(self) -> int | None:
        """Bytes by which records are aligned; None for a number that torch's arithmetic cannot follow."""
        entry = self._control(".storage_alignment")
        if entry is None:
            return DEFAULT_ALIGNMENT
        try:
            alignment = int(read_member(self.file, self.source.directory, entry, 100))
        except CorruptCheckpoint as error:
            if is_of_the_disk(error):
                raise
            return None
        except ValueError:
            return None
        return alignment if 0 < alignment <= LARGEST_ALIGNMENT else None

    def _why_not_computable(self, uses: list[StorageUse]) -> str:
        """Why torch would compute wrong offsets, or ""."""
        if uses and uses[0].key != "0":
            return "storage 0 is no longer the first"
        if self._alignment() is None:
            return "its alignment is not one that can be written"
        for use in uses:
            entry = self.records.get(use.key)
            if entry is None:
                return f"storage {visible(use.key, 40)} has no record"
            if entry.name != f"{self.prefix}data/{use.key}":
                return f"storage {visible(use.key, 40)} lies in a record of another name"
            if entry.method != STORED:
                return f"storage {visible(use.key, 40)} is compressed"
            if _has_another_length(use, entry):
                return f"storage {visible(use.key, 40)} has another length than the pickle says"
        return ""

    def _in_first_use_order(self, order: list[Entry], used: list[str]) -> list[Entry]:
        """The storages in use moved together, to where the first of the records in use stands."""
        storages = [self.records[key] for key in used]
        moved = {id(entry) for entry in storages}
        result: list[Entry] = []
        for entry in order:
            if id(entry) not in moved:
                result.append(entry)
            elif storages:
                result += storages
                storages = []
        return result


def _has_another_length(use: StorageUse, entry: Entry) -> bool:
    dtype = storage_dtype(use.cls)
    return dtype is None or use.numel is None or entry.usize != use.numel * dtype.itemsize
