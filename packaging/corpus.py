"""Compare what sdviewer reads of the files in a folder with what is known about them.

    python packaging/corpus.py DIR

DIR/expected.json or DIR.expected.json says of each file what another program read in it (tensors, leaves, `_metadata`),
or what a good reader should do with it (`expect`: open, partial, reject; of one that it reads in part it says so).
Prints one line a file and the counts; exits with 1 if a file that sdviewer reads differs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Run from a checkout, where the package need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, to_json
from sdviewer.errors import SDViewerError, UnknownFormat, UnsupportedContainer
from sdviewer.formats import checksum, open_checkpoint, open_storage, tensor_source
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.pickles.scan import scan_stream

_STEP_TYPES = {"param": "parameter", "attr": "attribute"}
_KEY_TYPES = {"NoneType": "none"}

# What cannot be known without running a class: the names of a namedtuple's fields, and what its __setstate__ makes.
_UNKNOWABLE = {"field"}
_CUT = 200  # characters after which the truth is cut off
_SET_BY_CLASS = {"_flags_cache", "_flat_weight_refs"}


def compare_folder(folder: Path) -> int:
    """Print what agrees and what differs; the number of files that differ."""
    cases = _cases(folder)
    counts = {"agrees": 0, "differs": 0, "not read yet": 0}
    for name, case in cases.items():
        word, details = _compare(folder / name, case)
        counts[word] += 1
        print(f"{word:<13} {name}" + (f": {details[0]}" if details else ""))
        for detail in details[1:6]:
            print(f"{'':<14}{detail}")
        if len(details) > 6:
            print(f"{'':<14}... {len(details) - 6} more")
    print(", ".join([f"{n} {word}" for word, n in counts.items()]))
    return counts["differs"]


def _cases(folder: Path) -> Mapping[str, Any]:
    for path in (folder / "expected.json", folder.with_name(folder.name + ".expected.json")):
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            cases: Mapping[str, Any] = found.get("cases", found)
            return cases
    raise SystemExit(f"{folder}: neither expected.json in it nor {folder.name}.expected.json beside it")


def _compare(path: Path, case: Mapping[str, Any]) -> tuple[str, list[str]]:
    expect = case.get("expect", "open")
    try:
        checkpoint = open_checkpoint(path)
    except UnsupportedContainer as error:
        return "not read yet", [error.message]
    except UnknownFormat as error:
        if path.is_dir():
            return "not read yet", ["a folder"]
        return ("agrees", [error.message]) if expect == "reject" else ("differs", [error.message])
    except SDViewerError as error:
        return ("agrees", [error.message]) if expect == "reject" else ("differs", [f"refused: {error.message}"])
    if expect == "reject":
        return "differs", ["opened, and should be refused"]
    if "files" in case:
        case = _of_all_files(case)
    if "tensors" not in case:
        return _damage(path, checkpoint, expect)
    details = [*_tensors(checkpoint, case), *_leaves(checkpoint, case), *_metadata(checkpoint, case)]
    return ("differs" if details else "agrees"), details


def _damage(path: Path, checkpoint: Checkpoint, expect: str) -> tuple[str, list[str]]:
    """Whether a damaged or hostile file that opened is said to be what it is.

    `partial` wants something said: a problem, an unreadable tensor, a scan that is not clean. `open` wants all of it
    readable: no problem of severity error, no unreadable tensor.
    """
    wrong = [problem.message for problem in checkpoint.problems if problem.severity == "error"]
    wrong += [tensor.unreadable for tensor in checkpoint.tensors if tensor.unreadable]
    told = [problem.message for problem in checkpoint.problems]
    scans = [scan_stream(stream.data, stream.name or path.name, most=stream.pickles) for stream in pickle_streams(path)]
    verdicts = {scan.verdict for scan in scans} - {"clean"}
    told += sorted(verdicts)
    told += [words for index in range(len(checkpoint.tensors)) if (words := _reading(checkpoint, index))]
    if expect == "partial" and not told and not wrong:
        return "differs", ["opened without a word, and should be told to be damaged"]
    if expect == "open" and wrong:
        return "differs", [f"should open whole: {wrong[0]}"]
    return "agrees", told[:1]


def _reading(checkpoint: Checkpoint, index: int) -> str:
    """What is told when the bytes of a tensor are read and their checksum is checked, else ""."""
    try:
        source = tensor_source(checkpoint, index)
        with open_storage(source):
            return checksum(source).problem
    except SDViewerError as error:
        return error.message


def _of_all_files(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of the files of a folder, as one case; storage numbers count anew in each."""
    tensors = []
    for name, part in case["files"].items():
        for tensor in part["tensors"]:
            tensors.append({**tensor, "storage": (name, tensor["storage"])} if "storage" in tensor else tensor)
    leaves = [leaf for part in case["files"].values() for leaf in part["leaves"]]
    metadata = [part["metadata"] for part in case["files"].values() if "metadata" in part]
    versions = [item for part in case["files"].values() for item in part.get("state_dict_metadata", ())]
    made: dict[str, Any] = {"tensors": tensors, "leaves": leaves, "state_dict_metadata": versions}
    return made | ({"metadata": metadata[0]} if metadata else {})


