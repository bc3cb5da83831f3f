"""TorchScript archives (`torch.jit.save`), of mobile too: a zip like torch.save's, with code as text.

    data.pkl          the module, an object of a class in the code; its tensors are below data/
    constants.pkl     a tuple, what the code calls CONSTANTS.c0 ...; its tensors are below constants/
    code/...py        classes and functions
    traced_inputs.pkl what a trace was made with
    model.json        torch 1.0 to 1.3 instead of data.pkl: modules and tensors, whose bytes are tensors/N

The rows of the state dict are what `state_dict()` of the loaded module gives: detached, named as torch names them.
Facts: torch 2.13 `torch.jit`, and `torch/csrc/jit` of 1.0 to 1.3 (docs/formats.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sdviewer.core.checkpoint import Checkpoint, Problem, TensorInfo, ValueInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import TypedStep
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import grafts
from sdviewer.formats.file import File
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_objects import DEEPEST, Objects, StoredBytes, read_objects
from sdviewer.formats.torch_source import ArchiveSource, StorageSpan
from sdviewer.formats.torch_tensors import is_tensor
from sdviewer.formats.torch_zip import Archive, refuse_hopeless, top_of, torch_checkpoint
from sdviewer.formats.torchscript_code import ClassText, Code
from sdviewer.formats.zip_directory import read_member
from sdviewer.pickles.machine import Pickle, parse
from sdviewer.pickles.nodes import Call, Const, Effect, Global, Group, Node, children, elements, pairs, states

READ_ONLY = "the names are in the code of a TorchScript archive, which is not changed"

_MOST_CODE = 64 << 20
"""Bytes of code text that are read; behind that, tensors are told apart by nothing."""

_MOST_AGAIN = 10_000
"""Modules that are told again because they stand in more than one place."""

_LARGEST_PICKLE = 64 << 20
"""Bytes of a compressed pickle."""

_INTERNALS = frozenset(("training", "_is_full_backward_hook"))

_FROM_TABLE = frozenset(("torch.jit._pickle.build_tensor_from_id", "torch.jit._pickle.TensorID"))
"""Calls that take a tensor of model.json by its number."""


class TorchScript:
    """The format object."""

    name = "TorchScript archive"
    containers = ("torchscript",)
    suffixes = (".pt", ".pth", ".ts", ".jit", ".ptl")
    can_write = False

    def matches(self, head: Head) -> bool:
        if not head.is_zip or head.has("archive_format"):
            return False
        if head.has("constants.pkl") or head.has("model.json"):
            return head.has("constants.pkl") or not head.has("data.pkl")
        names = {name.lower() for name in head.members}
        return "data.pkl" in names and "constants.pkl" in names

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the pickles and the lists of names in the code; no storage is touched."""
        return _Reading(file, progress).checkpoint()


@dataclass(slots=True)
class _Stored:
    """The storages of all pickles of the archive; the keys of those beside the main one begin with their folder."""

    sizes: dict[str, int] = field(default_factory=dict)
    crcs: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    spans: dict[str, StorageSpan] = field(default_factory=dict)


