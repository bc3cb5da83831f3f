"""HDF5 files as Keras writes them, and Keras archives, which are a zip of one.

The structure is read by the field's own library, h5py, an optional extra, in a child process (`hdf5_walk`): damaged
files crash that library. What the child says is taken as text and numbers, and each place it names is checked against
the file. The numbers of a tensor are read from there by `pread`, like those of any other format; those in chunks come
from a child again (`hdf5_child`).
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, UnsupportedContainer
from sdviewer.formats.file import File
from sdviewer.formats.hdf5_child import Place, check_library, end_child, place_of_member, start_child
from sdviewer.formats.named_tensors import ROOT, NamedTensors, Owner, elements_of, stored_bytes
from sdviewer.formats.sniff import Head, is_hdf5
from sdviewer.formats.torch_source import Packed, StorageSpan
from sdviewer.formats.zip_directory import DEFLATED, read_member

WEIGHTS = "model.weights.h5"
"""The member of a Keras archive that holds the numbers."""

_INFLATED_LIMIT = 64 << 20
"""Bytes of deflated weights that are inflated to read their structure. Keras stores them."""

_SMALL_MEMBER = 16 << 20
_LONGEST_LINE = 4 << 20
_LINES_AHEAD = 1000
_MOST_TOLD = 64
"""Times the size of the file that the child may tell: a row is longer than the header it stands for."""

_SECONDS_BETWEEN_LOOKS = 0.1

_OPTIMIZERS = ("optimizer_weights", "optimizer")
_MODEL = "model_weights"

Line = Mapping[str, Any]

# What comes of a line that is not as the child writes it; a file that took the child over can make it say anything.
_NONSENSE = (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError)


class Hdf5:
    """The format object."""

    name = "HDF5 or Keras"
    containers = ("hdf5",)
    suffixes = (".h5", ".hdf5", ".keras")
    can_write = False

    def matches(self, head: Head) -> bool:
        return is_hdf5(head) or is_keras(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """Read the groups and the headers of the datasets; no numbers.

        Raises:
            UnsupportedContainer: h5py is not installed (code `extra_needed`).
        """
        check_library(file.path)
        with ExitStack() as stack:
            reading = _Reading(file)
            place = _weights_of(file, reading.out, stack) if file.head.is_zip else Place(file.fd, 0, file.size)
            with _walk(place, file.path) as lines:
                return reading.checkpoint(lines, place, progress)


def is_keras(head: Head) -> bool:
    """Whether a zip archive is one of Keras 3."""
    return WEIGHTS in head.members


# A Keras archive


def _weights_of(file: File, out: NamedTensors, stack: ExitStack) -> Place:
    """The HDF5 file in a Keras archive; what stands beside it becomes values."""
    directory = file.head.directory
    out.problems.extend(directory.problems)
    entry = directory.find(WEIGHTS) or directory.find(f"{directory.top}/{WEIGHTS}")
    place = None if entry is None else directory.place(entry.name)
    if entry is None or place is None:
        raise CorruptCheckpoint(f"it has no {WEIGHTS}", path=file.path)
    if place in directory.unreadable:
        raise CorruptCheckpoint(directory.unreadable[place], path=file.path)
    for name in ("metadata.json", "config.json"):
        _add_text(file, out, name)
    if entry.method == DEFLATED and entry.usize > _INFLATED_LIMIT:
        raise UnsupportedContainer(
            f"its weights are compressed as a whole, {entry.usize:,} bytes; Keras stores them as they are",
            path=file.path,
            remedy=f"Unpack the archive and open {WEIGHTS}.",
        )
    return place_of_member(file, file.fd, entry, directory.start, stack)


def _add_text(file: File, out: NamedTensors, name: str) -> None:
    """A text beside the weights: the configuration of the model, who wrote it."""
    directory = file.head.directory
    entry = directory.find(name)
    if entry is None:
        return
    try:
        text = read_member(file, directory, entry, _SMALL_MEMBER).decode("utf-8", "backslashreplace")
    except CorruptCheckpoint as error:
        out.problem("warning", "metadata", error.message, name)
        return
    out.value((TypedStep("field", name),), text)
    _look_for_code(out, text, name)
    if name == "metadata.json":
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            out.problem("warning", "metadata", "it is not JSON", name)
            return
        out.metadata["keras"] = told if isinstance(told, dict) else {}


def _look_for_code(out: NamedTensors, text: str, where: str) -> None:
    """Keras keeps the Python bytecode of a lambda in a layer's configuration, and runs it when it is told to."""
    if '"Lambda"' in text or '"__lambda__"' in text:
        message = "it has a Lambda layer: Keras runs the Python code in it when it loads with safe_mode=False"
        out.problem("warning", "code_inside", message, where)


# The child


@contextmanager
def _walk(place: Place, path: str) -> Iterator[queue.Queue[bytes]]:
    """The lines that the child prints, b"" when it has ended; it is ended with the block."""
    child = start_child(place, path)
    assert child.stdout is not None
    lines: queue.Queue[bytes] = queue.Queue(_LINES_AHEAD)
    over = threading.Event()
    reader = threading.Thread(target=_read_lines, args=(child.stdout, lines, over), daemon=True)
    try:
        reader.start()
        yield lines
    finally:
        over.set()
        child.kill()
        reader.join()
        end_child(child)


