"""The central directory of a zip archive, read by torch's rules and not by `zipfile`'s.

The two differ (docs/formats.md): torch finds names without regard to case, takes the middle one of equal names, never
looks at a checksum, and knows no other method than stored and deflated. Local headers are not read here: 100,000 of
them are 100,000 system calls, and torch writes zeros into their sizes anyway.

Facts: PKWARE APPNOTE 6.3.10; the reader of torch 2.13 (miniz 3.0 with torch's changes), measured.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from operator import le
from typing import NamedTuple, Protocol

from sdviewer.core.checkpoint import Problem
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint

STORED = 0
DEFLATED = 8
LOCAL_HEADER = 30
"""Bytes of a local header before its name."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4x2H4x3L3H8xL")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<4s3L")
_DESCRIPTOR64 = struct.Struct("<4sL2Q")

_COMMENT_LIMIT = 0xFFFF
_TAIL = 1 << 20
"""How far from the end the end record is looked for; torch looks 64 KiB back."""

_FIRST_SEARCH, _LONGEST_SEARCH = 1 << 12, 1 << 20
"""Bytes of a member that are searched at once for its end: a small member does not cost a mebibyte."""

_LARGEST_DIRECTORY = 1 << 30
_MOST_DOUBLES = 100
_ENCRYPTED = 0x1 | 0x20 | 0x40 | 0x2000
_PIECE = 1 << 18


class Reader(Protocol):
    """What a directory needs of a file."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    def read(self, start: int, length: int) -> bytes: ...


class Entry(NamedTuple):
    """One member, as the central directory tells it; sizes and offset in bytes."""

    name: str
    header_offset: int
    csize: int
    usize: int
    crc: int
    method: int
    flags: int


@dataclass
class ZipDirectory:
    """All members of an archive in directory order.

    `start` and `end` are the bytes of the directory, `unreadable` says per place in `entries` why a member's bytes
    cannot be had, `problems` what is odd about the archive as a whole. `salvaged`: the file breaks off before its
    directory, or that is damaged; the members were found one behind the other. `broken_off`: there is no directory;
    `cut`: the last member is not whole. `unique`: no two names are the same to torch.
    """

    entries: list[Entry]
    start: int
    end: int
    path: str
    unreadable: dict[int, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    salvaged: bool = False
    broken_off: bool = False
    cut: bool = False
    unique: bool = False

    @cached_property
    def places(self) -> dict[str, int]:
        """Name -> place of the member that torch takes."""
        places = {entry[0]: i for i, entry in enumerate(self.entries)}
        if self.unique:
            return places
        order = _torch_order(self.entries)
        return {name: _torch_search(self.entries, order, name) for name in places}

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {_fold(name): name for name in self.places}

    def find(self, name: str) -> Entry | None:
        """The member that torch takes for `name`, without regard to the case of ASCII letters."""
        place = self.place(name)
        return None if place is None else self.entries[place]

    def place(self, name: str) -> int | None:
        """Place in `entries` of the member that torch takes for `name`."""
        place = self.places.get(name)
        if place is not None:
            return place
        other = self._folded.get(_fold(name))
        return None if other is None else self.places[other]

    @cached_property
    def _offsets(self) -> list[int]:
        return sorted({entry[1] for entry in self.entries})

    def limit_of(self, entry: Entry) -> int:
        """The byte before which a member must end: the next local header, or the directory."""
        place = bisect_right(self._offsets, entry.header_offset)
        return min(self._offsets[place], self.start) if place < len(self._offsets) else self.start

    @cached_property
    def _place_of(self) -> dict[int, int]:
        return {id(entry): i for i, entry in enumerate(self.entries)}

    def why_unreadable(self, entry: Entry) -> str:
        """Why the bytes of this very member cannot be had, else ""; another of its name may be readable."""
        place = self.place(entry.name)
        if place is not None and self.entries[place] is not entry:
            place = self._place_of.get(id(entry))
        return "" if place is None else self.unreadable.get(place, "")

    @property
    def top(self) -> str:
        """The first member's folder, below which torch wants all others; "" when it lies in none."""
        name = self.entries[0].name if self.entries else ""
        return name.partition("/")[0] if "/" in name else ""


