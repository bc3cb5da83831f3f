"""Damaged inputs by the thousand, and what must be true of each: it ends in a result or in one of our errors.

    python -P -m tests.hostility.mutations INPUTS [SEED]    spread over all targets; prints one JSON document

A target is one of the readers with honest inputs to start from. Each input is one of them (or of the other targets')
changed at a few places: bits, bytes, cuts, copies, splices, numbers that are lengths. The process gives itself little
memory and each input little time; `fuzz.py` gives the same targets to a fuzzer that is guided by coverage.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import os
import pickle
import pickletools
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from sdviewer.core.tree import build_tree
from sdviewer.errors import SDViewerError
from sdviewer.formats import TensorSource, open_checkpoint, open_storage, tensor_source
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.formats.zip_directory import read_directory, read_member, salvage_directory
from sdviewer.pickles.emit import emit, is_faithful
from sdviewer.pickles.machine import parse_partial
from sdviewer.pickles.scan import scan_pickle, scan_stream
from tests.hostility.tripwire import RUNS, Tripwire

SECONDS = 20
"""Given to one input before it counts as hanging; honest ones need milliseconds."""

MEMORY = 300 << 20
"""Bytes of address space beyond what the process has before its first input."""

READ = 1 << 16
"""Bytes of a tensor that are read."""


@dataclass(frozen=True)
class Target:
    """`check` raises where something is wrong; `seeds` are honest inputs."""

    check: Callable[[bytes], str]
    seeds: Callable[[], list[bytes]]


class Bytes:
    """A file in memory."""

    path = "memory"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= self.size, "a length was believed"
        return self.data[start : start + length]


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[str]:
    """The path of a file that holds `data`; in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("input")
        try:
            os.write(fd, data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


# The targets


class _Checked(Bytes):
    """A file in memory that answers as a real one: with an error where a range is not there."""

    def read(self, start: int, length: int) -> bytes:
        if start < 0 or length < 0 or start + length > self.size:
            from sdviewer.errors import CorruptCheckpoint

            raise CorruptCheckpoint("not there")
        return self.data[start : start + length]


def check_directory(data: bytes) -> str:
    """The central directory, its salvage, and every member that is small."""
    file = _Checked(data)
    said = "directory"
    try:
        directory = read_directory(file)
    except SDViewerError:
        said = "salvage"
        directory = salvage_directory(file)
    for entry in directory.entries[:20]:
        directory.find(entry.name.upper())
        with contextlib.suppress(SDViewerError):
            assert len(read_member(file, directory, entry, READ)) == entry.usize
    return said


def check_pickle(data: bytes) -> str:
    """The machine, the scan and the writer: whatever is parsed whole and faithful is written as it was."""
    found = parse_partial(data)
    scan = scan_pickle(found, "here")
    assert scan.complete <= (not found.broken)
    assert found.end <= len(data)
    if not found.broken and is_faithful(found) and not found.frames:
        assert emit(found).data == data[found.start : found.end]
    return "broken" if found.broken else scan.verdict


def check_file(data: bytes) -> str:
    """Everything that opening a file and looking at it does."""
    with file_of(data) as path:
        for stream in pickle_streams(path):
            scan_stream(stream.data, "here", most=stream.pickles).to_json()
        checkpoint = open_checkpoint(path)
        tree = build_tree(checkpoint, {})
        assert len(tree) >= len(checkpoint.tensors)
        json.dumps([checkpoint.problems, dict(checkpoint.metadata), dict(checkpoint.writer)])
        for index, tensor in enumerate(checkpoint.tensors[:5]):
            assert tensor.nbytes >= 0
            with contextlib.suppress(SDViewerError):
                source = tensor_source(checkpoint, index)
                _sound(source)
                wanted = tensor.nbytes if source.parts else source.nbytes
                with open_storage(source) as storage:
                    storage.read_into(0, memoryview(bytearray(min(wanted, READ))))
    return "opened"


def _sound(source: TensorSource) -> None:
    """Whether a tensor, or each that it is made of, lies in its storage."""
    if source.assembly is not None:
        return
    for part in source.parts.values() if source.parts else ():
        _sound(part)
    if not source.parts:
        _in_bounds(source.layout, source.nbytes)


def _in_bounds(layout: Any, nbytes: int) -> None:
    """Whether every element of a tensor that may be read lies in its storage."""
    from sdviewer.core.dtypes import DTYPES

    if layout.dtype not in DTYPES:
        return
    itemsize = DTYPES[layout.dtype].itemsize
    assert len(layout.shape) == len(layout.stride)
    assert min((*layout.shape, *layout.stride, layout.offset)) >= 0
    if 0 not in layout.shape:
        last = layout.offset + sum((n - 1) * step for n, step in zip(layout.shape, layout.stride, strict=True))
        assert (last + 1) * itemsize <= nbytes or layout.dtype.startswith(("float4", "uint", "int", "bits"))


def check_tensors(data: bytes) -> str:
    """A torch zip that is whole but for what its pickle says: `data` is the pickle."""
    return check_file(wrapped(data))


def wrapped(data_pkl: bytes) -> bytes:
    """A torch zip around a pickle, with four small storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        for key in range(4):
            archive.writestr(f"archive/data/{key}", bytes(range(64)))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


# Honest inputs


@cache
def _things() -> tuple[Any, ...]:
    import torch

    flat = torch.arange(16.0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    return (
        {"a.weight": flat.reshape(4, 4), "a.bias": flat[3:7], "t": flat.reshape(4, 4).t(), "n": torch.ones(2).half()},
        {"model": module.state_dict(), "epoch": 3, "args": {"lr": 1e-3, "names": ["x", b"y", None, (1, 2)]}},
        [torch.quantize_per_tensor(flat, 0.1, 3, torch.qint8), torch.ones(2, 2).to_sparse(), torch.zeros(2).bfloat16()],
        {"p": torch.nn.Parameter(flat), "e": torch.ones(1).expand(3, 4), "c": torch.ones(2, dtype=torch.cfloat).conj()},
    )


def _saved(thing: Any, **options: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(thing, buffer, **options)
    return buffer.getvalue()


@cache
def _zips() -> list[bytes]:
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"a": list(range(100))}, 2))
        archive.writestr("a/version", "3")
    return [*map(_saved, _things()), deflated.getvalue()]


@cache
def _pickles() -> list[bytes]:
    from tests.pickles.samples import objects

    inside = []
    for data in _zips():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside += [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    things = {name: thing for name, thing in objects().items() if name not in ("batches", "integers")}
    return inside + [pickle.dumps(thing, protocol) for protocol in range(6) for thing in things.values()]


@cache
def _legacy() -> list[bytes]:
    return [_saved(thing, _use_new_zipfile_serialization=False) for thing in _things()]


@cache
def _safetensors() -> list[bytes]:
    import torch
    from safetensors.torch import save

    return [
        save({"a": torch.ones(3), "b": torch.zeros(2, 2).half()}, {"format": "pt"}),
        save({f"layers.{i}.weight": torch.ones(2, 3).bfloat16() for i in range(5)}),
        save({"é": torch.zeros(0, 5), "s": torch.tensor(1)}),
    ]


@cache
def _tensor_pickles() -> list[bytes]:
    return [data for data in _pickles() if b"_rebuild" in data]


@cache
def _all_formats() -> list[bytes]:
    """The sample of every format that there is; a new format's comes by itself.

    HDF5 is read in a process of its own, which costs a second of a core each time and has tests of its own.
    """
    import torch

    from sdviewer.formats import FORMATS
    from tests.formats.test_opening import sample

    found = []
    for format_ in FORMATS:
        if "hdf5" in format_.containers:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def save(thing: Any, name: str = "model.pt", folder: Path = folder, **options: Any) -> Path:
                torch.save(thing, folder / name, **options)
                return folder / name

            found.append(sample(format_, save, folder).read_bytes())
    return found


TARGETS = {
    "directory": Target(check_directory, _zips),
    "pickle": Target(check_pickle, _pickles),
    "legacy": Target(check_file, _legacy),
    "safetensors": Target(check_file, _safetensors),
    "tensors": Target(check_tensors, _tensor_pickles),
    "zip": Target(check_file, _zips),
    "formats": Target(check_file, _all_formats),
}


# Mutation

_NUMBERS = (0, 1, 2, 4, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, 1 << 62, 1 << 63)


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """`data` changed at one to four places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        size = len(out)
        at = rng.randrange(size + 1)
        match rng.randrange(10):
            case 0 if size:  # one bit
                out[at % size] ^= 1 << rng.randrange(8)
            case 1 if size:  # one byte
                out[at % size] = rng.randrange(256)
            case 2:  # the end
                del out[at:]
            case 3:  # a piece
                del out[at : at + rng.choice((1, 2, 4, 8, 30, 200))]
            case 4:  # something put between
                out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 9)))
            case 5:  # a piece twice
                piece = out[at : at + rng.choice((1, 2, 5, 20, 100))]
                to = rng.randrange(size + 1)
                out[to:to] = piece
            case 6:  # a piece of another input
                other = rng.choice(others)
                begin = rng.randrange(len(other) + 1)
                out[at : at + rng.choice((0, 1, 8, 100))] = other[begin : begin + rng.choice((1, 4, 16, 100))]
            case 7:  # a number, as long as lengths are
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice((*_NUMBERS, size, size - at)) & ((1 << (8 * width)) - 1)
                out[at : at + width] = number.to_bytes(width, "little")
            case 8 if size > 8:  # a number a little larger or smaller
                width = rng.choice((1, 2, 4, 8))
                at = min(at, size - width)
                number = int.from_bytes(out[at : at + width], "little") + rng.choice((-9, -1, 1, 2, 64))
                out[at : at + width] = (number & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
            case _:  # digits of a text
                digits = [i for i, byte in enumerate(out) if 48 <= byte <= 57]
                if digits:
                    i = rng.choice(digits)
                    out[i : i + 1] = rng.choice((b"-1", b"0", b"9" * 20, b"1e999", b"4294967296", b'"', b"null"))
    return bytes(out)


_VALUES = (
    *(b"K\0", b"K\1", b"K\2", b"K\x07", b"M\xff\xff", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"J\0\0\0\x80"),
    *(b"\x8a\x08" + (1 << power).to_bytes(8, "little") for power in (31, 32, 40, 61, 62)),
    *(b"\x8a\x09" + (1 << power).to_bytes(9, "little") for power in (63, 64, 70)),
    *(b"N", b"\x88", b"\x89", b")", b"]", b"}", b"G\x7f\xf0\0\0\0\0\0\0", b"G\x40\0\0\0\0\0\0\0"),
    *(b"X\1\0\0\0" + key for key in (b"0", b"1", b"9", b"w")),
    *(b"ctorch\n" + name + b"\n" for name in (b"FloatStorage", b"BoolStorage", b"UntypedStorage", b"float16", b"Size")),
)
"""Opcodes that push one value, to stand in the place of another."""

_PUSHES = {"BININT", "BININT1", "BININT2", "NONE", "NEWTRUE", "NEWFALSE", "LONG1", "BINUNICODE", "GLOBAL", "BINFLOAT"}


def other_values(data: bytes, rng: random.Random) -> bytes:
    """A pickle with other values in the places of one to three: whole as a pickle, senseless as a tensor."""
    pushes = []
    try:
        spans = [(at, opcode.name) for opcode, _, at in pickletools.genops(data)]
    except ValueError:
        return data
    for (at, name), (end, _) in itertools.pairwise(spans):
        if name in _PUSHES:
            pushes.append((at, end))
    chosen = sorted(rng.sample(pushes, min(len(pushes), rng.choice((1, 1, 2, 3)))), reverse=True)
    for at, end in chosen:
        data = data[:at] + rng.choice(_VALUES) + data[end:]
    return data


_JSON = (
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**64,
    1e308,
    1.5,
    "",
    "F32",
    "F4",
    "U64",
    None,
    True,
    [],
    [0, 4],
    [4, 0],
    {},
    [[1]],
)


def other_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header is JSON and says something else at one to three places."""
    length = int.from_bytes(data[:8], "little")
    header: Any = json.loads(data[8 : 8 + length])
    for _ in range(rng.choice((1, 1, 2, 3))):
        node: Any = header
        while isinstance(node, (dict, list)) and node:
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if rng.random() < 0.2 or not isinstance(node[key], (dict, list)) or not node[key]:
                node[key] = copy.deepcopy(rng.choice(_JSON))
                break
            node = node[key]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def other_directory(data: bytes, rng: random.Random) -> bytes:
    """A zip archive in whose directory numbers are others, and names too."""
    out = bytearray(data)
    places = [found.start() for found in re.finditer(b"PK[\1-\6]{2}", data)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.choice(places) + rng.randrange(4, 56)
        width = rng.choice((1, 2, 4, 8))
        number = rng.choice((*_NUMBERS, len(data), at, rng.randrange(len(data)))) & ((1 << (8 * width)) - 1)
        out[at : at + width] = number.to_bytes(width, "little")
    return bytes(out)


STRUCTURED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "directory": other_directory,
    "zip": other_directory,
    "pickle": other_values,
    "tensors": other_values,
    "safetensors": other_header,
}
"""Changes that keep the form, for the inputs of a target: they come further into a reader than blind ones."""


@dataclass
class Outcome:
    """What became of all inputs."""

    inputs: int = 0
    seconds: float = 0.0
    worst_seconds: float = 0.0
    worst_input: str = ""
    grown: int = 0
    said: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, str]] = field(default_factory=list)


def attempt(target: str, data: bytes, outcome: Outcome) -> None:
    """Give one input to a target and note how it ended."""
    started = time.perf_counter()
    try:
        said = TARGETS[target].check(data)
    except SDViewerError as error:
        said = error.code
        if "more memory than there is" in error.message:
            outcome.failures.append({"target": target, "error": "it ran out of memory", "data": data.hex()})
    except RecursionError:
        raise
    except Exception as error:  # the very thing that is looked for
        said = "failed"
        outcome.failures.append({"target": target, "error": repr(error), "data": data.hex()})
    took = time.perf_counter() - started
    outcome.inputs += 1
    outcome.seconds += took
    outcome.said[f"{target}: {said}"] += 1
    if took > outcome.worst_seconds:
        outcome.worst_seconds, outcome.worst_input = took, f"{target} {data[:2000].hex()}"


class Hangs(Exception):
    """An input took longer than `SECONDS`."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise Hangs(f"{SECONDS} s")


def run(inputs: int, seed: int) -> Outcome:
    """That many inputs, spread over all targets."""
    rng = random.Random(seed)
    names = list(TARGETS)
    seeds = {name: TARGETS[name].seeds() for name in names}
    everything = [data for each in seeds.values() for data in each]
    outcome = Outcome()
    for name in names:
        for data in seeds[name]:
            attempt(name, data, outcome)
    assert not outcome.failures, outcome.failures
    signal.signal(signal.SIGALRM, _too_long)
    _limit_memory()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(inputs):
        name = names[i % len(names)]
        data = rng.choice(seeds[name])
        if name in STRUCTURED and rng.random() < 0.6:
            data = STRUCTURED[name](data, rng)
            data = data if rng.random() < 0.8 else mutate(data, rng, everything)
        else:
            data = mutate(data, rng, everything)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        attempt(name, data, outcome)
        signal.setitimer(signal.ITIMER_REAL, 0)
    outcome.grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) << 10
    return outcome


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """The process."""
    for target in TARGETS.values():
        target.seeds()  # made by torch, which loads libraries and starts programs when it is imported
    tripwire = Tripwire(Path(os.devnull), only=RUNS)
    sys.addaudithook(tripwire)
    with tripwire.watching():
        outcome = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    found = {
        "executions": len(tripwire.caught),
        "executed": tripwire.caught[:50],
        "inputs": outcome.inputs,
        "seconds": round(outcome.seconds, 2),
        "worst_seconds": round(outcome.worst_seconds, 4),
        "worst_input": outcome.worst_input,
        "grown": outcome.grown,
        "said": dict(sorted(outcome.said.items())),
        "failures": outcome.failures[:50],
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
