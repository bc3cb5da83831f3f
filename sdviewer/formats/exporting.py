"""Taking tensors out of a checkpoint into a file of their own: one, or a selection; as safely as a save.

The bytes are those of a conversion: read row by row whatever the strides, written beside the target, read back and
compared, and only then put in place. NumPy has no bfloat16 and no float8; as float32 every such value is exact.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sdviewer.core.arrays import array_type, has_values
from sdviewer.core.checkpoint import Checkpoint, StateDict
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import dotted
from sdviewer.core.progress import BeforeNaming, Progress, go_on, no_progress
from sdviewer.core.text import plural, visible
from sdviewer.errors import RepairError, UsageError
from sdviewer.formats.converting import WRITERS, Form, prove_tensors
from sdviewer.formats.evaluation import dense_dtype
from sdviewer.formats.file import File
from sdviewer.formats.other_files import check_others, check_taken, files_of
from sdviewer.formats.pieces import CHUNK, Layout, Made
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.save_npz import npy_header, with_head
from sdviewer.formats.saving import refuse_target, write_form
from sdviewer.formats.temporary import Replacing, TemporaryFile
from sdviewer.formats.tensors_out import TensorOut, TensorsOut, tensors_out
from sdviewer.formats.verify import ComputedRun, Proof, compare_bytes, failed
from sdviewer.repair.plan import Computed, Expression, Kept, Plan, Target
from sdviewer.repair.transforms import Cast

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Export(NamedTuple):
    """One way to take tensors out: its suffix, and whether it holds one tensor only."""

    suffix: str
    one: bool = False
    widens: bool = False


EXPORTS: Mapping[str, Export] = MappingProxyType(
    {
        "npy": Export(".npy", one=True, widens=True),
        "npz": Export(".npz", widens=True),
        "csv": Export(".csv", one=True, widens=True),
        "safetensors": Export(".safetensors"),
        "torch-zip": Export(".pt"),
    }
)
"""By their names. `widens`: types that NumPy lacks can be written as float32."""

_TOLD = ("tensor_left_out", "converted", "left_out")
"""Codes of what is said of a selection; that the rest of the file stays behind need not be."""

_CHARACTERS = {1: 5, 2: 13, 4: 17, 8: 26}
"""The most that a number of so many bytes takes as text, its separator included."""


class Pick(NamedTuple):
    """One tensor to take: what it is called in the new file, and what it is made of, counted in `Picks.entries`."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Picks:
    """What is taken: `entries` are the tensors (indexes into `Checkpoint.tensors`) that the values are made of.

    `others` are the checkpoints that a recipe takes tensors from, by their paths.
    """

    picks: tuple[Pick, ...]
    entries: tuple[int, ...]
    others: Mapping[str, Checkpoint] = field(default_factory=dict)


def picks_of(checkpoint: Checkpoint, indexes: Sequence[int]) -> Picks:
    """Tensors of a file as they are, called by their keys; where two would be called alike, by their dotted paths."""
    tensors = [checkpoint.tensors[index] for index in indexes]
    names = [info.key or dotted(info.path) or "tensor" for info in tensors]
    return Picks(
        tuple(Pick(name, Kept(entry)) for entry, name in enumerate(distinct(names, [i.path for i in tensors]))),
        tuple(indexes),
    )


def distinct(names: Sequence[str], paths: Sequence[Any]) -> list[str]:
    """The names, if need be the dotted paths, if need be with a number behind them: no two are one."""
    if len(set(names)) < len(names):
        names = [dotted(path) or name for name, path in zip(names, paths, strict=True)]
    taken: set[str] = set()
    made = []
    for name in names:
        free, n = name, 1
        while free in taken:
            n += 1
            free = f"{name} ({n})"
        taken.add(free)
        made.append(free)
    return made


def lacking(checkpoint: Checkpoint, picks: Picks) -> int:
    """How many of the tensors are of a type that NumPy lacks and that can be written as float32."""
    return sum(_dtype(checkpoint, picks, pick.value) in _NARROW for pick in picks.picks)


def outlook(checkpoint: Checkpoint, picks: Picks, kind: str, *, raw: bool = False) -> tuple[int, tuple[str, ...]]:
    """What an export would write: bytes of tensors, and what is lost, as sentences.

    Raises:
        UsageError: there is no such kind, or it holds one tensor only.
        RepairError: nothing of it can be held.
        SaveError: the numbers of a tensor cannot be read.
    """
    chosen = _chosen(None, checkpoint, picks, kind, raw)
    return sum(one.nbytes for one in chosen.tensors), _losses(chosen, kind)


