"""What was measured of files is kept in the user's cache folder, so that a file opened again is not read again.

An entry belongs to one checkpoint as it was: the device, inode, size and time of each of its files and its name. It is
written whole and renamed into place; one that is damaged, of another version or of another file is as good as none. It
holds counts and sums, no names and no shapes, and what it says of a tensor is believed only where the number of values
is that of the file's own header.

    magic 8 bytes | SHA-256 of all that follows | entries u64 | columns of `stats.table`, one after the other, deflated
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sdviewer.core.checkpoint import Checkpoint, TensorInfo

if TYPE_CHECKING:
    from sdviewer.stats.table import StatisticsTable

VERSION: Final = 1
"""Another one where a number is computed in another way; what has been kept is then measured again."""

MOST_BYTES: Final = 128 << 20
"""Of all entries together; the ones longest unused go first."""

_MAGIC: Final = b"sdvstat\x01"
_SUFFIX: Final = ".stats"
_ENTRIES: Final = struct.Struct("<Q")


def folder() -> Path:
    """Where the entries are."""
    import platformdirs

    return platformdirs.user_cache_path("sdviewer") / "statistics"


def is_empty() -> bool:
    """Whether nothing is kept of any file, also because the folder cannot be read."""
    try:
        with os.scandir(folder()) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def identity_of(checkpoint: Checkpoint) -> str:
    """Under which name the statistics of a checkpoint are kept: the same for the same unchanged files."""
    from sdviewer.stats.table import COLUMNS

    files = {Path(checkpoint.path).name: checkpoint.identity}
    files |= {name: shard.identity for name, shard in checkpoint.shards.items()}
    known = [
        [name, identity.device, identity.inode, identity.size, identity.mtime_ns]
        for name, identity in sorted(files.items())
    ]
    text = json.dumps([VERSION, sys.byteorder, dict(COLUMNS), os.path.abspath(checkpoint.path), known])  # noqa: PTH100
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def load(identity: str, tensors: Sequence[TensorInfo]) -> StatisticsTable | None:
    """What is kept of a checkpoint with these tensors, None when nothing that can be believed is."""
    path = folder() / (identity + _SUFFIX)
    try:
        with path.open("rb") as file:
            # One that is too large is none of ours.
            raw = file.read(MOST_BYTES + 1)
        table = _unpacked(raw, len(tensors))
    except (OSError, ValueError, zlib.error, struct.error):
        return None
    if not _fits(table, tensors):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return table


def save(identity: str, table: StatisticsTable) -> bool:
    """Keep a table, in place of what was kept before; whether that went well. It may know some tensors only."""
    packed = _packed(table)
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".part", dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(packed)
            os.replace(temporary, place / (identity + _SUFFIX))  # noqa: PTH105
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise
        _prune(place)
    except OSError:
        return False
    return True


def _packed(table: StatisticsTable) -> bytes:
    columns = b"".join(column.tobytes() for column in table.to_buffers().values())
    body = _ENTRIES.pack(len(table)) + zlib.compress(columns, 1)
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpacked(raw: bytes, tensors: int) -> StatisticsTable:
    """The table of an entry.

    Raises:
        ValueError, zlib.error, struct.error: it is not one, or one of another number of tensors.
    """
    import numpy as np

    from sdviewer.stats.table import COLUMNS, UNREADABLE, StatisticsTable

    start = len(_MAGIC) + hashlib.sha256().digest_size
    body = memoryview(raw)[start:]
    if raw[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != raw[len(_MAGIC) : start]:
        raise ValueError("no entry, or a damaged one")
    if _ENTRIES.unpack_from(body)[0] != tensors:
        raise ValueError("an entry of another file")
    sizes = {name: tensors * np.dtype(kind).itemsize for name, kind in COLUMNS.items()}
    total = sum(sizes.values())
    columns = memoryview(zlib.decompressobj().decompress(body[_ENTRIES.size :], total + 1))
    if len(columns) != total:
        raise ValueError("an entry of another length")
    buffers, at = {}, 0
    for name, size in sizes.items():
        buffers[name] = columns[at : at + size]
        at += size
    table = StatisticsTable.from_buffers(buffers, tensors)
    if (table["state"] > UNREADABLE).any():
        raise ValueError("a state that there is not")
    return table


def _fits(table: StatisticsTable, tensors: Sequence[TensorInfo]) -> bool:
    """Whether the tensors have as many values as the table says; two may stand in one element, and nested ones vary."""
    import numpy as np

    known = np.flatnonzero(table.known())
    counts = table["count"][known].tolist()
    return all(
        count in (tensors[index].elements, 2 * tensors[index].elements) or tensors[index].kind == "nested"
        for index, count in zip(known.tolist(), counts, strict=True)
    )


def _prune(place: Path) -> None:
    """Remove the entries that were not used for longest, and what a process that ended has left."""
    found = []
    for entry in os.scandir(place):
        if entry.name.endswith((_SUFFIX, ".part")):
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.append((status.st_mtime_ns, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        total -= size
