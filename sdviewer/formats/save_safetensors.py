"""Safetensors files: an edited one with another header and the kept tensors' bytes copied, and new ones.

Written strictly, whatever was read: no holes, no overlaps, the header an object padded with blanks to a multiple of
eight bytes. Names, `__metadata__` and unknown fields keep their order.

Facts: safetensors 0.8.0, measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.text import plural, visible
from sdviewer.errors import RepairError, SaveError, SourceDamaged
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.file import File
from sdviewer.formats.pieces import Copy, Layout, Piece, nbytes_of
from sdviewer.formats.sniff import SAFETENSORS_HEADER_LIMIT
from sdviewer.formats.tensors_out import TensorOut
from sdviewer.formats.torch_source import SafetensorsSource
from sdviewer.repair.plan import Expression, Kept, Plan

_PADDING = 8
"""The data start at a multiple of this many bytes: a writer's habit, so that they can be mapped as they are."""


class _Object(dict[str, Any]):
    """A JSON object that remembers its pairs, duplicates too."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def lay_out_safetensors(
    file: File, checkpoint: Checkpoint, source: SafetensorsSource, plan: Plan, evaluation: Evaluation
) -> Layout:
    """The pieces of the edited file.

    Raises:
        RepairError: a tensor would get the name that the format keeps for itself.
        SaveError: a kept tensor's bytes are not there or are another's too, or the header would break its own rules.
    """
    if any(target.key == "__metadata__" for target in plan.targets):
        raise RepairError(
            "no tensor can be called __metadata__ in a safetensors file", path=file.path, key="__metadata__"
        )
    kept = {target.entry: target.key for target in reversed(plan.targets) if target.entry is not None}
    _refuse_unreadable(file, checkpoint, source, list(kept))
    places, runs = _pack(file, source, list(kept))
    pairs = _edited(json.loads(source.header, object_pairs_hook=_Object).pairs, plan.metadata)
    fields, pieces = _fields(source, plan, places, pairs, evaluation)
    header = _encoded(fields)
    if len(header) > SAFETENSORS_HEADER_LIMIT:
        raise SaveError("the header would be larger than safetensors allows", path=file.path)
    holes = source.data_start + sum(tensor.end - tensor.start for tensor in source.tensors) != file.size
    notes = ("bytes that belonged to no tensor are left out",) if holes else ()
    return Layout([len(header).to_bytes(8, "little"), header, *runs, *pieces], notes)


def lay_out_new_safetensors(tensors: Sequence[TensorOut], metadata: Mapping[str, str], *, copies: bool) -> Layout:
    """The pieces of a new file of these tensors; a tied one is an alias in the metadata: its name -> the kept one's.

    This is how `safetensors.torch.save_model` writes ties. The header has the tensors' order; their bytes lie by
    falling size of the element, so that each is aligned when the file is mapped. `copies`: what lies in the source as
    it will lie here is copied.

    Raises:
        SaveError: the header would break the format's rules.
    """
    stored = sorted([one for one in tensors if not one.same_as], key=lambda one: -DTYPES[one.dtype].itemsize)
    places: dict[str, list[int]] = {}
    pieces: list[Piece] = []
    at = 0
    for one in stored:
        places[one.key] = [at, at + one.nbytes]
        at += one.nbytes
        if one.nbytes:
            _append(pieces, one.place if copies and one.place is not None else one.made)
    aliases = {one.key: one.same_as for one in tensors if one.same_as}
    fields: dict[str, Any] = {"__metadata__": {**metadata, **aliases}}
    for one in tensors:
        if not one.same_as:
            fields[one.key] = {
                "dtype": DTYPES[one.dtype].safetensors,
                "shape": _counted_in_values(one),
                "data_offsets": places[one.key],
            }
    header = _encoded(fields)
    if len(header) > SAFETENSORS_HEADER_LIMIT:
        raise SaveError("the header would be larger than safetensors allows", remedy="Write several shards.")
    notes = (f"{plural(len(aliases), 'tied tensor')} written as aliases in __metadata__",) if aliases else ()
    return Layout([len(header).to_bytes(8, "little"), header, *pieces], notes)


def _append(pieces: list[Piece], piece: Piece) -> None:
    """Add a piece; neighbours of the source are one run."""
    last = pieces[-1] if pieces else None
    if isinstance(piece, Copy) and isinstance(last, Copy) and last.start + last.nbytes == piece.start:
        pieces[-1] = Copy(last.start, last.nbytes + piece.nbytes)
    else:
        pieces.append(piece)


def _counted_in_values(one: TensorOut) -> list[int]:
    """The shape as the format counts it: torch's types of four bits count bytes."""
    per_byte = DTYPES[one.dtype].per_byte
    return [*one.shape[:-1], one.shape[-1] * per_byte] if per_byte > 1 and one.shape else list(one.shape)


