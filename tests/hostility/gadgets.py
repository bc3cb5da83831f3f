"""Files that would run something if somebody unpickled them: every class of bypass, in every container.

A gadget is the body of a pickle; the tables of `tests.pickles.test_scan` hold most. Here they are put where a reader
may meet them: as the value beside a tensor, in a record that nobody refers to, in the magic number of a legacy stream.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from tests.formats import test_torch_tar as torch_tar
from tests.formats.conftest import Member, build_zip
from tests.pickles.test_scan import CALLED, HIDDEN, LS, SYSTEM, UNKNOWN, call, name, stacked, text

STORAGE = np.arange(4, dtype="<f4").tobytes()

_PERSISTENT_ID = b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
TENSOR = call(
    name("torch._utils._rebuild_tensor_v2"),
    _PERSISTENT_ID,
    b"K\x00",
    b"K\x04\x85",
    b"K\x01\x85",
    b"\x89",
    call(name("collections.OrderedDict")),
)
"""Four float32 numbers in storage 0."""

# More ways of section 2.2, which the tables of the scan do not have. Each leaves one object on the stack.
MORE = {
    "eval of python 2": call(name("__builtin__.eval"), text("1")),
    "a name of python 2 that is mapped": call(name("commands.getoutput"), LS),
    "torch.load of another file": call(
        call(name("functools.partial"), name("torch.load"), text("other.pt"))
        + b"N}"
        + text("weights_only")
        + b"\x89s\x86b"
    ),
    "setstate of a partial": (
        name("functools.partial") + name("builtins.print") + b"\x85\x81(" + name("os.system") + LS + b"\x85}Ntb)R"
    ),
    "reduce written as a state": (
        name("argparse.Namespace") + b")\x81}" + text("__reduce__") + name("os.system") + b"sb"
    ),
    "hooks of a module": (
        name("torch.nn.Linear") + b")\x81}" + text("_forward_hooks") + b"}K\x01" + name("os.system") + b"ssb"
    ),
    "a call in the hooks of a tensor": call(
        name("torch._utils._rebuild_tensor_v2"), _PERSISTENT_ID, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", SYSTEM
    ),
    "a call as the storage of a tensor": call(
        name("torch._utils._rebuild_tensor_v2"), SYSTEM, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", b"}"
    ),
    "a call as the size of a tensor": call(
        name("torch._utils._rebuild_tensor_v2"), _PERSISTENT_ID, b"K\x00", SYSTEM, b"K\x01\x85", b"\x89", b"}"
    ),
    "pickle of a pickle in base64": call(
        name("pickle.loads"), call(name("base64.b64decode"), text("Y29zCnN5c3RlbQooUydscycKdFIu"))
    ),
    "compressed pickle": call(name("pickle.loads"), call(name("zlib.decompress"), b"C\x02xx")),
    "resolver": call(call(name("pkgutil.resolve_name"), text("os:system")), LS),
    "attrgetter": call(call(name("operator.attrgetter"), text("system")), name("torch.os")),
    "methodcaller": call(call(name("operator.methodcaller"), text("system"), LS), name("torch.os")),
    "remover of a scanner's hook": call(name("fickling.hook.remove_hook")) + b"0" + SYSTEM,
    "bytes for a name": call(b"C\x02os" + text("system") + b"\x93", LS) + b"0" + SYSTEM,
    "a frozenset with a call": b"(" + SYSTEM + b"\x91",
    "a call as key of a key": b"}(" + b"}(" + SYSTEM + b"K\x01u\x85" + b"K\x01u",
    "a list behind a tuple in a set": b"\x8f(" + b"(" + SYSTEM + b"tK\x01\x86" + b"\x90",
    "a subclass of dict with a call in its items": name("mypackage.Config") + b")\x81(" + text("a") + SYSTEM + b"u",
    "memo of another type": b"]q\x000" + name("os.system") + b"q\x01" + b"0h\x01" + LS + b"\x85R",
    "far memo slot": name("os.system") + b"r\x00\x00\x00\x70" + b"0j\x00\x00\x00\x70" + LS + b"\x85R",
    "a long list first": b"]" + b"(" + b"K\x01" * 5000 + b"e0" + SYSTEM,
    "duplicated ten thousand times": SYSTEM + b"2" * 10000 + b"0" * 10000,
    "torch.storage of a pickle in a pickle": call(
        name("torch.storage._load_from_bytes"),
        b"B" + struct.pack("<I", 40) + (b"\x80\x02" + SYSTEM + b".").ljust(40, b"\0"),
    ),
    "numpy object array": (
        call(name("numpy.core.multiarray._reconstruct"), name("numpy.ndarray"), b"K\x00\x85", text("b"))
        + b"(K\x01K\x01\x85"
        + call(name("numpy.dtype"), text("O8"), b"\x89", b"\x88")
        + b"\x89]"
        + SYSTEM
        + b"atb"
    ),
}  # fmt: skip

_UNKNOWN_OF_MORE = {
    "bytes for a name": "Python's own machine stops there, so what follows is not read",
    "reduce written as a state": "loading calls nothing; only pickling the object again would",
}

HARMLESS = b"}(" + text("w") + TENSOR + b"u"
"""The body of an honest checkpoint: {"w": tensor}."""


class HostileFile(NamedTuple):
    """One file. `verdicts` are the answers of a scan that are right; `pickles` are what Python would unpickle in it."""

    name: str
    data: bytes
    verdicts: tuple[str, ...]
    pickles: tuple[bytes, ...]


def bodies() -> Iterator[tuple[str, bytes, str]]:
    """Every gadget: its name, its body, and the verdict of a scan."""
    for qualified in CALLED:
        yield f"call {qualified}", call(name(qualified), LS), "dangerous"
    for qualified in CALLED[::6]:
        module, _, last = qualified.rpartition(".")
        yield f"inst {qualified}", b"(" + LS + b"i" + name(qualified)[1:], "dangerous"
        yield f"stack_global {qualified}", call(stacked(module, last), LS), "dangerous"
    for title, body in (*HIDDEN.items(), *MORE.items()):
        yield title, body, "unknown" if title in _UNKNOWN_OF_MORE else "dangerous"
    for title, body in UNKNOWN.items():
        yield title, body, "unknown"


def whole(body: bytes) -> bytes:
    """A pickle of one body."""
    return b"\x80\x04" + body + b"."


def beside(body: bytes) -> bytes:
    """A pickle of a dict that has a tensor, then the gadget, then another tensor."""
    return whole(b"}(" + text("w") + TENSOR + text("evil") + body + text("z") + TENSOR + b"u")


def as_key(body: bytes) -> bytes:
    """A pickle of a dict in which the gadget is a key."""
    return whole(b"}(" + text("w") + TENSOR + body + TENSOR + b"u")


def torch_zip(data_pkl: bytes, *more: Member) -> bytes:
    """A torch zip around a pickle."""
    return build_zip(
        [
            Member("archive/data.pkl", data_pkl),
            Member("archive/byteorder", b"little"),
            Member("archive/data/0", STORAGE),
            *more,
            Member("archive/version", b"3\n"),
        ]
    ).data


MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."
SYS_INFO = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
KEYS = pickle.dumps(["0"], 2)


def legacy(
    objects: bytes = whole(HARMLESS),
    *,
    magic: bytes = MAGIC,
    version: bytes = VERSION,
    sys_info: bytes = SYS_INFO,
    keys: bytes = KEYS,
) -> bytes:
    """A legacy stream whose five pickles a test may replace."""
    return magic + version + sys_info + objects + keys + struct.pack("<q", 4) + STORAGE


def safetensors(metadata: dict[str, str], name_: str = "w") -> bytes:
    """A safetensors file of one tensor."""
    header = {"__metadata__": metadata, name_: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + STORAGE


def npz_member(data: bytes) -> bytes:
    """An `.npy` of an object array whose pickle is `data`."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return buffer.getvalue() + data


