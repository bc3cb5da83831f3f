"""What of a state dict goes into a container that holds tensors and little else, and what is lost on the way.

It is known before a byte is written: a dry run, the receipt and the window tell the same losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, TypedStep, dotted, to_json
from sdviewer.core.tensor_bytes import is_contiguous
from sdviewer.core.text import plural, visible
from sdviewer.errors import CorruptCheckpoint, RepairError, SaveError
from sdviewer.formats.evaluation import Evaluation, dense_dtype
from sdviewer.formats.file import File
from sdviewer.formats.grafts import STORAGE_CLASSES
from sdviewer.formats.pieces import Copy, Made
from sdviewer.formats.storage import tensor_source
from sdviewer.formats.zip_directory import STORED, payload_offset
from sdviewer.repair.plan import Computed, Kept, Plan, PlanWarning, Target

NAMED = 10
"""Keys that a warning carries."""

_TORCH = {name: name for name, dtype in DTYPES.items() if not name.startswith("f6_") and dtype.kind != "quantized"}
_SAFETENSORS = {name: name for name, dtype in DTYPES.items() if dtype.safetensors}
_NUMPY = {name: name for name, dtype in DTYPES.items() if dtype.numpy[:1] in ("<", "|") and dtype.kind != "quantized"}
# NumPy has no name for these: ml_dtypes' arrays become bytes without a type when NumPy writes them.
_UNTYPED = {name: "void8" for name, dtype in DTYPES.items() if name.startswith("float8") or dtype.kind == "float4"}
_UNTYPED |= {"bfloat16": "bfloat16", "complex32": "void32"}
_ONNX = dict.fromkeys((*_NUMPY, "bfloat16", *[n for n in _TORCH if n.startswith("float8") and n != "float8_e8m0fnu"]))
_SCRIPTED = {name: name for name in _SAFETENSORS if name in _TORCH and DTYPES[name].per_byte == 1}


class Room(NamedTuple):
    """What a container can hold: `dtypes` maps torch's name to the one under which the container is read again.

    `ties`: "shared" where two keys can be one tensor, "alias" where a second key can be written beside the tensors, ""
    where each key has its own bytes. `requires_grad`: whether it can be said. `dimensions`: the most that a tensor can
    have, 0 for any number.
    """

    dtypes: Mapping[str, str]
    ties: str = ""
    requires_grad: bool = False
    dimensions: int = 0


_OF_NUMPY = Room({**_NUMPY, **_UNTYPED}, dimensions=64)

ROOMS: Mapping[str, Room] = MappingProxyType(
    {
        "torch-zip": Room(_TORCH, "shared", requires_grad=True),
        "torch-legacy": Room({name: name for name in STORAGE_CLASSES}, "shared", requires_grad=True),
        "safetensors": Room(_SAFETENSORS, "alias"),
        "hf-index": Room(_SAFETENSORS, "alias"),
        "npz": _OF_NUMPY,
        "npy": _OF_NUMPY,
        "csv": Room(_NUMPY),
        "onnx": Room({name: name for name in _ONNX}),
        "torchscript": Room(_SCRIPTED, "shared"),
    }
)
"""The containers that can be written from any other, and what single tensors are exported to (npy, csv); a new one has
a line here and one in `converting` or `exporting`."""


class TensorOut(NamedTuple):
    """One tensor to be written, contiguous: its bytes are `made`, or lie in the source as they are at `place`.

    `same_as` is the key of the tensor written before that it is tied to, "" for none.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    made: Made
    place: Copy | None = None
    requires_grad: bool = False
    same_as: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.made.nbytes


@dataclass(frozen=True, slots=True)
class TensorsOut:
    """What is written: `plan` is the one that was given, without what the container cannot hold.

    `metadata` are texts beside the tensors, for a container that has a place for them.
    """

    plan: Plan
    tensors: tuple[TensorOut, ...]
    warnings: tuple[PlanWarning, ...]
    metadata: Mapping[str, str]
    evaluation: Evaluation


def tensors_out(file: File | None, checkpoint: Checkpoint, plan: Plan, container: str, *, shared: str) -> TensorsOut:
    """What of the plan's state dict a container can hold; `shared` is what becomes of ties (`SHARED` of a recipe).

    `file` is the open source, None where it is several.

    Raises:
        RepairError: nothing of it can be held.
        SaveError: the numbers of a tensor cannot be read.
    """
    choosing = _Choosing(file, checkpoint, plan, ROOMS[container], shared)
    for target in plan.targets:
        choosing.add(target)
    metadata = choosing.take_aliases()
    # An archive without members is no npz that anybody would recognise.
    if not choosing.tensors and (plan.targets or container == "npz"):
        raise RepairError(
            f"{container} files can hold nothing of the state dict",
            path=checkpoint.path,
            remedy="Choose another container.",
        )
    warnings = tuple(choosing.warnings(container))
    texts = {key: text for key, text in {"format": "pt", **metadata, **plan.metadata}.items() if text is not None}
    return TensorsOut(choosing.plan_without_lost(), tuple(choosing.tensors), warnings, texts, choosing.evaluation)


