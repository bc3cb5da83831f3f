"""A large `.metadata` read in a tenth of the machine's time: its entries recognised by regular expressions.

A distributed checkpoint of 100,000 tensors describes itself in eleven million opcodes, which all look alike. As in
`sdviewer.pickles.records`, the alternatives of each expression differ in their first byte and have a fixed length from
there, so what it matches is what the opcodes say; lengths of texts are compared afterwards, and what the GETs stand for
is looked up. What is between the entries, and what is different in any way, goes through a stack machine of the few
opcodes that the pickler uses for such objects. It makes texts, numbers, tuples and lists, and nothing is called.

There is one rule of safety: `read_records` gives back what `read_metadata` would have, or None. Then the inert machine
reads the pickle from its beginning.

Facts: CPython's pickler at protocols 4 and 5; torch 2.13, measured.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdviewer.core.progress import Progress
from sdviewer.formats.dcp_metadata import MODULE, DcpMetadata, Sizes, StoredAt, StoredTensor
from sdviewer.pickles import opcodes as op

_FRAME_HEADER = 9
_u4 = struct.Struct("<I").unpack_from
_u8 = struct.Struct("<Q").unpack_from
_i4 = struct.Struct("<i").unpack_from

_PIECES = {
    b"<get>": rb"(?:h.|j.{4})",
    b"<number>": rb"(?:K.|M..|J.{4}|\x8a(?:\x05.{5}|\x06.{6}|\x07.{7}|\x08.{8}))",
    # A fresh text up to its MEMOIZE; one that has that byte in itself is found out by its length.
    b"<text>": rb"\x8c.[^\x94]*\x94",
    # A torch.Size: fetched, or called with a tuple of numbers.
    b"<size>": rb"(?:<get><numbers>\x85\x94R\x94|<get>)",
    b"<numbers>": rb"(?:\)|<number>(?:\x85|<number>(?:\x86|<number>\x87))\x94|\((?:<number>){4,64}t\x94)",
    # NEWOBJ of no arguments, the dict that BUILD will give it, and the first name in that.
    b"<object>": rb"<get>\)\x81\x94\}\x94\(<get>",
    b"<part>": rb"(<object>)(<size>)(<get>)(<size>)ub",
    b"<step>": rb"(?:<get>|<text>|K.)",
}


def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    """A pattern with names of pieces in it."""
    while b"<" in pattern:
        for name, piece in _PIECES.items():
            pattern = pattern.replace(name, piece)
    return re.compile(pattern, re.DOTALL)


# Each may begin with the end of one batch of SETITEMS and the beginning of the next.
_TENSOR = _compiled(
    rb"(?:u\()?(?:\x8c(.)|X(.{4}))([^\x94]*)\x94"
    rb"(<object><get>\)\x81\x94\()"  # TensorStorageMetadata, "properties", TensorProperties
    rb"(<get>)(<get>)([\x88\x89])(<get>)[\x88\x89]t\x94b"  # dtype, layout, requires_grad, memory format, pinned
    rb"(<get>)(<size>)(<get>)\]\x94"  # "size", "chunks"
    rb"(?:<part>a|\(((?:<object><size><get><size>ub)+)e)ub"  # ChunkStorageMetadata, "offsets", "sizes"
)
_PART = _compiled(rb"<part>")
_PATH = _compiled(
    rb"(?:u\()?(<get>|<text>)"
    rb"(<step>\x85|<step><step>\x86|<step><step><step>\x87|\((?:<step>){4,32}t)\x94"
)
# Nearly every path: of a name that stood there before, a mapping's name that did too, and a new text in that.
_USUAL_PATH = _compiled(rb"(?:u\()?(<get>)(<get>)\x8c(.)([^\x94]*)\x94\x86\x94")
_ONE_STEP = _compiled(rb"(<get>)|\x8c(.)([^\x94]*)\x94|K(.)")
_PLACE = _compiled(
    rb"(?:u\()?(<object>)(<get>)"  # MetadataIndex, "fqn"
    rb"(<get>)(?:N|<number>)(?:(<get>)(<size>))?ub"  # "index", "offset"
    rb"(<object>)(<get>|<text>)"  # _StorageInfo, "relative_path"
    rb"(<get>)(<number>)(<get>)(<number>)ub"  # "offset", "length"
)
_FILES = "torch.distributed.checkpoint.filesystem"


class _Unlike(Exception):
    """The pickle is not what these expressions are for."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A global; no tuple, for a pickle can make an equal one."""

    module: str
    name: str