def read_directory(file: Reader) -> ZipDirectory:
    """Read the central directory; one or two reads, whatever the number of members.

    Raises:
        CorruptCheckpoint: there is no end record, or it names a directory that is not there.
    """
    end_at, end, problems = _find_end(file)
    _, disk, start_disk, _, count, size, start, _ = end
    if (disk or start_disk) and not disk == start_disk == 0xFFFF:
        raise _corrupt(file, "it is one part of a zip archive that was split into several")
    wide = _read_end64(file, end_at)
    limit = end_at
    if wide is not None:
        limit, count, size, start = wide
    if start + size > limit:
        raise _corrupt(
            file,
            f"its zip directory should lie at bytes {start:,} to {start + size:,}, and its end record is at {limit:,}",
            "Copy or download it again.",
        )
    shifted = start + size < limit and size and file.read(limit - size, min(4, size)) == b"PK\1\2"
    if shifted or (size and file.read(start, min(4, size)) != b"PK\1\2"):
        raise _corrupt(
            file, "its zip directory does not begin where its end record says; something may stand before the archive"
        )
    if start + size < limit:
        message = f"{limit - start - size:,} bytes lie between the zip directory and its end record"
        problems.append(Problem("warning", "zip_gap", message, ""))
    if size > _LARGEST_DIRECTORY:
        raise _corrupt(file, f"its zip directory claims {size:,} bytes")
    directory = ZipDirectory([], start, start + size, file.path, {}, problems)
    _read_entries(file, directory, count)
    _check_overlaps(directory)
    _check_names(directory)
    return directory


def salvage_directory(file: Reader, why: str = "", *, progress: Progress = no_progress) -> ZipDirectory:
    """The members of an archive that breaks off before its directory, or whose directory is damaged: as far as they go.

    torch writes no sizes into local headers, so a member's end is looked for: the data descriptor behind it states the
    distance to its beginning. Reads the whole file once, in pieces. `why` says what is wrong with the directory, ""
    where there is none.

    Raises:
        CorruptCheckpoint: not even the first member is whole.
        Cancelled: from `progress`, called with bytes.
    """
    entries: list[Entry] = []
    at, cut = 0, False
    while at + LOCAL_HEADER <= file.size and not cut:
        progress(at, file.size)
        signature, _, flags, method, _, _, crc, csize, usize, names, extras = _LOCAL.unpack(file.read(at, LOCAL_HEADER))
        start = at + LOCAL_HEADER + names + extras
        if signature != b"PK\3\4" or start > file.size:
            break
        name = file.read(at + LOCAL_HEADER, names).decode("utf-8", "surrogateescape")
        if 0xFFFFFFFF in (csize, usize):
            usize, csize, _ = _wide_sizes(file.read(start - extras, extras), usize, csize, 0)
        if flags & 0x8 and not csize:
            found = _find_descriptor(file, start, progress)
            cut = found is None
            end, after, crc, usize = found or (file.size, file.size, 0, file.size - start)
        else:
            end = after = start + csize
            cut = end > file.size
        if cut:
            # What is there of it; how much that should be says the pickle.
            end = after = file.size
            usize = end - start if method == STORED else usize
        entries.append(Entry(name, at, end - start, usize, crc, method, flags))
        at = after
    whole = len(entries) - cut
    if not whole:
        raise _corrupt(file, "the file breaks off in its first member", "Copy or download it again.", "truncated")
    last = visible(entries[-1].name)
    if why:
        message = f"{why}; its {whole:,} members were found one behind the other"
    else:
        message = f"the file breaks off {'in' if cut else 'behind'} member {last}, and has no zip directory"
        message += f"; {whole:,} members are whole"
    problem = Problem("error", "zip_directory" if why else "truncated", message, last if cut else "")
    unreadable = {
        place: _why_unreadable(entry, file.size)
        for place, entry in enumerate(entries)
        if entry.method & ~8 or entry.flags & _ENCRYPTED or (entry.usize != entry.csize and not entry.method)
    }
    directory = ZipDirectory(entries, file.size, file.size, file.path, unreadable, [problem], salvaged=True)
    directory.broken_off, directory.cut = not why, cut
    _check_names(directory)
    return directory


