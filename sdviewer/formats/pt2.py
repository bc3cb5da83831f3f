"""torch.export programs (.pt2): of 2.7 on a zip in one folder, of 2.1 to 2.6 one without.

    models/NAME.json                           graph and signature
    data/weights/NAME_weights_config.json      {"config": {name: {path_name, is_param, use_pickle, tensor_meta}}}
    data/weights/weight_N                      raw bytes of one storage, or a torch archive where use_pickle is true
    data/constants/NAME_constants_config.json  the same for constants; custom objects are pickles
    data/sample_inputs/NAME.pt                 a torch archive

    serialized_state_dict.pt, serialized_constants.pt, serialized_example_inputs.pt   torch archives, before 2.7

Facts: torch 2.13 `torch.export.pt2_archive`, `torch._export.serde.schema`, measured (docs/formats.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import grafts
from sdviewer.formats.file import File
from sdviewer.formats.inner_files import member_window, read_inner
from sdviewer.formats.sniff import LEGACY_MAGIC, Head
from sdviewer.formats.torch_objects import StoredBytes, read_objects
from sdviewer.formats.torch_source import ArchiveSource, StorageSpan
from sdviewer.formats.torch_zip import Archive, refuse_hopeless, torch_checkpoint
from sdviewer.formats.zip_directory import Entry, read_member
from sdviewer.pickles.machine import parse
from sdviewer.pickles.nodes import Call, Group, Node, pairs

READ_ONLY = "the names are in the graph of an exported program, which is not changed"

_WEIGHTS = "_weights_config.json"
_CONSTANTS = "_constants_config.json"
_LARGEST_JSON = 256 << 20
"""Bytes of a compressed list of weights."""

_STRIDED = 7
_OLD = (
    ("state_dict", ("serialized_state_dict.pt", "serialized_state_dict.json")),
    ("constants", ("serialized_constants.pt", "serialized_constants.json")),
    ("example_inputs", ("serialized_example_inputs.pt",)),
)

# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}


class Pt2:
    """The format object."""

    name = "torch.export program"
    containers = ("pt2",)
    suffixes = (".pt2",)
    can_write = False

    def matches(self, head: Head) -> bool:
        if not head.is_zip:
            return False
        names = head.members
        if "archive_format" in names or "serialized_exported_program.json" in names:
            return True
        if "data.pkl" in names or "constants.pkl" in names:
            return False
        return any(name.startswith("models/") and name.endswith(".json") for name in names)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the lists of weights and the torch archives inside; raw weights and the graph are passed over."""
        return _Reading(file, progress).checkpoint()


@dataclass(slots=True)
class _Model:
    """One program of an archive: its weights are entries, what else it holds are attributes."""

    entries: list[tuple[str, Node]] = field(default_factory=list)
    attributes: list[tuple[str, Node]] = field(default_factory=list)