class _Made:
    """What NEWOBJ or REDUCE would make: of what, with which arguments, and the state that BUILD gave it."""

    __slots__ = ("args", "of", "state")

    def __init__(self, of: Any, args: Any) -> None:
        self.of = of
        self.args = args
        self.state: Any = None


_Hot = tuple[re.Pattern[bytes], Callable[[int], int]]
"""How an entry of a large mapping looks, and what reads as many of them as there are from an offset."""


class _Dict:
    """Pairs in order; in one of the three large mappings also entries that an expression recognised."""

    __slots__ = ("hot", "pairs")

    def __init__(self, hot: _Hot | None = None) -> None:
        self.pairs: list[tuple[Any, Any]] = []
        self.hot = hot


def read_records(data: bytes, progress: Progress) -> DcpMetadata | None:
    """What a `.metadata` says, or None for one that only the machine can read.

    Raises:
        Cancelled: from `progress`.
    """
    stream = _without_frames(data)
    if stream is None:
        return None
    try:
        return _Reader(stream, progress).run()
    except (_Unlike, LookupError, struct.error, UnicodeDecodeError, AttributeError, TypeError, ValueError):
        return None


def _without_frames(data: bytes) -> bytes | None:
    """The opcodes without PROTO and FRAMEs; None where there is something between frames."""
    if data[:1] != b"\x80" or data[1:2] not in (b"\x04", b"\x05"):
        return None
    pieces, at = [], 2
    while at < len(data):
        if data[at] != op.FRAME or at + _FRAME_HEADER > len(data):
            return None
        length = _u8(data, at + 1)[0]
        at += _FRAME_HEADER
        if at + length > len(data):
            return None
        pieces.append(data[at : at + length])
        at += length
    return b"".join(pieces)


