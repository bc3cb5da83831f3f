"""torch.save's format before 0.1.10: a tar of four members.

    storages: pickle n | n times: pickle (key, location, class), i64 numel, bytes | pickle of the views
    tensors:  pickle n | n times: pickle (key, storage key, class), i32 ndim, 4 bytes, i64 sizes, strides, offset
    pickle:   the object; a tensor or storage is the persistent id str(key)
    sys_info: about the machine; nobody looks at it

Facts: torch 2.13 `torch.serialization._load` of a tar, measured (docs/formats.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import grafts
from sdviewer.formats.file import File
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_objects import StoredBytes, read_objects
from sdviewer.formats.torch_source import SpansSource, StorageSpan
from sdviewer.formats.torch_tensors import storage_dtype
from sdviewer.formats.torch_zip import refuse_hopeless, torch_checkpoint
from sdviewer.formats.zip_directory import Reader
from sdviewer.pickles.machine import Pickle, parse_partial
from sdviewer.pickles.nodes import Const, Global, Group, Node, Persistent, elements

_BLOCK = 512
_MOST_MEMBERS = 100
"""Members that are looked at; torch writes four."""

_MEMBERS = ("storages", "tensors", "pickle")
_FIRST_PIECE = 512
_MOST_DIMENSIONS = 1 << 16
_MAGIC = 257
"""Where `ustar` stands in a header."""


class Member(NamedTuple):
    """One member of a tar: its bytes are `start` to `start + size` of the file."""

    name: str
    start: int
    size: int


class TorchTar:
    """The format object."""

    name = "PyTorch checkpoint (before 0.1.10)"
    containers = ("torch-tar",)
    suffixes = (".pt", ".pth", ".tar", ".th", ".t7")
    can_write = False

    def matches(self, head: Head) -> bool:
        return is_torch_tar(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the pickles and the few bytes beside them; the numbers are passed over."""
        tar = read_tar(file, progress)
        if tar.objects is None or tar.objects.root is None:
            raise CorruptCheckpoint(tar.broken, path=file.path, code="bad_pickle", remedy="Copy or download it again.")
        root = grafts.replaced(tar.objects.root, tar.named)
        sizes = {key: span.nbytes for key, span in tar.spans.items()}
        unreadable = {key: why for key, why in tar.unreadable.items() if key not in sizes}
        objects = read_objects(root, StoredBytes(sizes, {}, unreadable), progress)
        refuse_hopeless(objects, file.path)
        source = SpansSource(
            pickle=tar.objects, mappings=objects.mappings, spans=tar.spans, root=None if tar.broken else root
        )
        writer = {"protocol": tar.objects.protocol}
        return torch_checkpoint(file, "torch-tar", objects, tar.problems, writer, "little", source)


def is_torch_tar(head: Head) -> bool:
    """Whether it is a tar with torch's members."""
    if head.start[_MAGIC : _MAGIC + 5] != b"ustar":
        return False
    return set(_MEMBERS) <= {member.name for member in members(head)}