def _path(steps: list[list[str]]) -> str:
    out: list[Any] = []
    for kind, key_type, text in steps:
        if kind == "key":
            out.append(text if key_type == "str" else {"type": _KEY_TYPES.get(key_type, key_type), "value": text})
        elif kind in _UNKNOWABLE:
            out.append({"type": kind, "value": "*"})
        else:
            out.append({"type": _STEP_TYPES.get(kind, kind), "value": text})
    return json.dumps(out)


def _own_path(path: KeyPath) -> str:
    steps = to_json(path)
    for i, step in enumerate(steps):
        if isinstance(step, dict) and step["type"] in _UNKNOWABLE:
            steps[i] = {"type": step["type"], "value": "*"}
        elif isinstance(step, dict) and step["type"] == "bytes":
            steps[i] = {"type": "bytes", "value": step["value"].removeprefix("b").strip("'\"")}
    return json.dumps(steps)


def _tensors(checkpoint: Checkpoint, case: Mapping[str, Any]) -> Iterator[str]:
    rows = {_own_path(tensor.path): (i, tensor) for i, tensor in enumerate(checkpoint.tensors)}
    storages: dict[Any, str | None] = {}
    expected = [_path(tensor["path"]) for tensor in case["tensors"]]
    by_state = any('"field"' in path for path in rows)
    for path, truth in zip(expected, case["tensors"], strict=True):
        if path not in rows:
            if not by_state or len(rows) < len(expected):
                yield f"tensor {path} is missing"
            continue
        index, tensor = rows[path]
        yield from [f"{path}: {text}" for text in _facts(tensor, truth)]
        if "storage" in truth and storages.setdefault(truth["storage"], tensor.storage) != tensor.storage:
            yield f"{path}: storage {tensor.storage} is not {storages[truth['storage']]}"
        nbytes = truth.get("storage_nbytes")
        if nbytes is not None and tensor.storage is not None and checkpoint.storages[tensor.storage].nbytes != nbytes:
            yield f"{path}: storage of {checkpoint.storages[tensor.storage].nbytes} bytes, not {nbytes}"
        digest = truth.get("sha256") or truth.get("sha256_int_repr")
        if digest and not tensor.unreadable and tensor.storage is not None and tensor.elements < 1 << 24:
            # NumPy hashed what it holds; our contract says little-endian.
            found = _digest(checkpoint, index, swap=not truth.get("np_dtype", "").startswith(">"))
            if found != digest:
                yield f"{path}: sha256 differs"
    if len(set(storages.values())) != len(storages):
        yield "storages that should differ are the same"
    others = {json.dumps([{"type": "attribute", "value": name}]) for name in case.get("attrs", ())}
    for path in [path for path in rows.keys() - set(expected) - others if '"field"' not in path]:
        yield f"tensor {path} is not expected"
    rows = {path: row for path, row in rows.items() if path not in others}
    if "order" not in case and sorted(rows) == sorted(expected) and list(rows) != expected:
        yield "the order of the tensors differs"


