"""A pickle that is no torch file: `pickle.dump` of tensors, arrays or anything else, in any protocol, of Python 2 too.

A tensor's storage is a whole legacy torch file in a bytes object (`torch.storage._load_from_bytes`), read where it
lies. NumPy arrays are the tensors of a pickle in which there are none of torch's; elsewhere they are values.

Facts: torch 2.13 `torch.storage`, NumPy 1 and 2, measured (docs/formats.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, UnknownFormat
from sdviewer.formats import grafts
from sdviewer.formats.file import File
from sdviewer.formats.inner_files import Decoded, Window, Within, read_inner
from sdviewer.formats.packed import unpacked
from sdviewer.formats.pickle_data import CutBytes, PickleData, read_pickle_data
from sdviewer.formats.sniff import OLD_PICKLES, Head, is_dcp_metadata
from sdviewer.formats.torch_objects import Objects, StoredBytes, read_objects
from sdviewer.formats.torch_source import SpansSource, StorageSpan
from sdviewer.formats.torch_tensors import is_tensor
from sdviewer.formats.torch_values import LONGEST_TEXT, NUMPY_NAMES, arguments_of, numpy_dtype, qualified_name
from sdviewer.formats.torch_zip import refuse_hopeless, torch_checkpoint
from sdviewer.pickles.machine import Pickle, parse_partial
from sdviewer.pickles.names import classify, fix_imports
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Persistent, children, elements, states
from sdviewer.pickles.salvage import salvage

MOST_PICKLES = 10_000
"""Pickles that may follow one another in a file."""


class BarePickle:
    """The format object."""

    name = "Pickle"
    containers = ("pickle",)
    suffixes = (".pkl", ".pickle", ".p", ".pk", ".pt", ".pth", ".bin")
    can_write = False

    def matches(self, head: Head) -> bool:
        if head.is_legacy or head.is_safetensors or head.is_joblib:
            # The length of a safetensors header can be the bytes 80 02.
            return False
        return (head.is_pickle or is_old_pickle(head)) and not is_dcp_metadata(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the pickle; constants that are long are passed over."""
        data = read_pickle_data(file, progress)
        problems: list[Problem] = []
        pickles = _read_pickles(file, data, problems, progress)
        root = _root(pickles, problems)
        stored = _Stored(file, data, progress)
        root = stored.graft(root)
        objects = read_objects(root, stored.bytes(), progress)
        if pickles[0].broken and not (objects.tensors or objects.values):
            raise _broken(file, data, pickles[0])
        refuse_hopeless(objects, file.path)
        _refuse_attack(root, objects, file.path)
        if stored.arrays:
            objects.tensors[:] = [
                row._replace(cls="numpy.ndarray", requires_grad=None) if row.storage in stored.arrays else row
                for row in objects.tensors
            ]
        # Another torch file can be made of it where torch made its tensors and all of it has been read.
        whole = len(pickles) == 1 and not (pickles[0].broken or data.cuts or stored.arrays or stored.problems)
        grafted = root if whole and stored.spans else None
        source = SpansSource(pickle=pickles[0], mappings=objects.mappings, spans=stored.spans, root=grafted)
        writer = {"protocol": pickles[0].protocol}
        return torch_checkpoint(file, "pickle", objects, [*problems, *stored.problems], writer, "little", source)


def is_old_pickle(head: Head) -> bool:
    """A pickle of protocol 0 or 1, which has no magic number: its beginning runs through the machine."""
    start = head.start
    if not start.startswith(OLD_PICKLES) or len(start) < 4:
        return False
    pickle = parse_partial(start)
    if not all(_NAME.fullmatch(node.qualified) for node in pickle.globals):
        return False
    if pickle.root is not None:
        made = isinstance(pickle.root, Call | Group)
        return pickle.end == head.size or (made and pickle.end > 8)
    # It goes on behind what was looked at, or is cut; prose does not get that far.
    return pickle.is_cut and (pickle.end > 64 or (bool(pickle.globals) and pickle.end > 8))


_NAME = re.compile(r"[\w.<>]+")