class _Reading:
    """One archive that is being read."""

    def __init__(self, file: File, progress: Progress) -> None:
        self.file = file
        self.progress = progress
        self.directory = file.head.directory
        self.problems: list[Problem] = list(self.directory.problems)
        self.top, self.separator = self.directory.top, "/"
        if not file.head.has("model.json"):
            self.top, self.separator = top_of(self.directory, self.problems)
        self.archive = Archive(file, self.directory, self.top + self.separator if self.top else "")
        self.stored = _Stored()
        self.pickles: dict[str, Pickle] = {}
        self.code_left = _MOST_CODE
        self.code = Code(self._code)
        self.kinds: dict[str, str] = {}

    def checkpoint(self) -> Checkpoint:
        file = self.file
        if self.archive.entry("data.pkl") is not None:
            entries, attributes, cls = self._modules()
        else:
            entries, attributes, cls = _ModelJson(self).read()
        for name in ("constants", "traced_inputs"):
            root = self._beside(name)
            if root is not None and not (isinstance(root, Group) and not children(root)):
                attributes.append(("CONSTANTS" if name == "constants" else name, root))
        stored = self.stored
        root = grafts.state_dict(entries, attributes)
        objects = read_objects(root, StoredBytes(stored.sizes, stored.crcs, stored.unreadable), self.progress)
        self._tell_traced(objects)
        refuse_hopeless(objects, file.path)
        self._as_state_dict(objects)
        if cls:
            objects.values.insert(0, ValueInfo((TypedStep("class", "class"),), "builtins.str", cls))
        source = ArchiveSource(
            directory=self.directory,
            top=self.top,
            separator=self.separator,
            pickles=self.pickles,
            mappings=objects.mappings,
            spans=stored.spans,
        )
        byte_order = self.archive.text("byteorder") or "little"
        if byte_order not in ("little", "big"):
            raise CorruptCheckpoint(f"its byte order is {visible(byte_order, 40)!r}", path=file.path)
        writer = {"version": self.archive.text("version", ".data/version"), "top": self.top}
        if self.archive.entry("bytecode.pkl") is not None:
            writer["mobile"] = "bytecode.pkl"
        return torch_checkpoint(file, "torchscript", objects, self.problems, writer, byte_order, source)

    def _tell_traced(self, objects: Objects) -> None:
        """torch writes the inputs of a trace without their bytes; that is no damage."""
        objects.problems[:] = [
            problem._replace(severity="info") if problem.where.startswith("traced_inputs") else problem
            for problem in objects.problems
        ]

    def _as_state_dict(self, objects: Objects) -> None:
        """Mark the rows of the state dict: parameters and buffers, detached as `state_dict()` gives them."""
        objects.state_dicts = tuple([replace(found, read_only=READ_ONLY) for found in objects.state_dicts])
        for i, row in enumerate(objects.tensors):
            if row.state_dict is not None and not objects.state_dicts[row.state_dict].path and row.key is not None:
                objects.tensors[i] = _marked(row, self.kinds.get(row.key, ""))

    def load(self, name: str, folder: str, prefix: str) -> Node:
        """What a pickle returns; its storages are the members below `folder`.

        Raises:
            CorruptCheckpoint: it cannot be read.
        """
        entry = self.archive.entry(name)
        if entry is None:
            raise CorruptCheckpoint(f"it has no {name}", path=self.file.path)
        limit = _LARGEST_PICKLE if entry.method else self.file.size
        pickle = parse(read_member(self.file, self.directory, entry, limit), progress=self.progress)
        assert pickle.root is not None
        self.pickles[entry.name] = pickle
        self.store(folder, prefix)
        root = grafts.replaced(pickle.root, grafts.untagged, inside=True)
        return grafts.with_keys(root, lambda key: prefix + key) if prefix else root

    def store(self, folder: str, prefix: str) -> None:
        """Note the members below a folder as storages."""
        records, stored = self.archive.storages(folder)
        self.stored.sizes.update({prefix + key: size for key, size in stored.sizes.items()})
        self.stored.crcs.update({prefix + key: crc for key, crc in stored.crcs.items()})
        self.stored.unreadable.update({prefix + key: why for key, why in stored.unreadable.items()})
        limit = self.directory.start
        self.stored.spans.update(
            {prefix + key: StorageSpan(0, entry.usize, entry, limit) for key, entry in records.items()}
        )

    def _beside(self, name: str) -> Node | None:
        """A further pickle with its storages; one that is damaged is told and passed over."""
        if self.archive.entry(f"{name}.pkl") is None:
            return None
        try:
            return self.load(f"{name}.pkl", name, f"{name}/")
        except CorruptCheckpoint as error:
            self.problems.append(Problem("warning", "inner_file", f"{name}.pkl cannot be read: {error.message}", ""))
            return None

    def _code(self, member: str) -> str | None:
        entry = self.archive.entry(member)
        if entry is None or entry.usize > self.code_left:
            return None
        self.code_left -= entry.usize
        try:
            return read_member(self.file, self.directory, entry, _MOST_CODE).decode("utf-8", "surrogateescape")
        except CorruptCheckpoint as error:
            self.problems.append(Problem("warning", "inner_file", f"{member} cannot be read: {error.message}", ""))
            return None

    def _modules(self) -> tuple[list[tuple[str, Node]], list[tuple[str, Node]], str]:
        """The entries of the state dict, everything else as attributes, and the class, out of data.pkl."""
        root = self.load("data.pkl", "data", "")
        if not isinstance(root, Call) or not self._is_module(root):
            return [], [("data", root)], ""
        entries: list[tuple[str, Node]] = []
        order: list[tuple[Call, list[tuple[str, Node]]]] = []
        told: set[int] = set()
        again = 0
        todo: list[tuple[Call, str, int]] = [(root, "", 1)]
        while todo:
            module, prefix, depth = todo.pop()
            if depth > DEEPEST or again > _MOST_AGAIN:
                code = "too_deep" if depth > DEEPEST else "repeated"
                self.problems.append(Problem("warning", code, "not all places of its modules are told", ""))
                break
            own, inner, rest = self._split(module)
            for name, node, kind in own:
                self.kinds[prefix + name] = kind
                entries.append((prefix + name, node))
            todo.extend([(node, f"{prefix}{name}.", depth + 1) for name, node in reversed(inner)])
            again += id(module) in told
            if id(module) not in told:
                told.add(id(module))
                order.append((module, [*rest, *inner]))
        return entries, _rests(order), _class_name(root)

    def _is_module(self, node: Call) -> bool:
        if node.kind != "newobj" or not isinstance(node.function, Global):
            return False
        if not node.function.module.startswith("__torch__"):
            return False
        found = self._class(node)
        return found.is_module if found is not None else any(name == "training" for name, _ in _state(node))

    def _class(self, node: Call) -> ClassText | None:
        function = node.function
        return self.code.find(function.module, function.name) if isinstance(function, Global) else None

    def _split(
        self, module: Call
    ) -> tuple[list[tuple[str, Node, str]], list[tuple[str, Call]], list[tuple[str, Node]]]:
        """(name, node, kind) of parameters, then buffers; (name, node) of the modules in it; of everything else."""
        found = self._class(module)
        parameters: list[tuple[str, Node, str]] = []
        buffers: list[tuple[str, Node, str]] = []
        inner: list[tuple[str, Call]] = []
        rest: list[tuple[str, Node]] = []
        for name, node in _state(module):
            if isinstance(node, Call) and self._is_module(node):
                inner.append((name, node))
            elif not is_tensor(node):
                if name not in _INTERNALS or not isinstance(node, Const):
                    rest.append((name, node))
            elif found is not None and name in found.parameters:
                parameters.append((name, node, "parameter"))
            elif found is None or found.buffers is None or name in found.buffers:
                # Without a list of buffers every tensor that is no parameter was one.
                buffers.append((name, node, "buffer" if found is not None else ""))
            else:
                rest.append((name, node))
        return [*parameters, *buffers], inner, rest