def _find_descriptor(file: Reader, start: int, progress: Progress) -> tuple[int, int, int, int] | None:
    """End of a member's data, end of its descriptor, crc and usize; None where the file breaks off before it."""
    at, kept, length = start, b"", _FIRST_SEARCH
    while at < file.size:
        progress(at, file.size)
        piece = kept + file.read(at, min(length, file.size - at))
        length = min(4 * length, _LONGEST_SEARCH)
        base, found = at - len(kept), -1
        at = base + len(piece)
        while (found := piece.find(b"PK\7\x08", found + 1)) >= 0:
            if found + 24 > len(piece) and at < file.size:
                break
            distance = base + found - start
            for layout in (_DESCRIPTOR, _DESCRIPTOR64):
                if found + layout.size <= len(piece):
                    _, crc, csize, usize = layout.unpack_from(piece, found)
                    if csize == distance:
                        return start + csize, base + found + layout.size, crc, usize
        kept = piece[-23:]
    return None


def payload_offset(file: Reader, entry: Entry, limit: int) -> int:
    """Where a member's bytes begin, from its local header, which is checked here for the first time.

    Raises:
        CorruptCheckpoint: no local header stands there, it states another method, or the bytes run beyond `limit`.
    """
    header = file.read(entry.header_offset, LOCAL_HEADER)
    signature, _, _, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack(header)
    name = visible(entry.name)
    if signature != b"PK\3\4":
        raise _corrupt(file, f"no zip header stands where member {name} should begin")
    if method != entry.method:
        raise _corrupt(file, f"member {name} has method {entry.method} in the directory and {method} in its own header")
    start = entry.header_offset + LOCAL_HEADER + int(name_length) + int(extra_length)
    if start + entry.csize > limit:
        raise _corrupt(file, f"member {name} runs into what stands behind it: the next member or the zip directory")
    return start


def header_problem(file: Reader, entry: Entry) -> str:
    """Where a member's own header disagrees with the directory, in words, else ""; torch goes by the directory.

    Raises:
        CorruptCheckpoint: no local header stands there.
    """
    header = file.read(entry.header_offset, LOCAL_HEADER)
    signature, _, _, _, _, _, crc, csize, usize, name_length, _ = _LOCAL.unpack(header)
    if signature != b"PK\3\4":
        raise _corrupt(file, f"no zip header stands where member {visible(entry.name)} should begin")
    name = file.read(entry.header_offset + LOCAL_HEADER, int(name_length))
    if name != entry.name.encode("utf-8", "surrogateescape"):
        return f"its own header calls the member {visible(name.decode('utf-8', 'backslashreplace'), 80)}"
    for what, mine, theirs in (
        ("bytes", csize, entry.csize),
        ("bytes", usize, entry.usize),
        ("as checksum", crc, entry.crc),
    ):
        if mine not in (0, 0xFFFFFFFF, theirs):
            return f"its own header states {mine:,} {what} and the directory {theirs:,}"
    return ""


def read_member(file: Reader, directory: ZipDirectory, entry: Entry, limit: int) -> bytes:
    """A whole member of at most `limit` bytes, inflated if it is deflated.

    Raises:
        CorruptCheckpoint: it is larger, damaged, encrypted, or not where the directory says.
    """
    why = directory.why_unreadable(entry)
    if why:
        raise _corrupt(file, why)
    if entry.usize > limit:
        raise CorruptCheckpoint(
            f"member {visible(entry.name)} claims {entry.usize:,} bytes, more than a file of this size can need",
            path=file.path,
            code="too_large",
        )
    start = payload_offset(file, entry, directory.limit_of(entry))
    if entry.method == STORED:
        return file.read(start, entry.csize)
    return b"".join(inflate(file, entry, start))


def inflate(file: Reader, entry: Entry, start: int) -> Iterator[bytes]:
    """A deflated member's bytes in pieces of at most 256 KiB, `usize` in all.

    Raises:
        CorruptCheckpoint: the compressed data are broken, or give more or fewer bytes than stated.
    """
    inflater = zlib.decompressobj(-15)
    name = visible(entry.name)
    done = taken = 0
    pending = b""
    while not inflater.eof:
        if not pending:
            length = min(_PIECE, entry.csize - taken)
            if length == 0:
                raise _corrupt(file, f"the compressed data of member {name} break off after {done:,} bytes")
            pending = file.read(start + taken, length)
            taken += length
        try:
            piece = inflater.decompress(pending, _PIECE)
        except zlib.error:
            raise _corrupt(file, f"the compressed data of member {name} are broken after {done:,} bytes") from None
        pending = inflater.unconsumed_tail
        done += len(piece)
        if done > entry.usize:
            raise _corrupt(file, f"member {name} holds more than the {entry.usize:,} bytes that it states")
        if piece:
            yield piece
    if done != entry.usize:
        raise _corrupt(file, f"member {name} holds {done:,} bytes and states {entry.usize:,}")


