"""Gadgets where other containers keep them: folders of several files, and formats that are no torch file.

What a distributed checkpoint describes itself with is a pickle that torch loads without any list of names; the shards
of an index and the ranks of a DeepSpeed folder are torch files; arrays of objects, packages and exported programs hold
pickles of their own. The others hold text that some library would evaluate, and names of files that are not theirs.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, TensorProperties

from tests.formats.conftest import Member, build_zip
from tests.formats.dcp_folders import write_dcp
from tests.formats.test_deepspeed import write_zero_three, write_zero_two
from tests.formats.test_gguf import gguf_file, pair
from tests.formats.test_gguf import text as gguf_text
from tests.formats.test_onnx import block, external, initializer, model
from tests.formats.test_opening import torch_call
from tests.hostility.gadgets import HARMLESS, STORAGE, beside, legacy, npz_member, safetensors, torch_zip, whole
from tests.pickles.test_scan import HIDDEN, SYSTEM

EVIL = whole(SYSTEM)
DANGEROUS = ("dangerous",)
NO_PICKLE = ("clean", "unknown")
REFUSED = ("refused: corrupt",)
CODE = "__import__('os').system('ls')"


class HostileSet(NamedTuple):
    """Files by their names, and which of them is opened ("" for the folder).

    `verdicts` are the answers of a scan that are right; `pickles` are what Python would unpickle in them; `naive` names
    what would load it without a thought (`tests.hostility.tripwire.NAIVE`), and run it.
    """

    name: str
    files: Mapping[str, bytes]
    opened: str
    verdicts: tuple[str, ...]
    pickles: tuple[bytes, ...] = ()
    naive: str = ""


class Runs:
    """An object whose pickle calls `os.system`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("ls",)


