"""Opening a checkpoint: which format it is, by its content, and what that format makes of it."""

from __future__ import annotations

import os
from os import PathLike, fspath

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.collector import collector_off
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.folder import open_file, open_folder


def open_checkpoint(path: str | PathLike[str], *, progress: Progress = no_progress) -> Checkpoint:
    """What the file or folder at `path` holds, header only; nothing in it runs.

    Raises:
        UnknownFormat: it is no checkpoint; the message says what it is.
        UnsupportedContainer: it is a checkpoint of a kind that is not read yet.
        CorruptCheckpoint: nothing of it can be read.
        OpenError: it is not there, or may not be read.
        Cancelled: from `progress`.
    """
    name = fspath(path)
    try:
        with collector_off():
            return open_folder(name, progress) if os.path.isdir(name) else open_file(name, progress)  # noqa: PTH112
    except RecursionError:
        raise CorruptCheckpoint("it is nested too deeply", path=name, code="too_deep") from None
    except MemoryError:
        raise CorruptCheckpoint("it needs more memory than there is", path=name, code="too_large") from None
    except SDViewerError as error:
        error.path = error.path or name
        raise
