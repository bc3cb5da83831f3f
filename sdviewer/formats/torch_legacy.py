"""torch.save's format of torch 0.1.10 to 1.5: five pickles back to back, then the raw storages.

    magic number | protocol version | sys_info | object | list of storage keys | for each key: i64 numel, bytes

Always little-endian. The size of an element is not with the storage: it comes from the storage class of the first
persistent id that names it.

Facts: torch 2.13 `torch.serialization._legacy_load` and `_legacy_save`, measured (docs/formats.md).
"""

from __future__ import annotations

from typing import Any

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.file import File
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_objects import StoredBytes, read_objects
from sdviewer.formats.torch_source import LegacyStorage, TorchLegacySource
from sdviewer.formats.torch_tensors import NotATensorError, read_storage, storage_dtype, text_of
from sdviewer.formats.torch_values import leaf
from sdviewer.formats.torch_zip import refuse_hopeless, refused_by_python, torch_checkpoint
from sdviewer.formats.zip_directory import Reader
from sdviewer.pickles.machine import Pickle, parse_partial
from sdviewer.pickles.nodes import Const, Group, Node, Persistent, TensorRecord, children, elements, pairs
from sdviewer.pickles.salvage import salvage

MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001

_FIRST_PIECE = 1 << 20
"""Bytes in which the pickles are looked for first; where they do not end in it, four times as many, and so on."""