def folder_of(make: Callable[[Path], object]) -> dict[str, bytes]:
    """The files that `make` writes into a folder, by their paths in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "made"
        make(folder)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hostile_sets() -> Iterator[HostileSet]:
    """Every container but the single torch file, with a gadget in each place that it has for one."""
    yield from _distributed()
    yield from _indexes()
    yield from _deepspeed()
    yield from _arrays()
    yield from _archives()
    yield from _as_text()
    yield from _hdf5()


# torch.distributed.checkpoint

TENSORS = {"w": torch.arange(4.0), "bias": torch.ones(2, 3)}


def _dcp(change: Callable[[Any], object] | None = None, **options: Any) -> dict[str, bytes]:
    return folder_of(lambda folder: write_dcp(folder, {**TENSORS, "epoch": 3}, change=change, **options))


def _distributed() -> Iterator[HostileSet]:
    def first(metadata: Any) -> Any:
        return next(iter(metadata.state_dict_metadata.values()))

    def index(metadata: Any) -> Any:
        return next(iter(metadata.storage_data))

    def many(metadata: Any) -> None:
        described, planner = metadata.state_dict_metadata, metadata.planner_data
        for i in range(6000):
            described[f"module.layers.{i}.{'long.' * 30}weight"] = first(metadata)
            planner[f"module.layers.{i}.{'long.' * 30}weight"] = ("module", f"layers.{i}.{'long.' * 30}weight")

    def many_and(change: Callable[[Any], object]) -> Callable[[Any], None]:
        def both(metadata: Any) -> None:
            many(metadata)
            change(metadata)

        return both

    def put(where: str) -> Callable[[Any], object]:
        return lambda metadata: setattr(metadata, where, Runs())

    places: dict[str, Callable[[Any], object]] = {
        "as a tensor": lambda m: m.state_dict_metadata.update(w=Runs()),
        "as the last entry": lambda m: m.state_dict_metadata.update(zzz=Runs()),
        "as a name": lambda m: m.state_dict_metadata.update({Runs(): BytesStorageMetadata()}),
        "as properties": lambda m: setattr(first(m), "properties", Runs()),
        "as a dtype": lambda m: setattr(first(m), "properties", TensorProperties(dtype=Runs())),  # type: ignore[arg-type]
        "as a size": lambda m: setattr(first(m), "size", Runs()),
        "as the parts": lambda m: setattr(first(m), "chunks", [Runs()]),
        "as planner data": put("planner_data"),
        "as a path": lambda m: m.planner_data.update(w=(Runs(),)),
        "as storage data": put("storage_data"),
        "as a place": lambda m: m.storage_data.update({index(m): Runs()}),
        "as a file": lambda m: setattr(next(iter(m.storage_data.values())), "relative_path", Runs()),
        "as storage meta": put("storage_meta"),
        "as version": put("version"),
        "as another attribute": put("hidden"),
        "in a long one": many_and(put("version")),
        "among many entries": many_and(lambda m: m.state_dict_metadata.update({"module.zzz": Runs()})),
    }
    for title, change in places.items():
        files = _dcp(change)
        yield HostileSet(f"dcp metadata, {title}", files, "", DANGEROUS, (files[".metadata"],), "dcp")
    files = _dcp()
    honest = pickle.dumps(pickle.loads(files[".metadata"]), 2)
    for title in ("popped", "build on a function", "dotted", "stack_global", "inst", "obj", "newobj"):
        data = honest[:-1] + HIDDEN[title] + b"0."
        # The others stop Python's own machine, or run no program.
        naive = "dcp" if title in ("popped", "stack_global", "inst", "obj") else ""
        yield HostileSet(f"dcp metadata, {title}", {**files, ".metadata": data}, "", DANGEROUS, (data,), naive)
    data = honest[:-1] + SYSTEM + b"0."
    yield HostileSet("dcp, .metadata opened", {**files, ".metadata": data}, ".metadata", DANGEROUS, (data,))
    yield HostileSet("dcp, behind STOP", {**files, ".metadata": honest + EVIL}, "", DANGEROUS, (EVIL,))
    for title, archive in {"zip": torch_zip(beside(SYSTEM)), "legacy": legacy(beside(SYSTEM))}.items():
        files = _dcp(pack=lambda _, archive=archive: archive)
        yield HostileSet(f"dcp, parts that are hostile, {title}", files, "", DANGEROUS, (beside(SYSTEM),))
    objects = folder_of(lambda folder: write_dcp(folder, {"w": TENSORS["w"], "thing": Runs()}))
    yield HostileSet("dcp, an object", objects, "", DANGEROUS, (EVIL,))
    for title, name in {"above": "../../outside", "absolute": "/etc/passwd", "a device": "/dev/zero"}.items():
        files = _dcp(lambda m, name=name: setattr(next(iter(m.storage_data.values())), "relative_path", name))
        yield HostileSet(f"dcp, a file {title}", files, "", NO_PICKLE)


# Indexes and DeepSpeed


def _index(weight_map: Mapping[str, str], **more: Any) -> bytes:
    return json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map, **more}).encode()


def _indexes() -> Iterator[HostileSet]:
    honest = torch_zip(whole(HARMLESS))
    torch_index, name = "pytorch_model.bin.index.json", "pytorch_model-0000{}-of-00002.bin"
    listed = _index({"w": name.format(1), "z": name.format(2)})
    for title, shard in {
        "a zip": torch_zip(beside(SYSTEM)),
        "an unreferenced record": torch_zip(whole(HARMLESS), Member("archive/extra.pkl", EVIL)),
        "a legacy stream": legacy(beside(SYSTEM)),
        "a bare pickle": EVIL,
    }.items():
        files = {torch_index: listed, name.format(1): honest, name.format(2): shard}
        yield HostileSet(f"index, {title}", files, torch_index, DANGEROUS, (EVIL,), "shard" if title == "a zip" else "")
    files = {torch_index: listed, name.format(1): honest, name.format(2): torch_zip(beside(SYSTEM))}
    yield HostileSet("index, its folder", files, "", DANGEROUS, (EVIL,))
    index, shard_name = "model.safetensors.index.json", "model-00001-of-00001.safetensors"
    for title, shard in {"a zip": torch_zip(beside(SYSTEM)), "a bare pickle": EVIL}.items():
        files = {index: _index({"w": shard_name}), shard_name: shard}
        yield HostileSet(f"index, called safetensors, {title}", files, index, DANGEROUS, (EVIL,))
    files = {index: _index({"w": shard_name}, code=CODE), shard_name: safetensors({"code": CODE})}
    yield HostileSet("index, text", files, index, NO_PICKLE)
    for title, named in {"above": "../outside.bin", "absolute": "/etc/passwd", "a pipe": "|ls"}.items():
        yield HostileSet(f"index, a shard {title}", {index: _index({"w": named})}, index, NO_PICKLE)


def _deepspeed() -> Iterator[HostileSet]:
    two = folder_of(lambda folder: write_zero_two(folder, 2))
    three = folder_of(lambda folder: write_zero_three(folder, 2))
    for stage, files in {"two": two, "three": three}.items():
        for name in sorted(name for name in files if name.endswith(".pt")):
            for title, data in {"zip": torch_zip(beside(SYSTEM)), "legacy": legacy(beside(SYSTEM))}.items():
                label = f"deepspeed {stage}, {name.rpartition('/')[2]}, {title}"
                yield HostileSet(label, {**files, name: data}, "", DANGEROUS, (beside(SYSTEM),))
    for title, latest in {"above": b"../..", "absolute": b"/etc", "code": CODE.encode()}.items():
        yield HostileSet(f"deepspeed, latest {title}", {**two, "latest": latest}, "", ("unknown", "dangerous", "clean"))


# Arrays, packages, programs


def _npy(descr: str, data: bytes, shape: str = "(1,)") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def _arrays() -> Iterator[HostileSet]:
    fielded = _npy("[('a', '|O'), ('b', '<f4')]", EVIL)
    for title, data in {"objects": npz_member(EVIL), "a field of objects": fielded}.items():
        yield HostileSet(f"npy, {title}", {"a.npy": data}, "a.npy", DANGEROUS, (EVIL,), "numpy")
    honest = _npy("'<f4'", STORAGE, "(4,)")
    members = [Member("w.npy", honest), Member("x.npy", npz_member(EVIL))]
    yield HostileSet("npz, beside numbers", {"a.npz": build_zip(members).data}, "a.npz", DANGEROUS, (EVIL,), "numpy")
    members[1] = Member("x.npy", fielded, 8)
    yield HostileSet("npz, a deflated field", {"a.npz": build_zip(members).data}, "a.npz", DANGEROUS, (EVIL,))
    for title, descr in {"code": CODE, "a nested expression": "(" * 50 + "1" + ")" * 50}.items():
        yield HostileSet(f"npy, {title} as dtype", {"a.npy": _npy(descr, b"")}, "a.npy", REFUSED)
    yield HostileSet("npy, code as shape", {"a.npy": _npy("'<f4'", b"", f"({CODE},)")}, "a.npy", REFUSED)


def _archives() -> Iterator[HostileSet]:
    harmless = b"\x80\3}X\1\0\0\0w" + torch_call(b"0", 4, b"K\4\x85", b"K\1\x85") + b"s"
    source = Member("p/evil.py", f"import os\n{CODE}\n".encode())
    storage = [
        Member("p/.data/0.storage", STORAGE),
        Member("p/.data/extern_modules", b"os\n"),
        source,
        Member("p/version", b"6\n"),
    ]
    for title, members in {
        "the pickle": [Member("p/model/model.pkl", EVIL)],
        "beside a tensor": [Member("p/model/model.pkl", harmless + b"(X\1\0\0\0z" + SYSTEM + b"u.")],
        "another pickle": [Member("p/model/model.pkl", harmless + b"."), Member("p/more/more.pkl", EVIL)],
    }.items():
        naive = "package" if title == "the pickle" else ""
        data = build_zip([*members, *storage]).data
        yield HostileSet(f"package, {title}", {"p.pt": data}, "p.pt", DANGEROUS, (EVIL,), naive)
    code = Member("m/code/__torch__.py", f"{CODE}\nclass Net(Module):\n  w : Tensor\n".encode())
    script = b"\x80\2c__torch__\nNet\n)\x81}(X\1\0\0\0w" + torch_call(b"0", 4, b"K\4\x85", b"K\1\x85")
    parts = [Member("m/data/0", STORAGE), code, Member("m/version", b"3\n")]
    for title, members in {
        "in its objects": [Member("m/data.pkl", script + b"X\1\0\0\0z" + SYSTEM + b"ub."), _constants(b"\x80\2).")],
        "in its constants": [Member("m/data.pkl", script + b"ub."), _constants(EVIL)],
        "in its debug records": [
            Member("m/data.pkl", script + b"ub."),
            _constants(b"\x80\2)."),
            Member("m/code/__torch__.py.debug_pkl", EVIL),
        ],
        "in its extra files": [
            Member("m/data.pkl", script + b"ub."),
            _constants(b"\x80\2)."),
            Member("m/extra/x", EVIL),
        ],
    }.items():
        data = build_zip([*members, *parts]).data
        yield HostileSet(f"torchscript, {title}", {"m.pt": data}, "m.pt", DANGEROUS, (EVIL,))
    meta = {"dtype": 7, "sizes": [{"as_expr": {"expr_str": CODE}}], "strides": [{"as_int": 1}]}
    honest = {"dtype": 7, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}]}
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": honest}
    for title, entry, pickled in (
        ("a pickled weight", {**weight, "use_pickle": True}, torch_zip(beside(SYSTEM))),
        ("a weight that is a bare pickle", {**weight, "use_pickle": True}, EVIL),
        ("a size that is code", {**weight, "tensor_meta": meta}, STORAGE),
        ("a name that leads out", {**weight, "path_name": "../../../etc/passwd"}, STORAGE),
    ):
        config = {"config": {"w": entry}}
        members = [
            Member("m/archive_format", b"pt2"),
            Member("m/models/model.json", json.dumps({"range_constraints": {CODE: CODE}}).encode()),
            Member("m/data/weights/weight_0", pickled),
            Member("m/data/weights/model_weights_config.json", json.dumps(config).encode()),
            Member("m/data/aotinductor/model/model.so", b"\x7fELF not really"),
        ]
        pickles = () if pickled is STORAGE else (EVIL,)
        files = {"m.pt2": build_zip(members).data}
        yield HostileSet(f"pt2, {title}", files, "m.pt2", DANGEROUS if pickles else NO_PICKLE, pickles)


def _constants(data: bytes) -> Member:
    return Member("m/constants.pkl", data)


# Formats without pickles: text that somebody would evaluate, files that are none of theirs


def _as_text() -> Iterator[HostileSet]:
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    pairs = [pair("tokenizer.chat_template", 8, gguf_text(template)), pair("general.name", 8, gguf_text(CODE))]
    evil = EVIL.decode("latin-1")
    for title, data in {
        "a template": gguf_file((("w", (4,), 0, 0),), STORAGE, pairs=pairs),
        "a name": gguf_file(((CODE, (4,), 0, 0),), STORAGE),
    }.items():
        yield HostileSet(f"gguf, {title}", {"m.gguf": data}, "m.gguf", NO_PICKLE)
    for title, data in {
        "a name": model(initializer(evil, (4,), 1, STORAGE)),
        "a file above": model(external("w", "../../outside.bin")),
        "an absolute file": model(external("w", "/etc/passwd")),
        "a device": model(external("w", "/dev/zero")),
        "metadata": model(
            initializer("w", (4,), 1, STORAGE), tail=block(14, block(1, b"code") + block(2, CODE.encode()))
        ),
    }.items():
        yield HostileSet(f"onnx, {title}", {"m.onnx": data}, "m.onnx", NO_PICKLE)


LAMBDA = {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": "4w=="}}}}
"""A layer that is Python's bytecode."""

