"""The whole object graph of a torch file in another container of torch's family.

A zip names a storage by five things, a legacy stream by a sixth for views; the rest of the pickle is the same. So the
edited pickle is written as its own container has it, read again, and its persistent ids are put into the other form:
nothing else of it is touched, whatever classes it names.

Facts: torch 2.13 (`torch.serialization._load`, `_legacy_load`), measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.core.text import plural, visible
from sdviewer.errors import CorruptCheckpoint, RepairError, SaveError
from sdviewer.formats.file import File
from sdviewer.formats.grafts import const, group, key_text
from sdviewer.formats.pieces import Copy, Layout, Made
from sdviewer.formats.save_new_torch import StorageOut, legacy_file, zip_archive
from sdviewer.formats.storage import TensorSource, open_storage
from sdviewer.formats.torch_computed import ComputedTensors
from sdviewer.formats.torch_edits import storage_keys, storage_uses, write_back
from sdviewer.formats.torch_source import SpansSource, StorageSpan, TorchSource, TorchZipSource
from sdviewer.formats.torch_tensors import storage_dtype
from sdviewer.formats.zip_directory import STORED, payload_offset
from sdviewer.pickles.emit import Edits, emit, is_faithful
from sdviewer.pickles.machine import Pickle, parse
from sdviewer.pickles.nodes import Call, Const, Group, Node, Persistent, TensorRecord, children, elements

CHUNK = 4 << 20
"""Bytes of a storage that stream at once."""

FAMILY = ("torch-zip", "torch-legacy")
"""The containers of torch's family that can be written."""


def keeps_objects(checkpoint: Checkpoint, container: str) -> bool:
    """Whether a conversion keeps the whole object graph: from one file of torch's family to another."""
    source = checkpoint.source
    if container not in FAMILY or not isinstance(source, TorchSource) or checkpoint.shards:
        return False
    return not isinstance(source, SpansSource) or source.root is not None


@dataclass(slots=True)
class Graph:
    """An object pickle on its way: `expected` as it should read, ids in the form of a zip; `moved` maps the keys.

    `layout` is the file with it, `made` and `places` say where the bytes of each storage come from, by its new key.
    """

    expected: Pickle
    layout: Layout
    moved: Mapping[str, str]
    made: dict[str, Made] = field(default_factory=dict)
    places: dict[str, Copy] = field(default_factory=dict)


def graph_of(
    file: File, checkpoint: Checkpoint, edits: Edits, computed: ComputedTensors, container: str, out: str
) -> Graph:
    """The edited objects of `checkpoint` as a file of another container; `out` is what it will be called.

    Raises:
        SaveError: the pickle cannot be written back, or a storage that is used is not in the file.
        RepairError: the other container cannot hold a storage.
    """
    source = checkpoint.source
    data = _written(source, edits, computed, file.path)
    expected = parse(data)
    notes = [*_in_zip_form(expected, file.path), *_lost_records(source)]
    # What an id means stays; in the file its storages are numbered as they are used.
    emitted = emit(expected)
    uses = {use.key: use for use in reversed(storage_uses(emitted))}
    moved = {key: str(number) for number, key in enumerate(storage_keys(emitted))}
    written = parse(emitted.data)
    for stored, items in _ids(written):
        items[2] = const(moved[key_text(items[2]) or ""])
        if container == "torch-legacy":
            items.append(const(None))
        stored.id = group("tuple", items)
    graph = Graph(expected, Layout([]), moved)
    storages = []
    source_bytes = _Bytes(file, checkpoint, computed)
    for key, new in moved.items():
        use = uses[key]
        dtype = storage_dtype(use.cls)
        if dtype is None or use.numel is None or use.numel < 0:
            raise SaveError(f"storage {visible(key, 40)} is of a class that torch lacks", path=file.path)
        if container == "torch-legacy" and use.cls == "UntypedStorage":
            raise RepairError(
                "torch cannot load a legacy file with a tensor of one of its newer types in it",
                path=file.path,
                remedy="Save it as torch-zip.",
            )
        nbytes = use.numel * dtype.itemsize
        units = dtype.itemsize // (2 if dtype.kind == "complex" else 1)
        piece = source_bytes.piece(key, nbytes, units, copies=container == "torch-legacy")
        if isinstance(piece, Copy):
            graph.places[new] = piece
        else:
            graph.made[new] = piece
        storages.append(StorageOut(new, use.numel, piece))
    pickled = emit(written).data
    layout = legacy_file(pickled, storages) if container == "torch-legacy" else zip_archive(pickled, storages, out)
    graph.layout = Layout(layout.pieces, tuple(notes))
    return graph