def _rests(modules: list[tuple[Call, list[tuple[str, Node]]]]) -> list[tuple[str, Node]]:
    """The attributes of the first module; the modules in it without what the state dict has, or left out if empty."""
    bare = {
        id(module): Call(module.at, "newobj", module.function, [grafts.group("tuple", [])]) for module, _ in modules
    }
    attributes: list[tuple[str, Node]] = []
    # From the last, which is the innermost: what is in a module is known when its turn comes.
    for module, rest in reversed(modules):
        attributes = [
            (name, bare.get(id(node), node)) for name, node in rest if id(node) not in bare or bare[id(node)].effects
        ]
        if attributes:
            items = [node for name, value in attributes for node in (grafts.const(name), value)]
            bare[id(module)].add_effect(Effect("build", [grafts.group("dict", items)]))
    return attributes


def _state(module: Call) -> Iterator[tuple[str, Node]]:
    """The (name, value) of an object's attributes, in the order of its class."""
    for _, state in states(module):
        for _, key, value in pairs(state):
            if isinstance(key, Const) and isinstance(key.value, str):
                yield key.value, value


def _class_name(node: Call) -> str:
    return node.function.qualified if isinstance(node.function, Global) else ""


def _marked(row: TensorInfo, kind: str) -> TensorInfo:
    if kind == "parameter" and row.kind == "tensor":
        row = row._replace(kind="parameter")
    elif kind == "buffer" and row.kind == "tensor":
        row = row._replace(kind="buffer")
    return row._replace(requires_grad=False if row.requires_grad is not None else None)


