"""Reading back a file that was written from the tensors of another container, and comparing it with what was planned.

It is opened by the reader that opens any other file of its kind. Bytes that were copied are compared with the source's,
bytes that were computed by the checksum that they had when they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.progress import Progress
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.formats.file import File
from sdviewer.formats.pieces import Piece
from sdviewer.formats.save_shards import INDEX
from sdviewer.formats.tensors_out import TensorOut
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.verify import (
    ComputedRun,
    Proof,
    Run,
    compare_bytes,
    computed_checks,
    computed_run,
    failed,
    joined,
)
from sdviewer.formats.zip_directory import payload_offset

Names = Callable[[str], str]
"""torch's name of a dtype -> the name under which the container is read again."""


def verify_tensors(
    tensors: Sequence[TensorOut],
    names: Names,
    files: tuple[File | None, File],
    written: Checkpoint,
    progress: Progress,
    *,
    container: str,
    aliases: bool,
) -> Proof:
    """Compare `written`, opened again, with the tensors that were to be in it; `files` are the source and this one.

    `aliases`: tied tensors are in `__metadata__` and not among the tensors.

    Raises:
        SaveError: something is not as planned; the message says what.
        Cancelled: from `progress`.
    """
    if written.container != container:
        raise failed(f"it became {written.container}")
    stored = [one for one in tensors if not (aliases and one.same_as)]
    rows = _rows(written)
    if container == "torchscript":  # the names of a module come before those of the modules inside
        order = {one.key: place for place, one in enumerate(stored)}
        rows.sort(key=lambda row: order.get(row.key or "", -1))
    checks = list(_compare_rows(stored, rows, names))
    if aliases:
        checks += _compare_aliases(tensors, written)
    elif container.startswith("torch"):
        checks.append(_compare_ties(tensors, rows))
    runs, computed = [], []
    for one, row in zip(stored, rows, strict=True):
        if not one.nbytes or one.same_as:
            continue
        what, start, nbytes = _where(row, written, files[1])
        if one.made.crc is None and one.place is not None:
            _same_length(what, nbytes, one.nbytes)
            runs.append(Run(what, one.place.start, start, nbytes))
        else:
            computed.append(_computed(what, start, nbytes, one))
    sha256 = compare_bytes(joined(runs), computed, (files[0] or files[1], files[1]), progress)
    if runs:
        copied = sum([run.nbytes for run in runs])
        checks.append(f"{text.count(copied)} bytes of tensors, each equal to the source's")
    checks += computed_checks(computed, "bytes of tensors with the checksums that they had when they were written")
    return Proof(sha256, tuple(checks))


def verify_index(
    shards: Mapping[str, Sequence[TensorOut]], written: Checkpoint, file: File, progress: Progress
) -> Proof:
    """Compare a folder, opened by its index, with the shards that were written into it; `file` is the index.

    Raises:
        SaveError: something is not as planned; the message says what.
        Cancelled: from `progress`.
    """
    if written.container != "hf-index" or written.shards.keys() - {INDEX} != shards.keys():
        raise failed(f"it became {written.container} of {text.plural(len(written.shards), 'file')}")
    wrong = next((problem for problem in written.problems if problem.severity != "info"), None)
    if wrong is not None:
        raise failed(f"index and shards do not fit together: {wrong.message}")
    wanted = [(one.key, name) for name, shard in shards.items() for one in shard if not one.same_as]
    found = [(tensor.key, tensor.shard) for tensor in written.tensors]
    if sorted(map(str, wanted)) != sorted(map(str, found)):
        raise failed("the index does not put each tensor into its shard")
    sha256 = compare_bytes([], [], (file, file), progress)
    return Proof(sha256, (f"{INDEX} puts {text.plural(len(wanted), 'tensor')} into the shards that hold them",))