class _Reader:
    """The stack machine; `memo` is a list, as MEMOIZE counts."""

    def __init__(self, data: bytes, progress: Progress) -> None:
        self.data = data
        self.progress = progress
        self.memo: list[Any] = []
        self.out = DcpMetadata()
        self.sizes: dict[bytes, tuple[Sizes, tuple[Any, ...]]] = {}
        self.contexts: dict[tuple[bytes, ...], str] = {}
        self.checked: set[tuple[bytes, ...]] = set()
        self.fetched: dict[bytes, str] = {}
        self.single: dict[tuple[bytes, ...], tuple[Sizes, tuple[tuple[Sizes, Sizes], ...], tuple[Any, ...]]] = {}
        self.hot: dict[str, _Hot] = {
            "state_dict_metadata": (_TENSOR, self._tensors),
            "planner_data": (_PATH, self._paths),
            "storage_data": (_PLACE, self._places),
        }

    def run(self) -> DcpMetadata:  # noqa: C901  a dispatch
        data, memo = self.data, self.memo
        stack: list[Any] = []
        marks: list[list[Any]] = []
        hot_stack: list[Any] | None = None
        hot: _Dict | None = None
        pos = 0
        while True:
            # Whole entries are pairs, so they can stand wherever an even number of things waits for SETITEMS.
            if stack is hot_stack and not len(stack) & 1 and hot is not None and hot.hot is not None:
                pattern, read = hot.hot
                if pattern.match(data, pos):
                    self._add(hot, stack)
                    pos = read(pos)
            code = data[pos]
            pos += 1
            if code == op.MEMOIZE:
                memo.append(stack[-1])
            elif code == op.BINGET:
                stack.append(memo[data[pos]])
                pos += 1
            elif code == op.LONG_BINGET:
                stack.append(memo[_u4(data, pos)[0]])
                pos += 4
            elif code == op.SHORT_BINUNICODE:
                end = pos + 1 + data[pos]
                stack.append(data[pos + 1 : end].decode())
                pos = end
            elif code == op.BINUNICODE:
                end = pos + 4 + _u4(data, pos)[0]
                stack.append(data[pos + 4 : end].decode())
                pos = end
            elif code == op.BININT1:
                stack.append(data[pos])
                pos += 1
            elif code == op.BININT2:
                stack.append(int.from_bytes(data[pos : pos + 2], "little"))
                pos += 2
            elif code == op.BININT:
                stack.append(_i4(data, pos)[0])
                pos += 4
            elif code == op.LONG1:
                end = pos + 1 + data[pos]
                stack.append(int.from_bytes(data[pos + 1 : end], "little", signed=True))
                pos = end
            elif code == op.NONE:
                stack.append(None)
            elif code == op.NEWTRUE or code == op.NEWFALSE:
                stack.append(code == op.NEWTRUE)
            elif code == op.MARK:
                top = stack[-1] if stack else None
                marks.append(stack)
                stack = []
                if type(top) is _Dict and top.hot is not None:
                    hot, hot_stack = top, stack
            elif code == op.EMPTY_TUPLE:
                stack.append(())
            elif code == op.TUPLE1 or code == op.TUPLE2 or code == op.TUPLE3:
                n = code - op.TUPLE1 + 1
                if len(stack) < n:
                    raise _Unlike
                stack[-n:] = [tuple(stack[-n:])]
            elif code == op.TUPLE:
                items, stack = stack, marks.pop()
                stack.append(tuple(items))
            elif code == op.EMPTY_LIST:
                stack.append([])
            elif code == op.APPEND:
                item = stack.pop()
                _list(stack[-1]).append(item)
            elif code == op.APPENDS:
                items, stack = stack, marks.pop()
                _list(stack[-1]).extend(items)
            elif code == op.EMPTY_DICT:
                # The three mappings stand in the one dict of the Metadata itself.
                name = stack[-1] if stack and len(marks) == 1 else None
                stack.append(_Dict(self.hot.pop(name, None) if isinstance(name, str) else None))
            elif code == op.SETITEM:
                value, key = stack.pop(), stack.pop()
                self._add(stack[-1], [key, value])
            elif code == op.SETITEMS:
                items, stack = stack, marks.pop()
                self._add(stack[-1], items)
            elif code == op.STACK_GLOBAL:
                made, module = stack.pop(), stack.pop()
                if type(made) is not str or type(module) is not str:
                    raise _Unlike
                stack.append(_Name(module, made))
            elif code == op.NEWOBJ or code == op.REDUCE:
                args = stack.pop()
                stack.append(_Made(stack.pop(), args))
            elif code == op.BUILD:
                state = stack.pop()
                if type(stack[-1]) is not _Made or stack[-1].state is not None:
                    raise _Unlike
                stack[-1].state = state
            elif code == op.STOP:
                if len(stack) != 1 or marks or pos != len(data):
                    raise _Unlike
                return self._finish(stack[0])
            else:
                raise _Unlike

    def _add(self, mapping: Any, items: list[Any]) -> None:
        """Put loose pairs into a mapping; into a large one by what they mean."""
        if type(mapping) is not _Dict or len(items) & 1:
            raise _Unlike
        pairs = list(zip(items[::2], items[1::2], strict=True))
        items.clear()
        kind = mapping.hot[0] if mapping.hot is not None else None
        if kind is _TENSOR:
            for key, value in pairs:
                self.out.entries.append(_entry(key, value))
        elif kind is _PATH:
            for key, value in pairs:
                self._add_path(key, value)
        elif kind is _PLACE:
            for key, value in pairs:
                self._add_place(key, value)
        else:
            mapping.pairs.extend(pairs)

    def _finish(self, root: Any) -> DcpMetadata:
        fields = _fields(root, _Name(MODULE, "Metadata"))
        for name in ("state_dict_metadata", "storage_data"):
            if type(fields.get(name)) is not _Dict:
                raise _Unlike
        if self.hot.keys() - {"planner_data"}:
            raise _Unlike
        planner = fields.get("planner_data")
        if planner is not None and (type(planner) is not _Dict or planner.hot is None):
            raise _Unlike
        version = fields.get("version")
        if version is not None and type(version) is not str:
            raise _Unlike
        self.out.version = version
        names = [entry if isinstance(entry, str) else entry[0] for entry in self.out.entries]
        if len(set(names)) != len(names):
            raise _Unlike
        return self.out

    # Entries that are recognised whole. Each returns where the first other opcode stands.

    def _tensors(self, pos: int) -> int:
        memo, entries, contexts, single = self.memo, self.out.entries, self.contexts, self.single
        new = tuple.__new__
        for n, found in enumerate(iter(_TENSOR.scanner(self.data, pos).match, None), 1):  # type: ignore[attr-defined]
            (short, long, key, kind, dtype, layout, flag, memory, size_name, size, chunks_name, chunk, offsets,
             sizes_name, sizes, many) = found.groups(b"")  # fmt: skip
            if (short[0] if short else _u4(long)[0]) != len(key):
                break
            context = (kind, dtype, layout, memory, size_name, chunks_name, chunk, sizes_name)
            name = contexts.get(context)
            if name is None:
                name = contexts[context] = self._context(context)
            fqn = key.decode()
            what = (size, offsets, sizes)
            known = single.get(what) if not many else None
            memo += (fqn, None, None, None, None)
            if known is not None:
                whole, parts, slots = known
                memo += slots
            else:
                before = len(memo)
                whole = self._size(size)
                memo.append(None)
                parts = self._many(many) if many else (self._part(offsets, sizes),)
                if any(not len(whole) == len(at) == len(part) for at, part in parts):
                    raise _Unlike
                if not many and all(_is_fresh(raw) for raw in what):
                    single[what] = (whole, parts, tuple(memo[before:]))
            entries.append(new(StoredTensor, (fqn, name, flag == b"\x88", whole, parts, "")))
            pos = found.end()
            if not n & 4095:
                self.progress(pos, len(self.data))
        return pos

    def _paths(self, pos: int) -> int:
        while True:
            pos = self._usual_paths(pos)
            found = _PATH.match(self.data, pos)
            if found is None or not self._path(*found.groups()):
                return pos
            pos = found.end()

    def _usual_paths(self, pos: int) -> int:
        memo, paths = self.memo, self.out.paths
        for found in iter(_USUAL_PATH.scanner(self.data, pos).match, None):  # type: ignore[attr-defined]
            key, first, length, last = found.groups()
            fqn = memo[key[1] if key[0] == op.BINGET else _u4(key, 1)[0]]
            above = memo[first[1] if first[0] == op.BINGET else _u4(first, 1)[0]]
            if length[0] != len(last) or type(fqn) is not str or type(above) is not str or fqn in paths:
                break
            text = last.decode()
            memo += (text, None)
            paths[fqn] = (above, text)
            pos = found.end()
            if not len(paths) & 4095:
                self.progress(pos, len(self.data))
        return pos

    def _path(self, key: bytes, path: bytes) -> bool:
        """Take one path; False where a length is wrong."""
        fresh: list[str] = []
        if key[0] == op.SHORT_BINUNICODE:
            if key[1] != len(key) - 3:
                return False
            fqn = key[2:-1].decode()
            fresh.append(fqn)
        else:
            fqn = self._text_at(key)
        steps = self._path_steps(path, fresh)
        if steps is None:
            return False
        self.memo += fresh
        self.memo.append(None)
        if fqn in self.out.paths:
            raise _Unlike
        self.out.paths[fqn] = steps
        if not len(self.out.paths) & 4095:
            self.progress(0, len(self.data))
        return True

    def _path_steps(self, path: bytes, fresh: list[str]) -> tuple[str | int, ...] | None:
        """The steps of a path; texts that are new are added to `fresh`. None where a length is wrong."""
        steps: list[str | int] = []
        inner = path[1:-1] if path[0] == op.MARK else path[:-1]
        for get, length, text, number in _ONE_STEP.findall(inner):
            if get:
                slot = _slot(get) - len(self.memo)
                steps.append(fresh[slot] if slot >= 0 else self._text_at(get))
            elif length:
                if length[0] != len(text):
                    return None
                fresh.append(text.decode())
                steps.append(fresh[-1])
            else:
                steps.append(number[0])
        return tuple(steps)

    def _places(self, pos: int) -> int:
        memo, places, checked = self.memo, self.out.places, self.checked
        new = tuple.__new__
        for found in iter(_PLACE.scanner(self.data, pos).match, None):  # type: ignore[attr-defined]
            (index, fqn_get, index_name, offset_name, offset, info, path, at_name, at, length_name,
             length) = found.groups()  # fmt: skip
            context = (index, index_name, offset_name or b"", info, at_name, length_name)
            if context not in checked:
                self._check_place(context)
                checked.add(context)
            fqn = memo[fqn_get[1] if fqn_get[0] == op.BINGET else _u4(fqn_get, 1)[0]]
            if type(fqn) is not str:
                raise _Unlike
            memo += (None, None)
            offsets = None if offset is None else self._size(offset)
            memo += (None, None)
            file = self.fetched.get(path)
            if file is None:
                file = self._file(path)
            where = (fqn, offsets)
            if where in places:
                raise _Unlike
            places[where] = new(StoredAt, (file, _number(at), _number(length), ""))
            pos = found.end()
            if not len(places) & 4095:
                self.progress(pos, len(self.data))
        return pos

    def _file(self, path: bytes) -> str:
        """The name of a data file: nearly always one that was named before."""
        if path[0] != op.SHORT_BINUNICODE:
            found = self.fetched[path] = self._text_at(path)
            return found
        if path[1] != len(path) - 3:
            raise _Unlike
        self.memo.append(path[2:-1].decode())
        return str(self.memo[-1])

    # What the pieces of entries say

    def _context(self, context: tuple[bytes, ...]) -> str:
        """The dtype of a tensor's entry whose GETs all name what they must."""
        kind, dtype, layout, memory, size_name, chunks_name, chunk, sizes_name = context
        described, properties, made = _gets(kind, _OBJECT_BYTES, b")\x81\x94(")
        self._is(described, _Name(MODULE, "TensorStorageMetadata"))
        self._is(properties, "properties")
        self._is(made, _Name(MODULE, "TensorProperties"))
        self._is(size_name, "size")
        self._is(chunks_name, "chunks")
        if chunk:
            self._is_chunk(chunk, sizes_name)
        # Whatever they are: what matters is that they are there.
        _ = self.memo[_slot(layout)], self.memo[_slot(memory)]
        found = self.memo[_slot(dtype)]
        if type(found) is not _Name or found.module != "torch":
            raise _Unlike
        return found.name

    def _is_chunk(self, chunk: bytes, sizes_name: bytes) -> None:
        made, offsets = _gets(chunk, _OBJECT_BYTES)
        self._is(made, _Name(MODULE, "ChunkStorageMetadata"))
        self._is(offsets, "offsets")
        self._is(sizes_name, "sizes")

    def _check_place(self, context: tuple[bytes, ...]) -> None:
        index, index_name, offset_name, info, at_name, length_name = context
        made, fqn = _gets(index, _OBJECT_BYTES)
        self._is(made, _Name(MODULE, "MetadataIndex"))
        self._is(fqn, "fqn")
        self._is(index_name, "index")
        if offset_name:
            self._is(offset_name, "offset")
        made, path = _gets(info, _OBJECT_BYTES)
        self._is(made, _Name(_FILES, "_StorageInfo"))
        self._is(path, "relative_path")
        self._is(at_name, "offset")
        self._is(length_name, "length")

    def _is(self, get: bytes, wanted: Any) -> None:
        found = self.memo[_slot(get)]
        if type(found) is not type(wanted) or found != wanted:
            raise _Unlike

    def _text_at(self, get: bytes) -> str:
        found = self.memo[_slot(get)]
        if type(found) is not str:
            raise _Unlike
        return found

    def _decoded(self, raw: bytes) -> tuple[Sizes, tuple[Any, ...]]:
        """A torch.Size, and what it puts into the memo: nothing where it is a GET of one."""
        known = self.sizes.get(raw)
        if known is None:
            split = 2 if raw[0] == op.BINGET else 5
            if not _is_fresh(raw):
                found = self.memo[_slot(raw)]
                if type(found) is _Made:
                    found = _size_of(found)
                if type(found) is not tuple or not all(type(item) is int for item in found):
                    raise _Unlike
                return found, ()
            self._is(raw[:split], _Name("torch", "Size"))
            numbers = raw[split:-4]
            size = _numbers(numbers)
            known = self.sizes[raw] = (size, (None, size) if numbers == b")" else (None, None, size))
        return known

    def _size(self, raw: bytes) -> Sizes:
        size, slots = self._decoded(raw)
        self.memo += slots
        return size

    def _many(self, raw: bytes) -> tuple[tuple[Sizes, Sizes], ...]:
        parts = []
        for chunk, offsets, sizes_name, sizes in _PART.findall(raw):
            if (chunk, sizes_name) not in self.checked:
                self._is_chunk(chunk, sizes_name)
                self.checked.add((chunk, sizes_name))
            parts.append(self._part(offsets, sizes))
        return tuple(parts)

    def _part(self, offsets: bytes, sizes: bytes) -> tuple[Sizes, Sizes]:
        """One part, whose object and dict take a slot each."""
        self.memo += (None, None)
        at = self._size(offsets)
        return at, self._size(sizes)

    # The same for what went through the stack machine

    def _add_path(self, key: Any, value: Any) -> None:
        if type(key) is not str or type(value) is not tuple or key in self.out.paths:
            raise _Unlike
        if not value or not all(type(step) is str or (type(step) is int and 0 <= step < 1 << 31) for step in value):
            raise _Unlike
        self.out.paths[key] = value

    def _add_place(self, key: Any, value: Any) -> None:
        index = _fields(key, _Name(MODULE, "MetadataIndex"))
        place = _fields(value, _Name(_FILES, "_StorageInfo"))
        offsets = index.get("offset")
        where = (index["fqn"], None if offsets is None else _size_of(offsets))
        numbers = (place["offset"], place["length"])
        texts = (where[0], place["relative_path"])
        if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
            raise _Unlike
        if len(place) != 3 or where in self.out.places:
            raise _Unlike
        self.out.places[where] = StoredAt(place["relative_path"], *numbers)


