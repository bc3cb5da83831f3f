"""The statistics of a checkpoint's tensors, some or all: where a file's bytes and their numbers meet."""

from __future__ import annotations

from collections.abc import Sequence

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress, no_progress, within
from sdviewer.errors import OpenError
from sdviewer.formats import open_storage, tensor_source
from sdviewer.stats.summary import summary
from sdviewer.stats.table import UNREADABLE, Columns, none_measured, write_row
from sdviewer.stats.zero_rows import zero_rows


def measure(checkpoint: Checkpoint, indices: Sequence[int], progress: Progress = no_progress) -> Columns:
    """The columns of `stats.table` for the tensors of these indices, in their order. Progress is in logical bytes.

    One that cannot be read says so in its `state`.

    Raises:
        CorruptCheckpoint: the file is another one now than when it was opened (code `file_changed`).
    """
    columns = none_measured(len(indices))
    sizes = [checkpoint.tensors[index].nbytes for index in indices]
    total, done = sum(sizes), 0
    for place, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        inside, after = within(done, size, total, progress), within(done + size, 0, total, progress)
        try:
            source = tensor_source(checkpoint, index)
            with open_storage(source) as storage:
                # The table has no median, which large tensors would be read twice for.
                found = summary(storage, source.layout, median=False, progress=inside)
                write_row(columns, place, found, zero_rows(storage, source.layout, found, progress=after))
        except OpenError as error:
            if error.code == "file_changed":
                raise
            columns["state"][place] = UNREADABLE
        done += size
    progress(total, total)
    return columns