def verify_text(pieces: Sequence[Piece], file: File, progress: Progress) -> Proof:
    """Compare a written file with the bytes that it was made of.

    Raises:
        SaveError: they are not the same.
    """
    wanted = b"".join([piece for piece in pieces if isinstance(piece, bytes)])
    if file.size != len(wanted) or file.read(0, file.size) != wanted:
        raise failed("its bytes are not those that were written")
    return Proof(compare_bytes([], [], (file, file), progress), ())


def _rows(written: Checkpoint) -> list[TensorInfo]:
    """The tensors of the one state dict at the root, in its order."""
    if not written.state_dicts:
        return []
    root = written.state_dicts[0]
    return [written.tensors[index] for index in root.tensor_of if index >= 0]


def _compare_rows(stored: Sequence[TensorOut], rows: Sequence[TensorInfo], names: Names) -> Iterator[str]:
    wanted, found = [one.key for one in stored], [row.key for row in rows]
    if wanted != found:
        places = [place for place, (a, b) in enumerate(zip_longest(wanted, found)) if a != b]
        wrong = (wanted[places[0] :] or found[places[0] :])[0]
        raise failed(
            f"{len(wanted):,} keys were expected and {len(found):,} found, first {text.visible(wrong or '', 80)}"
        )
    for one, row in zip(stored, rows, strict=True):
        said = (row.shape, row.dtype, row.unreadable if row.dtype == one.dtype else "")
        if said != (one.shape, names(one.dtype), ""):
            raise failed(f"{text.visible(one.key, 80)} became {row.dtype} {row.shape} {row.unreadable}")
        in_order = row.stride is None or row.stride == contiguous_stride(row.shape)
        if not in_order or (row.storage_offset or 0) or row.flags:
            raise failed(f"{text.visible(one.key, 80)} is not contiguous")
        if row.requires_grad is not None and bool(row.requires_grad) != one.requires_grad:
            raise failed(f"{text.visible(one.key, 80)} has another requires_grad")
    yield f"{text.plural(len(stored), 'key')} in their order, each tensor with its shape and dtype"


def _compare_aliases(tensors: Iterable[TensorOut], written: Checkpoint) -> list[str]:
    aliases = {one.key: one.same_as for one in tensors if one.same_as}
    found = written.metadata.get("safetensors", {})
    if any(found.get(key) != kept for key, kept in aliases.items()):
        raise failed("a tied tensor is no alias in its __metadata__")
    return [f"{text.plural(len(aliases), 'tied tensor')} as aliases of those that are kept"] if aliases else []


def _compare_ties(tensors: Sequence[TensorOut], rows: Sequence[TensorInfo]) -> str:
    storages: dict[str, str | None] = {}
    for one, row in zip(tensors, rows, strict=True):
        storages[one.key] = row.storage
        if one.same_as and storages[one.same_as] != row.storage:
            raise failed(f"{text.visible(one.key, 80)} is not tied to {text.visible(one.same_as, 80)}")
    own = [one for one in tensors if not one.same_as]
    if len({storages[one.key] for one in own}) != len(own):
        raise failed("two tensors share a storage that did not")
    return f"{text.plural(len(own), 'storage')}, shared by the tensors that are tied and by no others"


def _where(row: TensorInfo, written: Checkpoint, file: File) -> tuple[str, int, int]:
    """Where the reader finds the bytes of a tensor: a name for people, the offset in the file, the length in bytes."""
    assert row.storage is not None
    what = row.key or row.storage
    span = written.source.span(row.storage)
    if not isinstance(span, StorageSpan) or span.packed is not None:
        raise failed(f"the bytes of {text.visible(what, 80)} are written in another way")
    start = span.start
    if span.member is not None:
        start += payload_offset(file, span.member, span.limit)
    return what, start, span.nbytes


def _computed(what: str, start: int, nbytes: int, one: TensorOut) -> ComputedRun:
    _same_length(what, nbytes, one.nbytes)
    if one.made.crc is None:
        raise failed(f"{text.visible(what, 80)} was not written")
    return computed_run(what, start, one.made)


def _same_length(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise failed(f"{text.visible(what, 80)} has {found:,} bytes instead of {wanted:,}")
