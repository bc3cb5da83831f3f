"""Reading a written file back, and comparing it with what the plan said of the source.

The file is opened by the same reader that opens any other; nothing is taken from the writer's own bookkeeping. All
bytes of all storages are compared with the source's, in one thread, while another hashes the whole file.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StateDict, TensorInfo, ValueInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, TypedStep, dotted, to_json
from sdviewer.core.progress import Progress
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.errors import CorruptCheckpoint, SaveError
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.file import File
from sdviewer.formats.grafts import const
from sdviewer.formats.pieces import Made
from sdviewer.formats.pread import read_into
from sdviewer.formats.save_safetensors import edited_metadata
from sdviewer.formats.torch_clean import Cleaning
from sdviewer.formats.torch_extract import is_detached, module_versions
from sdviewer.formats.torch_source import (
    SafetensorsSource,
    SafetensorsTensor,
    TorchLegacySource,
    TorchSource,
    TorchZipSource,
)
from sdviewer.formats.torch_tensors import TENSOR
from sdviewer.formats.torch_values import const_leaf
from sdviewer.formats.verify_pickle import first_difference
from sdviewer.formats.zip_directory import Entry, payload_offset
from sdviewer.pickles.emit import Edits
from sdviewer.repair.plan import Computed, Kept, Plan, sources

CHUNK = 4 << 20
"""Bytes read at once of each file; three such buffers are all the memory it takes."""

MAY_GO = (".format_version", ".data/serialization_id")
"""Records that describe the layout of one archive, and not what is in it."""


class Run(NamedTuple):
    """Bytes of the written file that must be the source's: `nbytes` from `source` there and from `written` here."""

    what: str
    source: int
    written: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What held: the file's SHA-256 and the checks in words with numbers."""

    sha256: str
    checks: tuple[str, ...]


def verify(
    source: Checkpoint,
    plan: Plan,
    edits: Edits,
    files: tuple[File, File],
    written: Checkpoint,
    progress: Progress,
    cleaning: Cleaning | None = None,
    *,
    evaluation: Evaluation | None = None,
    made: Mapping[str, Made] | None = None,
) -> Proof:
    """Compare `written`, opened again, with `source` under `plan`; `files` are the two open files.

    `made` are the computed bytes by the storages of `written`, with the checksums that they had when they were written
    by `evaluation`. `cleaning` is what a clean copy leaves out.

    Calls `progress` with bytes of the written file hashed and its size.

    Raises:
        SaveError: something is not as planned; the message says what.
        Cancelled: from `progress`.
    """
    made = made or {}
    checks = [*compare_header(source, plan, written, evaluation or Evaluation(source, plan), cleaning)]
    if isinstance(source.source, TorchSource):
        difference = first_difference(source.source.pickle, edits, written.source.pickle, progress)
        if difference:
            raise failed(f"the object pickle is not the source's with these edits: {difference}")
        checks.append("every object outside the edits is the source's: types, order, attributes, what is shared")
    whole = [Run("the file", 0, 0, files[0].size)]
    runs = _runs(source, plan, written, files, cleaning, made) if is_edited(source, plan) else whole
    computed = computed_runs(written, files[1], made)
    sha256 = compare_bytes(runs, computed, files, progress)
    compared = sum(run.nbytes for run in runs)
    checks.append(f"{text.count(compared)} bytes of storages and other records, each equal to the source's")
    checks += computed_checks(computed, "computed bytes, each storage with the checksum of what was computed")
    return Proof(sha256, tuple(checks))


def is_edited(source: Checkpoint, plan: Plan) -> bool:
    """Whether the plan changes anything at all; if not, a save copies the file as it is.

    An archive that breaks off is written anew, with a directory, whatever the plan says.
    """
    if plan.changes_file or plan.metadata:
        return True
    if isinstance(source.source, TorchZipSource) and source.source.directory.salvaged:
        return True
    if plan.state_dict is None:
        return False
    state_dict = source.state_dicts[plan.state_dict]
    changed = any(target.entry is None or target.key != state_dict.keys[target.entry] for target in plan.targets)
    unwrapped = plan.unwrap and (state_dict.path != () or plan.extract)
    return changed or unwrapped or plan.computes or bool(plan.dropped) or bool(plan.modules)