def _read_lines(stream: IO[bytes], lines: queue.Queue[bytes], over: threading.Event) -> None:
    """Pass the child's lines on, so that whoever waits for one can look up in between."""
    while not over.is_set():
        line = stream.readline(_LONGEST_LINE)
        while not over.is_set():
            try:
                lines.put(line, timeout=_SECONDS_BETWEEN_LOOKS)
                break
            except queue.Full:
                continue
        if not line:
            return


class _Reading:
    """What the child tells, on its way to a checkpoint."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.out = NamedTensors(file, "hdf5")
        self.storage_at: dict[int, str] = {}
        self.tensors: list[Line] = []
        self.told = 0
        self.bytes_told = 0

    def checkpoint(self, lines: queue.Queue[bytes], place: Place, progress: Progress) -> Checkpoint:
        broken = self._take(lines, progress)
        if broken and not self.told:
            raise CorruptCheckpoint(
                f"the HDF5 library cannot read it: {broken}", path=self.file.path, remedy="Copy or download it again."
            )
        if broken:
            message = f"the HDF5 library broke off: {broken}; what came before is shown"
            self.out.problem("error", "part_unreadable", message)
        # Whether it is a whole model of Keras 2 or weights alone is known when all names are.
        model = any(line["path"][:1] == [_MODEL] for line in self.tensors)
        for line in self.tensors:
            try:
                self._tensor(line, place, model)
            except _NONSENSE:
                self.out.problem("error", "part_unreadable", "the HDF5 library described a dataset that cannot be")
        return self.out.checkpoint()

    def _take(self, lines: queue.Queue[bytes], progress: Progress) -> str:
        """Go through the lines; why they ended too early, else ""."""
        while True:
            progress(0, 0)
            try:
                text = lines.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                continue
            if not text:
                return "it crashed"
            self.bytes_told += len(text)
            if self.bytes_told > _MOST_TOLD * (self.file.size + _LONGEST_LINE):
                return "it found more than a file of this size can hold"
            try:
                line = json.loads(text)
                if line["kind"] == "end":
                    return visible(str(line.get("error", "")), 200)
                self._line(line)
            except _NONSENSE:
                return "it said something that makes no sense"

    def _line(self, line: Line) -> None:
        kind = line["kind"]
        path = _path(line["path"])
        if kind == "tensor":
            self.told += 1
            self.tensors.append(line)
        elif kind == "problem":
            message = visible(str(line["message"]), 300)
            # The codes that the child uses: part_unreadable, external_link, too_deep.
            self.out.problem(line["severity"], line["code"], message, visible(dotted(path)))
        else:
            self.told += 1
            self._value(path, line["value"], str(line["type"]))

    def _value(self, path: KeyPath, value: Any, type_: str) -> None:
        self.out.value(path, value, type_)
        name = path[-1] if path else ""
        if len(path) == 1 and isinstance(name, TypedStep) and name.value in ("keras_version", "backend"):
            self.out.writer[name.value] = value
        if isinstance(value, str) and isinstance(name, TypedStep) and name.value == "model_config":
            _look_for_code(self.out, value, visible(dotted(path)))

    def _tensor(self, line: Line, place: Place, model: bool) -> None:
        path = _path(line["path"])
        shape, dtype, unreadable = tuple(line["shape"]), str(line["dtype"]), str(line["unreadable"])
        start, there = int(line["start"]), int(line["there"])
        n = elements_of(shape)
        if n is None:
            unreadable, nbytes = "its sizes multiply beyond 2**63 elements", 0
        else:
            nbytes = stored_bytes(dtype, n) if dtype in DTYPES else n * int(line["itemsize"])
        in_chunks = bool(line["in_chunks"])
        if not unreadable and not in_chunks and there < nbytes:
            unreadable = f"its shape needs {nbytes:,} bytes, and {there:,} are stored"
        elif not unreadable and not 0 <= start <= start + nbytes <= place.nbytes:
            unreadable = f"it needs {nbytes:,} bytes at byte {start:,}, which are not all there"
        known = self.storage_at.get(line["address"])
        packed: Packed | None = None
        if in_chunks:
            # Only the library finds them; with a member, the file is all of it.
            packed = Packed(place.start, place.nbytes, "hdf5", "/".join(map(str, path)))
        elif place.member is None:
            start += place.start
        span = None if unreadable or known else StorageSpan(start, nbytes, place.member, place.limit, packed)
        flags = ("big-endian",) if line["swapped"] else ()
        self.out.add(
            path,
            shape,
            dtype,
            nbytes,
            span,
            unreadable=unreadable,
            flags=flags,
            storage=known,
            state_dict=_owner(path, model),
            cls="h5py.Dataset",
        )
        storage = self.out.tensors[-1].storage
        if storage is not None:
            self.storage_at[line["address"]] = storage


def _path(steps: list[Any]) -> KeyPath:
    return tuple([step if isinstance(step, str) else TypedStep(str(step[0]), str(step[1])) for step in steps])


def _owner(path: KeyPath, model: bool) -> Owner:
    """The state dict of a dataset: the optimizer's, the model's of a whole Keras model, else the root."""
    first = path[0]
    if first in _OPTIMIZERS and len(path) > 1:
        return (first,), "optimizer"
    if model:
        return ((first,), "model") if first == _MODEL and len(path) > 1 else ((), "other")
    return ROOT
