"""An edited legacy stream: another object pickle; everything around it is copied.

Where storages go, their keys leave the fifth pickle too: torch asserts that every key it lists was named before.

Facts: torch 2.13 (`torch.serialization._legacy_load`), measured.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import pairwise

from sdviewer.core.text import plural, visible
from sdviewer.errors import RepairError, SaveError, SourceDamaged
from sdviewer.formats.file import File
from sdviewer.formats.grafts import const, group
from sdviewer.formats.pieces import Copy, Layout, Piece
from sdviewer.formats.torch_computed import ComputedTensors
from sdviewer.formats.torch_edits import StorageUse, storage_key_text, storage_keys, storage_uses, write_back
from sdviewer.formats.torch_source import TorchLegacySource
from sdviewer.formats.torch_tensors import storage_dtype
from sdviewer.pickles.emit import Edits, emit
from sdviewer.pickles.machine import parse
from sdviewer.pickles.nodes import elements
from sdviewer.pickles.scan import scan_stream

_OBJECTS = 3
"""Which of the five pickles holds the objects, from 0."""

_LENGTH = 8
"""Bytes of the number of elements before each storage."""


def lay_out_torch_legacy(
    file: File,
    source: TorchLegacySource,
    edits: Edits,
    *,
    computed: ComputedTensors | None = None,
    clean: bool = False,
) -> Layout:
    """The pieces of the edited stream; `clean`: only if the pickles around it ask for torch's own names alone.

    `computed` are the tensors that the plan computes: their storages come last.

    Raises:
        RepairError: of a clean copy, if they ask for more.
        SaveError: a storage that is still used is not in the file, or a pickle cannot be written back.
    """
    if clean:
        _refuse_unclean(file, source)
    emitted = write_back(source, edits, file.path, computed)
    new = computed.storages if computed is not None else {}
    uses = {use.key: use for use in reversed(storage_uses(emit(source.pickle)))}
    used = [key for key in storage_keys(emitted) if key not in new]
    _refuse_missing(file, source, [uses[key] for key in used])
    (object_start, object_end), (keys_start, keys_end) = source.spans[3:]
    before: list[Piece] = [Copy(0, object_start), emitted.data]
    gone = uses.keys() - set(used)
    if not gone and not new:
        return Layout([*before, Copy(object_end, file.size - object_end)])
    kept = [storage for storage in source.storages.values() if storage.key not in gone]
    nbytes = sum(storage.nbytes for storage in source.storages.values() if storage.key in gone)
    note = f"{plural(len(gone), 'storage')} of {nbytes:,} bytes left out: nothing uses them any more"
    added: list[Piece] = []
    for storage in new.values():
        added += [storage.numel.to_bytes(_LENGTH, "little"), storage.made]
    tail = max([storage.offset + storage.nbytes for storage in source.storages.values()], default=keys_end)
    return Layout(
        [
            *before,
            Copy(object_end, keys_start - object_end),
            _key_list(file, keys_start, keys_end, gone, list(new)),
            *_runs([Copy(storage.offset - _LENGTH, _LENGTH + storage.nbytes) for storage in kept]),
            *added,
            Copy(tail, file.size - tail),
        ],
        (note,) if gone else (),
    )


def _refuse_unclean(file: File, source: TorchLegacySource) -> None:
    for number, (start, end) in enumerate(source.spans):
        scan = scan_stream(file.read(start, end - start), "", most=1)
        if number != _OBJECTS and any(use.cls != "torch" for use in scan.globals):
            worst = scan.globals[0].name
            raise RepairError(
                f"pickle {number + 1} of the stream, which is copied as it is, asks for {worst}",
                path=file.path,
                remedy="No clean copy can be made of it in this container.",
            )


def _key_list(file: File, start: int, end: int, gone: Set[str], new: Sequence[str]) -> bytes:
    """The fifth pickle without the keys of storages that go; it stays sorted as it was, and new ones follow."""
    pickle = parse(file.read(start, end - start))
    if pickle.unfaithful or pickle.root is None:
        raise SaveError(
            f"its list of storages cannot be written back: {pickle.unfaithful}", path=file.path, code="unfaithful"
        )
    if new:
        kept = [node for _, node in elements(pickle.root) if storage_key_text(node) not in gone]
        return emit(pickle, Edits(root=group("list", [*kept, *map(const, new)]))).data
    dropped = {place for place, node in elements(pickle.root) if storage_key_text(node) in gone}
    return emit(pickle, Edits(dropped=frozenset(dropped))).data


def _refuse_missing(file: File, source: TorchLegacySource, uses: list[StorageUse]) -> None:
    """Every storage that stays must be there, whole; `uses` are the first of each and say how large an element is."""
    missing = "the list of storages" if len(source.spans) < 5 else ""
    lost = []
    for use in uses:
        storage = source.storages.get(use.key)
        dtype = storage_dtype(use.cls)
        if storage is None or dtype is None or storage.nbytes != storage.numel * dtype.itemsize:
            missing = missing or f"storage {visible(use.key, 80)}"
            lost.append(use.key)
    if missing:
        raise SourceDamaged(
            f"the file breaks off: {missing} is not in it",
            path=file.path,
            remedy="Drop the tensors that use it, or get the file again.",
            storages=lost,
        )


def _runs(copies: list[Copy]) -> list[Piece]:
    """Neighbours joined, so that what lies together is copied in one go."""
    runs: list[Copy] = copies[:1]
    for (start, nbytes), following in pairwise(copies):
        if start + nbytes == following.start:
            runs[-1] = Copy(runs[-1].start, runs[-1].nbytes + following.nbytes)
        else:
            runs.append(following)
    return list(runs)