class _ModelJson:
    """The modules and tensors of an archive of torch 1.0 to 1.3: `model.json` is the JSON form of a protobuf."""

    def __init__(self, reading: _Reading) -> None:
        self.reading = reading
        self.tensors: list[Node] = []
        self.values: list[Node] = []

    def read(self) -> tuple[list[tuple[str, Node]], list[tuple[str, Node]], str]:
        """The entries of the state dict, the other attributes, and the name of the module."""
        reading = self.reading
        entry = reading.archive.entry("model.json")
        assert entry is not None
        limit = _LARGEST_PICKLE if entry.method else reading.file.size
        try:
            model = json.loads(read_member(reading.file, reading.directory, entry, limit))
        except ValueError:
            raise CorruptCheckpoint("its model.json is no JSON", path=reading.file.path) from None
        main = model.get("mainModule") if isinstance(model, dict) else None
        if not isinstance(main, dict):
            raise CorruptCheckpoint("its model.json has no mainModule", path=reading.file.path)
        reading.store("tensors", "tensors/")
        self.tensors = [self._tensor(item) for item in _dicts(model.get("tensors"))]
        if reading.archive.entry("attributes.pkl") is not None:
            root = grafts.replaced(reading.load("attributes.pkl", "tensors", "tensors/"), self._from_table)
            self.values = [item for _, item in elements(root)]
        entries: list[tuple[str, Node]] = []
        attributes: list[tuple[str, Node]] = []
        todo: list[tuple[dict[str, Any], str]] = [(main, "")]
        while todo:
            module, prefix = todo.pop()
            for is_buffer in (False, True):
                for item in _dicts(module.get("parameters")):
                    if bool(item.get("isBuffer")) is is_buffer:
                        key = f"{prefix}{item.get('name', '')}"
                        reading.kinds[key] = "buffer" if is_buffer else "parameter"
                        entries.append((key, self._numbered(self.tensors, item.get("tensorId"))))
            for item in _dicts(module.get("attributes")):
                attributes.append((f"{prefix}{item.get('name', '')}", self._numbered(self.values, item.get("id"))))
            inner = [(item, f"{prefix}{item.get('name', '')}.") for item in _dicts(module.get("submodules"))]
            todo.extend(reversed(inner))
        return entries, attributes, str(main.get("name", ""))

    def _numbered(self, table: list[Node], number: Any) -> Node:
        """Entry `number` of a table; proto3 leaves a 0 out."""
        n = _whole(number if number is not None else 0)
        return table[n] if n is not None and 0 <= n < len(table) else grafts.const(None)

    def _from_table(self, node: Node) -> Node | None:
        if grafts.called(node) not in _FROM_TABLE:
            return None
        arguments = grafts.arguments(node)
        number = arguments[0].value if arguments and isinstance(arguments[0], Const) else None
        return self._numbered(self.tensors, number)

    def _tensor(self, item: Mapping[str, Any]) -> Node:
        dtype = _DATA_TYPES.get(str(item.get("dataType")), "")
        data = item.get("data")
        key = str(data.get("key", "")) if isinstance(data, dict) else ""
        size, stride = _wholes(item.get("dims")), _wholes(item.get("strides"))
        offset = _whole(item.get("offset", 0))
        if dtype not in grafts.STORAGE_CLASSES or size is None or stride is None or offset is None:
            return grafts.tensor(grafts.const(None), 0, (), ())
        nbytes = self.reading.stored.sizes.get(key, 0)
        cls = grafts.name("torch", grafts.STORAGE_CLASSES[dtype])
        location = str(item.get("device") or "cpu")
        stored = grafts.storage(cls, key, location, nbytes // DTYPES[dtype].itemsize)
        return grafts.tensor(stored, offset, size, stride, requires_grad=bool(item.get("requiresGrad")))


_DATA_TYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "BYTE": "uint8",
}
"""caffe2's names of element types."""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    """An int; protobuf writes those of 64 bits as text."""
    if isinstance(value, str) and len(value) < 25:
        try:
            return int(value)
        except ValueError:
            return None
    return value if type(value) is int else None


def _wholes(value: Any) -> list[int] | None:
    found = [_whole(item) for item in value] if isinstance(value, list) else [None] if value is not None else []
    return [n for n in found if n is not None] if None not in found else None