def _written(source: TorchSource, edits: Edits, computed: ComputedTensors, path: str) -> bytes:
    """The edited pickle; of a file that is only shown as a torch file, with the tensors that stand for its own."""
    if not isinstance(source, SpansSource):
        return write_back(source, edits, path, computed).data
    own = parse(source.pickle.data, source.pickle.start)
    if not is_faithful(own):
        raise SaveError(
            f"its objects cannot be written back exactly: {own.unfaithful}",
            path=path,
            remedy="Name a state dict: its tensors alone can be written.",
            code="unfaithful",
        )
    edits = replace(edits, root=edits.root or source.root)
    emitted = emit(source.pickle, edits)
    if computed.storages:
        known = {*storage_keys(emitted), *source.spans}
        computed.settle_keys(set(storage_keys(emitted)) & set(source.spans), known)
        emitted = emit(source.pickle, edits)
    return emitted.data


def _nodes(pickle: Pickle) -> Iterator[Node]:
    """Every node but constants, each once; tensor records are taken apart. What a caller puts into a node comes too."""
    seen: set[int] = set()
    todo: list[Node] = [pickle.root] if pickle.root is not None else []
    while todo:
        node = todo.pop()
        if id(node) in seen or isinstance(node, Const):
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, TensorRecord):
            todo.append(pickle.expand(node))
        todo.extend(children(node))


def _ids(pickle: Pickle) -> Iterator[tuple[Persistent, list[Node]]]:
    """Every persistent id with a new list of its items."""
    for node in _nodes(pickle):
        if isinstance(node, Persistent):
            yield node, [item for _, item in elements(node.id)] if node.id is not None else []


def _in_zip_form(pickle: Pickle, path: str) -> list[str]:
    """Put the ids of any torch file into the form of a zip: no views of storages, no sources of classes.

    Raises:
        SaveError: an id is none of torch's.
    """
    views: dict[int, int] = {}
    classes: dict[int, Node] = {}
    for stored, items in _ids(pickle):
        tag = key_text(items[0]) if items else None
        if tag == "module" and len(items) > 1:
            classes[id(stored)] = items[1]
            continue
        if tag != "storage" or not 5 <= len(items) <= 6:
            raise SaveError("it holds a persistent id that is none of torch's", path=path, code="unfaithful")
        view = [item for _, item in elements(items[5])] if len(items) == 6 else []
        if len(view) == 3 and isinstance(view[1], Const) and isinstance(view[1].value, int):
            views[id(stored)] = view[1].value
        stored.id = group("tuple", items[:5])
    if views:
        _add_view_offsets(pickle, views, path)
    if classes:
        _put(pickle, classes)
        return [f"the source text of {plural(len(classes), 'class', 'classes')} left out: only legacy files have it"]
    return []


def _add_view_offsets(pickle: Pickle, views: Mapping[int, int], path: str) -> None:
    """A tensor over a view of a storage begins so many elements later in the storage itself.

    Raises:
        SaveError: something else than a tensor uses a view.
    """
    used: set[int] = set()
    for node in _nodes(pickle):
        if isinstance(node, Group) and node.type == "tuple" and len(node.items) > 3:
            stored, offset = node.items[:2]
            if id(stored) in views and isinstance(offset, Const) and isinstance(offset.value, int):
                node.items[1] = const(offset.value + views[id(stored)])
                used.add(id(stored))
    if used != views.keys():
        raise SaveError("it holds a view of a storage that is no tensor's", path=path, code="unfaithful")