def _find_end(file: Reader) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int], list[Problem]]:
    length = min(file.size, _TAIL + _END.size + _COMMENT_LIMIT)
    tail = file.read(file.size - length, length)
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if at + _END.size > len(tail):
            continue
        end = _END.unpack_from(tail, at)
        behind = len(tail) - at - _END.size - int(end[7])
        if behind < 0:
            continue
        where = file.size - length + at
        problems = []
        if behind:
            torch_says = "torch opens it" if len(tail) - at <= _COMMENT_LIMIT else "torch refuses it"
            message = f"{behind:,} bytes follow the end of the zip archive; {torch_says}"
            problems.append(Problem("warning", "trailing_bytes", message, ""))
        return where, end, problems
    raise CorruptCheckpoint(
        "the file breaks off: it begins as a zip archive and has no zip directory at its end",
        path=file.path,
        code="truncated",
        remedy="Copy or download it again.",
    )


def _read_end64(file: Reader, end_at: int) -> tuple[int, int, int, int] | None:
    """Offset of the ZIP64 end record, number of members, size and start of the directory; None if there is none."""
    locator_at = end_at - _LOCATOR64.size
    if locator_at < 0:
        return None
    signature, _, at, _ = _LOCATOR64.unpack(file.read(locator_at, _LOCATOR64.size))
    if signature != b"PK\6\7":
        return None
    if at + _END64.size > locator_at:
        raise _corrupt(file, "its ZIP64 end record lies outside the file", "Copy or download it again.")
    end = _END64.unpack(file.read(at, _END64.size))
    if end[0] != b"PK\6\6":
        raise _corrupt(file, "its ZIP64 end record is not where the locator says", "Copy or download it again.")
    return at, end[7], end[8], end[9]


def _read_entries(file: Reader, directory: ZipDirectory, count: int) -> None:
    data = file.read(directory.start, directory.end - directory.start)
    entries, unreadable = directory.entries, directory.unreadable
    limit, size, at = directory.start, len(data), 0
    unpack, new = _ENTRY.unpack_from, tuple.__new__
    while at + 46 <= size:
        signature, flags, method, crc, csize, usize, names, extras, comment, offset = unpack(data, at)
        if signature != b"PK\1\2":
            break
        extra_at = at + 46 + names
        name = data[at + 46 : extra_at].decode("utf-8", "surrogateescape")
        if usize == 0xFFFFFFFF or csize == 0xFFFFFFFF or offset == 0xFFFFFFFF:
            extra = data[extra_at : extra_at + extras]
            usize, csize, offset = _wide_sizes(extra, usize, csize, offset)
        entry = new(Entry, (name, offset, csize, usize, crc, method, flags))
        if offset + 30 + names + csize > limit or method & ~8 or flags & _ENCRYPTED or (usize != csize and not method):
            unreadable[len(entries)] = _why_unreadable(entry, limit)
        entries.append(entry)
        at = extra_at + extras + comment
    if at != size:
        message = f"the zip directory is damaged behind member {len(entries):,}"
        directory.problems.append(Problem("error", "zip_directory", message, ""))
    if len(entries) != count:
        message = (
            f"the zip directory holds {len(entries):,} members and its end record counts {count:,}; torch refuses it"
        )
        directory.problems.append(Problem("warning", "zip_count", message, ""))