def _facts(tensor: TensorInfo, truth: Mapping[str, Any]) -> Iterator[str]:
    if tensor.unreadable:
        yield f"unreadable: {tensor.unreadable}"
    found: dict[str, Any] = {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "stride": list(tensor.stride) if tensor.stride is not None else None,
        "storage_offset": tensor.storage_offset,
        "requires_grad": tensor.requires_grad,
        "type": tensor.cls,
        "quant": tensor.quant,
    }
    for name, value in found.items():
        if name in truth and truth[name] != value and not (name == "requires_grad" and value is None):
            yield f"{name} {value}, not {truth[name]}"


def _digest(checkpoint: Checkpoint, index: int, swap: bool) -> str:
    """sha256 of the row-major elements, little-endian, or as they are stored without `swap`."""
    source = tensor_source(checkpoint, index)
    layout = source.layout
    with open_storage(source) as storage:
        data = bytearray(source.nbytes)
        storage.read_into(0, memoryview(data))
    if layout.opaque is not None:
        return hashlib.sha256(data).hexdigest()
    dtype = DTYPES[layout.dtype]
    stored = np.frombuffer(data, np.uint8)
    strides = tuple([step * dtype.itemsize for step in layout.stride])
    start = layout.offset * dtype.itemsize
    shape = (*layout.shape, dtype.itemsize)
    if 0 in layout.shape:
        return hashlib.sha256(b"").hexdigest()
    view = np.lib.stride_tricks.as_strided(stored[start:], shape, (*strides, 1))
    array = np.ascontiguousarray(view)
    if layout.swap and swap:
        half = dtype.itemsize // 2 if dtype.kind == "complex" else dtype.itemsize
        array = array.reshape(-1, half)[:, ::-1]
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _leaves(checkpoint: Checkpoint, case: Mapping[str, Any]) -> Iterator[str]:
    rows = {_own_path(value.path): value for value in checkpoint.values}
    objects = {_own_path(item.path) for item in checkpoint.objects}
    for leaf in case.get("leaves", ()):
        path = _path(leaf["path"])
        value = rows.get(path)
        if value is None:
            # An object that a class would show in one line, and we by what is in it.
            if _SET_BY_CLASS.intersection([step[2] for step in leaf["path"]]):
                continue
            if path not in objects and not any(row.startswith(path[:-1] + ", ") for row in rows):
                yield f"value {path} is missing ({leaf['type']} {leaf['repr'][:40]})"
            continue
        plain = ("builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.NoneType")
        if leaf["type"] in plain and leaf["repr"] != "'<cycle>'":
            shown = repr(value.value)
            if value.type == "builtins.float" and isinstance(value.value, str):
                shown = value.value
            same = shown.startswith(leaf["repr"]) if len(leaf["repr"]) >= _CUT else shown == leaf["repr"]
            if value.type != leaf["type"] or not same:
                yield f"value {path}: {value.type} {shown[:60]}, not {leaf['type']} {leaf['repr'][:60]}"


def _metadata(checkpoint: Checkpoint, case: Mapping[str, Any]) -> Iterator[str]:
    found = {json.dumps(item["path"]): list(item["keys"]) for item in checkpoint.metadata.get("state_dict", ())}
    truth = {_path(item["path"]): item["keys"] for item in case.get("state_dict_metadata", ())}
    if found != truth:
        yield f"_metadata {found}, not {truth}"
    if "metadata" in case and checkpoint.metadata.get("safetensors") != case["metadata"]:
        yield f"metadata {checkpoint.metadata.get('safetensors')}, not {case['metadata']}"
    if "order" in case and [tensor.key for tensor in checkpoint.tensors] != case["order"]:
        yield "the order of the tensors differs"


def main() -> int:
    """Compare the folder that the command line names."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    return 1 if compare_folder(Path(sys.argv[1])) else 0


if __name__ == "__main__":
    sys.exit(main())