def failed(what: str) -> SaveError:
    return SaveError(
        f"the written file did not verify, so it was thrown away: {what}",
        remedy="This is a fault of sdviewer; please report it with the recipe.",
        code="not_verified",
    )


# What the header says


class _Expected:
    """How the plan changes paths: where an entry of the state dict, and the state dict itself, are found afterwards."""

    def __init__(
        self, source: Checkpoint, plan: Plan, evaluation: Evaluation, cleaning: Cleaning | None = None
    ) -> None:
        self.source = source
        self.plan = plan
        self.evaluation = evaluation
        self.cleaning = cleaning
        self.start: KeyPath = ()
        self.state_dict: StateDict | None = None
        self.home: KeyPath = ()
        self.lost_all_tensors = False
        self.above: KeyPath = (plan.wrap,) if plan.wrap else ()
        self.removed = set(plan.removed)
        self.numbers = {source.state_dicts[one.optimizer].path: one.numbers for one in plan.optimizers}
        self.new_paths: dict[tuple[KeyPath, int], list[KeyPath]] = {}
        self.computed: list[tuple[KeyPath, TensorInfo]] = []
        # Where the attributes of a parameter go that stays one while its numbers are computed.
        self.attributes: dict[KeyPath, KeyPath] = {}
        self.detached: set[KeyPath] = set()
        if plan.state_dict is None:
            return
        self.state_dict = source.state_dicts[plan.state_dict]
        self.home = (*self.above, *(() if plan.unwrap else self.state_dict.path))
        self.start = self.state_dict.path if plan.unwrap and not plan.keep_rest else ()
        tensor_of = self.state_dict.tensor_of
        if plan.extract:
            rows = [source.tensors[row] for row in tensor_of if row >= 0]
            self.detached = {row.path for row in rows if is_detached(row.cls)}
        entries = [target.entry for target in plan.targets]
        self.lost_all_tensors = not any(entry is None or tensor_of[entry] >= 0 for entry in entries)
        places = list(_entry_paths(source, self.state_dict))
        for place in places:
            self.new_paths[place] = []
        for target in plan.targets:
            if isinstance(target.value, Kept):
                place = places[target.value.entry]
                self.new_paths[place].append(self._moved(place[0], target.key))
            else:
                self.computed.append(self._computed(target.key, target.value, places))

    def tensor_rows(self, written: Checkpoint) -> tuple[Rows, Rows]:
        """The tensors that should be there and those that are; of a computed one only what the plan says of it."""
        wanted, found = self.rows(self.source.tensors, written.tensors)
        if not self.computed:
            return wanted, found
        paths = {path for path, _ in self.computed}
        wanted = sorted([*wanted, *self.computed], key=lambda row: repr(row[0]))
        found = [(path, _as_computed(info) if path in paths else info) for path, info in found]
        return wanted, sorted(found, key=lambda row: repr(row[0]))

    def _computed(self, key: str, value: Computed, places: Sequence[tuple[KeyPath, int]]) -> tuple[KeyPath, TensorInfo]:
        """Where a computed tensor should be, and how it should be told."""
        assert self.state_dict is not None
        entry = next(sources(value), None)
        path = (*self.home, key) if entry is None else self._moved(places[entry][0], key)
        like = self.source.tensors[self.state_dict.tensor_of[entry]] if entry is not None else None
        if like is not None and like.kind == "parameter" and not self.plan.extract:
            self.attributes.setdefault(like.path, path)
        requires_grad: bool | None = None
        if isinstance(self.source.source, TorchSource):
            asks = like is not None and bool(like.requires_grad) and not self.plan.extract
            requires_grad = asks and DTYPES[value.dtype].kind in ("float", "complex")
        made = self.evaluation.made(value)
        return path, _computed_info(value.shape, value.dtype, f"computed {id(made)}", made.nbytes, requires_grad)

    def rows(self, source: Iterable[Any], written: Iterable[Any]) -> tuple[Rows, Rows]:
        """What should be there and what is, in the same order."""
        if self.cleaning is not None:
            source = self._kept(source, self.cleaning)
        wanted: Rows = [(path, info) for info in source for path in self.paths(info.path, info.occurrence)]
        found: Rows = [(info.path, info) for info in written]
        if self.plan.keep_rest or self.plan.computes:
            # What stood around the state dict stands beside it now, so only the paths say what belongs together.
            wanted.sort(key=lambda row: repr(row[0]))
            found.sort(key=lambda row: repr(row[0]))
        return wanted, found

    def _kept(self, source: Iterable[Any], cleaning: Cleaning) -> Iterator[Any]:
        """The rows whose objects a clean copy does not leave out."""
        above = len(self.start)
        for info in source:
            if info.path[:above] != self.start or cleaning.fate(info.path[above:], info.occurrence) is None:
                yield info

    def goes(self, path: KeyPath) -> bool:
        """Whether a clean copy leaves out what stands at `path` of the source."""
        above = len(self.start)
        if self.cleaning is None or path[:above] != self.start:
            return False
        return self.cleaning.fate(path[above:]) is not None

    def is_told_otherwise(self, path: KeyPath) -> bool:
        """Whether what stands at `path` afterwards is listed in another way because its mapping lost all tensors.

        Such a mapping is no state dict any more, and an empty one is listed as a value; what it holds is compared in
        the object graph all the same.
        """
        inside = path[len(self.above) :]
        if self.cleaning is not None and self.cleaning.is_retold(inside):
            return True
        if any(gone[:-1] == inside for gone in self.removed) or self._in_parameter_lists(inside):
            return True
        if self.state_dict is None:
            return False
        if self.plan.keep_rest and inside == self.state_dict.path[:-1]:
            return True
        return self.lost_all_tensors and path[: len(self.home)] == self.home

    def _in_parameter_lists(self, path: KeyPath) -> bool:
        """Whether it is a parameter's number or name in an optimizer that follows the keys; the graphs tell those."""
        return any(
            path[: len(optimizer)] == optimizer and not {"params", "param_names"}.isdisjoint(path[len(optimizer) :])
            for optimizer in self.numbers
        )

    def _moved(self, path: KeyPath, key: str) -> KeyPath:
        assert self.state_dict is not None
        last = path[-1]
        if self.plan.extract:
            return (*self.home, key)
        if isinstance(last, TypedStep):
            # A pickled module: the steps above are objects and stay.
            return (*self.above, *path[:-1], TypedStep(last.type, key.rpartition(".")[2]))
        return (*self.home, *path[len(self.state_dict.path) : -1], key)

    def paths(self, path: KeyPath, occurrence: int) -> list[KeyPath]:
        """The paths in the result: none where it is left out or used up in a computation, several where it is tied."""
        if self.removed and any(path[:n] in self.removed for n in range(1, len(path) + 1)):
            return []
        moved = self._renumbered(path)
        return self._paths(moved, occurrence) if moved is not None else []

    def _renumbered(self, path: KeyPath) -> KeyPath | None:
        """A path in an optimizer's state with the number that its parameter gets, None where that goes."""
        for optimizer, numbers in self.numbers.items():
            n = len(optimizer)
            if path[:n] == optimizer and len(path) > n + 1 and path[n] == "state":
                step = path[n + 1]
                if isinstance(step, TypedStep) and step.type == "int" and int(step.value) in numbers:
                    number = numbers[int(step.value)]
                    return None if number is None else (*path[: n + 1], TypedStep("int", str(number)), *path[n + 2 :])
        return path

    def _paths(self, path: KeyPath, occurrence: int) -> list[KeyPath]:
        around = (*self.above, *path)
        if self.state_dict is None:
            return [around]
        above = len(self.state_dict.path)
        if path[:above] == self.state_dict.path:
            for length in range(above + 1, len(path) + 1):
                found = self.new_paths.get((path[:length], occurrence))
                if found is None:
                    found = self.new_paths.get((path[:length], 0))
                if found is not None:
                    if path[:length] in self.detached and _is_attribute(path[length:]):
                        return []
                    if not found and length < len(path) and path[:length] in self.attributes:
                        found = [self.attributes[path[:length]]]
                    return [(*new, *path[length:]) for new in found]
            return [] if self.plan.extract else [(*self.home, *path[above:])]
        return [] if self.plan.unwrap and not self.plan.keep_rest else [around]


