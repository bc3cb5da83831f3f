"""New torch files of tensors: an OrderedDict as `torch.save` pickles it, in a zip archive or a legacy stream.

The pickle is the one that torch makes of the same tensors, memo slots included, so that every reader knows its way:
storages are named in the order of their use, "0" first, and lie in that order.

Facts: torch 2.13 (`torch.serialization._save`, `_legacy_save`), measured: a test compares byte for byte.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.formats import grafts
from sdviewer.formats.grafts import STORAGE_CLASSES, const, group
from sdviewer.formats.pieces import Layout, Piece, nbytes_of
from sdviewer.formats.tensors_out import TensorOut
from sdviewer.formats.zip_writer import Member, lay_out
from sdviewer.pickles.emit import emit
from sdviewer.pickles.machine import parse
from sdviewer.pickles.nodes import FRESH, Base, Call, Const, Effect, Global, Group, Node, Persistent
from sdviewer.pickles.opcodes import EMPTY_TUPLE

N = TypeVar("N", bound=Base)

_BATCH = 1000
"""Pairs that Python's pickler gives to a dict at once."""

_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_VERSION = bytes.fromhex("80024de9032e")
_UNSTORED = 0
"""Where nodes stand that get no memo slot, in torch's pickles as here; FRESH ones would."""

_SIZES = {"short": 2, "int": 4, "long": 4}
"""What torch says of its machine, whatever that is."""


class StorageOut(NamedTuple):
    """One storage: its key, its length in elements of its class, its bytes (little-endian)."""

    key: str
    numel: int
    data: Piece


