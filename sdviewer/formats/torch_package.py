"""torch.package archives: pickles anywhere, their storages in `.data/`, Python sources beside them.

    model/model.pkl        a pickle of protocol 3; every pickle is one entry of the root
    .data/KEY.storage      the bytes of a storage, shared by all pickles
    .data/extern_modules   names that the importing program is to provide
    .data/ts_code/         TorchScript modules: their pickles take storages by the name "KEY.storage"

Sources are code that runs when it is imported; nothing here imports anything.
Facts: torch 2.13 `torch.package`, measured (docs/formats.md).
"""

from __future__ import annotations

from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import grafts
from sdviewer.formats.file import File
from sdviewer.formats.inner_files import first_bytes
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_objects import StoredBytes, read_objects
from sdviewer.formats.torch_source import ArchiveSource, StorageSpan
from sdviewer.formats.torch_zip import Archive, refuse_hopeless, torch_checkpoint
from sdviewer.formats.zip_directory import Entry, ZipDirectory, read_member
from sdviewer.pickles.machine import Pickle, parse
from sdviewer.pickles.nodes import Call, Node, Persistent, children

_STORAGE = ".storage"
_NO_PICKLES = (_STORAGE, ".py", "/extern_modules", "/python_version", "/version", "/byteorder", "/serialization_id")
_LARGEST_PICKLE = 64 << 20
"""Bytes of a compressed pickle."""


class TorchPackage:
    """The format object."""

    name = "torch.package archive"
    containers = ("torch-package",)
    suffixes = (".pt", ".pth", ".zip")
    can_write = False

    def matches(self, head: Head) -> bool:
        if not head.is_zip or head.has("constants.pkl") or head.has("archive_format"):
            return False
        if head.has(".data/extern_modules"):
            return True
        if head.has("data.pkl"):
            return False
        return any(name.startswith(".data/") and name.endswith(_STORAGE) for name in head.members)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read all pickles; no storage is touched and no source looked at."""
        directory = file.head.directory
        problems = list(directory.problems)
        top = directory.top
        archive = Archive(file, directory, f"{top}/" if top else "")
        byte_order = archive.text("byteorder") or "little"
        if byte_order not in ("little", "big"):
            raise CorruptCheckpoint(f"its byte order is {visible(byte_order, 40)!r}", path=file.path)
        spans, stored = _storages(directory, archive.prefix)
        pickles = _pickles(file, directory, archive.prefix, problems, progress)
        items: list[Node] = []
        for name, pickle in pickles.items():
            assert pickle.root is not None
            root = _without_suffix(grafts.replaced(pickle.root, _reduced, inside=True))
            items += (grafts.const(name.removeprefix(archive.prefix)), root)
        objects = read_objects(grafts.group("dict", items), stored, progress)
        refuse_hopeless(objects, file.path)
        source = ArchiveSource(directory=directory, top=top, pickles=pickles, mappings=objects.mappings, spans=spans)
        externs = archive.text(".data/extern_modules")
        writer = {
            "version": archive.text("version", ".data/version"),
            "top": top,
            "python_version": archive.text(".data/python_version"),
            "extern_modules": externs.split("\n") if externs else None,
        }
        return torch_checkpoint(file, "torch-package", objects, problems, writer, byte_order, source)


def _storages(directory: ZipDirectory, prefix: str) -> tuple[dict[str, StorageSpan], StoredBytes]:
    """The members `.data/KEY.storage`, by key."""
    folder = f"{prefix}.data/"
    spans: dict[str, StorageSpan] = {}
    crcs: dict[str, int] = {}
    unreadable: dict[str, str] = {}
    for name, place in directory.places.items():
        if name.startswith(folder) and name.endswith(_STORAGE):
            key, entry = name[len(folder) : -len(_STORAGE)], directory.entries[place]
            spans[key] = StorageSpan(0, entry.usize, entry, directory.start)
            crcs[key] = entry.crc
            if place in directory.unreadable:
                unreadable[key] = directory.unreadable[place]
    sizes = {key: span.nbytes for key, span in spans.items()}
    return spans, StoredBytes(sizes, crcs if any(crcs.values()) else {}, unreadable)


def _pickles(
    file: File, directory: ZipDirectory, prefix: str, problems: list[Problem], progress: Progress
) -> dict[str, Pickle]:
    """The pickles by the name of their member; one that is damaged is told and passed over.

    Raises:
        CorruptCheckpoint: all are damaged.
    """
    pickles: dict[str, Pickle] = {}
    damaged = ""
    for name, place in directory.places.items():
        entry = directory.entries[place]
        if not _is_pickle(file, directory, entry, prefix):
            continue
        try:
            limit = _LARGEST_PICKLE if entry.method else file.size
            pickles[name] = parse(read_member(file, directory, entry, limit), progress=progress)
        except CorruptCheckpoint as error:
            damaged = f"{visible(name)} cannot be read: {error.message}"
            problems.append(Problem("error", "inner_file", damaged, ""))
    if damaged and not pickles:
        raise CorruptCheckpoint(f"no pickle in it can be read; {damaged}", path=file.path)
    return pickles


def _is_pickle(file: File, directory: ZipDirectory, entry: Entry, prefix: str) -> bool:
    """Whether a member is a pickle, by its name or, wherever it lies, by its first bytes; debug records apart."""
    name = entry.name
    if name.endswith((".pkl", ".pickle")):
        return True
    if name.endswith((*_NO_PICKLES, ".debug_pkl")) or name == prefix:
        return False
    start = first_bytes(file, directory, entry, 2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5


def _reduced(node: Node) -> Node | None:
    """The call that the persistent id ("reduce_package", number, function, arguments) stands for."""
    if not isinstance(node, Persistent) or node.id is None:
        return grafts.untagged(node)
    items = children(node.id)
    if len(items) < 4 or grafts.key_text(items[0]) != "reduce_package":
        return None
    return Call(node.at, "reduce", items[2], [items[3]])


def _without_suffix(root: Node) -> Node:
    """The graph with storages that TorchScript names "KEY.storage" called KEY, as the others are."""
    return grafts.with_keys(root, lambda key: key.removesuffix(_STORAGE))
