"""Pickles that the tests of this room share: made here, by Python's own pickler and by torch."""

from __future__ import annotations

import collections
import datetime
import decimal
import io
import pathlib
import pickle
import zipfile
from typing import Any

import torch


class Plain:
    """An object with attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    """An object whose state is a pair."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {"inner": self.inner}


class Words(list[str]):
    """A list subclass: items by APPENDS on a call."""


class Named(dict[str, int]):
    """A dict subclass: items by SETITEMS on a call."""


class Keyworded:
    """NEWOBJ_EX in protocol 4, a partial of `__new__` below."""

    def __new__(cls, *, size: int) -> Keyworded:
        self = super().__new__(cls)
        self.size = size
        return self

    size: int

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        return (), {"size": self.size}


def objects() -> dict[str, Any]:
    """Name -> object, of every kind that a pickler writes differently."""
    shared = ["shared"]
    loop: list[Any] = [1]
    loop.append(loop)
    tangle: dict[str, Any] = {"in": []}
    tangle["in"].append((tangle, tangle["in"]))
    knot: tuple[Any, ...] = ([],)
    knot[0].append(knot)
    wide_knot: tuple[Any, ...] = ([], 2, 3, 4)
    wide_knot[0].append(wide_knot)
    parent = Plain(name="parent")
    parent.child = Plain(parent=parent)  # type: ignore[attr-defined]
    return {
        "constants": [None, True, False, 0, 1, 255, 256, 65535, 65536, -1, 2**31, -(2**31), 2**40, 1.5, -0.0, 1e300],
        "integers": [2**63, -(2**63), 2**2000, -(2**2040), 1 << 2047],
        "text": ["", "a", "é", "日本", "\ud800", "a\nb\\c\0d\x1a\r", "x" * 300],
        "bytes": [b"", b"a", bytes(range(256)), b"x" * 300],
        "bytearray": [bytearray(b""), bytearray(b"abc")],
        "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], {}, {"a": 1}, {"a": 1, "b": 2}],
        "sets": [set(), {1, 2}, frozenset(), frozenset({"a"}), {frozenset({1})}],
        "batches": [list(range(2500)), {i: str(i) for i in range(2500)}, set(range(1500))],
        "keys": {1: 1, 1.5: 2, None: 3, b"k": 4, ("t", 1): 5, frozenset({1}): 6, "": 7},
        "shared": [shared, shared, (shared, "word"), "word"],
        "objects": [Plain(a=1, b=[2]), Slotted(3), Words(["a", "b"]), Named(a=1), Keyworded(size=4)],
        "library": [
            collections.OrderedDict(a=1),
            collections.Counter("aab"),
            collections.defaultdict(list, a=[1]),
            collections.deque([1, 2], maxlen=3),
            datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
            decimal.Decimal("1.10"),
            pathlib.PurePosixPath("a/b"),
            complex(1, 2),
            range(3),
            slice(1, 2),
            Ellipsis,
        ],
        "functions": [len, print, Plain, collections.OrderedDict.fromkeys],
        "loop": loop,
        "tangle": tangle,
        "knot": knot,
        "wide knot": wide_knot,
        "knot inside": {"a": [knot, (1, knot)]},
        "parent": parent,
    }


def torch_file(thing: Any, protocol: int = 2) -> bytes:
    """The zip that torch.save makes of `thing`."""
    buffer = io.BytesIO()
    torch.save(thing, buffer, pickle_protocol=protocol)
    return buffer.getvalue()


def torch_pickle(thing: Any, protocol: int = 2) -> bytes:
    """The `data.pkl` of what torch.save makes of `thing`."""
    with zipfile.ZipFile(io.BytesIO(torch_file(thing, protocol))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def tensors(count: int) -> dict[str, torch.Tensor]:
    """A flat state dict of many shapes."""
    shapes: list[tuple[int, ...]] = [(2, 3), (4,), (), (1, 2, 3), (1, 2, 1, 2, 1), (300, 2)]
    return {f"layers.{i}.weight": torch.zeros(shapes[i % len(shapes)]) for i in range(count)}


class StorageFree(pickle.Unpickler):
    """Unpickles a torch pickle without torch: a storage becomes its key, a tensor the tuple of what it was made of."""

    def persistent_load(self, pid: Any) -> Any:
        return pid[2]

    def find_class(self, module: str, name: str) -> Any:
        if name == "_rebuild_tensor_v2":
            return lambda *args: ("tensor", *args[:5])
        if module.startswith("torch"):
            return name
        return super().find_class(module, name)


def load(data: bytes) -> Any:
    """What a pickle that a test has made, and sdviewer has edited, is for Python."""
    return StorageFree(io.BytesIO(data)).load()
