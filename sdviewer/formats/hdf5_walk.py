"""The structure of an HDF5 file, read by h5py in a child process that may crash.

Run as `python -P -m sdviewer.formats.hdf5_walk`; reads one line of JSON (`fd` or `path`, `start`, `nbytes`), prints one
line of JSON a dataset, value and problem, and `{"end": true}`. The HDF5 library is a large C library, and damaged files
crash it (docs/decisions/0010): so it never runs in a process whose end a person would notice, it gets limits, and it is
given a file object instead of a path, so that every byte comes by `pread` from one descriptor and no other file is
opened. It reads no numbers: where a dataset lies in one piece, its place is all that is wanted. Links into other files
are told and not followed.

Facts: h5py 3.16, HDF5 2.0; Keras 2 and 3 (names of groups and attributes), measured (docs/formats.md).
"""

from __future__ import annotations

import io
import json
import math
import os
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
        dims = dataset.get_space().get_simple_extent_dims() if unreadable != _VIRTUAL else ()
        if dims is None:
            self.tell("value", path, value=None, type="builtins.NoneType")
            return
        found = self._type(dataset.get_type(), dataset)
        if not unreadable and found.elsewhere:
            unreadable = "its elements lie elsewhere in the file, each of its own length"
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
            unreadable="" if 0 in shape else unreadable,
            address=address,
        )

    def _where(self, dataset: Any) -> tuple[tuple[int, int] | None, str]:
        """(first byte, bytes there) of a dataset that lies in one piece; else why its numbers cannot be read."""
        h5d = self.h5py.h5d
        plan = dataset.get_create_plist()
        layout = plan.get_layout()
        if layout == h5d.VIRTUAL:
            return None, _VIRTUAL
        if plan.get_external_count():
            return None, "its numbers are in another file, which is not opened"
        if layout == h5d.COMPACT:
            return None, "its numbers lie inside its header (compact); h5repack -l CONTI lays them out in one piece"
        if layout == h5d.CHUNKED:
            return self._only_chunk(dataset, plan)
        offset = dataset.get_offset()
        if offset is None:
            return None, "its numbers were never written"
        return (int(offset), int(dataset.get_storage_size())), ""

    def _only_chunk(self, dataset: Any, plan: Any) -> tuple[tuple[int, int] | None, str]:
        """A dataset of one chunk without a filter lies in one piece after all."""
        dims = tuple(dataset.get_space().get_simple_extent_dims() or ())
        if plan.get_nfilters() == 0 and tuple(plan.get_chunk()) == dims and dataset.get_num_chunks() == 1:
            chunk = dataset.get_chunk_info(0)
            if chunk.byte_offset is not None:
                return (int(chunk.byte_offset), int(chunk.size)), ""
        how = "compressed " if plan.get_nfilters() else ""
        return None, f"its numbers lie in {how}chunks; h5repack -l CONTI -f NONE lays them out in one piece"

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
        _Walk(h5py, _Bytes(fd, request["start"], request["nbytes"]), request["nbytes"]).run()
    except (*_LIBRARY_ERRORS, ImportError, MemoryError) as error:
        answer["error"] = str(error) or type(error).__name__
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    # The library's own clean-up of a damaged file is one more chance to crash.
    os._exit(0)


_BINARY = getattr(os, "O_BINARY", 0)

if __name__ == "__main__":
    main()