def export(
    checkpoint: Checkpoint,
    picks: Picks,
    out: str,
    kind: str,
    *,
    raw: bool = False,
    replacing: Replacing = Replacing(),  # noqa: B008
    progress: Progress = no_progress,
    before_naming: BeforeNaming = go_on,
) -> Receipt:
    """Write the picked tensors to `out` and prove them. `raw`: types that NumPy lacks as bytes without a type.

    `progress` counts bytes: written, then read back.

    Raises:
        UsageError: `out` is an input, there is no such kind, or it holds one tensor only.
        RepairError: nothing of it can be held.
        SaveError: it could not be written or did not verify; at `out` is what was there before.
        Cancelled: from `progress` or `before_naming`; likewise.
    """
    refuse_target(checkpoint, out, kind, replacing, files_of(picks.others.values()))
    check_others(picks.others.values())
    check_taken([pick.value for pick in picks.picks], picks.others, lambda: progress(0, 0))
    alone = _alone(checkpoint, picks)

    def form(file: File | None) -> Form:
        chosen = _chosen(file, checkpoint, picks, kind, raw)
        return _FORMS.get(kind, _container)(chosen, kind, out, file is not None)

    return write_form(alone, form, out, replacing, progress, before_naming)


_NARROW = frozenset(name for name in DTYPES if name == "bfloat16" or name.startswith("float8"))
"""Types that NumPy has only through ml_dtypes, and writes as bytes without a type; each value is one of float32."""


def _alone(checkpoint: Checkpoint, picks: Picks) -> Checkpoint:
    """The checkpoint with the picked tensors as its only state dict, and nothing else beside them."""
    keys = tuple(str(entry) for entry in range(len(picks.entries)))
    return replace(
        checkpoint,
        state_dicts=(StateDict((), "other", keys, picks.entries, 0, 0),),
        values=(),
        objects=(),
        metadata={},
    )


def _dtype(checkpoint: Checkpoint, picks: Picks, value: Expression) -> str:
    return value.dtype if isinstance(value, Computed) else checkpoint.tensors[picks.entries[value.entry]].dtype


def _chosen(file: File | None, checkpoint: Checkpoint, picks: Picks, kind: str, raw: bool) -> TensorsOut:
    known = EXPORTS.get(kind)
    if known is None:
        raise UsageError(f"there is no export as {visible(kind, 40)}", remedy=f"One of {', '.join(EXPORTS)}.")
    if known.one and len(picks.picks) != 1:
        raise UsageError(
            f"a {kind} file holds one tensor, not {len(picks.picks):,}",
            remedy="Choose npz, safetensors or a PyTorch file.",
        )
    widen = known.widens and (kind == "csv" or not raw)
    targets = tuple(Target(pick.name, _value(checkpoint, picks, pick.value, widen)) for pick in picks.picks)
    plan = Plan(0, targets, unwrap=True, others=picks.others)
    return tensors_out(file, _alone(checkpoint, picks), plan, kind, shared="clone")


def _value(checkpoint: Checkpoint, picks: Picks, value: Expression, widen: bool) -> Expression:
    if not widen or _dtype(checkpoint, picks, value) not in _NARROW:
        return value
    if isinstance(value, Kept):
        index = picks.entries[value.entry]
        info = checkpoint.tensors[index]
        if info.unreadable or info.storage is None or dense_dtype(checkpoint, index) != info.dtype:
            return value  # said, or read in another way, where tensors are chosen
        shape = info.shape
    else:
        shape = value.shape
    return Computed(Cast("float32"), (value,), shape, "float32")


def _losses(chosen: TensorsOut, kind: str) -> tuple[str, ...]:
    said = [warning.message for warning in chosen.warnings if warning.code in _TOLD and not _is_rest(warning.message)]
    shape = chosen.tensors[0].shape
    if kind == "csv" and len(shape) > 2:
        rows, columns = _table(shape)
        said.append(f"written as {plural(rows, 'row')} of {plural(columns, 'number')}: csv files have no shape")
    return tuple(said)


def _is_rest(message: str) -> bool:
    return message.startswith(("outside of the state dict", "what the model does"))


# How each kind is laid out and proved


def _container(chosen: TensorsOut, kind: str, out: str, copies: bool) -> Form:
    """One of the containers that a whole checkpoint can be written in too."""
    layout = WRITERS[kind](chosen, out, copies)
    loaded = "map" if kind == "torch-zip" else ""
    return Form(kind, chosen.plan, layout, prove_tensors(chosen.tensors, kind), loaded, evaluation=chosen.evaluation)


