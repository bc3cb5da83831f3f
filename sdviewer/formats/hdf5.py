"""HDF5 files as Keras writes them, and Keras archives, which are a zip of one.

The structure is read by the field's own library, h5py, an optional extra. It is given a file object instead of a path,
so that every byte comes by our bounded `pread` and no other file can be opened; the numbers themselves are not read by
it: where a dataset lies in one piece, its place in the file is all that is wanted. Links into other files are told and
not followed.

Facts: h5py 3.16, HDF5 2.0; Keras 2 and 3 (names of groups and attributes), measured (docs/formats.md).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import Cancelled, CorruptCheckpoint, SDViewerError, UnsupportedContainer
from sdviewer.formats.file import File
from sdviewer.formats.named_tensors import ROOT, NamedTensors, Owner, elements_of, stored_bytes
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.zip_directory import DEFLATED, Entry, payload_offset, read_member

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048)

WEIGHTS = "model.weights.h5"
"""The member of a Keras archive that holds the numbers."""

_INFLATED_LIMIT = 64 << 20
"""Bytes of deflated weights that are inflated to read their structure. Keras stores them."""

_SMALL_MEMBER = 16 << 20
_LONGEST_ATTRIBUTE = 1 << 20
_LONG_LIST = 256
_DEEPEST = 500

_OPTIMIZERS = ("optimizer_weights", "optimizer")
_MODEL = "model_weights"


class Hdf5:
    """The format object."""

    name = "HDF5 or Keras"
    containers = ("hdf5",)
    suffixes = (".h5", ".hdf5", ".keras")
    can_write = False

    def matches(self, head: Head) -> bool:
        return any(head.start[at : at + 8] == SIGNATURE for at in _PLACES) or is_keras(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the groups and the headers of the datasets; no numbers.

        Raises:
            UnsupportedContainer: h5py is not installed (code `extra_needed`).
        """
        h5py = _library(file.path)
        out = NamedTensors(file, "hdf5")
        place = _weights_of(file, out) if file.head.is_zip else _Place(_Bytes(file, 0, file.size))
        try:
            _Walk(h5py, out, place, progress).run()
        except (Cancelled, SDViewerError):
            raise
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
            # What h5py raises for a damaged file is any of these, with the library's own words.
            raise CorruptCheckpoint(
                f"the HDF5 library cannot read it: {visible(str(error), 200)}",
                path=file.path,
                remedy="Copy or download it again.",
            ) from None
        return out.checkpoint()


def is_keras(head: Head) -> bool:
    """Whether a zip archive is one of Keras 3."""
    return WEIGHTS in head.members


def _library(path: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise UnsupportedContainer(
            "this is an HDF5 file, and the library that reads it, h5py, is not installed",
            path=path,
            code="extra_needed",
            remedy="Install it with: pip install 'sdviewer[hdf5]'",
        ) from None
    return h5py


class _Bytes(io.RawIOBase):
    """A run of the file, for a library that wants a file object; a read beyond the end is short, as a file's is."""

    def __init__(self, file: File, start: int, nbytes: int) -> None:
        self._file = file
        self._start = start
        self._nbytes = nbytes
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._nbytes)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._nbytes - self._at))
        view[:length] = self._file.read(self._start + self._at, length)
        self._at += length
        return length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _Place(NamedTuple):
    """An HDF5 file: what to read it from, and the zip member that it is (None where it is the file itself)."""

    reader: io.IOBase
    member: Entry | None = None
    limit: int = 0


