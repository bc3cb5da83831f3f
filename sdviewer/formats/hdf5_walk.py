"""An HDF5 file, read by h5py in a child process that may crash: its structure, or the numbers of one dataset.

Run as `python -P -m sdviewer.formats.hdf5_walk`; reads one line of JSON (`fd` or `path`, `start`, `nbytes`), prints one
line of JSON a dataset, value and problem, and `{"kind": "end"}`. The HDF5 library is a large C library, and damaged
files crash it (docs/decisions/0010): so it never runs in a process whose end a person would notice, it gets limits, and
it is given a file object instead of a path, so that every byte comes by `pread` from one descriptor and no other file
is opened. Where a dataset lies in one piece, its place is all that is told. Links into other files are told and not
followed.

With a `dataset` in the request, a name, it answers lines of two numbers (first byte, bytes) with as many bytes of the
row-major elements, as they are stored: an i64, then that many bytes; a negative number of bytes is a text that says why
not. For datasets whose numbers lie in chunks or in their header.

Facts: h5py 3.16, HDF5 2.0; Keras 2 and 3 (names of groups and attributes), measured (docs/formats.md).
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Path = tuple[Any, ...]
"""Steps: a str, or [type, value] for any other step."""

_LONGEST_ATTRIBUTE = 1 << 20
_LONG_LIST = 256
_DEEPEST = 500
_MOST_MEMORY = 4 << 30
_MOST_SECONDS = 300

_MOST_ANSWERED = 16 << 20
"""Bytes of an answer; who wants more asks again."""

_LARGEST_CHUNK = 256 << 20
_LARGE, _MOST_PACKED = 1 << 30, 1100
"""A dataset of more bytes that are also more than so many times what is stored: no filter packs as tightly."""

_CHUNKS_KEPT = 64 << 20
"""Bytes of unpacked chunks that are kept: rows go through all chunks of a band."""

_FILTERS = frozenset((1, 2, 3, 4, 5, 6, 32000))
"""deflate, shuffle, fletcher32, szip, nbit, scaleoffset, and h5py's own lzf; others would be loaded from a file."""

# What h5py raises for a damaged file is any of these, with the library's own words.
_LIBRARY_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, AttributeError)