def _computed_info(
    shape: tuple[int, ...], dtype: str, storage: str | None, nbytes: int, requires_grad: bool | None
) -> TensorInfo:
    """What is told of a computed tensor wherever it comes from."""
    stride = contiguous_stride(shape)
    return TensorInfo((), None, None, shape, dtype, stride, 0, storage, nbytes, requires_grad, "tensor", "", None)


def _as_computed(info: TensorInfo) -> TensorInfo:
    """A tensor that was read, told as a computed one is; with what it should not have."""
    told = _computed_info(info.shape, info.dtype, info.storage, info.nbytes, info.requires_grad)
    return told._replace(stride=info.stride, storage_offset=info.storage_offset, flags=info.flags)


def _is_attribute(below: KeyPath) -> bool:
    """Whether what stands below a tensor is a Python attribute of it, and no part that it is made of."""
    return bool(below) and not (isinstance(below[0], TypedStep) and below[0].type == "part")


def _entry_paths(source: Checkpoint, state_dict: StateDict) -> Iterator[tuple[KeyPath, int]]:
    """Path and occurrence of every entry, tensors or not, in file order."""
    seen: dict[str, int] = {}
    twice = {key for key in state_dict.keys if seen.setdefault(key, 0) or seen.update({key: 1})}
    seen.clear()
    for key, tensor in zip(state_dict.keys, state_dict.tensor_of, strict=True):
        seen[key] = seen.get(key, 0) + 1
        if tensor >= 0:
            info = source.tensors[tensor]
            yield info.path, info.occurrence
        else:
            yield (*state_dict.path, key), seen[key] if key in twice else 0


