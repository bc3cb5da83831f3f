"""The `.metadata` of torch.distributed.checkpoint: which tensors a folder holds, cut into which parts, stored where.

One pickle of `torch.distributed.checkpoint.metadata.Metadata`:

    state_dict_metadata  {fqn: TensorStorageMetadata(properties, size, chunks) | BytesStorageMetadata()}
    planner_data         {fqn: path in the state dict that was saved}, whose int keys have become str
    storage_data         {MetadataIndex(fqn, offset): _StorageInfo(relative_path, offset, length)}
    storage_meta, version

Read by the inert machine like every other pickle.

Facts: torch 2.13 `torch.distributed.checkpoint` (metadata.py, filesystem.py) and folders of torch 2.0, measured
(docs/formats.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats.torch_tensors import text_of
from sdviewer.formats.torch_values import leaf, qualified_name, raw_name
from sdviewer.pickles.machine import parse
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, elements, pairs, states

MODULE = "torch.distributed.checkpoint.metadata"

Sizes = tuple[int, ...]


class StoredTensor(NamedTuple):
    """A tensor as the metadata describe it: `chunks` are the (offsets, sizes) of its parts, in elements.

    `dtype` is torch's name, "" with a `problem` where the entry makes no sense.
    """

    fqn: str
    dtype: str
    requires_grad: bool | None
    size: Sizes
    chunks: tuple[tuple[Sizes, Sizes], ...]
    problem: str = ""


class StoredAt(NamedTuple):
    """Bytes `offset` to `offset + length` of a file; `transforms` names what the writer did to them, "" for nothing."""

    file: str
    offset: int
    length: int
    transforms: str = ""


@dataclass(slots=True)
class DcpMetadata:
    """What a `.metadata` says; `entries` in its order, a text for an object that is no tensor.

    `places` is keyed by fqn and a part's offsets, None for an object. `paths` holds the steps, int for an index.
    """

    entries: list[StoredTensor | str] = field(default_factory=list)
    paths: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    places: dict[tuple[str, Sizes | None], StoredAt] = field(default_factory=dict)
    version: str | None = None


def read_metadata(data: bytes, progress: Progress) -> DcpMetadata:
    """What the bytes of a `.metadata` say.

    Raises:
        CorruptCheckpoint: they are no pickle, or one of something else.
        Cancelled: from `progress`.
    """
    root = parse(data, progress=progress).root
    if type(root) is not Call or qualified_name(root.function) != f"{MODULE}.Metadata":
        raise CorruptCheckpoint("its .metadata does not describe a checkpoint of torch.distributed.checkpoint")
    fields = _fields(root)
    if "state_dict_metadata" not in fields:
        raise CorruptCheckpoint("its .metadata has no list of tensors")
    made = DcpMetadata()
    for fqn, node in _named(fields["state_dict_metadata"]):
        made.entries.append(_entry(fqn, node))
    for fqn, node in _named(fields.get("planner_data")):
        steps = [_step(item) for _, item in elements(node)]
        if steps and None not in steps:
            made.paths[fqn] = tuple([step for step in steps if step is not None])
    storage = fields.get("storage_data")
    for _, key, value in pairs(storage) if storage is not None else ():
        index, place = _fields(key), _fields(value)
        name = text_of(index["fqn"]) if "fqn" in index else None
        at = _stored_at(place)
        if name is not None and at is not None:
            made.places[name, _sizes(index.get("offset"))] = at
    version = fields.get("version")
    made.version = text_of(version) if version is not None else None
    return made


def _fields(node: Node) -> dict[str, Node]:
    """The attributes that BUILD gives an object."""
    found: dict[str, Node] = {}
    for _, state in states(node):
        for _, key, value in pairs(state):
            name = text_of(key)
            if name is not None:
                found[name] = value
    return found


def _named(node: Node | None) -> Iterator[tuple[str, Node]]:
    """The entries of a mapping whose keys are texts."""
    for _, key, value in pairs(node) if node is not None else ():
        if type(key) is Const and type(key.value) is str:
            yield key.value, value


def _entry(fqn: str, node: Node) -> StoredTensor | str:
    kind = qualified_name(node.function) if type(node) is Call else ""
    if kind == f"{MODULE}.BytesStorageMetadata":
        return fqn
    if kind != f"{MODULE}.TensorStorageMetadata":
        what = raw_name(node.function) if type(node) is Call else "no description"
        return StoredTensor(fqn, "", None, (), (), f"the metadata have {visible(what, 80)} for it")
    fields = _fields(node)
    size = _sizes(fields.get("size"))
    dtype, requires_grad = _properties(fields.get("properties"))
    chunks = []
    chunk_list = fields.get("chunks")
    for _, chunk in elements(chunk_list) if chunk_list is not None else ():
        parts = _fields(chunk)
        offsets, sizes = _sizes(parts.get("offsets")), _sizes(parts.get("sizes"))
        if offsets is None or sizes is None or len(offsets) != len(size or ()) or len(sizes) != len(offsets):
            return StoredTensor(
                fqn, dtype, requires_grad, size or (), (), "the metadata do not say where its parts lie"
            )
        chunks.append((offsets, sizes))
    if size is None or not dtype:
        return StoredTensor(fqn, dtype, requires_grad, (), (), "the metadata do not say its size or dtype")
    return StoredTensor(fqn, dtype, requires_grad, size, tuple(chunks))


def _properties(node: Node | None) -> tuple[str, bool | None]:
    """dtype and requires_grad of a TensorProperties: BUILT from a tuple (dtype, layout, requires_grad, ...)."""
    dtype: Node | None = None
    flag: Node | None = None
    for _, state in states(node) if node is not None else ():
        items = [item for _, item in elements(state)]
        if len(items) > 2:
            dtype, flag = items[0], items[2]
        else:
            named = {text_of(key): value for _, key, value in pairs(state)}
            dtype, flag = named.get("dtype"), named.get("requires_grad")
    name = dtype.name if type(dtype) is Global and dtype.module == "torch" else ""
    return name, flag.value if type(flag) is Const and type(flag.value) is bool else None


def _sizes(node: Node | None) -> Sizes | None:
    """The numbers of a torch.Size; None where it is none."""
    found = leaf(node) if type(node) is Call else None
    if found is not None:
        values = found[1] if found[0] == "torch.Size" else None
    elif type(node) is Group and node.type in ("tuple", "list"):
        values = [item.value if type(item) is Const else None for _, item in elements(node)]
    else:
        return None
    if values is None or not all(type(value) is int for value in values):
        return None
    return tuple(values)


def _step(node: Node) -> str | int | None:
    value = node.value if type(node) is Const else None
    return value if type(value) is str or (type(value) is int and value.bit_length() < 64) else None


def _stored_at(fields: dict[str, Node]) -> StoredAt | None:
    numbers = [fields[name].value for name in ("offset", "length") if type(fields.get(name)) is Const]  # type: ignore[union-attr]
    file = text_of(fields["relative_path"]) if "relative_path" in fields else None
    if file is None or len(numbers) != 2 or not all(type(number) is int for number in numbers):
        return None
    transforms = fields.get("transform_descriptors")
    names = [text_of(item) or "?" for _, item in elements(transforms)] if transforms is not None else []
    return StoredAt(file, numbers[0], numbers[1], ", ".join(names))  # type: ignore[arg-type]