class _Bytes(io.RawIOBase):
    """A run of a file, for a library that wants a file object; a read beyond its end is short, as a file's is."""

    def __init__(self, fd: int, start: int, nbytes: int) -> None:
        self._fd = fd
        self._start = start
        self._nbytes = nbytes
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._nbytes)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        from sdviewer.formats.pread import read_into

        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._nbytes - self._at))
        read_into(self._fd, "", self._start + self._at, view[:length])
        self._at += length
        return length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _Walk:
    """One pass over the groups of a file, with a stack of its own; each find is printed at once."""

    def __init__(self, h5py: Any, reader: _Bytes, nbytes: int) -> None:
        self.h5py = h5py
        self.reader = reader
        self.nbytes = nbytes
        self.seen: set[int] = set()

    def tell(self, kind: str, path: Path, **fields: Any) -> None:
        """One line for the parent."""
        sys.stdout.write(json.dumps({"kind": kind, "path": path, **fields}) + "\n")

    def problem(self, severity: str, code: str, message: str, path: Path) -> None:
        self.tell("problem", path, severity=severity, code=code, message=message)

    def run(self) -> None:
        file = self.h5py.File(self.reader, "r")
        root = self.h5py.h5g.open(file.id, b"/")
        stack: list[tuple[Any, Path]] = [(root, ())]
        self.seen.add(self.h5py.h5o.get_info(root).addr)
        while stack:
            group, path = stack.pop()
            self._attributes(group, path)
            stack.extend(reversed(list(self._members(group, path))))

    def _members(self, group: Any, path: Path) -> Iterator[tuple[Any, Path]]:
        """Tell the datasets of a group; the groups in it are given back. What the library cannot read is told too."""
        for name in list(group):
            below = (*path, name.decode("utf-8", "surrogateescape"))
            try:
                inner = self._member(group, name, below)
            except _LIBRARY_ERRORS as error:
                self.problem("error", "part_unreadable", f"the HDF5 library cannot read it: {error}", below)
                continue
            if inner is not None:
                yield inner, below

    def _member(self, group: Any, name: bytes, path: Path) -> Any:
        """Tell one member of a group; a group that is seen for the first time is given back."""
        h5o, h5l = self.h5py.h5o, self.h5py.h5l
        link = group.links.get_info(name).type
        if link != h5l.TYPE_HARD:
            self._link(group, name, path, link)
            return None
        info = h5o.get_info(group, name)
        if info.type == h5o.TYPE_DATASET:
            dataset = self.h5py.h5d.open(group, name)
            self._dataset(dataset, path, info.addr)
            self._attributes(dataset, path)
        elif info.type == h5o.TYPE_GROUP and info.addr in self.seen:
            self.tell("value", path, value="same group as another, told once", type="h5py.Group")
        elif info.type == h5o.TYPE_GROUP and len(path) > _DEEPEST:
            self.problem("warning", "too_deep", "what lies deeper is not shown", path)
        elif info.type == h5o.TYPE_GROUP:
            self.seen.add(info.addr)
            return self.h5py.h5g.open(group, name)
        return None

    def _link(self, group: Any, name: bytes, path: Path, kind: int) -> None:
        """A link that is told and not followed: the other end may be another file."""
        value = group.links.get_val(name)
        if kind == self.h5py.h5l.TYPE_SOFT:
            self.tell("value", path, value=value.decode("utf-8", "surrogateescape"), type="h5py.SoftLink")
            return
        target = " in ".join([part.decode("utf-8", "surrogateescape") for part in reversed(value)])
        self.tell("value", path, value=target, type="h5py.ExternalLink")
        self.problem("info", "external_link", f"it is in another file, {target}, which is not opened", path)

    # Datasets

    def _dataset(self, dataset: Any, path: Path, address: int) -> None:
        # The layout comes first: asking a virtual dataset for its shape opens the files that it is made of.
        where, unreadable = self._where(dataset)
        in_chunks = where is None and not unreadable
        dims = dataset.get_space().get_simple_extent_dims() if unreadable != _VIRTUAL else ()
        if dims is None:
            self.tell("value", path, value=None, type="builtins.NoneType")
            return
        found = self._type(dataset.get_type(), dataset)
        if not unreadable and found.elsewhere:
            unreadable = "its elements lie elsewhere in the file, each of its own length"
            in_chunks = False
        start, there = where if where is not None and not unreadable else (0, 0)
        shape = [int(size) for size in dims]
        self.tell(
            *("tensor", path),
            shape=shape,
            dtype=found.name,
            itemsize=found.itemsize,
            swapped=found.swapped,
            start=start,
            there=there,
            in_chunks=in_chunks,
            unreadable="" if 0 in shape else unreadable,
            address=address,
        )

    def _where(self, dataset: Any) -> tuple[tuple[int, int] | None, str]:
        """(first byte, bytes there) of a dataset that lies in one piece, or why its numbers cannot be read.

        Neither for one in chunks or in its header, which the library can read.
        """
        h5d = self.h5py.h5d
        plan = dataset.get_create_plist()
        layout = plan.get_layout()
        why = _why_not_read(self.h5py, dataset, plan)
        if why or layout == h5d.COMPACT:
            return None, why
        if layout == h5d.CHUNKED:
            return self._only_chunk(dataset, plan), ""
        offset = dataset.get_offset()
        if offset is None:
            return None, "its numbers were never written"
        return (int(offset), int(dataset.get_storage_size())), ""

    def _only_chunk(self, dataset: Any, plan: Any) -> tuple[int, int] | None:
        """Where a dataset of one chunk without a filter lies, which is in one piece after all."""
        dims = tuple(dataset.get_space().get_simple_extent_dims() or ())
        if plan.get_nfilters() == 0 and tuple(plan.get_chunk()) == dims and dataset.get_num_chunks() == 1:
            chunk = dataset.get_chunk_info(0)
            if chunk.byte_offset is not None:
                return int(chunk.byte_offset), int(chunk.size)
        return None

    def _type(self, type_: Any, dataset: Any) -> _Type:
        found = _number_type(self.h5py, type_)
        if found is not None and found.name in ("void16", "uint16", "float16") and self._is_bfloat16(dataset):
            return found._replace(name="bfloat16")
        if found is not None:
            return found
        h5t = self.h5py.h5t
        kind, itemsize = type_.get_class(), int(type_.get_size())
        if kind == h5t.VLEN or (kind == h5t.STRING and type_.is_variable_str()) or type_.detect_class(h5t.VLEN):
            return _Type("string" if kind == h5t.STRING else "object", itemsize, elsewhere=True)
        return _Type(f"{_TYPE_NAMES.get(_class_name(h5t, kind), 'void')}{8 * itemsize}", itemsize)

    def _is_bfloat16(self, dataset: Any) -> bool:
        """Keras has no other way to write bfloat16 than two bytes and this attribute."""
        return bool(self._attribute(dataset, b"dtype") == "bfloat16")

    # Attributes

    def _attributes(self, thing: Any, path: Path) -> None:
        h5a = self.h5py.h5a
        for i in range(h5a.get_num_attrs(thing)):
            where = (*path, ["attribute", str(i)])
            try:
                name = h5a.open(thing, index=i).name
                where = (*path, ["attribute", name.decode("utf-8", "surrogateescape")])
                value = self._attribute(thing, name)
            except _LIBRARY_ERRORS as error:
                self.problem("error", "part_unreadable", f"the HDF5 library cannot read it: {error}", where)
                continue
            self.tell("value", where, value=value, type=f"builtins.{type(value).__name__}")

    def _attribute(self, thing: Any, name: bytes) -> Any:
        """The value of an attribute as JSON takes it, a text about one that is large or strange."""
        h5py = self.h5py
        if not h5py.h5a.exists(thing, name):
            return None
        attribute = h5py.h5a.open(thing, name)
        type_ = attribute.get_type()
        count = math.prod([int(size) for size in attribute.get_space().get_simple_extent_dims() or ()])
        if count * int(type_.get_size()) > min(_LONGEST_ATTRIBUTE, self.nbytes):
            return "a value too large to be shown"
        kind = type_.get_class()
        if kind not in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM):
            return f"a value of the type {_class_name(h5py.h5t, kind)}"
        if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            return None
        holder = h5py.Dataset(thing) if isinstance(thing, h5py.h5d.DatasetID) else h5py.Group(thing)
        return _plain(holder.attrs[name.decode("utf-8", "surrogateescape")])