def hostile_files() -> Iterator[HostileFile]:
    """Every gadget beside a tensor of a torch zip, and a few of them at every other place of every container."""
    for title, body, verdict in bodies():
        data = beside(body)
        # torch's magic, version and object pickles are what Python would load; the gadget sits in the object.
        yield HostileFile(f"zip, {title}", torch_zip(data), (verdict,), (data,))
    for title in ("inst", "obj", "newobj", "stack_global", "popped", "in a set", "build on a function", "dotted"):
        data = as_key(HIDDEN[title])
        yield HostileFile(f"zip, as a key, {title}", torch_zip(data), ("dangerous",), (data,))
        data = beside(HIDDEN[title])
        yield HostileFile(f"legacy, {title}", legacy(data), ("dangerous",), (data,))
    yield from _in_zips()
    yield from _in_streams()
    yield from _in_tars()
    yield from _as_text()


def _in_zips() -> Iterator[HostileFile]:
    evil = whole(SYSTEM)
    text_evil = b"cos\nsystem\n(S'ls'\ntR."
    honest = whole(HARMLESS)
    dangerous = ("dangerous",)
    for title, member in {
        "unreferenced .pkl": Member("archive/extra.pkl", evil),
        "unreferenced, of protocol 0": Member("archive/extra.pkl", text_evil),
        "unreferenced and deflated": Member("archive/extra.pkl", evil, 8),
        "in .metadata": Member("archive/.metadata", evil),
        "in .metadata, of protocol 0": Member("archive/.metadata", text_evil),
        "under another top": Member("other/data.pkl", evil),
        "under no top": Member("data.pkl", evil),
        "in a record without a name": Member("archive/", evil),
        "in a record called like a picture": Member("archive/logo.png", evil),
        "deflated, called like a picture": Member("archive/logo.png", evil, 8),
        "in a storage of no number": Member("archive/data/evil", evil),
        "second data.pkl": Member("archive/data.pkl", evil),
        "data.pkl in upper case": Member("archive/DATA.PKL", evil),
        "in an object array": Member("archive/array.npy", npz_member(evil)),
        "in an object array, deflated": Member("archive/array.npy", npz_member(evil), 8),
        "in code of a TorchScript archive": Member("archive/constants.pkl", evil),
        "in a torch.package": Member("archive/.data/extern_modules.pkl", evil),
        "with a wrong checksum": Member("archive/extra.pkl", evil, crc=1),
    }.items():
        yield HostileFile(f"zip, {title}", torch_zip(honest, member), dangerous, (evil,))
    for title, member in {
        "encrypted": Member("archive/extra.pkl", evil, flags=1),
        "strongly encrypted": Member("archive/extra.pkl", evil, flags=0x41),
        "of a method nobody knows": Member("archive/extra.pkl", evil, 12),
        "of a size that lies": Member("archive/extra.pkl", evil, usize=len(evil) + 1),
        "out of the file": Member("archive/extra.pkl", evil, offset=1 << 30),
    }.items():
        # What cannot be read cannot be judged, and is never called clean.
        yield HostileFile(f"zip, {title}", torch_zip(honest, member), ("unknown",), (evil,))
    yield HostileFile(
        "zip, first data.pkl", torch_zip(beside(SYSTEM), Member("archive/data.pkl", honest)), dangerous, (evil,)
    )
    yield HostileFile("zip, whole", torch_zip(evil), dangerous, (evil,))
    yield HostileFile(
        "zip, deflated", build_zip([Member("a/data.pkl", evil, 8), Member("a/version", b"3")]).data, dangerous, (evil,)
    )
    yield HostileFile("zip, behind STOP", torch_zip(honest + evil), dangerous, (evil,))
    yield HostileFile("zip, behind STOP, of protocol 0", torch_zip(honest + text_evil), dangerous, (text_evil,))
    yield HostileFile("zip, then garbage", torch_zip(whole(HARMLESS)[:-1] + SYSTEM + b"\xff\xff"), dangerous, (evil,))
    yield HostileFile(
        "zip, in a storage key",
        torch_zip(beside(b"(" + text("storage") + SYSTEM + text("0") + text("cpu") + b"K\x04tQ")),
        dangerous,
        (evil,),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", beside(SYSTEM))
        archive.writestr("archive/data/0", STORAGE)
        archive.writestr("archive/data/1", bytes(1000))
    yield HostileFile("zip, cut behind the pickle", buffer.getvalue()[:-600], dangerous, (evil,))
    npz = build_zip([Member("a.npy", npz_member(evil)), Member("b.npy", npz_member(evil), 8)]).data
    yield HostileFile("npz", npz, dangerous, (evil,))
    frame = b"\x95" + struct.pack("<Q", 4) + b"\x8c\x20" + b"os" + SYSTEM.ljust(30, b" ")
    # A reader that buffers frames runs what the other one takes for a string: damage, and never called clean.
    yield HostileFile(
        "zip, over the end of a frame", torch_zip(b"\x80\x04" + frame + b"."), ("unknown", "dangerous"), (evil,)
    )


def _in_streams() -> Iterator[HostileFile]:
    evil = whole(SYSTEM)
    dangerous = ("dangerous",)
    computed = b"\x80\x02" + call(name("builtins.eval"), text("0x1950a86a20f9469cfc6c")) + b"."
    yield HostileFile("legacy, magic by eval", legacy(magic=computed), dangerous, (computed,))
    popped = b"\x80\x02" + MAGIC[2:-1] + SYSTEM + b"0."
    yield HostileFile("legacy, magic with a popped call", legacy(magic=popped), dangerous, (popped,))
    yield HostileFile("legacy, version", legacy(version=evil), dangerous, (evil,))
    yield HostileFile("legacy, sys_info", legacy(sys_info=evil), dangerous, (evil,))
    inside = whole(b"}" + text("little_endian") + SYSTEM + b"s")
    yield HostileFile("legacy, in sys_info", legacy(sys_info=inside), dangerous, (inside,))
    yield HostileFile("legacy, keys", legacy(keys=evil), dangerous, (evil,))
    inside = whole(b"](" + text("0") + SYSTEM + b"e")
    yield HostileFile("legacy, in keys", legacy(keys=inside), dangerous, (inside,))
    yield HostileFile("legacy, whole", legacy(evil), dangerous, (evil,))
    cut = legacy(beside(SYSTEM))
    yield HostileFile("legacy, cut behind the call", cut[: cut.rindex(SYSTEM) + len(SYSTEM) + 5], dangerous, (evil,))
    for protocol in (2, 4, 5):
        bare = b"\x80" + bytes([protocol]) + SYSTEM + b"."
        yield HostileFile(f"bare pickle of protocol {protocol}", bare, dangerous, (bare,))
    yield HostileFile("several bare pickles", whole(HARMLESS) + evil, dangerous, (evil,))
    # The first string of a pickle that is also the header of a safetensors file.
    inner = json.dumps({"w": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}})
    polyglot = b"\x80\x02X" + struct.pack("<I", len(inner) + 1) + b"\0" + inner.encode() + b"0" + SYSTEM + b"."
    yield HostileFile("pickle and safetensors at once", polyglot, dangerous, (polyglot,))