def ties_of(checkpoint: Checkpoint, plan: Plan) -> dict[str, str]:
    """The keys of the result that show the same tensor as a key before them, with that key.

    These are what a container without ties writes as aliases or as copies of their own.
    """
    if plan.state_dict is None:
        return {}
    evaluation = Evaluation(checkpoint, plan)
    first: dict[object, str] = {}
    ties = {}
    for target in plan.targets:
        value = target.value
        if isinstance(value, Kept) and evaluation.tensor_of[value.entry] < 0:
            continue
        kept = first.setdefault(evaluation.identity(value), target.key)
        if kept != target.key:
            ties[target.key] = kept
    return ties


@dataclass(slots=True)
class _Losses:
    """Keys of what is lost, by what becomes of them."""

    values: list[str] = field(default_factory=list)
    tensors: list[tuple[str, str]] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    dequantized: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)
    grads: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    strides: list[str] = field(default_factory=list)
    sharing: list[str] = field(default_factory=list)
    cloned: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


class _Choosing:
    """The choice under way."""

    def __init__(self, file: File | None, checkpoint: Checkpoint, plan: Plan, room: Room, shared: str) -> None:
        self.file = file
        self.checkpoint = checkpoint
        self.plan = plan
        self.room = room
        self.ties = room.ties if room.ties != "alias" or shared != "clone" else ""
        self.evaluation = Evaluation(checkpoint, plan, "little")
        self.tensors: list[TensorOut] = []
        self.targets: list[Target] = []
        self.lost: dict[int, str] = {}
        self.losses = _Losses()
        self._first: dict[object, str] = {}
        self._storages: dict[str, str] = {}
        self._last = {target.key: place for place, target in enumerate(plan.targets)}
        self._place = -1

    def add(self, target: Target) -> None:
        """Take one entry, or note why it is left out."""
        self._place += 1
        value = target.value
        if self._last[target.key] != self._place:
            self.losses.doubled.append(target.key)
            return
        if isinstance(value, Computed):
            self._take(target, value.shape, value.dtype, self.evaluation.made(value), None)
            return
        index = self.evaluation.tensor_of[value.entry]
        if index < 0:
            self.losses.values.append(target.key)
            self.lost[value.entry] = "no tensor"
            return
        info = self.checkpoint.tensors[index]
        why = self._why_not(info)
        if why:
            self._lose(target, why)
            return
        dtype = dense_dtype(self.checkpoint, index)
        if dtype not in DTYPES:
            self._lose(target, f"its type, {dtype}, is only its own container's")
            return
        self._take(target, info.shape, dtype, self.evaluation.row_major(value.entry), info, index)

    def _take(
        self, target: Target, shape: tuple[int, ...], dtype: str, made: Made, info: TensorInfo | None, index: int = -1
    ) -> None:
        if dtype not in self.room.dtypes:
            self._lose(target, f"it is {dtype}")
            return
        if 0 < self.room.dimensions < len(shape):
            self._lose(target, f"it has {len(shape):,} dimensions")
            return
        if target.key == "__metadata__" and self.room.ties == "alias":
            self._lose(target, "the format keeps this name for itself")
            return
        requires_grad = info is not None and bool(info.requires_grad) and DTYPES[dtype].kind in ("float", "complex")
        kept = self._first.setdefault(self.evaluation.identity(target.value), target.key)
        same_as = kept if kept != target.key else ""
        if same_as and not self._can_tie(target.key):
            self.losses.cloned.append(target.key)
            same_as = ""
        place = None if info is None or info.kind in ("quantized", "sparse") else self._in_file(index)
        out = TensorOut(target.key, shape, dtype, made, place, requires_grad and self.room.requires_grad, same_as)
        self.tensors.append(out)
        self.targets.append(target)
        if dtype in _UNTYPED and self.room is _OF_NUMPY:
            self.losses.untyped.append(target.key)
        if info is not None:
            self._note(target.key, info, requires_grad, kept != target.key, dtype)

    def _note(self, key: str, info: TensorInfo, requires_grad: bool, tied: bool, dtype: str) -> None:
        """What is lost of a tensor that is written."""
        losses = self.losses
        if dtype != info.dtype:
            losses.dequantized.append(key)
        elif info.kind in ("sparse", "nested"):
            (losses.dense if info.kind == "sparse" else losses.nested).append(key)
        elif info.stride is not None and not is_contiguous(info.shape, info.stride):
            losses.strides.append(key)
        if requires_grad and not self.room.requires_grad:
            losses.grads.append(key)
        elif info.kind in ("parameter", "subclass"):
            losses.classes.append(key)
        if info.storage is not None and info.elements:
            first = self._storages.setdefault(info.storage, key)
            if first != key and not tied:
                losses.sharing.append(key)

    def take_aliases(self) -> dict[str, str]:
        """Tie again what a safetensors file has as aliases in its metadata; the texts that are something else.

        An alias is a key that no tensor has, with the key of a tensor as its text.
        """
        own = self.checkpoint.metadata.get("safetensors")
        if not isinstance(own, Mapping):
            return {}
        texts = {key: text for key, text in own.items() if isinstance(text, str)}
        kept = {one.key: one for one in self.tensors if not one.same_as}
        as_it_was = all(
            isinstance(target.value, Kept) and target.key == self._source_key(target.value) for target in self.targets
        )
        aliases = {key: text for key, text in texts.items() if text in kept and key not in kept and as_it_was}
        for key, text in aliases.items():
            if self._can_tie(key):
                self.tensors.append(kept[text]._replace(key=key, same_as=text))
            else:
                self.losses.cloned.append(key)
                self.tensors.append(kept[text]._replace(key=key))
        return {key: text for key, text in texts.items() if key not in aliases}

    def _source_key(self, value: Kept) -> str:
        assert self.plan.state_dict is not None
        return self.checkpoint.state_dicts[self.plan.state_dict].keys[value.entry]

    def _can_tie(self, key: str) -> bool:
        """Whether the container can say of a key that it is another's tensor; its metadata have names of their own."""
        return self.ties == "shared" or (self.ties == "alias" and key != "format")

    def _lose(self, target: Target, why: str) -> None:
        self.losses.tensors.append((target.key, why))
        if isinstance(target.value, Kept):
            self.lost[target.value.entry] = why

    def _why_not(self, info: TensorInfo) -> str:
        """Why a tensor has no numbers that could be written, or "".

        Raises:
            SaveError: it has, and they cannot be read.
        """
        if info.kind == "meta":
            return "it is a meta tensor, without numbers"
        if info.kind == "quantized" and info.dtype in DTYPES and not DTYPES[info.dtype].numpy:
            return f"several of its {info.dtype} values lie in a byte"
        if info.unreadable:
            raise _damaged(self.checkpoint, info, info.unreadable)
        if info.storage is None and info.kind not in ("sparse", "nested"):
            return "it is made of other tensors by its own class"
        if info.storage is None and info.kind == "nested" and self._parts_missing(info):
            return "it has no numbers of its own"
        return ""

    def _parts_missing(self, info: TensorInfo) -> bool:
        """Whether a nested tensor has no buffer of values that it could be read by."""
        values = (*info.path, TypedStep("part", "values"))
        return not any(other.path == values for other in self.checkpoint.tensors)

    def _in_file(self, index: int) -> Copy | None:
        """Where the bytes of a tensor lie in the one source file, as they would be written; None where they do not."""
        file = self.file
        if file is None:
            return None
        source = tensor_source(self.checkpoint, index)
        span, layout = source.span, source.layout
        made = bool(source.parts) or source.assembly is not None or span.packed is not None
        turned = layout.swap or layout.conj or layout.neg or not is_contiguous(layout.shape, layout.stride)
        if made or turned or (span.member is not None and span.member.method != STORED):
            return None
        start = span.start
        try:
            if span.member is not None:
                start += payload_offset(file, span.member, span.limit)
        except CorruptCheckpoint as error:
            raise _damaged(self.checkpoint, self.checkpoint.tensors[index], error.message) from None
        itemsize = DTYPES[layout.dtype].itemsize
        nbytes = self.checkpoint.tensors[index].elements * itemsize
        return Copy(start + layout.offset * itemsize, nbytes)

    def plan_without_lost(self) -> Plan:
        """The plan with what is written, as the entries of the root."""
        plan = self.plan
        assert plan.state_dict is not None
        path = self.checkpoint.state_dicts[plan.state_dict].path
        return replace(
            plan,
            targets=tuple(self.targets),
            dropped=tuple(sorted({*plan.dropped, *self.lost})),
            unwrap=True,
            keep_rest=False,
            left_out=tuple(dict.fromkeys([*plan.left_out, *self._rest(path)])),
            reasons={**self.lost, **plan.reasons},
        )

    def _rest(self, path: KeyPath) -> Iterable[str]:
        """Dotted paths of what stands outside of the state dict, each as short as it can be."""
        assert self.plan.state_dict is not None
        keys = set(self.checkpoint.state_dicts[self.plan.state_dict].keys)
        depth, is_module = len(path), self.checkpoint.state_dicts[self.plan.state_dict].is_module
        for things in (self.checkpoint.tensors, self.checkpoint.values, self.checkpoint.objects):
            for thing in things:
                other: KeyPath = thing.path
                if other[:depth] == path:
                    if is_module or len(other) == depth or other[depth] in keys:
                        continue
                    if isinstance(thing, TensorInfo) and thing.state_dict == self.plan.state_dict:
                        continue
                common = 0
                while common < min(depth, len(other)) and other[common] == path[common]:
                    common += 1
                if common < len(other):
                    yield dotted(other[: common + 1])

    def warnings(self, container: str) -> Iterable[PlanWarning]:
        """The losses as sentences, what goes before what changes."""
        losses, said = self.losses, f"{container} files"
        left_out = self.plan_without_lost().left_out
        if losses.values:
            yield _warning(
                losses.values, f"{_entries(losses.values)} no tensor: {said} hold tensors alone", code="left_out"
            )
        assert self.plan.state_dict is not None
        if self.checkpoint.state_dicts[self.plan.state_dict].is_module:
            yield _warning(
                (), "the module itself, its classes and attributes, left out: its tensors stay", code="left_out"
            )
        if self.checkpoint.container in ("onnx", "torchscript", "pt2", "torch-package"):
            yield _warning((), "what the model does with its tensors, graph and code, left out", code="left_out")
        if left_out:
            yield _warning(left_out, f"outside of the state dict, left out: {_listed(left_out)}", code="left_out")
        for why in dict.fromkeys([why for _, why in losses.tensors]):
            keys = [key for key, other in losses.tensors if other == why]
            yield _warning(keys, f"{said} cannot hold {_listed(keys)}, left out: {why}", code="tensor_left_out")
        if losses.doubled:
            yield _warning(
                losses.doubled, f"{_listed(losses.doubled)}: the last of equal keys is written", code="left_out"
            )
        for keys, what in (
            (losses.dequantized, "written as the float32 values that the quantized integers stand for"),
            (losses.dense, "written dense, with its zeros"),
            (losses.nested, "written as the one buffer of its values"),
            (losses.untyped, "written as bytes without a type, as NumPy writes the arrays of ml_dtypes"),
        ):
            if keys:
                yield _warning(keys, f"{_listed(keys)}: {what}", code="converted")
        for keys, what in (
            (losses.grads, "requires_grad is lost"),
            (losses.classes, "the class is lost: plain tensors are written"),
            (losses.strides, "the strides are lost: rows are written one after another"),
            (losses.cloned, "tied to another tensor, written as a copy of its own"),
            (losses.sharing, "sees a part of another tensor's storage, written as a copy of its own"),
        ):
            if keys:
                yield _warning(keys, f"{_listed(keys)}: {what}", code="attributes_lost")
        yield from self._lost_metadata(said)

    def _lost_metadata(self, said: str) -> Iterable[PlanWarning]:
        metadata = self.checkpoint.metadata
        assert self.plan.state_dict is not None
        path = to_json(self.checkpoint.state_dicts[self.plan.state_dict].path)
        if any(entry["path"] == path and entry["keys"] for entry in metadata.get("state_dict", ())):
            yield _warning((), f"_metadata, the versions of modules, is lost: {said} have none", code="attributes_lost")
        texts = {key for key, text in metadata.get("safetensors", {}).items() if key != "format"}
        lost = texts - {one.key for one in self.tensors}
        if lost and self.room.ties != "alias":
            yield _warning(sorted(lost), f"the metadata {_listed(sorted(lost))} are lost", code="attributes_lost")


def _warning(keys: Sequence[str], message: str, *, code: str) -> PlanWarning:
    return PlanWarning(code, tuple(keys[:NAMED]), message)


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3:,} more" if len(keys) > 3 else ""
    return ", ".join([visible(key, 80) for key in keys[:3]]) + more


def _entries(keys: Sequence[str]) -> str:
    return f"{plural(len(keys), 'entry', 'entries')} left out ({_listed(keys)}),"


def _damaged(checkpoint: Checkpoint, info: TensorInfo, why: str) -> SaveError:
    return SaveError(
        f"tensor {visible(info.key or dotted(info.path))} cannot be copied: {why}",
        path=checkpoint.path,
        remedy="Drop it, or get the file again.",
        code="source_damaged",
        key=info.key or "",
    )