def _why_not_read(h5py: Any, dataset: Any, plan: Any) -> str:
    """Why the library is not asked for the numbers of a dataset, else ""."""
    layout = plan.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        return _VIRTUAL
    if plan.get_external_count():
        return "its numbers are in another file, which is not opened"
    if layout != h5py.h5d.CHUNKED:
        return ""
    for i in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(i)
        if code not in _FILTERS:
            called = f"{name.decode('utf-8', 'backslashreplace')[:40]}, " if name else ""
            return f"its chunks went through a filter that is no part of HDF5 ({called}{code}); {_REPACK}"
    itemsize = int(dataset.get_type().get_size())
    if math.prod([int(size) for size in plan.get_chunk()]) * itemsize > _LARGEST_CHUNK:
        return f"its chunks are larger than {_LARGEST_CHUNK >> 20} MiB; {_REPACK}"
    nbytes = math.prod([int(size) for size in dataset.get_space().get_simple_extent_dims() or ()]) * itemsize
    stored = int(dataset.get_storage_size())
    if nbytes > max(_LARGE, _MOST_PACKED * stored):
        return f"it claims {nbytes:,} bytes, and {stored:,} are stored"
    return ""


_REPACK = "h5repack -l CONTI -f NONE lays them out in one piece"
_VIRTUAL = "it is put together from other datasets, which may be in other files"


class _Type(NamedTuple):
    """torch's name of an element type, or HDF5's; bytes an element; whether they are swapped or lie elsewhere."""

    name: str
    itemsize: int
    swapped: bool = False
    elsewhere: bool = False