def _weights_of(file: File, out: NamedTensors) -> _Place:
    """The HDF5 file in a Keras archive; what stands beside it becomes metadata."""
    directory = file.head.directory
    out.problems.extend(directory.problems)
    entry = directory.find(WEIGHTS) or directory.find(f"{directory.top}/{WEIGHTS}")
    if entry is None:
        raise CorruptCheckpoint(f"it has no {WEIGHTS}", path=file.path)
    why = directory.unreadable.get(directory.place(entry.name) or 0)
    if why:
        raise CorruptCheckpoint(why, path=file.path)
    out.metadata["keras"] = {}
    for name in ("metadata.json", "config.json"):
        text = _member_text(file, directory.find(name))
        if text is not None:
            out.value((TypedStep("field", name),), text)
            _look_for_code(out, text, name)
        if text is not None and name == "metadata.json":
            try:
                out.metadata["keras"] = json.loads(text)
            except (ValueError, RecursionError):
                out.problem("warning", "metadata", "it is not JSON", name)
    if entry.method != DEFLATED:
        start = payload_offset(file, entry, directory.start)
        return _Place(_Bytes(file, start, entry.csize), entry, directory.start)
    if entry.usize > _INFLATED_LIMIT:
        raise UnsupportedContainer(
            f"its weights are compressed as a whole, {entry.usize:,} bytes; Keras stores them as they are",
            path=file.path,
            remedy=f"Unpack the archive and open {WEIGHTS}.",
        )
    return _Place(io.BytesIO(read_member(file, directory, entry, _INFLATED_LIMIT)), entry, directory.start)


def _member_text(file: File, entry: Entry | None) -> str | None:
    if entry is None:
        return None
    try:
        data = read_member(file, file.head.directory, entry, _SMALL_MEMBER)
    except CorruptCheckpoint:
        return None
    return data.decode("utf-8", "backslashreplace")


def _look_for_code(out: NamedTensors, text: str, where: str) -> None:
    """Keras keeps the Python bytecode of a lambda in a layer's configuration, and runs it when it loads it unsafely."""
    if '"Lambda"' in text and ('"__lambda__"' in text or '"code"' in text or '"function"' in text):
        message = "it has a Lambda layer: Keras runs the Python code in it when it loads with safe_mode=False"
        out.problem("warning", "code_inside", message, where)