Rows = list[tuple[KeyPath, Any]]
"""What a checkpoint lists, each with the path at which it is or should be."""


def compare_header(
    source: Checkpoint,
    plan: Plan,
    written: Checkpoint,
    evaluation: Evaluation,
    cleaning: Cleaning | None,
    *,
    container: str = "",
) -> list[str]:
    """Compare what two headers say, under a plan; `container` is that of the written one where it is another.

    Raises:
        SaveError: something is not as planned.
    """
    another = bool(container) and container != source.container
    if written.container != (container or source.container) or (
        written.byte_order != source.byte_order and not another
    ):
        raise failed(f"it became {written.container}, {written.byte_order}-endian")
    expected = _Expected(source, plan, evaluation, cleaning)
    checks = [] if expected.state_dict is None else [_compare_keys(plan, expected, written)]
    if cleaning is not None and _told_in_part(source):
        return checks  # what is told depends on how much there is: the graph and the bytes are compared all the same
    wanted, found = expected.tensor_rows(written)
    if plan.extract:
        wanted = [(path, _detached(info)) for path, info in wanted]
        found = [(path, info._replace(requires_grad=bool(info.requires_grad))) for path, info in found]
    _compare_rows(wanted, found, _fields_anywhere if another else _tensor_fields)
    tensors = text.plural(len(found), "tensor")
    checks.append(f"{tensors} with the planned paths, shapes, dtypes, strides, offsets and flags")
    if written.container != "safetensors" or not plan.computes:  # where no two tensors share bytes
        checks.append(_compare_sharing(wanted, found))
    changed = [
        _with_value(info, plan.values[info.path]) if info.path in plan.values else info for info in source.values
    ]
    wanted, found = (_told_alike(expected, rows) for rows in expected.rows(changed, written.values))
    _compare_rows(wanted, found, lambda info: (info.type, repr(info.value)))
    if found:
        but = f", but for {text.plural(len(plan.values), 'planned change')}" if plan.values else ""
        checks.append(f"{text.plural(len(found), 'value')} beside the tensors, unchanged{but}")
    wanted, found = (_told_alike(expected, rows) for rows in expected.rows(source.objects, written.objects))
    _compare_rows(wanted, found, lambda info: (info.cls, info.known))
    if found:
        checks.append(f"{text.plural(len(found), 'object')} of other classes, unchanged")
    return checks + _compare_metadata(source, plan, expected, written)