def _in_tars() -> Iterator[HostileFile]:
    evil = whole(SYSTEM)
    honest = {"pickle": whole(b"}"), "tensors": torch_tar.tensors([]), "storages": torch_tar.storages([], [])}
    for member in honest:
        data = torch_tar.tar({**honest, member: evil})
        yield HostileFile(f"tar, {member}", data, ("dangerous",), (evil,))


def _as_text() -> Iterator[HostileFile]:
    # In a safetensors file all of it is text: nobody unpickles it, and there is nothing to be alarmed about.
    evil = whole(SYSTEM)
    for title, data in {
        "whose length begins like a pickle": safetensors({"a": "x" * (0x0280 - len(safetensors({"a": ""})) + 24)}),
        "in the metadata": safetensors({"evil": evil.decode("latin-1"), "code": "__import__('os').system('ls')"}),
        "in a name": safetensors({}, evil.decode("latin-1")),
        "in a template": safetensors({"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}),
    }.items():
        yield HostileFile(f"safetensors, {title}", data, ("clean",), ())


def honest_files() -> Iterator[tuple[str, bytes]]:
    """One of each container, to load what sdviewer loads only when it is first needed."""
    from tests.hostility.mutations import TARGETS

    for i, data in enumerate(TARGETS["formats"].seeds()):
        yield f"format {i}", data
    yield "zip", torch_zip(whole(HARMLESS))
    yield "zip with a class", torch_zip(beside(call(name("mypackage.Thing"))))
    yield (
        "deflated",
        build_zip(
            [Member("a/data.pkl", whole(HARMLESS), 8), Member("a/data/0", STORAGE, 8), Member("a/version", b"3")]
        ).data,
    )
    yield "legacy", legacy()
    yield "safetensors", safetensors({"a": "b"})
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(4.0), "odd": "\ud800"}, buffer)
    yield "by torch", buffer.getvalue()
    yield "none", b"hello, this is not a checkpoint"
    yield "protocol 0", torch_zip(pickle.dumps({"a": ["x\n", 1.5, 2**70, "\u20ac"]}, 0))