class _Walk:
    """One pass over the groups of a file, with a stack of its own."""

    def __init__(self, h5py: Any, out: NamedTensors, place: _Place, progress: Progress) -> None:
        self.h5py = h5py
        self.out = out
        self.place = place
        self.progress = progress
        self.seen: set[int] = set()
        self.storage_at: dict[int, str] = {}
        self.size = out.file.size

    def run(self) -> None:
        with self.h5py.File(self.place.reader, "r") as file:
            root = file.id
            model = _MODEL.encode() in root
            stack: list[tuple[Any, KeyPath]] = [(self.h5py.h5g.open(root, b"/"), ())]
            self.seen.add(self.h5py.h5o.get_info(root).addr)
            while stack:
                self.progress(0, 0)
                group, path = stack.pop()
                self._attributes(group, path)
                stack.extend(reversed(list(self._members(group, path, model))))

    def _members(self, group: Any, path: KeyPath, model: bool) -> Iterator[tuple[Any, KeyPath]]:
        """Tell the datasets of a group; the groups in it are given back."""
        h5o, h5l = self.h5py.h5o, self.h5py.h5l
        for name in list(group):
            below = (*path, name.decode("utf-8", "surrogateescape"))
            link = group.links.get_info(name).type
            if link != h5l.TYPE_HARD:
                self._link(group, name, below, link)
                continue
            info = h5o.get_info(group, name)
            if info.type == h5o.TYPE_DATASET:
                dataset = self.h5py.h5d.open(group, name)
                self._dataset(dataset, below, info.addr, model)
                self._attributes(dataset, below)
            elif info.type == h5o.TYPE_GROUP and info.addr in self.seen:
                self.out.value(below, "same group as another, told once", "h5py.Group")
            elif info.type == h5o.TYPE_GROUP and len(below) > _DEEPEST:
                self.out.problem("warning", "too_deep", "what lies deeper is not shown", visible(dotted(below)))
            elif info.type == h5o.TYPE_GROUP:
                self.seen.add(info.addr)
                yield self.h5py.h5g.open(group, name), below

    def _link(self, group: Any, name: bytes, path: KeyPath, kind: int) -> None:
        """A link that is told and not followed: the other end may be another file."""
        value = group.links.get_val(name)
        if kind == self.h5py.h5l.TYPE_SOFT:
            self.out.value(path, value.decode("utf-8", "surrogateescape"), "h5py.SoftLink")
            return
        target = " in ".join([part.decode("utf-8", "surrogateescape") for part in reversed(value)])
        self.out.value(path, target, "h5py.ExternalLink")
        message = f"it is in another file, {visible(target, 120)}, which is not opened"
        self.out.problem("info", "external_link", message, visible(dotted(path)))

    # Datasets

    def _dataset(self, dataset: Any, path: KeyPath, address: int, model: bool) -> None:
        # The layout comes first: asking a virtual dataset for its shape opens the files that it is made of.
        where, unreadable = self._where(dataset)
        dims = dataset.get_space().get_simple_extent_dims() if unreadable != _VIRTUAL else ()
        if dims is None:
            self.out.value(path, None)
            return
        shape = tuple([int(size) for size in dims])
        found = self._type(dataset.get_type(), dataset)
        n = elements_of(shape)
        nbytes = 0
        if n is None:
            unreadable = "its sizes multiply beyond 2**63 elements"
        else:
            nbytes = stored_bytes(found.name, n) if found.name in DTYPES else n * found.itemsize
        if not unreadable and found.elsewhere:
            unreadable = "its elements lie elsewhere in the file, each of its own length"
        span: StorageSpan | None = None
        if where is not None and not found.elsewhere:
            start, there = where
            if not unreadable and not self._inside(start, nbytes):
                unreadable = f"it needs {nbytes:,} bytes at byte {start:,}, which are not all there"
            elif not unreadable and there < nbytes:
                unreadable = f"its shape needs {nbytes:,} bytes, and {there:,} are stored"
            span = self._span(start, 0 if unreadable else nbytes)
        elif not n:
            unreadable, span = "", self._span(0, 0)
        known = self.storage_at.get(address)
        owner = _owner(path, model)
        flags = ("big-endian",) if found.swapped else ()
        self.out.add(
            path,
            shape,
            found.name,
            nbytes,
            None if known is not None else span,
            unreadable=unreadable,
            flags=flags,
            storage=known,
            state_dict=owner,
            cls="h5py.Dataset",
        )
        storage = self.out.tensors[-1].storage
        if storage is not None:
            self.storage_at[address] = storage

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

    def _inside(self, start: int, nbytes: int) -> bool:
        end = self.place.member.usize if self.place.member is not None else self.size
        return 0 <= start <= start + nbytes <= end

    def _span(self, start: int, nbytes: int) -> StorageSpan:
        return StorageSpan(start, nbytes, self.place.member, self.place.limit)

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

    def _attributes(self, thing: Any, path: KeyPath) -> None:
        h5a = self.h5py.h5a
        for i in range(h5a.get_num_attrs(thing)):
            name = h5a.open(thing, index=i).name
            label = name.decode("utf-8", "surrogateescape")
            value = self._attribute(thing, name)
            where = (*path, TypedStep("attribute", label))
            self.out.value(where, value)
            if not path:
                self.out.writer.update({label: value} if label in ("keras_version", "backend") else {})
            if isinstance(value, str) and label == "model_config":
                _look_for_code(self.out, value, visible(dotted(where)))

    def _attribute(self, thing: Any, name: bytes) -> Any:
        """The value of an attribute as JSON takes it, a text about one that is large or strange."""
        h5py = self.h5py
        if not h5py.h5a.exists(thing, name):
            return None
        attribute = h5py.h5a.open(thing, name)
        type_ = attribute.get_type()
        count = elements_of([int(size) for size in attribute.get_space().get_simple_extent_dims() or ()])
        nbytes = None if count is None else count * int(type_.get_size())
        if nbytes is None or nbytes > min(_LONGEST_ATTRIBUTE, self.size):
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


def _owner(path: KeyPath, model: bool) -> Owner:
    """The state dict of a dataset: the optimizer's, the model's of a whole Keras model, else the root."""
    first = path[0]
    if first in _OPTIMIZERS and len(path) > 1:
        return (first,), "optimizer"
    if model and first == _MODEL:
        return (first,), "model"
    return ((), "other") if model else ROOT


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