def _read_pickles(file: File, data: PickleData, problems: list[Problem], progress: Progress) -> list[Pickle]:
    """The pickles, one behind the other; the first may be cut.

    Raises:
        CorruptCheckpoint: the first is damaged.
    """
    first = parse_partial(data.data, progress=progress)
    if first.broken:
        first = salvage(first, progress=progress)
        if first.root is None:
            raise _broken(file, data, first)
        problems.append(Problem("error", "truncated", f"the file breaks off: {_cause(data, first)}", ""))
        return [first]
    pickles, at = [first], first.end
    while at < len(data.data) and len(pickles) < MOST_PICKLES:
        following = parse_partial(data.data, at, progress=progress)
        if following.broken:
            break
        pickles.append(following)
        at = following.end
    behind = file.size - data.in_file(at)
    if behind > 0:
        message = f"{behind:,} bytes follow the end of the pickle"
        problems.append(Problem("warning", "trailing_bytes", message, ""))
    return pickles


def _root(pickles: list[Pickle], problems: list[Problem]) -> Node:
    """What the pickle returns; a list of it where there are several."""
    roots = [pickle.root for pickle in pickles if pickle.root is not None]
    if len(roots) == 1:
        return roots[0]
    message = f"it holds {len(roots):,} pickles one behind the other; one pickle.load reads the first alone"
    problems.append(Problem("info", "several_pickles", message, ""))
    return grafts.group("list", roots)


def _cause(data: PickleData, pickle: Pickle) -> str:
    what = pickle.broken.partition(": ")[2]
    return f"the pickle is damaged at byte {data.in_file(pickle.end):,}: {what}"


def _broken(file: File, data: PickleData, pickle: Pickle) -> CorruptCheckpoint:
    remedy = "Copy or download it again."
    return CorruptCheckpoint(_cause(data, pickle), path=file.path, code="bad_pickle", remedy=remedy)


def _refuse_attack(root: Node, objects: Objects, path: str) -> None:
    """A pickle that is nothing but the call of something dangerous is no checkpoint.

    Raises:
        UnknownFormat: it is one.
    """
    if objects.tensors or not isinstance(root, Call) or not isinstance(root.function, Global):
        return
    module, name = fix_imports(root.function.module, root.function.name)
    if classify(module, name) == "dangerous":
        called = visible(f"{module}.{name}")
        message = f"this pickle holds no data: all that unpickling it would do is call {called}"
        raise UnknownFormat(message, path=path, remedy="`sdviewer scan` tells the call. Nothing in it was run.")


class _Array(NamedTuple):
    """A NumPy array as its pickle tells it; `fortran` is column-major order."""

    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    data: Node


@dataclass(slots=True)
class _Stored:
    """Where the storages that lie inside a pickle are."""

    file: File
    data: PickleData
    progress: Progress
    spans: dict[str, StorageSpan] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    arrays: set[str] = field(default_factory=set)
    take_arrays: bool = False

    def bytes(self) -> StoredBytes:
        return StoredBytes({key: span.nbytes for key, span in self.spans.items()}, {}, self.unreadable)

    def graft(self, root: Node) -> Node:
        """Put persistent ids in the place of torch files, and tensors in that of arrays where there are no others."""
        self.take_arrays = not _has_tensors(root)
        return grafts.replaced(root, self._replace)

    def _replace(self, node: Node) -> Node | None:
        if isinstance(node, Call):
            name = qualified_name(node.function)
            if name == "torch.storage._load_from_bytes":
                return self._inner(node)
            if name in _ARRAYS and self.take_arrays:
                array = _array(node, name)
                return self._array(array) if array is not None else None
        if isinstance(node, Const) and self.data.cuts:
            self._mark_cut(node)
        return None

    def _mark_cut(self, node: Const) -> None:
        cut = self.data.cut_of(node)
        if cut is None:
            return
        if isinstance(node.value, str):
            node.value = f"{node.value[:LONGEST_TEXT]}… ({cut.length:,} bytes)"
        elif isinstance(node.value, bytes):
            node.value = CutBytes(node.value)
            node.value.whole = cut.length

    def _inner(self, node: Call) -> Node | None:
        """The torch file in the bytes that `_load_from_bytes` gets."""
        arguments = arguments_of(node)
        where = self._place(arguments[0]) if len(arguments) == 1 else None
        if where is None:
            return None
        within, at = where
        try:
            inner = read_inner(within, f"{at}/", self.progress)
        except CorruptCheckpoint as error:
            message = f"the torch file at byte {at:,} cannot be read: {error.message}"
            self.problems.append(Problem("error", "inner_file", message, ""))
            return None
        self.spans.update(inner.spans)
        self.unreadable.update(inner.unreadable)
        self.problems += [problem._replace(where=f"byte {at}") for problem in inner.problems]
        return _of_this_pickle(inner.root)

    def _place(self, node: Node) -> tuple[Within, int] | None:
        """Where bytes lie: as they are, or in a text that stands for them; with the offset in the file."""
        if isinstance(node, Call) and qualified_name(node.function) == "_codecs.encode":
            inner = arguments_of(node)
            node = inner[0] if inner else node
        if not isinstance(node, Const) or not isinstance(node.value, bytes | bytearray | str):
            return None
        raw = self.data.bytes_of(node)
        if raw is not None:
            return Window(self.file, *raw), raw[0]
        text = self.data.text_of(node)
        if text is None:
            return None
        try:
            return Decoded(self.file.path, unpacked(self.file, text), StorageSpan(0, 0, packed=text)), text.start
        except CorruptCheckpoint:
            return None

    def _array(self, array: _Array) -> Node | None:
        """The tensor of an array whose elements are numbers."""
        where = self._place(array.data)
        if where is None and 0 in array.shape:
            where = Window(self.file, 0, 0), self.data.in_file(array.data.at)
        if where is None:
            return None
        within, at = where
        key = str(at)
        self.spans[key] = within.span(0, within.size)
        self.arrays.add(key)
        numel, stride = 1, []
        for n in array.shape if array.fortran else reversed(array.shape):
            stride.append(numel)
            numel *= max(n, 1)
        if not array.fortran:
            stride.reverse()
        elements_there = within.size // DTYPES[array.dtype].itemsize
        cls = grafts.STORAGE_CLASSES.get(array.dtype)
        if cls is None:
            stored = grafts.storage(grafts.name("torch.storage", "UntypedStorage"), key, "cpu", within.size)
            return grafts.tensor(stored, 0, array.shape, stride, dtype=array.dtype)
        return grafts.tensor(
            grafts.storage(grafts.name("torch", cls), key, "cpu", elements_there), 0, array.shape, stride
        )