def _fields(
    source: SafetensorsSource,
    plan: Plan,
    places: dict[int, tuple[int, int]],
    pairs: list[tuple[str, Any]],
    evaluation: Evaluation,
) -> tuple[dict[str, Any], list[Piece]]:
    """The header's fields, the targets in their order, and the pieces behind those that are copied in runs.

    A tensor that stands under two keys is written twice: the format knows no aliases. `__metadata__` stays behind the
    tensors that it stood behind.
    """
    old = [value for name, value in pairs if name != "__metadata__"]
    metadata = dict(pairs).get("__metadata__")
    before = next((at for at, (name, _) in enumerate(pairs) if name == "__metadata__"), len(pairs))
    at = max([end for _, end in places.values()], default=0)
    fields: dict[str, Any] = {}
    pieces: list[Piece] = []
    written: set[int] = set()
    for target in plan.targets:
        value = target.value
        if "__metadata__" not in fields and before < len(pairs) and (target.entry is None or target.entry >= before):
            fields["__metadata__"] = metadata
        if isinstance(value, Kept) and value.entry not in written:
            written.add(value.entry)
            place, own = places[value.entry], old[value.entry]
        else:
            piece, own = _further(source, value, old, evaluation, target.key)
            pieces.append(piece)
            place = (at, at + nbytes_of(piece))
            at = place[1]
        fields[target.key] = own | {"data_offsets": list(place)}
    if before < len(pairs):
        fields.setdefault("__metadata__", metadata)
    return fields, pieces


def _further(
    source: SafetensorsSource, value: Expression, old: list[Any], evaluation: Evaluation, key: str
) -> tuple[Piece, dict[str, Any]]:
    """A computed tensor, or a second copy of one of the source: its bytes and its fields."""
    if isinstance(value, Kept):
        _, start, end = source.tensors[value.entry]
        return Copy(start, end - start), old[value.entry]
    dtype = DTYPES[value.dtype].safetensors
    if not dtype:
        raise RepairError(
            f"a safetensors file cannot hold {visible(key)} as {value.dtype}",
            key=key,
            remedy="Cast it to another dtype.",
        )
    return evaluation.made(value), {"dtype": dtype, "shape": list(value.shape)}


def _refuse_unreadable(file: File, checkpoint: Checkpoint, source: SafetensorsSource, entries: Sequence[int]) -> None:
    for entry in entries:
        tensor = checkpoint.tensors[entry]
        new_type = (
            tensor.dtype and tensor.dtype not in DTYPES
        )  # one we do not know: its bytes can be copied all the same
        if tensor.unreadable and not (new_type and source.tensors[entry].end <= file.size):
            raise SourceDamaged(
                f"tensor {visible(tensor.key or '')} cannot be copied: {tensor.unreadable}",
                path=file.path,
                remedy="Drop it, or get the file again.",
                storages=[] if tensor.storage is None else [tensor.storage],
                key=tensor.key or "",
            )


def _pack(
    file: File, source: SafetensorsSource, entries: Sequence[int]
) -> tuple[dict[int, tuple[int, int]], list[Copy]]:
    """Where each kept tensor's bytes go (offsets behind the header), and the runs of the source that go there."""
    places: dict[int, tuple[int, int]] = {}
    runs: list[Copy] = []
    at = 0
    last_end, last_name = 0, ""
    for entry in sorted(entries, key=lambda entry: (source.tensors[entry].start, source.tensors[entry].end)):
        name, start, end = source.tensors[entry]
        places[entry] = (at, at + end - start)
        if start == end:
            continue
        if start < last_end:
            raise SaveError(
                f"tensors {visible(last_name)} and {visible(name)} share bytes, which safetensors does not allow",
                path=file.path,
                remedy="Drop one of them.",
                code="source_damaged",
            )
        if start == last_end and runs:
            runs[-1] = Copy(runs[-1].start, end - runs[-1].start)
        else:
            runs.append(Copy(start, end - start))
        at += end - start
        last_end, last_name = end, name
    return places, runs


def edited_metadata(metadata: Any, changes: Mapping[str, str | None]) -> dict[str, Any] | None:
    """`__metadata__` with these entries set, those that are None removed; None where nothing is left."""
    edited = {**metadata, **changes} if isinstance(metadata, Mapping) else {**changes}
    return {name: value for name, value in edited.items() if name not in changes or value is not None} or None


def _edited(pairs: list[tuple[str, Any]], changes: Mapping[str, str | None]) -> list[tuple[str, Any]]:
    """The header's pairs with `__metadata__` edited; where there is none it comes first, as the library writes it."""
    if not changes:
        return pairs
    if all(name != "__metadata__" for name, _ in pairs):
        pairs = [("__metadata__", {}), *pairs]
    edited = [(name, edited_metadata(value, changes) if name == "__metadata__" else value) for name, value in pairs]
    return [(name, value) for name, value in edited if name != "__metadata__" or value is not None]


def _encoded(header: dict[str, Any]) -> bytes:
    """The header's JSON text, padded."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise SaveError(
            "a name holds half a character, which safetensors cannot store", remedy="Rename it first."
        ) from None
    return data + b" " * (-(len(data) + 8) % _PADDING)
