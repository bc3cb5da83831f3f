"""Operations that change what stands under keys, not only the keys: they see shapes and dtypes and plan expressions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.core.arrays import has_values
from sdviewer.core.checkpoint import TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.operations.operation import KeyChanges, Operation, selection
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.plan import Computed, Expression, PlanWarning
from sdviewer.repair.transforms import MOST_DIMENSIONS, Shape, Transform
from sdviewer.repair.wording import quoted


class Entry(NamedTuple):
    """One entry of a state dict on its way through the steps.

    `shape` is in elements; it and `dtype` are None and "" for an entry that is no tensor. `opaque` says why its numbers
    cannot be computed with (it is sparse, quantized, damaged ...), else "". `tied` is equal for entries that look at
    the same elements of one storage.
    """

    key: str
    value: Expression
    shape: tuple[int, ...] | None
    dtype: str = ""
    opaque: str = ""
    tied: object = None


class EntryChanges(NamedTuple):
    """What an operation makes of some entries: `outputs[i]` stands in place of entry i, and may be empty.

    `matched`, `dead_rules` and `refusal` are as in `KeyChanges`. `changed` is how many keys it changes, None for that
    of the entries that are not what they were.
    """

    outputs: list[Sequence[Entry]]
    matched: int
    dead_rules: tuple[str, ...] = ()
    refusal: RepairError | None = None
    warnings: tuple[PlanWarning, ...] = ()
    changed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOperation(Operation):
    """An operation on the tensors of a state dict."""

    @abstractmethod
    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """What becomes of these entries, all computed from the same input."""

    def plan_entries(self, entries: Sequence[Entry], others: Others = no_others) -> EntryChanges:
        """What becomes of all entries of a state dict, where `keys` restricts the step to some of them.

        `others` opens the other files that a step takes tensors from.

        Raises:
            OpenError, UsageError: as `others`.
        """
        if not self.keys:
            return self.change_entries(entries)
        chosen = selection(self.keys)
        places = [i for i, entry in enumerate(entries) if chosen(entry.key)]
        changes = self.change_entries([entries[i] for i in places])
        outputs: list[Sequence[Entry]] = [(entry,) for entry in entries]
        for i, output in zip(places, changes.outputs, strict=True):
            outputs[i] = output
        return changes._replace(outputs=outputs)

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Keys alone do not say what it does: the planner asks `plan_entries`."""
        return KeyChanges(keys, 0)

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """Entries stay: what was a module's version is still that of its tensors."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class EachTensor(TensorOperation):
    """An operation that makes of each tensor one other under the same key, or leaves it as it is."""

    @abstractmethod
    def transform(self, entry: Entry) -> tuple[Transform, tuple[int, ...], str] | None:
        """How the tensor is computed, and its new shape and dtype; None where it stays as it is.

        Raises:
            RepairError: it cannot be done to this tensor.
        """

    def warn(self, changed: Sequence[tuple[Entry, Entry]]) -> Iterable[PlanWarning]:
        """What a person should know of the tensors that change, each as it was and as it will be."""
        return ()

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Matched are the tensors that it can be done to and the step's `keys` choose."""
        outputs: list[Sequence[Entry]] = []
        changed: list[tuple[Entry, Entry]] = []
        matched = 0
        refusal: RepairError | None = None
        for entry in entries:
            outputs.append((entry,))
            if entry.shape is None:
                continue
            try:
                found = self.transform(entry)
            except RepairError as error:
                refusal = refusal or error
                continue
            matched += 1
            if found is not None:
                new = computed(entry, *found)
                outputs[-1] = (new,)
                changed.append((entry, new))
        return EntryChanges(outputs, matched, (), refusal, tuple(self.warn(changed)))


def computed(entry: Entry, transform: Transform, shape: tuple[int, ...], dtype: str) -> Entry:
    """The entry with what a transform makes of it."""
    return entry._replace(value=Computed(transform, (entry.value,), shape, dtype), shape=shape, dtype=dtype, tied=None)


_LEAVE_OUT = "Leave it out of the step with `keys`."


def needs_numbers(entry: Entry, what: str) -> None:
    """Refuse a tensor whose numbers cannot be computed with.

    Raises:
        RepairError: it is sparse, quantized, damaged.
    """
    if entry.opaque:
        raise RepairError(f"{what} {quoted(entry.key)}: {entry.opaque}", key=entry.key, remedy=_LEAVE_OUT)


def opaque(info: TensorInfo) -> str:
    """Why a tensor's numbers cannot be computed with, or ""."""
    if info.unreadable:
        return f"it cannot be read: {info.unreadable}"
    if info.kind in ("sparse", "nested", "quantized", "meta") or info.storage is None:
        return f"it is a {info.kind} tensor"
    if len(info.shape) > MOST_DIMENSIONS:
        return f"it has {len(info.shape)} dimensions, and {MOST_DIMENSIONS} are the most to compute with"
    if info.dtype not in DTYPES:
        return f"it is of a type that only its container knows, {info.dtype}"
    return ""