_FLOATS: Mapping[tuple[int, int, int], str] = {
    # (bytes, bits of the exponent, bits of the fraction)
    (2, 5, 10): "float16", (4, 8, 23): "float32", (8, 11, 52): "float64", (2, 8, 7): "bfloat16",
}  # fmt: skip
_TYPE_NAMES: Mapping[str, str] = {
    "STRING": "bytes", "OPAQUE": "void", "COMPOUND": "compound", "ENUM": "enum", "REFERENCE": "reference",
    "BITFIELD": "bitfield", "ARRAY": "array", "TIME": "time", "FLOAT": "float", "INTEGER": "int",
}  # fmt: skip


def _number_type(h5py: Any, type_: Any) -> _Type | None:
    """The type of numbers that torch has too; None for any other. The library widens what NumPy lacks, so its own
    mapping to NumPy's types is not asked."""
    h5t = h5py.h5t
    kind, size = type_.get_class(), int(type_.get_size())
    if kind == h5t.ENUM and type_.get_nmembers() == 2 and size == 1:
        members = [(type_.get_member_name(i), type_.get_member_value(i)) for i in range(2)]
        return _Type("bool", 1) if sorted(members) == [(b"FALSE", 0), (b"TRUE", 1)] else None
    if kind == h5t.INTEGER and size in (1, 2, 4, 8) and type_.get_precision() == 8 * size:
        sign = "int" if type_.get_sign() == h5t.SGN_2 else "uint"
        return _Type(f"{sign}{8 * size}", size, size > 1 and type_.get_order() == h5t.ORDER_BE)
    if kind == h5t.FLOAT:
        _, _, exponent, _, fraction = type_.get_fields()
        name = _FLOATS.get((size, exponent, fraction))
        return None if name is None else _Type(name, size, type_.get_order() == h5t.ORDER_BE)
    if kind == h5t.COMPOUND and type_.get_nmembers() == 2:
        parts = [_number_type(h5py, type_.get_member_type(i)) for i in range(2)]
        names = [type_.get_member_name(i) for i in range(2)]
        first = parts[0]
        if names == [b"r", b"i"] and first is not None and first == parts[1] and 2 * first.itemsize == size:
            complex_name = {"float32": "complex64", "float64": "complex128", "float16": "complex32"}.get(first.name)
            return None if complex_name is None else _Type(complex_name, size, first.swapped)
    return _Type("void16", 2) if kind == h5t.OPAQUE and size == 2 else None


def _class_name(h5t: Any, kind: int) -> str:
    return next((name for name in (*_TYPE_NAMES, "VLEN") if getattr(h5t, name, None) == kind), "unknown")


def _plain(value: Any) -> Any:
    """What h5py gives for an attribute, as JSON takes it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    listed = value.tolist() if hasattr(value, "tolist") else str(value)
    if not isinstance(listed, list):
        return listed if listed is value else _plain(listed)
    flat = [_plain(item) for item in listed[: _LONG_LIST + 1]]
    return flat if len(listed) <= _LONG_LIST else f"{len(listed):,} items: {', '.join(map(str, flat[:8]))}, …"


def _limit() -> None:
    """Let the library have no more memory and time than any honest file needs, and leave no dump of its memory."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = ((resource.RLIMIT_AS, _MOST_MEMORY), (resource.RLIMIT_CPU, _MOST_SECONDS), (resource.RLIMIT_CORE, 0))
    for which, most in (*limits, (resource.RLIMIT_FSIZE, 0)):
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))


