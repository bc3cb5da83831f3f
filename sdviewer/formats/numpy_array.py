"""NumPy's array file: a header that is a Python literal, then the elements as they lie in memory.

The header is read as a literal under NumPy's own limit of length, and never compiled. An object array is a pickle
behind the header: it goes through the inert machine, and its objects become rows that nobody built.

Facts: NumPy 2.4 `numpy.lib.format`, measured (docs/formats.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, dotted
from sdviewer.core.progress import Progress
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.file import File
from sdviewer.formats.named_tensors import ROOT, NamedTensors, elements_of, stored_bytes
from sdviewer.formats.sniff import NUMPY_MAGIC, Head
from sdviewer.formats.torch_objects import StoredBytes, read_objects
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.torch_values import arguments_of, qualified_name
from sdviewer.formats.zip_directory import DEFLATED, Entry, ZipDirectory, inflate, payload_offset, read_member
from sdviewer.pickles.machine import parse
from sdviewer.pickles.nodes import Call, Const, Group, Node, elements, states

LONGEST_HEADER = 10_000
"""Characters that NumPy evaluates at most."""

_BEGINNING = 12 + 4 * LONGEST_HEADER
"""Bytes in which a header must lie: it is UTF-8, four bytes a character at most."""

_PICKLE_LIMIT = 64 << 20
"""A deflated pickle may always have this many bytes; beyond, at most 20 times the whole file."""

_DEEPEST_TYPE = 16
_MOST_DIMENSIONS = 64

_TORCH_TYPES: Mapping[str, str] = {
    "f8": "float64", "f4": "float32", "f2": "float16", "c16": "complex128", "c8": "complex64", "i8": "int64",
    "i4": "int32", "i2": "int16", "i1": "int8", "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8",
    "b1": "bool", "f1": "float8_e5m2",
}  # fmt: skip
_NUMPY_NAMES: Mapping[str, str] = {
    "U": "str", "S": "bytes", "a": "bytes", "V": "void", "M": "datetime", "m": "timedelta", "f": "float",
    "c": "complex",
}  # fmt: skip
_SIMPLE = re.compile(r"([<>=|]?)([biufcSaUVMmO])(\d{0,18})(\[.{1,20}\])?")


class _Type(NamedTuple):
    """An element type: torch's name or NumPy's, bytes an element, whether they are swapped, whether Python objects."""

    name: str
    itemsize: int
    swapped: bool = False
    objects: bool = False
    assumed: str = ""


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header says, and the byte at which the elements begin."""

    type: _Type
    fortran: bool
    shape: tuple[int, ...]
    end: int


class NumpyFile:
    """The format object of a single array."""

    name = "NumPy array"
    containers = ("npy",)
    suffixes = (".npy",)
    can_write = False

    def matches(self, head: Head) -> bool:
        return head.start.startswith(NUMPY_MAGIC)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the header, and the pickle of an object array."""
        out = NamedTensors(file, "npy")
        header = _read_header(file.read(0, min(file.size, _BEGINNING)), file.path)
        if header.type.objects:
            _add_objects(out, (), header, file.read(header.end, file.size - header.end), progress)
        else:
            _add_array(out, (), header, StorageSpan(header.end, file.size - header.end))
        return out.checkpoint("big" if header.type.swapped else "little")


class NumpyArchive:
    """The format object of an archive of arrays."""

    name = "NumPy archive"
    containers = ("npz",)
    suffixes = (".npz",)
    can_write = True

    def matches(self, head: Head) -> bool:
        return bool(head.members) and all(name.endswith(".npy") for name in head.members)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the beginning of each member, and the pickles of object arrays."""
        directory = file.head.directory
        out = NamedTensors(file, "npz")
        out.problems.extend(directory.problems)
        failed: CorruptCheckpoint | None = None
        for place, entry in enumerate(directory.entries):
            if place % 256 == 0:
                progress(0, 0)
            name = entry.name.removesuffix(".npy")
            try:
                _add_member(out, directory, place, entry, (name,), progress)
            except CorruptCheckpoint as error:
                failed = failed or error
                out.add((name,), (), "", 0, None, unreadable=error.message)
        if failed is not None and all(tensor.unreadable for tensor in out.tensors):
            raise CorruptCheckpoint(f"no array in it can be read: {failed.message}", path=file.path, code=failed.code)
        return out.checkpoint()