class TorchLegacy:
    """The format object."""

    name = "PyTorch checkpoint (before 1.6)"
    containers = ("torch-legacy",)
    suffixes = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".th", ".t7", ".pkl")
    can_write = True

    def matches(self, head: Head) -> bool:
        return head.is_legacy

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the five pickles and the eight bytes before each storage."""
        pickles = read_pickles(file, progress)
        problems: list[Problem] = []
        magic, version, info, objects_pickle = pickles[:4]
        if objects_pickle.broken:
            problems.append(_broken_off(f"in its objects: {objects_pickle.broken}"))
        if not is_number(magic.root, MAGIC):
            raise CorruptCheckpoint("its first pickle is not torch's magic number", path=file.path)
        if not is_number(version.root, _VERSION):
            problems.append(Problem("warning", "legacy_version", f"its protocol version is not {_VERSION}", ""))
        assert objects_pickle.root is not None
        problems += refused_by_python(objects_pickle)
        keys, storages = read_storages(file, pickles, problems)
        stored = StoredBytes(
            {key: storage.nbytes for key, storage in storages.items()},
            unreadable={key: "the file breaks off before its storage" for key in keys if key not in storages},
        )
        objects = read_objects(objects_pickle.root, stored, progress)
        if objects_pickle.broken and not objects.tensors:
            raise _broken_objects(objects_pickle, file.path)
        refuse_hopeless(objects, file.path)
        source = TorchLegacySource(
            pickle=objects_pickle,
            mappings=objects.mappings,
            spans=tuple([(pickle.start, pickle.end) for pickle in pickles]),
            storages=storages,
        )
        writer = {"protocol": objects_pickle.protocol, "sys_info": _sys_info(info, file.path)}
        return torch_checkpoint(file, "torch-legacy", objects, problems, writer, "little", source)


def read_pickles(file: Reader, progress: Progress) -> list[Pickle]:
    """The five pickles; four where the file breaks off in the list of storage keys, or in the object pickle itself.

    How long they are is known only when they have been read, so the piece that is read grows until they end in it.
    """
    length = min(file.size, _FIRST_PIECE)
    while True:
        data = file.read(0, length)
        pickles: list[Pickle] = []
        at = 0
        while len(pickles) < 5 and at < len(data):
            pickle = parse_partial(data, at, progress=progress)
            if pickle.broken:
                break
            pickles.append(pickle)
            at = pickle.end
        if len(pickles) == 5 or length == file.size:
            break
        length = min(file.size, length * 4)
    if len(pickles) == 3 and at < len(data):
        pickle = salvage(pickle, progress=progress)
        if pickle.root is None:
            raise _broken_objects(pickle, file.path)
        return [*pickles, pickle]
    if len(pickles) < 4:
        why = pickle.broken or "the file ends"
        what = ("magic number", "version", "system information", "objects")[len(pickles)]
        message = f"the pickle of its {what} cannot be read: {why}"
        raise CorruptCheckpoint(message, path=file.path, code="bad_pickle", remedy="Copy or download it again.")
    return pickles


def _broken_objects(pickle: Pickle, path: str) -> CorruptCheckpoint:
    message = f"the pickle of its objects cannot be read: {pickle.broken}"
    return CorruptCheckpoint(message, path=path, code="bad_pickle", remedy="Copy or download it again.")


def read_storages(
    file: Reader, pickles: list[Pickle], problems: list[Problem]
) -> tuple[list[str], dict[str, LegacyStorage]]:
    """The keys that the file lists or its objects name, and the storages that are there."""
    named = _named_storages(pickles[3])
    if len(pickles) < 5:
        if not pickles[3].broken:
            problems.append(_broken_off("in the list of its storages"))
        return list(named), {}
    root = pickles[4].root
    keys = [text_of(item) for _, item in elements(root)] if type(root) is Group else []
    if type(root) is not Group or None in keys:
        raise CorruptCheckpoint("its list of storage keys is not one", path=file.path)
    storages: dict[str, LegacyStorage] = {}
    at = pickles[4].end
    for key in keys:
        assert key is not None
        if at + 8 > file.size:
            problems.append(_broken_off(f"before storage {visible(key, 80)}"))
            break
        numel = int.from_bytes(file.read(at, 8), "little", signed=True)
        if key not in named:
            # Without a class its element size is unknown, and with it where the next storage begins.
            message = f"storage {visible(key, 80)} is named by no tensor, so those behind it cannot be found"
            problems.append(Problem("error", "storage_size", message, ""))
            break
        nbytes = numel * named[key]
        if numel < 0 or at + 8 + nbytes > file.size:
            problems.append(_broken_off(f"in storage {visible(key, 80)}, which claims {nbytes:,} bytes"))
            if numel > 0:
                storages[key] = LegacyStorage(key, at + 8, file.size - at - 8, numel)
            break
        storages[key] = LegacyStorage(key, at + 8, nbytes, numel)
        at += 8 + nbytes
    else:
        if at < file.size:
            message = f"{file.size - at:,} bytes follow the last storage"
            problems.append(Problem("warning", "trailing_bytes", message, ""))
    return [*named], storages


def _broken_off(where: str) -> Problem:
    return Problem("error", "truncated", f"the file breaks off {where}", "")


def _named_storages(pickle: Pickle) -> dict[str, int]:
    """Storage key -> bytes of one element, from the first persistent id in the stream that names it."""
    found: list[tuple[int, str, int]] = []
    for record in pickle.records:
        dtype = storage_dtype(record.storage_class.name)
        if dtype is not None:
            found.append((record.at, record.key, dtype.itemsize))
    seen: set[int] = set()
    stack: list[Node] = [pickle.root] if pickle.root is not None else []
    while stack:
        node = stack.pop()
        if type(node) is Const or type(node) is TensorRecord or id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) is Persistent:
            try:
                storage = read_storage(node)
            except NotATensorError:
                pass
            else:
                found.append((node.at, storage.key, storage.dtype.itemsize))
        stack.extend(children(node))
    named: dict[str, int] = {}
    for _, key, itemsize in sorted(found):
        named.setdefault(key, itemsize)
    return named


def is_number(node: Node | None, number: int) -> bool:
    return type(node) is Const and type(node.value) is int and node.value == number


def _sys_info(pickle: Pickle, path: str) -> dict[str, Any]:
    """What the writing machine said of itself; nobody needs it, so whatever is not plain is left out.

    Raises:
        CorruptCheckpoint: it is no dict: the file was made to run something where nobody looks.
    """
    root = pickle.root
    if type(root) is not Group or root.type != "dict":
        raise CorruptCheckpoint("its system information is no dict", path=path)
    found = {}
    for _, key, value in pairs(root):
        told = leaf(value)
        name = text_of(key)
        if name is not None and told is not None and isinstance(told[1], (bool, int, str)):
            found[name] = told[1]
    return found