def members(file: Reader) -> Iterator[Member]:
    """The regular members of a tar, in order, up to the first header that is none.

    A header is 512 bytes; name, size and checksum are at 0, 124 and 148. Names that are too long for it come in
    members of their own (pax, GNU), which torch never needed.
    """
    at = 0
    for _ in range(_MOST_MEMBERS):
        if at + _BLOCK > file.size:
            return
        header = file.read(at, _BLOCK)
        size = _octal(header[124:136])
        if size is None or _octal(header[148:156]) != _checksum(header):
            return
        at += _BLOCK
        name = header[:100].split(b"\0", 1)[0].decode("utf-8", "surrogateescape").removeprefix("./")
        if header[156:157] in (b"0", b"\0"):
            yield Member(name, at, min(size, file.size - at))
        at += -(-size // _BLOCK) * _BLOCK


def _octal(digits: bytes) -> int | None:
    if digits[:1] == b"\x80":
        return int.from_bytes(digits[1:], "big")
    text = digits.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        return None


def _checksum(header: bytes) -> int:
    """The sum of a header's bytes, its own field counted as blanks."""
    return sum(header) - sum(header[148:156]) + 8 * 32


class TarPickle(NamedTuple):
    """One pickle of a tar: the member it is in, where it begins in the file, its bytes."""

    member: str
    at: int
    data: bytes


class TarTensor(NamedTuple):
    """One tensor of the member `tensors`: the number of its storage, and where its shape is in the file."""

    storage: int | None
    at: int
    ndim: int


@dataclass(slots=True)
class Tar:
    """What the members of a torch tar say.

    `pickles` are all its pickles where `keep` says so; `objects` is that of the object. `storages` and `tensors` are by
    their number. `broken` says why the object cannot be read.
    """

    file: Reader
    progress: Progress
    keep: bool
    pickles: list[TarPickle] = field(default_factory=list)
    objects: Pickle | None = None
    storages: dict[int, Persistent] = field(default_factory=dict)
    tensors: dict[int, TarTensor] = field(default_factory=dict)
    spans: dict[str, StorageSpan] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: str = ""
    _made: dict[int, Node] = field(default_factory=dict)

    def named(self, node: Node) -> Node | None:
        """What a persistent id of the object pickle stands for: str(key), or (class, source file, source text)."""
        if not isinstance(node, Persistent):
            return None
        if isinstance(node.id, Group):
            items = [item for _, item in elements(node.id)]
            if items and isinstance(items[0], Global):
                return Persistent(node.at, grafts.group("tuple", [grafts.const("module"), *items]))
            return None
        text = node.raw[1:-1] if node.id is None else (grafts.key_text(node.id) or "").encode("utf-8", "replace")
        number = int(text) if text.isdigit() and len(text) < 25 else -1
        if number in self.tensors and number not in self._made:
            # One object, however often it is named; and its shape, which may be long, is read once.
            self._made[number] = self._tensor(self.tensors[number])
        return self._made.get(number) or self.storages.get(number)

    def _tensor(self, found: TarTensor) -> Node:
        ndim = found.ndim
        *sizes, offset = struct.unpack(f"<{2 * ndim + 1}q", self.file.read(found.at, 16 * ndim + 8))
        stored = self.storages.get(found.storage) if found.storage is not None else None
        return grafts.tensor(stored or grafts.const(None), offset, sizes[:ndim], sizes[ndim:])


class _Broken(Exception):
    """The member breaks off or is not what it should be; the message says how."""


def read_tar(file: Reader, progress: Progress = no_progress, *, keep: bool = False) -> Tar:
    """Read all pickles of a tar and what lies between them; `keep` the bytes of each.

    Raises:
        Cancelled: from `progress`.
    """
    tar = Tar(file, progress, keep)
    found = {member.name: member for member in members(file)}
    for name, read in (("storages", _storages), ("tensors", _tensors)):
        try:
            read(tar, found[name])
        except _Broken as error:
            tar.problems.append(Problem("error", "truncated", f"member {name} breaks off: {error}", ""))
    objects = found["pickle"]
    try:
        tar.objects = _pickle(tar, objects, objects.start)
    except _Broken as error:
        tar.broken = f"the pickle of its objects cannot be read: {error}"
    if "sys_info" in found:
        try:
            _pickle(tar, found["sys_info"], found["sys_info"].start)
        except _Broken as error:
            tar.problems.append(Problem("warning", "inner_file", f"its system information cannot be read: {error}", ""))
    return tar


def _pickle(tar: Tar, member: Member, at: int) -> Pickle:
    """One pickle at an offset of the file; its length is known when it has been read.

    Raises:
        _Broken: it breaks off, or is none.
    """
    end = member.start + member.size
    length = min(_FIRST_PIECE, end - at)
    while True:
        pickle = parse_partial(tar.file.read(at, length), progress=tar.progress)
        if not pickle.broken or not pickle.is_cut or length == end - at:
            break
        length = min(length * 8, end - at)
    if tar.keep:
        tar.pickles.append(TarPickle(member.name, at, pickle.data if pickle.broken else pickle.data[: pickle.end]))
    if pickle.broken:
        raise _Broken(pickle.broken)
    return pickle


def _storages(tar: Tar, member: Member) -> None:
    """Where the storages are, by number; views of them are storages of their own, as torch makes them."""
    end = member.start + member.size
    count, at = _count(tar, member)
    for n in range(count):
        pickle = _pickle(tar, member, at)
        key, location, cls = _fields(pickle, 3)
        dtype = storage_dtype(cls.name) if isinstance(cls, Global) else None
        at += pickle.end
        if dtype is None or at + 8 > end:
            raise _Broken(f"storage {n + 1:,} of {count:,} has no class or no bytes")
        numel = int.from_bytes(tar.file.read(at, 8), "little", signed=True)
        at += 8
        number, name = _number(key), grafts.key_text(key) or ""
        if numel < 0 or number is None:
            raise _Broken(f"storage {n + 1:,} of {count:,} has no number of elements")
        nbytes = numel * dtype.itemsize
        # Not a node of another pickle, which has a place in that one's memo.
        own = grafts.name(cls.module, cls.name) if isinstance(cls, Global) else cls
        tar.storages[number] = grafts.storage(own, name, grafts.key_text(location) or "", numel)
        tar.spans[name] = StorageSpan(at, max(min(nbytes, end - at), 0))
        if at + nbytes > end:
            raise _Broken(f"storage {visible(name, 40)} claims {nbytes:,} bytes, and {end - at:,} are there")
        at += nbytes
    _views(tar, member, at)


def _views(tar: Tar, member: Member, at: int) -> None:
    """The last pickle of the storages: a list of (view key, root key, offset, numel), in elements of the root."""
    root = _pickle(tar, member, at).root
    for _, item in elements(root) if root is not None else ():
        fields = [part for _, part in elements(item)]
        numbers = [_number(part) for part in fields]
        if len(fields) != 4 or None in numbers:
            raise _Broken("a view of a storage is none")
        view, base, offset, numel = (n for n in numbers if n is not None)
        whole = tar.storages.get(base)
        span = tar.spans.get(str(base))
        if whole is None or not isinstance(whole.id, Group) or span is None:
            raise _Broken(f"storage {base}, of which {view} is a part, is not there")
        cls, location = whole.id.items[1], grafts.key_text(whole.id.items[3]) or ""
        dtype = storage_dtype(cls.name) if isinstance(cls, Global) else None
        assert dtype is not None
        tar.storages[view] = grafts.storage(cls, str(view), location, numel)
        start, nbytes = offset * dtype.itemsize, numel * dtype.itemsize
        if start < 0 or nbytes < 0 or start + nbytes > span.nbytes:
            tar.unreadable[str(view)] = f"it is no part of storage {base}"
        else:
            tar.spans[str(view)] = StorageSpan(span.start + start, nbytes)


def _tensors(tar: Tar, member: Member) -> None:
    end = member.start + member.size
    count, at = _count(tar, member)
    for n in range(count):
        pickle = _pickle(tar, member, at)
        key, storage = (_number(item) for item in _fields(pickle, 3)[:2])
        at += pickle.end
        if at + 8 > end or key is None:
            raise _Broken(f"tensor {n + 1:,} of {count:,} has no shape")
        ndim = int.from_bytes(tar.file.read(at, 4), "little", signed=True)
        if not 0 <= ndim < _MOST_DIMENSIONS or at + 8 + 16 * ndim + 8 > end:
            raise _Broken(f"tensor {n + 1:,} of {count:,} claims {ndim:,} dimensions")
        tar.tensors[key] = TarTensor(storage, at + 8, ndim)
        at += 8 + 16 * ndim + 8


def _count(tar: Tar, member: Member) -> tuple[int, int]:
    """How many things a member says it holds, and where the first begins."""
    pickle = _pickle(tar, member, member.start)
    count = _number(pickle.root)
    if count is None or count < 0:
        raise _Broken("it does not say how many there are")
    return count, member.start + pickle.end


def _fields(pickle: Pickle, n: int) -> list[Node]:
    items = [item for _, item in elements(pickle.root)] if pickle.root is not None else []
    if len(items) < n:
        raise _Broken(f"{n} things belong at byte {pickle.start:,}, and {len(items)} are there")
    return items[:n]


def _number(node: Node | None) -> int | None:
    return node.value if isinstance(node, Const) and type(node.value) is int else None