def object_pickle(file: File) -> bytes | None:
    """The pickle in an array file, None where its elements are no objects.

    Raises:
        CorruptCheckpoint: its header is not one.
    """
    header = _read_header(file.read(0, min(file.size, _BEGINNING)), file.path)
    return file.read(header.end, file.size - header.end) if header.type.objects else None


def _add_member(
    out: NamedTensors, directory: ZipDirectory, place: int, entry: Entry, path: KeyPath, progress: Progress
) -> None:
    file = out.file
    why = directory.unreadable.get(place)
    if why:
        raise CorruptCheckpoint(why, path=file.path)
    header = _read_header(_beginning(file, directory, entry), file.path)
    if header.type.objects:
        limit = max(file.size * 20, _PICKLE_LIMIT) if entry.method else file.size
        data = read_member(file, directory, entry, limit)
        _add_objects(out, path, header, data[header.end :], progress)
    else:
        _add_array(out, path, header, StorageSpan(header.end, entry.usize - header.end, entry, directory.start))


def _beginning(file: File, directory: ZipDirectory, entry: Entry) -> bytes:
    """As many of a member's bytes as a header can have."""
    start = payload_offset(file, entry, directory.start)
    if entry.method != DEFLATED:
        return file.read(start, min(entry.csize, _BEGINNING))
    data = b""
    for piece in inflate(file, entry, start):
        data += piece
        if len(data) >= _BEGINNING:
            break
    return data