class _Reading:
    """One archive that is being read."""

    def __init__(self, file: File, progress: Progress) -> None:
        self.file = file
        self.progress = progress
        self.directory = file.head.directory
        self.problems: list[Problem] = list(self.directory.problems)
        old = self.directory.find("serialized_exported_program.json") is not None
        self.top = "" if old else self.directory.top
        self.archive = Archive(file, self.directory, f"{self.top}/" if self.top else "")
        self.spans: dict[str, StorageSpan] = {}
        self.crcs: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        self.kinds: dict[Any, str] = {}

    def checkpoint(self) -> Checkpoint:
        file = self.file
        models = self._models()
        if len(models) == 1:
            (model,) = models.values()
            root: Node = grafts.state_dict(model.entries, model.attributes)
        else:
            parts = [(name, grafts.state_dict(model.entries, model.attributes)) for name, model in models.items()]
            root = grafts.group("dict", [node for name, part in parts for node in (grafts.const(name), part)])
        sizes = {key: span.nbytes for key, span in self.spans.items()}
        objects = read_objects(root, StoredBytes(sizes, self.crcs, self.unreadable), self.progress)
        refuse_hopeless(objects, file.path)
        objects.state_dicts = tuple([replace(found, read_only=READ_ONLY) for found in objects.state_dicts])
        single = next(iter(models)) if len(models) == 1 else None
        for i, row in enumerate(objects.tensors):
            name = row.path[0] if len(row.path) == 2 else single
            kind = self.kinds.get((name, row.path[-1])) if len(row.path) == (1 if single is not None else 2) else None
            if kind is not None and row.kind == "tensor":
                objects.tensors[i] = row._replace(kind="parameter" if kind == "parameter" else "buffer")
        byte_order = self.archive.text("byteorder") or "little"
        if byte_order not in ("little", "big"):
            raise CorruptCheckpoint(f"its byte order is {visible(byte_order, 40)!r}", path=file.path)
        text = self.archive.text
        writer = {
            "version": text("version", ".data/version"),
            "top": self.top or None,
            "archive_format": text("archive_format"),
            "archive_version": text("archive_version"),
        }
        source = ArchiveSource(directory=self.directory, top=self.top, mappings=objects.mappings, spans=self.spans)
        return torch_checkpoint(file, "pt2", objects, self.problems, writer, byte_order, source)

    def _models(self) -> dict[str, _Model]:
        if not self.top and self.directory.find("serialized_exported_program.json") is not None:
            return {"model": self._old()}
        models: dict[str, _Model] = {}
        for name in self._names("models/", ".json"):
            models[name] = _Model()
        for name in self._names("data/weights/", _WEIGHTS):
            model = models.setdefault(name, _Model())
            for key, node, kind in self._listed(f"data/weights/{name}{_WEIGHTS}", "data/weights/"):
                self.kinds[name, key] = kind
                model.entries.append((key, node))
        for name in self._names("data/constants/", _CONSTANTS):
            found = list(self._listed(f"data/constants/{name}{_CONSTANTS}", "data/constants/"))
            if found:
                items = [node for key, value, _ in found for node in (grafts.const(key), value)]
                models.setdefault(name, _Model()).attributes.append(("constants", grafts.group("dict", items)))
        for name in self._names("data/sample_inputs/", ".pt"):
            inner = self._inner(f"data/sample_inputs/{name}.pt")
            if inner is not None:
                models.setdefault(name, _Model()).attributes.append(("sample_inputs", inner))
        return models or {"": _Model()}

    def _names(self, folder: str, suffix: str) -> list[str]:
        """NAME of the members FOLDER + NAME + SUFFIX, in directory order."""
        prefix = self.archive.prefix + folder
        names = [name for name in self.directory.places if name.startswith(prefix) and name.endswith(suffix)]
        return [name[len(prefix) : len(name) - len(suffix)] for name in names]

    def _old(self) -> _Model:
        """A program of 2.1 to 2.6: three torch archives."""
        model = _Model()
        for name, members in _OLD:
            member = next((found for found in members if self.archive.entry(found) is not None), None)
            root = self._inner(member) if member is not None else None
            if root is None:
                continue
            if name == "state_dict" and isinstance(root, Group | Call):
                for _, key, value in pairs(root):
                    model.entries.append((grafts.key_text(key) or "", value))
            else:
                model.attributes.append((name, root))
        return model

    def _listed(self, member: str, folder: str) -> Iterator[tuple[str, Node, str]]:
        """(name, tensor or object, kind) of what a config lists; a config that is none is told and passed over."""
        entry = self.archive.entry(member)
        assert entry is not None
        try:
            limit = _LARGEST_JSON if entry.method else self.file.size
            data = read_member(self.file, self.directory, entry, limit)
            config = json.loads(data).get("config")
        except (CorruptCheckpoint, ValueError, AttributeError):
            config = None
        if not isinstance(config, dict):
            self._damaged(member, "it is no list of tensors")
            return
        for key, item in config.items():
            found = item if isinstance(item, dict) else {}
            path = str(found.get("path_name"))
            kind = "parameter" if found.get("is_param") else "buffer"
            stored = self.archive.entry(folder + path)
            if stored is None:
                self._damaged(member, f"{path}, the bytes of {key}, is not there")
            if found.get("use_pickle") or not isinstance(found.get("tensor_meta"), dict):
                yield key, self._object(folder + path) if stored is not None else grafts.const(None), kind
            else:
                yield key, self._tensor(folder + path, stored, found["tensor_meta"]), kind

    def _tensor(self, path: str, entry: Entry | None, meta: dict[str, Any]) -> Node:
        """A tensor over the raw bytes of a member."""
        size, stride = _sizes(meta.get("sizes")), _sizes(meta.get("strides"))
        offset = _size(meta.get("storage_offset", 0))
        code = meta.get("dtype")
        dtype = _DTYPES.get(code, "") if isinstance(code, int) else ""
        if size is None or stride is None or offset is None or meta.get("layout", _STRIDED) != _STRIDED:
            return grafts.tensor(grafts.const(None), 0, (), ())
        nbytes = entry.usize if entry is not None else 0
        if entry is not None:
            self._store(path, entry)
        untyped = dtype not in grafts.STORAGE_CLASSES
        cls = grafts.name("torch.storage", "UntypedStorage")
        if not untyped:
            cls = grafts.name("torch", grafts.STORAGE_CLASSES[dtype])
            nbytes //= DTYPES[dtype].itemsize
        stored = grafts.storage(cls, path, _device(meta.get("device")), nbytes)
        grad = bool(meta.get("requires_grad"))
        named = (dtype or f"type {visible(str(code), 20)}") if untyped else ""
        return grafts.tensor(stored, offset, size, stride, requires_grad=grad, dtype=named)

    def _store(self, path: str, entry: Entry) -> None:
        self.spans[path] = StorageSpan(0, entry.usize, entry, self.directory.start)
        self.crcs[path] = entry.crc
        place = self.directory.place(entry.name)
        if place in self.directory.unreadable:
            self.unreadable[path] = self.directory.unreadable[place]

    def _object(self, path: str) -> Node:
        """What a member holds that is no raw tensor: a torch archive, or a pickle."""
        inner = self._inner(path)
        return inner if inner is not None else grafts.const(None)

    def _inner(self, path: str) -> Node | None:
        """The root of a torch archive or pickle inside; None where there is none or it is damaged."""
        entry = self.archive.entry(path)
        if entry is None or not entry.usize:
            return None
        try:
            within = member_window(self.file, self.directory, entry)
            start = within.read(0, min(32, within.size))
            if start[:1] == b"\x80" and LEGACY_MAGIC not in start:
                pickle = parse(within.read(0, within.size), progress=self.progress)
                return pickle.root
            inner = read_inner(within, f"{path}/", self.progress)
        except CorruptCheckpoint as error:
            self._damaged(path, error.message)
            return None
        self.spans.update(inner.spans)
        self.crcs.update(inner.crcs)
        self.unreadable.update(inner.unreadable)
        self.problems += [problem._replace(where=path) for problem in inner.problems]
        return grafts.replaced(inner.root, grafts.untagged, inside=True)

    def _damaged(self, member: str, why: str) -> None:
        self.problems.append(Problem("error", "inner_file", f"{visible(member)} cannot be read: {visible(why)}", ""))


def _size(value: Any) -> int | None:
    """An int of the graph's schema: {"as_int": n}; symbolic ones are none."""
    if isinstance(value, dict):
        value = value.get("as_int")
    return value if type(value) is int else None


def _sizes(value: Any) -> list[int] | None:
    found = [_size(item) for item in value] if isinstance(value, list) else [None]
    return [n for n in found if n is not None] if None not in found else None


def _device(value: Any) -> str:
    kind, index = (value.get("type"), value.get("index")) if isinstance(value, dict) else ("cpu", None)
    return str(kind) if index is None else f"{kind}:{index}"