def _of_this_pickle(root: Node) -> Node:
    """A storage of another pickle in new nodes: its own have places in the memo of that pickle."""
    items = [item for _, item in elements(root.id)] if isinstance(root, Persistent) and root.id is not None else []
    if len(items) < 5 or not isinstance(items[1], Global):
        return root
    cls, numel = items[1], items[4]
    key, location = grafts.key_text(items[2]), grafts.key_text(items[3])
    if key is None or location is None or not isinstance(numel, Const) or not isinstance(numel.value, int):
        return root
    return grafts.storage(grafts.name(cls.module, cls.name), key, location, numel.value)


_ARRAYS = frozenset(("numpy._core.multiarray._reconstruct", "numpy._core.numeric._frombuffer"))


def _has_tensors(root: Node) -> bool:
    """Whether torch made anything in it."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen or isinstance(node, Const):
            continue
        seen.add(id(node))
        if is_tensor(node) or (isinstance(node, Call) and grafts.called(node) == "torch.storage._load_from_bytes"):
            return True
        todo.extend(children(node))
    return False


def _array(node: Call, name: str) -> _Array | None:
    """An array of little-endian numbers; None for any other."""
    if name.endswith("_frombuffer"):
        # Protocol 5: (bytes, dtype, shape, order).
        items = arguments_of(node)
        if len(items) != 4:
            return None
        data, dtype, shape = items[:3]
        fortran = isinstance(items[3], Const) and items[3].value == "F"
    else:
        # REDUCE _reconstruct(ndarray, (0,), b"b"), then BUILD (1, shape, dtype, Fortran order, bytes).
        found = [[item for _, item in elements(state)] for _, state in states(node)]
        items = found[-1] if found else []
        first = arguments_of(node)
        plain = bool(first) and isinstance(first[0], Global) and first[0].qualified == "numpy.ndarray"
        if len(items) != 5 or not plain:
            return None
        shape, dtype, data = items[1], items[2], items[4]
        fortran = isinstance(items[3], Const) and bool(items[3].value)
    order = numpy_dtype(dtype) or ""
    sizes = [item.value for _, item in elements(shape) if isinstance(item, Const) and type(item.value) is int]
    kind = NUMPY_NAMES.get(order[1:])
    wide = kind is not None and DTYPES[kind].itemsize > 1
    if kind is None or (order[0] == ">" and wide) or len(sizes) != sum(1 for _ in elements(shape)):
        return None
    if any(not 0 <= n < 1 << 63 for n in sizes):
        return None
    return _Array(kind, tuple(sizes), fortran, data)