def lay_out_new_torch(tensors: Sequence[TensorOut], container: str, out: str, *, copies: bool) -> Layout:
    """The pieces of a new file of an OrderedDict of these tensors; tied ones share a storage.

    `out` is what the file will be called, after which torch names the folder in the archive. `copies`: what lies in the
    source as it will lie here is copied.
    """
    legacy = container == "torch-legacy"
    pickled = _Pickled(legacy)
    data = pickle_of(pickled.state_dict(tensors))
    storages = []
    for key, one in pickled.storages.items():
        piece: Piece = one.place if legacy and copies and one.place is not None else one.made
        storages.append(StorageOut(key, one.nbytes // unit_of(one.dtype), piece))
    return legacy_file(data, storages) if legacy else zip_archive(data, storages, out)


def zip_archive(data_pkl: bytes, storages: Iterable[StorageOut], out: str) -> Layout:
    """A torch zip with this object pickle; the storages in the order in which it first names them."""
    top = _top(out)

    def record(name: str, data: bytes) -> Member:
        return Member(f"{top}/{name}".encode(), data, len(data), zlib.crc32(data))

    members = [
        record("data.pkl", data_pkl),
        record(".format_version", b"1"),
        record(".storage_alignment", b"64"),
        record("byteorder", b"little"),
    ]
    for storage in storages:
        nbytes = nbytes_of(storage.data)
        members.append(Member(f"{top}/data/{storage.key}".encode(), storage.data if nbytes else b"", nbytes, 0))
    members.append(record("version", b"3\n"))
    return Layout(lay_out(members))


def legacy_file(pickle: bytes, storages: Iterable[StorageOut]) -> Layout:
    """A legacy stream with this object pickle; torch wants the storages sorted by their keys as texts."""
    ordered = sorted(storages, key=lambda storage: storage.key)
    facts = [const("protocol_version"), const(1001), const("little_endian"), const(True), const("type_sizes")]
    sizes = group("dict", [node for name, size in _SIZES.items() for node in (const(name), const(size))])
    system = pickle_of(group("dict", [*facts, sizes]))
    keys = pickle_of(group("list", [const(storage.key) for storage in ordered]))
    pieces: list[Piece] = [_MAGIC + _VERSION + system + pickle + keys]
    for storage in ordered:
        pieces.append(storage.numel.to_bytes(8, "little"))
        if nbytes_of(storage.data):
            pieces.append(storage.data)
    return Layout(pieces)


def pickle_of(root: Node) -> bytes:
    """A pickle of protocol 2 of a graph of new nodes."""
    pickle = parse(b"\x80\x02}.")
    pickle.root = root
    return emit(pickle).data


def unit_of(dtype: str) -> int:
    """Bytes of an element of the storage that holds a dtype: an untyped one counts bytes."""
    return DTYPES[dtype].itemsize if dtype in STORAGE_CLASSES else 1


def _top(out: str) -> str:
    """The folder in the archive: the file's name without its suffix, as torch names it where it is ASCII."""
    stem = Path(os.path.basename(out)).stem  # noqa: PTH119  the name as it was given, not as a path is normalised
    plain = stem.isascii() and stem.isprintable() and "/" not in stem and "\\" not in stem
    return stem if plain and stem else "archive"


def _empty_tuple() -> Group:
    return Group(_UNSTORED, "tuple", EMPTY_TUPLE, [])


class _Pickled:
    """The graph in the making; slots of the memo are given in the order in which Python's pickler gives them."""

    def __init__(self, legacy: bool) -> None:
        self.legacy = legacy
        self.storages: dict[str, TensorOut] = {}
        self._slots = 0
        self._names: dict[str, Global] = {}
        self._texts: dict[str, Const] = {}
        self._keys: dict[str, str] = {}

    def state_dict(self, tensors: Sequence[TensorOut]) -> Node:
        made = self._ordered_dict()
        entries = [(self._text(one.key), self._tensor(one)) for one in tensors]
        for at in range(0, len(entries), _BATCH):
            items = [node for entry in entries[at : at + _BATCH] for node in entry]
            made.add_effect(Effect("setitems" if len(items) > 2 else "setitem", items))
        return made

    def _tensor(self, one: TensorOut) -> Node:
        typed = STORAGE_CLASSES.get(one.dtype, "")
        function = self._name("torch._utils", "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
        stored = self._storage(one, typed)
        size = self._numbers(one.shape)
        stride = self._numbers(contiguous_stride(one.shape))
        hooks = self._ordered_dict()
        items: list[Node] = [stored, const(0), size, stride, const(one.requires_grad), hooks]
        if not typed:
            items.append(self._name("torch", one.dtype))
        arguments = self._stored(group("tuple", items))
        return self._stored(Call(FRESH, "reduce", function, [arguments]))

    def _storage(self, one: TensorOut, typed: str) -> Node:
        known = self._keys.get(one.same_as)
        key = known if known is not None else str(len(self.storages))
        self._keys[one.key] = key
        if known is None:
            self.storages[key] = one
        tag = self._text("storage")
        cls = self._name("torch", typed) if typed else self._name("torch.storage", "UntypedStorage")
        items: list[Node] = [tag, cls, self._text(key), self._text("cpu"), const(one.nbytes // unit_of(one.dtype))]
        if self.legacy:
            items.append(const(None))
        return Persistent(_UNSTORED, self._stored(group("tuple", items)))

    def _ordered_dict(self) -> Call:
        function = self._name("collections", "OrderedDict")
        made = Call(FRESH, "reduce", function, [_empty_tuple()])
        self._stored(made)
        return made

    def _numbers(self, values: Iterable[int]) -> Node:
        numbers = grafts.numbers(values)
        return self._stored(numbers) if numbers.items else _empty_tuple()

    def _name(self, module: str, last: str) -> Global:
        found = self._names.get(last)
        if found is None:
            found = self._names[last] = grafts.name(module, last)
            self._stored(found)
        return found

    def _text(self, value: str) -> Const:
        found = self._texts.get(value)
        if found is None:
            found = self._texts[value] = const(value)
            self._stored(found)
        return found

    def _stored(self, node: N) -> N:
        node.add_put(self._slots)
        self._slots += 1
        return node