def _with_value(info: ValueInfo, value: bool | int | float | str | None) -> ValueInfo:
    """A value as it is told when it is this one."""
    kind, told = const_leaf(const(value))
    return info._replace(type=kind, value=told)


def _told_in_part(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint holds more than its rows tell."""
    return any(problem.code in ("repeated", "too_deep") for problem in checkpoint.problems)


def _told_alike(expected: _Expected, rows: Rows) -> Rows:
    return [row for row in rows if not expected.is_told_otherwise(row[0])]


def _compare_keys(plan: Plan, expected: _Expected, written: Checkpoint) -> str:
    assert expected.state_dict is not None
    wanted = [target.key for target in plan.targets]
    if expected.lost_all_tensors:
        return "the state dict holds no tensors any more, as planned"
    found = next((other for other in written.state_dicts if other.path == expected.home), None)
    if found is None:
        raise failed("the state dict is not where it should be")
    keys: Sequence[str] = found.keys
    if plan.keep_rest:
        mine = set(wanted)
        keys = [key for key in keys if key in mine]
    for at, (key, other) in enumerate(zip_longest(wanted, keys)):
        if key != other:
            raise failed(f"key {at:,} should be {_shown(key)} and is {_shown(other)}")
    unique = len(set(wanted)) == len(wanted)
    return f"{text.plural(len(wanted), 'key')}, {'unique and ' if unique else ''}as planned, in the planned order"


def _shown(key: str | None) -> str:
    return "missing" if key is None else text.visible(key, 80)


def _tensor_fields(info: TensorInfo) -> tuple[Any, ...]:
    """Everything but where it stands; why a damaged one cannot be read may name bytes of its file."""
    unreadable = "damaged" if info.unreadable else ""
    return info._replace(
        path=(), state_dict=None, key=None, occurrence=0, storage=None, unreadable=unreadable
    )  # fmt: skip


def _detached(info: TensorInfo) -> TensorInfo:
    """An entry of a module as state_dict() gives it: no Parameter, and nothing that asks for gradients."""
    plain = info._replace(kind="tensor") if info.kind in ("parameter", "buffer") else info
    if is_detached(info.cls):
        return plain._replace(cls=TENSOR, requires_grad=False)
    return plain._replace(requires_grad=bool(info.requires_grad))


def _fields_anywhere(info: TensorInfo) -> tuple[Any, ...]:
    """The same without what one container says in another way: a byte order of its own, views of storages."""
    fields = info._replace(flags=tuple([flag for flag in info.flags if flag != "big-endian"]))
    return _tensor_fields(fields)


def _compare_rows(wanted: Rows, found: Rows, fields: Callable[[Any], tuple[Any, ...]]) -> None:
    for row, other in zip_longest(wanted, found):
        if row is None or other is None or row[0] != other[0] or fields(row[1]) != fields(other[1]):
            raise failed(f"{_row_text(row, fields)} was expected and {_row_text(other, fields)} found")


def _row_text(row: tuple[KeyPath, Any] | None, fields: Callable[[Any], tuple[Any, ...]]) -> str:
    if row is None:
        return "nothing"
    path, info = row
    what = f"{info.shape} {info.dtype}" if isinstance(info, TensorInfo) else str(fields(info))
    return f"{text.visible(dotted(path), 80)} ({text.visible(what, 80)})"


def _compare_sharing(wanted: Rows, found: Rows) -> str:
    """Whether two tensors share a storage now exactly where they did before."""
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for (path, info), (_, other) in zip(wanted, found, strict=True):
        if (info.storage is None) != (other.storage is None):
            raise failed(f"{text.visible(dotted(path), 80)} lost or got a storage")
        if info.storage is not None and (
            there.setdefault(info.storage, other.storage) != other.storage
            or back.setdefault(other.storage, info.storage) != info.storage
        ):
            raise failed(f"{text.visible(dotted(path), 80)} does not share its storage with the same tensors any more")
    return f"{text.plural(len(there), 'storage')}, shared by the same tensors as before"


def _compare_metadata(source: Checkpoint, plan: Plan, expected: _Expected, written: Checkpoint) -> list[str]:
    checks = []
    for name in sorted(source.metadata.keys() | written.metadata.keys()):
        before, after = source.metadata.get(name), written.metadata.get(name)
        if name == "state_dict":
            before = _by_path(_expected_versions(source, plan, expected))
            after = _by_path(after or ())
            if before:
                checks.append(f"the _metadata of {text.plural(len(before), 'state dict')} as planned")
        elif name == "safetensors" and plan.metadata:
            before = edited_metadata(before, plan.metadata)
            checks.append(f"{text.plural(len(plan.metadata), 'entry', 'entries')} of __metadata__ as planned")
        elif before is not None:
            checks.append(f"{name} metadata unchanged")
        if before != after:
            raise failed(f"the {name} metadata are not as planned")
    return checks


def _by_path(entries: Iterable[Any]) -> list[Any]:
    """In an order of their own: an unwrap moves state dicts past each other. The order of modules counts."""
    return sorted([(repr(entry["path"]), list(entry["keys"].items())) for entry in entries])


def _expected_versions(source: Checkpoint, plan: Plan, expected: _Expected) -> Iterator[Any]:
    paths = {repr(to_json(state_dict.path)): state_dict for state_dict in source.state_dicts}
    if plan.extract and expected.state_dict is not None and not expected.lost_all_tensors:
        versions = module_versions(source, expected.state_dict, plan)
        yield {
            "path": to_json(expected.home),
            "keys": {module: {"version": version} for module, version in versions.items()},
        }
    for entry in source.metadata.get("state_dict", ()):
        state_dict = paths[repr(entry["path"])]
        own = state_dict is expected.state_dict
        if own and (expected.lost_all_tensors or (plan.keep_rest and state_dict.path)):
            continue  # what is no state dict has none, and the attributes of a mapping go with it
        if expected.goes(state_dict.path):
            continue
        for path in [expected.home] if own else expected.paths(state_dict.path, 0):
            keys = _renamed_modules(entry["keys"], plan.modules) if own else entry["keys"]
            yield {"path": to_json(path), "keys": keys}


def _renamed_modules(modules: Mapping[str, Any], places: Mapping[str, str | None]) -> dict[str, Any]:
    renamed = {}
    for module, versions in modules.items():
        place = places.get(module, module)
        if place is not None:
            renamed[place] = versions
    return renamed


# Bytes


def _runs(
    source: Checkpoint,
    plan: Plan,
    written: Checkpoint,
    files: tuple[File, File],
    cleaning: Cleaning | None,
    made: Mapping[str, Made],
) -> list[Run]:
    """All bytes of the result that must be the source's: storages, and whatever else the container holds."""
    before, after = source.source, written.source
    if isinstance(before, TorchZipSource):
        runs = list(_zip_runs(before, after, files, cleaning, made))
    elif isinstance(before, TorchLegacySource):
        runs = list(_legacy_runs(before, after, made))
    else:
        assert isinstance(before, SafetensorsSource)
        runs = []
        for target, tensor in zip(plan.targets, after.tensors, strict=True):
            if target.entry is not None:
                old = before.tensors[target.entry]
                nbytes = _same_length(tensor.name, old.end - old.start, tensor)
                runs.append(Run(tensor.name, old.start, tensor.start, nbytes))
    return joined(runs)


class ComputedRun(NamedTuple):
    """Bytes of the written file that were computed: `nbytes` from `start`, with this CRC-32.

    Those that are another file's are read there again by `again`; `origin` is its path.
    """

    what: str
    start: int
    nbytes: int
    crc: int
    again: Callable[[], Iterator[memoryview]] | None = None
    origin: str = ""


def computed_run(what: str, start: int, made: Made) -> ComputedRun:
    """Where bytes lie that were written."""
    assert made.crc is not None
    return ComputedRun(what, start, made.nbytes, made.crc, made.chunks if made.origin else None, made.origin)


def computed_checks(runs: Iterable[ComputedRun], said: str) -> Iterator[str]:
    """What held of bytes that were computed, as `said`, and of those that are other files'."""
    nbytes: dict[str, int] = {}
    for run in runs:
        nbytes[run.origin] = nbytes.get(run.origin, 0) + run.nbytes
    for origin, count in nbytes.items():
        if origin:
            yield f"{text.count(count)} bytes taken from {text.visible(origin, 400)}, each equal to the byte there"
        else:
            yield f"{text.count(count)} {said}"


def computed_runs(written: Checkpoint, file: File, made: Mapping[str, Made]) -> list[ComputedRun]:
    """Where what was computed lies in the written file, as its own reader finds it."""
    runs = []
    for key, piece in made.items():
        if not piece.nbytes:
            continue
        span = written.source.span(key)
        start = span.start + (payload_offset(file, span.member, span.limit) if span.member is not None else 0)
        if span.nbytes != piece.nbytes or piece.crc is None:
            raise failed(f"storage {text.visible(key, 80)} has {span.nbytes:,} bytes instead of {piece.nbytes:,}")
        runs.append(computed_run(key, start, piece))
    return runs


def _same_length(name: str, nbytes: int, tensor: SafetensorsTensor) -> int:
    if tensor.end - tensor.start != nbytes:
        raise failed(f"{text.visible(name, 80)} has {tensor.end - tensor.start:,} bytes instead of {nbytes:,}")
    return nbytes


def _zip_runs(
    before: TorchZipSource,
    after: TorchZipSource,
    files: tuple[File, File],
    cleaning: Cleaning | None,
    made: Mapping[str, Made],
) -> Iterator[Run]:
    computed = {id(after.records[key]) for key in made if key in after.records}
    old_entries: dict[str, list[Entry]] = {}
    for entry in before.directory.entries:
        old_entries.setdefault(entry.name, []).append(entry)
    for entry in after.directory.entries:
        if id(entry) in computed:
            continue
        same_name = old_entries.get(entry.name)
        if not same_name and before.directory.salvaged and entry.name.endswith("version") and entry.usize < 4:
            continue  # put there because the file breaks off before its own
        if not same_name:
            raise failed(f"record {text.visible(entry.name, 80)} is new in it")
        old = same_name.pop(0)
        if entry.name == after.object_entry.name:
            continue
        if (old.csize, old.usize, old.crc, old.method) != (entry.csize, entry.usize, entry.crc, entry.method):
            raise failed(f"record {text.visible(entry.name, 80)} has another length or checksum")
        start = payload_offset(files[0], old, before.directory.start)
        yield Run(entry.name, start, payload_offset(files[1], entry, after.directory.start), entry.csize)
    storages = {entry.name for entry in before.records.values()}
    for name, entries in old_entries.items():
        if (
            entries
            and name not in storages
            and not (cleaning is not None and cleaning.takes_record(name))
            and not name.endswith(MAY_GO)
            and not _damaged(before, entries[0], files[0])
        ):
            raise failed(f"record {text.visible(name, 80)} is missing")


def _damaged(source: TorchZipSource, entry: Entry, file: File) -> bool:
    """Whether a record's bytes cannot be had, so that it could only be left out."""
    place = next(place for place, other in enumerate(source.directory.entries) if other is entry)
    if place in source.directory.unreadable:
        return True
    try:
        payload_offset(file, entry, source.directory.start)
    except CorruptCheckpoint:
        return True
    return False


def _legacy_runs(before: TorchLegacySource, after: TorchLegacySource, made: Mapping[str, Made]) -> Iterator[Run]:
    start, end = before.spans[0][0], before.spans[2][1]
    yield Run("the first three pickles", start, after.spans[0][0], end - start)
    for key, storage in after.storages.items():
        if key in made:
            continue
        old = before.storages.get(key)
        if old is None or (old.nbytes, old.numel) != (storage.nbytes, storage.numel):
            raise failed(f"storage {text.visible(key, 80)} is new or has another length")
        yield Run(key, old.offset, storage.offset, storage.nbytes)


def joined(runs: Sequence[Run]) -> list[Run]:
    """Neighbours in both files joined, the empty ones left out."""
    joined: list[Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if last and last.source + last.nbytes == run.source and last.written + last.nbytes == run.written:
            joined[-1] = last._replace(nbytes=last.nbytes + run.nbytes)
        elif run.nbytes:
            joined.append(run)
    return joined


def compare_bytes(
    runs: Sequence[Run], computed: Sequence[ComputedRun], files: tuple[File, File], progress: Progress
) -> str:
    """Compare the runs in a second thread while this one hashes the written file; its SHA-256 in hex."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        comparing = pool.submit(_first_unequal, runs, computed, files, stop)
        try:
            sha256 = _hash(files[1], comparing, progress)
        except BaseException:
            stop.set()
            raise
        unequal = comparing.result()
    if unequal:
        raise failed(unequal)
    return sha256


def _hash(file: File, comparing: Future[str], progress: Progress) -> str:
    digest = hashlib.sha256()
    buffer = bytearray(min(CHUNK, max(file.size, 1)))
    view = memoryview(buffer)
    for at in range(0, file.size, CHUNK):
        piece = view[: min(CHUNK, file.size - at)]
        read_into(file.fd, file.path, at, piece)
        digest.update(piece)
        progress(at + len(piece), file.size)
    while True:
        # The other thread may be behind; its time counts as the last chunk's, and Cancel still works.
        try:
            comparing.result(timeout=0.1)
        except TimeoutError:
            progress(file.size, file.size)
        else:
            return digest.hexdigest()


def _first_unequal(
    runs: Sequence[Run], computed: Sequence[ComputedRun], files: tuple[File, File], stop: threading.Event
) -> str:
    """What differs first, "" when nothing does."""
    mine, theirs = bytearray(CHUNK), bytearray(CHUNK)
    for run in runs:
        for at in range(0, run.nbytes, CHUNK):
            if stop.is_set():
                return "stopped"
            n = min(CHUNK, run.nbytes - at)
            read_into(files[0].fd, files[0].path, run.source + at, memoryview(mine)[:n])
            read_into(files[1].fd, files[1].path, run.written + at, memoryview(theirs)[:n])
            # Whole buffers compare with one memcmp; views of them would compare element by element.
            if (mine != theirs) if n == CHUNK else (mine[:n] != theirs[:n]):
                return f"the bytes of {text.visible(run.what, 80)} differ"
    for one in computed:
        crc = 0
        for at, expected in _expected_pieces(one):
            if stop.is_set():
                return "stopped"
            piece = memoryview(mine)[: min(CHUNK, one.nbytes - at) if expected is None else len(expected)]
            read_into(files[1].fd, files[1].path, one.start + at, piece)
            if expected is not None and bytes(piece) != bytes(expected):
                return f"the bytes of {text.visible(one.what, 80)} are not those of {text.visible(one.origin, 200)}"
            crc = zlib.crc32(piece, crc)
        if crc != one.crc:
            return f"the bytes of {text.visible(one.what, 80)} are not those that were computed"
    return ""


def _expected_pieces(run: ComputedRun) -> Iterator[tuple[int, memoryview | None]]:
    """Where each piece of a run begins in it, and its bytes in the file they were taken from, if they were."""
    if run.again is None:
        yield from [(at, None) for at in range(0, run.nbytes, CHUNK)]
        return
    at = 0
    for chunk in run.again():
        for start in range(0, len(chunk), CHUNK):
            piece = chunk[start : start + CHUNK]
            yield at, piece
            at += len(piece)