_OBJECT_BYTES = b")\x81\x94}\x94("


def _is_fresh(raw: bytes) -> bool:
    """Whether a size is made here and not fetched."""
    return len(raw) > (2 if raw[0] == op.BINGET else 5)


def _slot(get: bytes) -> int:
    return int.from_bytes(get[1:], "little")


def _gets(raw: bytes, *between: bytes) -> list[bytes]:
    """The GETs in a run of them, with fixed bytes behind some."""
    found, at = [], 0
    while at < len(raw):
        length = 2 if raw[at] == op.BINGET else 5
        found.append(raw[at : at + length])
        at += length
        for fixed in between:
            if raw.startswith(fixed, at):
                at += len(fixed)
                break
    return found


def _number(raw: bytes) -> int:
    if raw[0] == op.BININT:
        return int(_i4(raw, 1)[0])
    return int.from_bytes(raw[2:] if raw[0] == op.LONG1 else raw[1:], "little", signed=raw[0] == op.LONG1)


_EACH_NUMBER = _compiled(rb"<number>")


def _numbers(raw: bytes) -> Sizes:
    """The numbers of a tuple as its opcodes make it."""
    if raw == b")":
        return ()
    inner = raw[1:-2] if raw[0] == op.MARK else raw[:-2]
    return tuple([_number(number) for number in _EACH_NUMBER.findall(inner)])


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise _Unlike
    return value