def _wide_sizes(extra: bytes, usize: int, csize: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit numbers of extra field 1, in the order of those that are 0xFFFFFFFF in the entry."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            end = min(at + 4 + length, len(extra))
            wide = iter([int.from_bytes(extra[i : i + 8], "little") for i in range(at + 4, end - 7, 8)])
            usize = next(wide, usize) if usize == 0xFFFFFFFF else usize
            csize = next(wide, csize) if csize == 0xFFFFFFFF else csize
            offset = next(wide, offset) if offset == 0xFFFFFFFF else offset
            break
        at += 4 + length
    return usize, csize, offset


def _why_unreadable(entry: Entry, limit: int) -> str:
    name = visible(entry.name)
    if entry.flags & _ENCRYPTED:
        return f"member {name} is encrypted"
    if entry.method not in (STORED, DEFLATED):
        return f"member {name} is compressed with method {entry.method}, which torch does not know either"
    if entry.header_offset + LOCAL_HEADER + entry.csize > limit:
        return f"member {name} of {entry.csize:,} bytes at byte {entry.header_offset:,} runs out of the file's data"
    return f"member {name} is stored with {entry.csize:,} bytes and states {entry.usize:,}"


def _check_overlaps(directory: ZipDirectory) -> None:
    """Mark members whose bytes cannot be apart: each needs its header, its name and its data for itself."""
    entries = directory.entries
    # The name counts characters here, never more than its bytes: no honest archive is accused.
    starts = [entry[1] for entry in entries]
    ends = [entry[1] + 30 + len(entry[0]) + entry[2] for entry in entries]
    if all(map(le, ends, starts[1:])):
        return
    spans = sorted([(starts[i], ends[i], i) for i in range(len(entries)) if i not in directory.unreadable])
    for (_, end, i), (start, _, j) in pairwise(spans):
        if end > start:
            message = f"members {visible(entries[i].name)} and {visible(entries[j].name)} overlap"
            directory.problems.append(Problem("warning", "zip_overlap", message, ""))
            directory.unreadable.setdefault(i, message)
            directory.unreadable.setdefault(j, message)


def _check_names(directory: ZipDirectory) -> None:
    names = [entry[0] for entry in directory.entries]
    text = "\0".join(names)
    folded_names = names if text.islower() else [name.lower() for name in names]
    if len(set(folded_names)) == len(names):
        directory.unique = True
        return
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(_fold(name), []).append(place)
    doubles = [places for places in groups.values() if len(places) > 1]
    for places in doubles[:_MOST_DOUBLES]:
        directory.problems.append(_double(directory, places))
    if len(doubles) > _MOST_DOUBLES:
        message = f"{len(doubles) - _MOST_DOUBLES:,} more names stand there more than once"
        directory.problems.append(Problem("warning", "duplicate_member", message, ""))


def _double(directory: ZipDirectory, places: list[int]) -> Problem:
    """Which of several members of one name torch reads, and which other programs read."""
    entries = directory.entries
    name = visible(entries[places[-1]].name, 200)
    taken = directory.place(entries[places[-1]].name)
    copy = places.index(taken) + 1 if taken in places else 0
    which = f"copy {copy}, at byte {entries[places[copy - 1]].header_offset:,}" if copy else "one of them"
    if len({entries[place].name for place in places}) == 1:
        message = f"{len(places):,} members are called {name}: torch reads {which}, unzip and Python the last"
    else:
        spelled = ", ".join([visible(entries[place].name, 80) for place in places[:4]])
        message = (
            f"{len(places):,} members differ only in upper and lower case ({spelled}): torch reads {which} for each"
        )
        message += ", unzip and Python each by its own name"
    return Problem("warning", "duplicate_member", message, name)


_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _fold(name: str) -> str:
    return name.lower() if name.isascii() else name.translate(_UPPER_TO_LOWER)


def _sort_key(entry: Entry) -> bytes:
    return _fold(entry.name).encode("utf-8", "surrogateescape")


def _torch_order(entries: list[Entry]) -> list[int]:
    """The order of miniz's index: its own heap sort, because equal names fall where that leaves them."""
    keys = [_sort_key(entry) for entry in entries]
    order = list(range(len(keys)))

    def sift(root: int, size: int) -> None:
        while (child := 2 * root + 1) < size:
            if child + 1 < size and keys[order[child]] < keys[order[child + 1]]:
                child += 1
            if not keys[order[root]] < keys[order[child]]:
                break
            order[root], order[child] = order[child], order[root]
            root = child

    for root in range((len(order) - 2) >> 1, -1, -1):
        sift(root, len(order))
    for end in range(len(order) - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        sift(0, end)
    return order


def _torch_search(entries: list[Entry], order: list[int], name: str) -> int:
    """The place that miniz's binary search hits first for a name that is there."""
    wanted = _fold(name).encode("utf-8", "surrogateescape")
    low, high = 0, len(order) - 1
    while low < high:
        middle = (low + high) >> 1
        key = _sort_key(entries[order[middle]])
        if key == wanted:
            return order[middle]
        if key < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return order[low]


def _corrupt(file: Reader, message: str, remedy: str = "", code: str = "") -> CorruptCheckpoint:
    return CorruptCheckpoint(message, path=file.path, remedy=remedy, code=code)