def _read_header(data: bytes, path: str) -> _Header:
    """The header at the beginning of an array file."""
    if not data.startswith(NUMPY_MAGIC) or len(data) < 10:
        raise CorruptCheckpoint("it is no NumPy array", path=path)
    major = data[6]
    if major not in (1, 2, 3):
        raise CorruptCheckpoint(f"it is a NumPy array of version {major}, which NumPy does not know", path=path)
    begin = 10 if major == 1 else 12
    length = int.from_bytes(data[8:begin], "little")
    if length > 4 * LONGEST_HEADER:
        message = f"its header claims {length:,} bytes, and NumPy reads {LONGEST_HEADER:,} characters"
        raise CorruptCheckpoint(message, path=path, code="too_large")
    if begin + length > len(data):
        raise CorruptCheckpoint(
            f"the file breaks off inside its header of {length:,} bytes",
            path=path,
            code="truncated",
            remedy="Copy or download it again.",
        )
    text = data[begin : begin + length].decode("utf-8" if major == 3 else "latin-1", "replace")
    fields = _literal(text[: LONGEST_HEADER + 1])
    if not isinstance(fields, dict) or not {"descr", "fortran_order", "shape"}.issubset(fields):
        raise CorruptCheckpoint(f"its header is not one: {visible(text.strip(), 80)}", path=path)
    shape, fortran = fields["shape"], fields["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise CorruptCheckpoint(f"its header has no shape: {visible(repr(shape), 80)}", path=path)
    if len(shape) > _MOST_DIMENSIONS:
        raise CorruptCheckpoint(f"it has {len(shape):,} dimensions, and NumPy knows {_MOST_DIMENSIONS}", path=path)
    type_ = _type(fields["descr"])
    if type_ is None:
        raise CorruptCheckpoint(f"its type {visible(repr(fields['descr']), 80)} is none of NumPy's", path=path)
    return _Header(type_, fortran is True, shape, begin + length)


def _literal(text: str) -> Any:
    """The Python literal in a text, None where it is none; Python 2 wrote an L behind its long ints.

    Strings, ints, True, False and None in tuples, lists and dicts. Not `ast.literal_eval`: that gives the text of a
    file to the compiler.
    """
    if len(text) > LONGEST_HEADER:
        return None
    try:
        tokens = _Tokens(text)
        value = tokens.value(0)
        return value if tokens.next == "" else None
    except (ValueError, TypeError):
        return None


_TOKEN = re.compile(
    r"""\s*(?:[bBuU]?(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?P<int>-?\d{1,40})[lL]?"""
    r"""|(?P<word>True|False|None)|(?P<mark>[()\[\]{},:])|(?P<end>$))"""
)
_ESCAPE = re.compile(r"\\(?:x(..)|u(.{4})|U(.{8})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


class _Tokens:
    """A text as tokens, one ahead; ValueError where it is no literal."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.kind: str | None = None
        self.next = ""
        self.advance()

    def advance(self) -> str:
        """The token that was next."""
        token = self.next
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise ValueError
        self.at, self.kind = found.end(), found.lastgroup
        self.next = found[self.kind or "end"]
        return token

    def value(self, depth: int) -> Any:
        """The value that begins here."""
        kind, token = self.kind, self.advance()
        if kind == "string":
            return _ESCAPE.sub(_unescaped, token[1:-1])
        if kind == "int":
            return int(token)
        if kind == "word":
            return {"True": True, "False": False, "None": None}[token]
        if kind != "mark" or token not in ("(", "[", "{") or depth > _DEEPEST_TYPE + 4:
            raise ValueError
        return self.container(token, depth + 1)

    def container(self, opening: str, depth: int) -> Any:
        closing = {"(": ")", "[": "]", "{": "}"}[opening]
        items: list[Any] = []
        comma = True
        while self.next != closing or self.kind != "mark":
            if not comma:
                raise ValueError
            item = self.value(depth)
            if opening == "{":
                if self.advance() != ":":
                    raise ValueError
                item = (item, self.value(depth))
            items.append(item)
            comma = self.kind == "mark" and self.next == ","
            if comma:
                self.advance()
        self.advance()
        if opening == "{":
            return dict(items)
        single = opening == "(" and len(items) == 1 and not comma
        return items if opening == "[" else items[0] if single else tuple(items)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    return chr(int(code, 16)) if code else _ESCAPED.get(found[4], found[4])


def _type(descr: Any, depth: int = 0) -> _Type | None:
    """The element type that a `descr` names, None where it is none."""
    if isinstance(descr, str):
        return _simple_type(descr)
    if isinstance(descr, tuple) and len(descr) == 2 and isinstance(descr[0], str):
        return _type(descr[0], depth + 1)  # (type, metadata)
    if not isinstance(descr, list) or depth > _DEEPEST_TYPE:
        return None
    itemsize, objects = 0, False
    for item in descr:
        inner = _type(item[1], depth + 1) if isinstance(item, tuple) and len(item) in (2, 3) else None
        counts = item[2] if inner is not None and len(item) == 3 else ()
        counts = (counts,) if type(counts) is int else counts
        if inner is None or not isinstance(counts, tuple) or not all(type(n) is int and n >= 0 for n in counts):
            return None
        n = elements_of(counts)
        if n is None:
            return None
        itemsize += inner.itemsize * n
        objects = objects or inner.objects
    return _Type(f"void{8 * itemsize}", itemsize, objects=objects)


def _simple_type(descr: str) -> _Type | None:
    found = _SIMPLE.fullmatch(descr)
    if found is None:
        return None
    order, kind, digits, unit = found[1], found[2], found[3], found[4] or ""
    if kind == "O":
        return _Type("object", 8, objects=True)
    swapped = order == ">"
    size = int(digits or ("8" if kind in "Mm" else "0"))
    name = _TORCH_TYPES.get(f"{kind}{size}")
    if name is not None:
        assumed = "" if name != "float8_e5m2" else "the library ml_dtypes writes float8_e5m2 so"
        return _Type(name, size, swapped and size > 1, assumed=assumed)
    if kind == "V" and size == 2:
        assumed = "NumPy has no bfloat16 and writes it as two bytes without a type; it may be something else"
        return _Type("bfloat16", 2, swapped, assumed=assumed)
    if kind not in _NUMPY_NAMES:
        return None
    itemsize = size * 4 if kind == "U" else size
    return _Type(f"{_NUMPY_NAMES[kind]}{8 * itemsize}{unit}", itemsize, swapped)


def _add_array(out: NamedTensors, path: KeyPath, header: _Header, there: StorageSpan) -> None:
    """The row of an array, whose bytes may not all be there."""
    type_, shape = header.type, header.shape
    n = elements_of(shape)
    if n is None:
        raise CorruptCheckpoint("its sizes multiply beyond 2**63 elements", path=out.file.path)
    known = type_.name in DTYPES
    nbytes = stored_bytes(type_.name, n) if known else n * type_.itemsize
    unreadable = ""
    if nbytes > there.nbytes:
        unreadable = f"its shape needs {nbytes:,} bytes, and {max(there.nbytes, 0):,} are there"
    elif nbytes < there.nbytes:
        message = f"{there.nbytes - nbytes:,} bytes follow its elements; NumPy ignores them"
        out.problem("warning", "trailing_bytes", message, visible(dotted(path)))
    if type_.assumed:
        message = f"shown as {type_.name}: {type_.assumed}"
        out.problem("info", "assumed_dtype", message, visible(dotted(path)))
    span = there._replace(nbytes=min(nbytes, max(there.nbytes, 0)))
    stride = None
    if header.fortran and known:
        stride = tuple(reversed(contiguous_stride(tuple(reversed(shape)))))
    out.add(
        path,
        shape,
        type_.name,
        nbytes,
        span,
        stride=stride,
        unreadable=unreadable,
        flags=("big-endian",) if type_.swapped else (),
        cls="numpy.ndarray",
        state_dict=ROOT if path else None,
    )


def _add_objects(out: NamedTensors, path: KeyPath, header: _Header, data: bytes, progress: Progress) -> None:
    """An array of Python objects: its row, and below it what its pickle holds, none of it built.

    Raises:
        CorruptCheckpoint: the pickle is broken, or makes something else than an array.
    """
    pickle = parse(data, progress=progress)
    assert pickle.root is not None
    items = _array_items(pickle.root)
    if items is None:
        raise CorruptCheckpoint(
            f"the pickle of its objects makes no array: it asks for {visible(_asked(pickle.root), 80)}",
            path=out.file.path,
            code="bad_pickle",
            remedy="sdviewer scan says what unpickling it would do.",
        )
    owner = ROOT if path else None
    out.add(path, header.shape, header.type.name, 0, None, cls="numpy.ndarray", state_dict=owner)
    found = read_objects(items, StoredBytes({}), progress)
    out.values.extend([value._replace(path=(*path, *value.path)) for value in found.values])
    out.objects.extend([thing._replace(path=(*path, *thing.path)) for thing in found.objects])
    out.problems.extend([problem._replace(where=visible(dotted((*path, problem.where)))) for problem in found.problems])
    for tensor in found.tensors:
        where = (*path, *tensor.path)
        out.add(where, tensor.shape, tensor.dtype, tensor.nbytes, None, state_dict=None, cls=tensor.cls)


def _array_items(root: Node) -> Node | None:
    """The list of elements in `_reconstruct(ndarray, (0,), b"b")` and its BUILD; None where it is no such call."""
    if type(root) is not Call or qualified_name(root.function) != "numpy._core.multiarray._reconstruct":
        return None
    for _, state in states(root):
        items = [item for _, item in elements(state)]
        if len(items) == 5 and type(items[4]) is Group and items[4].type == "list":
            return items[4]
    return None


def _asked(root: Node) -> str:
    """What stands in the place of the array, in words."""
    if type(root) is Call:
        return f"{qualified_name(root.function)}({len(arguments_of(root))} arguments)"
    return "a constant" if type(root) is Const else "something that is no call"