def _fields(value: Any, kind: _Name) -> dict[str, Any]:
    """The attributes of an object of one class."""
    if type(value) is not _Made or value.of != kind or value.args != () or type(value.state) is not _Dict:
        raise _Unlike
    pairs = value.state.pairs
    if not all(type(name) is str for name, _ in pairs):
        raise _Unlike
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Unlike
    return fields


def _size_of(value: Any) -> Sizes:
    size = value
    if type(value) is _Made:
        if value.of != _Name("torch", "Size") or type(value.args) is not tuple or len(value.args) != 1:
            raise _Unlike
        (size,) = value.args
    if type(size) is not tuple or not all(type(item) is int for item in size):
        raise _Unlike
    return size


def _entry(key: Any, value: Any) -> StoredTensor | str:
    if type(key) is not str or type(value) is not _Made:
        raise _Unlike
    if value.of == _Name(MODULE, "BytesStorageMetadata"):
        return key
    fields = _fields(value, _Name(MODULE, "TensorStorageMetadata"))
    properties = fields["properties"]
    if type(properties) is not _Made or properties.of != _Name(MODULE, "TensorProperties"):
        raise _Unlike
    dtype, _, requires_grad, _, _ = properties.state
    if type(dtype) is not _Name or dtype.module != "torch" or type(requires_grad) is not bool:
        raise _Unlike
    size = _size_of(fields["size"])
    chunks = []
    for item in _list(fields["chunks"]):
        chunk = _fields(item, _Name(MODULE, "ChunkStorageMetadata"))
        offsets, sizes = _size_of(chunk["offsets"]), _size_of(chunk["sizes"])
        if not len(offsets) == len(sizes) == len(size):
            raise _Unlike
        chunks.append((offsets, sizes))
    return StoredTensor(key, dtype.name, requires_grad, size, tuple(chunks))