class _Numbers:
    """The elements of one dataset, row-major, as the file has them."""

    def __init__(self, h5py: Any, reader: _Bytes, name: str) -> None:
        """Raises ValueError where the library is not asked for its numbers."""
        self.h5py = h5py
        file = h5py.File(reader, "r")
        encoded = name.encode("utf-8", "surrogateescape")
        dataset = h5py.h5d.open(file.id, encoded)
        plan = dataset.get_create_plist()
        why = _why_not_read(h5py, dataset, plan)
        if why:
            raise ValueError(why)
        self.shape = tuple([int(size) for size in dataset.get_space().get_simple_extent_dims() or ()])
        self.type = dataset.get_type()
        self.itemsize = int(self.type.get_size())
        if plan.get_layout() == h5py.h5d.CHUNKED:
            access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            access.set_chunk_cache(10_007, self._band(tuple(plan.get_chunk())), 0.75)
            dataset = h5py.h5d.open(file.id, encoded, access)
        self.dataset = dataset

    def _band(self, chunk: tuple[int, ...]) -> int:
        """Bytes of all chunks that a row goes through, as far as they may be kept."""
        sizes = [-(-size // step) * step for size, step in zip(self.shape[1:], chunk[1:], strict=True)]
        one = math.prod(chunk) * self.itemsize
        return max(one, min(math.prod([chunk[0], *sizes]) * self.itemsize, _CHUNKS_KEPT))

    def read(self, start: int, nbytes: int) -> bytes:
        """`nbytes` bytes from byte `start` of the whole.

        Raises:
            ValueError: that is more than is given at once.
        """
        first, last = start // self.itemsize, -(-(start + nbytes) // self.itemsize)
        if start < 0 or not 0 < nbytes <= _MOST_ANSWERED or last > math.prod(self.shape):
            raise ValueError("these bytes are not there")
        found = b"".join([self._box(*box) for box in _boxes(self.shape, first, last)])
        skip = start - first * self.itemsize
        return found[skip : skip + nbytes]

    def _box(self, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> bytes:
        import numpy as np

        values = np.empty(sizes, f"V{self.itemsize}")
        h5s = self.h5py.h5s
        memory, place = h5s.ALL, h5s.ALL
        if sizes:
            place = self.dataset.get_space()
            place.select_hyperslab(offsets, sizes)
            memory = h5s.create_simple(sizes)
        self.dataset.read(memory, place, values, self.type)
        return values.tobytes()


def _boxes(shape: tuple[int, ...], first: int, last: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Elements `first` to `last` of a row-major array as boxes (offsets, sizes), in their order."""
    if len(shape) < 2:
        yield ((first,), (last - first,)) if shape else ((), ())
        return
    inner = math.prod(shape[1:])
    row, skip = divmod(first, inner)
    end, rest = divmod(last, inner)
    if skip or row == end:
        for offsets, sizes in _boxes(shape[1:], skip, rest if row == end else inner):
            yield (row, *offsets), (1, *sizes)
        row += 1
    if row < end:
        yield (row, *[0] * (len(shape) - 1)), (end - row, *shape[1:])
    if rest and row <= end:
        for offsets, sizes in _boxes(shape[1:], 0, rest):
            yield (end, *offsets), (1, *sizes)


def _serve(h5py: Any, reader: _Bytes, name: str) -> None:
    """Answer each line of input, up to its end."""
    numbers: _Numbers | None = None
    for line in sys.stdin:
        try:
            numbers = numbers or _Numbers(h5py, reader, name)
            start, nbytes = map(int, line.split())
            found, length = numbers.read(start, nbytes), nbytes
        except (*_LIBRARY_ERRORS, MemoryError) as error:
            found = (str(error) or type(error).__name__).encode("utf-8", "backslashreplace")[:1000]
            length = -len(found)
        sys.stdout.buffer.write(struct.pack("<q", length) + found)
        sys.stdout.buffer.flush()


def main() -> None:
    """The child."""
    # A line that is written is read even if the next dataset is the end of this process.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    request = json.loads(sys.stdin.readline())
    _limit()
    answer: dict[str, Any] = {"kind": "end", "path": ()}
    try:
        import h5py

        fd = request["fd"] if request["fd"] is not None else os.open(request["path"], os.O_RDONLY | _BINARY)
        reader = _Bytes(fd, request["start"], request["nbytes"])
        if "dataset" in request:
            _serve(h5py, reader, request["dataset"])
            os._exit(0)
        _Walk(h5py, reader, request["nbytes"]).run()
    except (*_LIBRARY_ERRORS, ImportError, MemoryError) as error:
        answer["error"] = str(error) or type(error).__name__
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    # The library's own clean-up of a damaged file is one more chance to crash.
    os._exit(0)


_BINARY = getattr(os, "O_BINARY", 0)

if __name__ == "__main__":
    main()