def tied(info: TensorInfo) -> Hashable:
    """Equal for tensors that look at the same elements of one storage; None where it has none of its own."""
    if info.storage is None:
        return None
    return (info.storage, info.storage_offset, info.shape, info.stride, info.dtype, info.flags)


def may_be_floating(entry: Entry) -> bool:
    """Whether a tensor holds floats or complex numbers, or something that only a format knows; packed ones are left."""
    known = DTYPES.get(entry.dtype)
    return known is None or known.kind in ("float", "complex", "quantized")


def is_packed(entry: Entry) -> bool:
    """Whether a tensor is of a type that packs several numbers, or bits, into each element."""
    known = DTYPES.get(entry.dtype)
    return known is not None and known.kind in ("bits", "float4", "quantized")


def needs_elements(entry: Entry, what: str) -> Shape:
    """The shape of a tensor whose elements can be moved about one by one.

    Raises:
        RepairError: it is no tensor, cannot be computed with, or is of a type that packs several numbers into a byte.
    """
    if entry.shape is None:
        raise RepairError(f"{what} {quoted(entry.key)}: it is no tensor", key=entry.key, remedy=_LEAVE_OUT)
    needs_numbers(entry, what)
    if is_packed(entry):
        raise RepairError(
            f"{what} {quoted(entry.key)}: {entry.dtype} is a packed type", key=entry.key, remedy=_LEAVE_OUT
        )
    return entry.shape


def needs_floats(entry: Entry, what: str) -> Shape:
    """The shape of a tensor of floats or complex numbers to compute with.

    Raises:
        RepairError: it is none.
    """
    shape = needs_elements(entry, what)
    if DTYPES[entry.dtype].kind not in ("float", "complex") or not has_values(entry.dtype):
        raise impossible(what, entry, f"its dtype is {entry.dtype}")
    return shape


def impossible(what: str, entry: Entry, reason: str, remedy: str = _LEAVE_OUT) -> RepairError:
    """What cannot be done to a tensor, with its key and its shape, to be raised."""
    return RepairError(f"{what} {said(entry)}: {reason}", key=entry.key, remedy=remedy)


def said(entry: Entry) -> str:
    """`"fc.weight" (10×768)`."""
    return f"{quoted(entry.key)} ({text.shape(entry.shape or ())})"


def axis(what: str, entry: Entry, dim: int, *, room: int = 0) -> int:
    """A dimension of a tensor counted from 0; a negative one counts from the end. `room` is how many it gets besides.

    Raises:
        RepairError: it has no such dimension.
    """
    ndim = len(entry.shape or ()) + room
    if not -ndim <= dim < ndim:
        have = text.plural(len(entry.shape or ()), "dimension")
        raise impossible(what, entry, f"there is no dimension {dim}, it has {have}")
    if ndim > MOST_DIMENSIONS:
        raise impossible(what, entry, f"{MOST_DIMENSIONS} dimensions are the most there can be")
    return dim % ndim


def check_dimensions(shape: Shape) -> None:
    """Refuse the `shape` of a step that has more dimensions than a tensor can have.

    Raises:
        UsageError: it has.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise UsageError(f"`shape` has {len(shape)} sizes, and {MOST_DIMENSIONS} dimensions are the most there can be")


def one_kind(what: str, entries: Sequence[Entry], dim: int | None = None) -> Shape:
    """The shape of tensors of one dtype that are to become one; along `dim` they may differ.

    Raises:
        RepairError: they differ otherwise, or cannot be computed with.
    """
    first, *others = entries
    shape = needs_elements(first, what)
    for other in others:
        theirs = needs_elements(other, what)
        rest = theirs if dim is None or len(theirs) != len(shape) else (*theirs[:dim], shape[dim], *theirs[dim + 1 :])
        if rest != shape:
            raise impossible(what, first, f"{said(other)} does not go with it", "Bring them into one shape first.")
        if other.dtype != first.dtype:
            reason = f"it is {first.dtype}, and {quoted(other.key)} is {other.dtype}"
            raise impossible(what, first, reason, "Cast them to one dtype first.")
    return shape


def stated(operation: Operation, names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an operation that do not have their default, by their names in a step's table.

    `names` maps these to the operation's own, in the order in which people read them.
    """
    defaults = {item.name: item.default for item in fields(operation)}
    found = {}
    for name, own in names.items():
        value = getattr(operation, own)
        if value != defaults[own] or type(value) is not type(defaults[own]):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found