def _put(pickle: Pickle, instead: Mapping[int, Node]) -> None:
    """Put a node in the place of each of these, wherever it stands."""

    def answer(node: Node) -> Node:
        return instead.get(id(node), node)

    assert pickle.root is not None
    pickle.root = answer(pickle.root)
    for node in _nodes(pickle):
        if isinstance(node, Group):
            node.items = list(map(answer, node.items))
        elif isinstance(node, Call):
            node.function, node.args = answer(node.function), list(map(answer, node.args))
        for effect in node.effects:
            effect.items[:] = map(answer, effect.items)


def _lost_records(source: TorchSource) -> list[str]:
    """The records of an archive that are no storage and not its own frame."""
    if not isinstance(source, TorchZipSource):
        return []
    known = {id(entry) for entry in (*source.records.values(), source.object_entry)}
    own = (".format_version", ".storage_alignment", "byteorder", "version", ".data/serialization_id", ".data/version")
    lost = [entry.name for entry in source.directory.entries if id(entry) not in known and not entry.name.endswith(own)]
    return [f"record {visible(name, 80)} left out: the container has no place for it" for name in lost]


class _Bytes:
    """The bytes of the storages of a checkpoint, little-endian."""

    def __init__(self, file: File, checkpoint: Checkpoint, computed: ComputedTensors) -> None:
        self.file = file
        self.checkpoint = checkpoint
        self.computed = computed.storages

    def piece(self, key: str, nbytes: int, unit: int, *, copies: bool) -> Copy | Made:
        """The first `nbytes` of a storage whose numbers have `unit` bytes each; `copies`: it may be copied as it is.

        Raises:
            SaveError: they are not in the file.
        """
        new = self.computed.get(key)
        if new is not None:
            return new.made
        source: TorchSource = self.checkpoint.source
        try:
            span: StorageSpan = source.span(key)  # type: ignore[attr-defined]
            there = span.nbytes
        except KeyError:
            there = 0
        if there < nbytes:
            raise self._damaged(key, f"{nbytes:,} bytes are named and {there:,} are there")
        if not nbytes:
            return Copy(0, 0) if copies else Made(0, lambda: iter(()))
        swap = self.checkpoint.byte_order == "big" and unit > 1
        plain = not swap and span.packed is None
        if copies and plain and (span.member is None or span.member.method == STORED):
            try:
                start = 0 if span.member is None else payload_offset(self.file, span.member, span.limit)
            except CorruptCheckpoint as error:
                raise self._damaged(key, error.message) from None
            return Copy(start + span.start, nbytes)
        layout = TensorLayout("uint8", (nbytes,), (1,), 0)
        place = TensorSource(self.checkpoint.path, self.checkpoint.identity, span, layout)
        return Made(nbytes, lambda: _stream(place, nbytes, unit if swap else 1))

    def _damaged(self, key: str, why: str) -> SaveError:
        keys = [tensor.key or "" for tensor in self.checkpoint.tensors if tensor.storage == key]
        named = f"{', '.join([visible(one, 80) for one in keys[:3]])} cannot be copied: " if keys else ""
        return SaveError(
            f"{named}storage {visible(key, 40)}: {why}",
            path=self.checkpoint.path,
            remedy="Drop the tensors that use it, or get the file again.",
            code="source_damaged",
            key=keys[0] if keys else "",
        )


def _stream(place: TensorSource, nbytes: int, unit: int) -> Iterator[memoryview]:
    """The bytes of a storage, the numbers of `unit` bytes turned round where that is more than one."""
    import numpy as np

    with open_storage(place) as storage:
        for at in range(0, nbytes, CHUNK):
            raw = np.empty(min(CHUNK, nbytes - at), np.uint8)
            storage.read_into(at, raw.data)
            yield (raw if unit == 1 else raw.view(f"u{unit}").byteswap().view(np.uint8)).data