def _npy(chosen: TensorsOut, kind: str, out: str, copies: bool) -> Form:
    (one,) = chosen.tensors
    head = npy_header(one)
    prove = prove_tensors(chosen.tensors, kind)

    def proved(files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        # The reader knows an array without a name, and no state dict.
        named = tuple(info._replace(key=one.key) for info in written.tensors)
        root = StateDict((), "other", (one.key,), (0,), 0, 0)
        return prove(files, replace(written, tensors=named, state_dicts=(root,)), progress)

    # The bytes behind the head get a checksum of their own: that is what the reader finds.
    layout = Layout([with_head(head, one.made)])
    return Form(kind, chosen.plan, layout, proved, evaluation=chosen.evaluation)


def _csv(chosen: TensorsOut, kind: str, out: str, copies: bool) -> Form:
    (one,) = chosen.tensors
    if not has_values(one.dtype):
        raise RepairError(f"{one.dtype} has no numbers that could be written as text", remedy="Choose another format.")
    table = _Csv(one)
    # Only how much room it takes at the most: how long a number is shows when it is written.
    most = Made(one.nbytes // DTYPES[one.dtype].itemsize * _characters(one.dtype), lambda: iter(()))
    return Form(
        kind,
        chosen.plan,
        Layout([most]),
        table.prove,
        write=lambda source, temporary, told: table.write(temporary, most.nbytes, told),
        evaluation=chosen.evaluation,
        readable=False,
    )


_FORMS = {"npy": _npy, "csv": _csv}


def _characters(dtype: str) -> int:
    known = DTYPES[dtype]
    return 2 * _CHARACTERS[known.itemsize // 2] + 1 if known.kind == "complex" else _CHARACTERS[known.itemsize]


def _table(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns: the first axis by all others; of a vector one number a row."""
    rows = shape[0] if shape else 1
    columns = 1
    for size in shape[1:]:
        columns *= size
    return rows, columns


class _Csv:
    """One tensor as text: a number is written with the fewest digits that give it back, rows end in a line feed."""

    def __init__(self, one: TensorOut) -> None:
        self.one = one
        self.columns = max(1, _table(one.shape)[1])
        self.nbytes = 0
        self.crc = 0

    def write(self, temporary: TemporaryFile, size: int, progress: Progress) -> None:
        """Write all rows, telling how far it is of `size`; OSError is the caller's."""
        import numpy as np

        at = done = 0
        os.lseek(temporary.fd, 0, os.SEEK_SET)
        kind = array_type(self.one.dtype)
        for chunk in self.one.made.chunks():
            array = np.frombuffer(chunk, np.uint8).view(kind)
            data = memoryview(self._rows(numbers_as_text(array), at).encode("ascii"))
            at += len(array)
            self.crc = zlib.crc32(data, self.crc)
            while data:
                n = os.write(temporary.fd, data[:CHUNK])
                self.nbytes += n
                data = data[n:]
            done += len(chunk)
            progress(size * done // self.one.nbytes, size)
        # The room that was taken for it was for the longest numbers.
        os.ftruncate(temporary.fd, self.nbytes)

    def _rows(self, numbers: list[str], at: int) -> str:
        """The text of these numbers, the first of which is number `at` of the tensor."""
        columns = self.columns
        if columns == 1:
            return "\n".join(numbers) + "\n" if numbers else ""
        pieces = []
        first = 0
        while first < len(numbers):
            row = numbers[first : first + columns - at % columns]
            first += len(row)
            at += len(row)
            pieces.append(",".join(row) + ("\n" if at % columns == 0 else ","))
        return "".join(pieces)

    def prove(self, files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        """The text is on the disk as it was written."""
        file = files[1]
        if file.size != self.nbytes:
            raise failed(f"{file.size:,} bytes came back of {self.nbytes:,}")
        run = ComputedRun(self.one.key, 0, self.nbytes, self.crc)
        sha256 = compare_bytes([], [run] if self.nbytes else [], (file, file), progress)
        return Proof(sha256, (f"{self.nbytes:,} bytes of text with the checksum that they had when they were written",))


def numbers_as_text(array: NDArray[Any]) -> list[str]:
    """Each number with the fewest digits that give it back in its own type; bool as 0 and 1; complex as 1+2j."""
    import numpy as np

    kind = array.dtype.kind
    if kind == "c":
        parts = zip(numbers_as_text(array.real), numbers_as_text(array.imag), strict=True)
        return [f"{real}{'' if imag[0] == '-' else '+'}{imag}j" for real, imag in parts]
    if kind == "b":
        return ["1" if bit else "0" for bit in array.tolist()]
    if kind in "iu":
        return list(map(str, array.tolist()))
    if array.dtype == np.float64:
        return list(map(repr, array.tolist()))
    return list(map(str, array))