SEEN_WHOLE = ("an external link", "external storage", "a lambda")
"""Files that everything is done with; each start of the process that reads them costs a third of a second."""


def h5(build: Callable[[Any], object]) -> bytes:
    """An HDF5 file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["w"] = np.arange(4, dtype="<f4")
        build(file)
    return buffer.getvalue()


def hdf5_files() -> Iterator[tuple[str, bytes]]:
    """What an HDF5 file can have of other files and of objects."""

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((4,), "<f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "w", (4,))
        file.create_virtual_dataset("virtual", layout)

    def opaque(file: Any) -> None:
        file["opaque"] = np.array([np.void(EVIL)])
        file.attrs["pickled"] = np.void(EVIL)
        file.attrs["text"] = EVIL.decode("latin-1").replace("\0", " ")

    def keras(file: Any) -> None:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [LAMBDA]}})
        file.attrs["keras_version"] = "2.15.0"

    def filtered(file: Any) -> None:
        made = file.create_dataset("filtered", (4,), "<f4", chunks=(4,), shuffle=True, compression="gzip")
        made[:] = 1

    for title, build in {
        "an external link": lambda file: file.__setitem__("out", h5py.ExternalLink("/etc/passwd", "/")),
        "external storage": lambda file: file.create_dataset("out", (4,), "<f4", external=[("/etc/passwd", 0, 16)]),
        "a virtual dataset": virtual,
        "a link in a circle": lambda file: file.__setitem__("round", h5py.SoftLink("/round")),
        "a group in itself": lambda file: file.__setitem__("self", file["/"]),
        "pickled bytes": opaque,
        "a lambda": keras,
        "filters": filtered,
        "a name": lambda file: file.__setitem__(CODE, np.zeros(1)),
    }.items():
        yield title, h5(build)
    spare = h5(filtered)
    # A filter that nobody registered: the library looks for a plug-in of that number.
    at = spare.index(b"shuffle\0") - 8 if b"shuffle\0" in spare else -1
    if at >= 0:
        yield "a filter of a plug-in", spare[:at] + struct.pack("<H", 32001) + spare[at + 2 :]


def _hdf5() -> Iterator[HostileSet]:
    for title, data in hdf5_files():
        if title in SEEN_WHOLE:
            yield HostileSet(f"hdf5, {title}", {"m.h5": data}, "m.h5", NO_PICKLE)
    members = [
        Member("metadata.json", b'{"keras_version": "3.0.0"}'),
        Member("config.json", json.dumps(LAMBDA).encode()),
        Member("model.weights.h5", h5(lambda file: None)),
        Member("assets/evil.pkl", EVIL),
    ]
    data = build_zip(members).data
    yield HostileSet("keras, a pickle beside the weights", {"m.keras": data}, "m.keras", DANGEROUS, (EVIL,))


def honest_sets() -> Iterator[HostileSet]:
    """One of each container that is several files, and of those that want a reader of their own."""
    yield HostileSet("dcp", _dcp(), "", ())

    def many(metadata: Any) -> None:
        entry = metadata.state_dict_metadata["w"]
        metadata.state_dict_metadata.update({f"module.layers.{i}.{'long.' * 30}weight": entry for i in range(9000)})

    yield HostileSet("dcp, long", _dcp(many), "", ())
    yield HostileSet("deepspeed two", folder_of(lambda folder: write_zero_two(folder, 2)), "", ())
    yield HostileSet("deepspeed three", folder_of(lambda folder: write_zero_three(folder, 2)), "", ())
    name = "pytorch_model-00001-of-00001.bin"
    files = {"pytorch_model.bin.index.json": _index({"w": name}), name: torch_zip(whole(HARMLESS))}
    yield HostileSet("index", files, "pytorch_model.bin.index.json", ())
    name = "model-00001-of-00001.safetensors"
    files = {"model.safetensors.index.json": _index({"w": name}), name: safetensors({})}
    yield HostileSet("index of safetensors", files, "model.safetensors.index.json", ())
    yield HostileSet("hdf5", {"m.h5": h5(lambda file: None)}, "m.h5", ())
    yield HostileSet("numpy", {"a.npy": _npy("'<f4'", STORAGE, "(4,)")}, "a.npy", ())
