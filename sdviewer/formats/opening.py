"""Opening a checkpoint: which format it is, by its content, and what that format makes of it."""

from __future__ import annotations

from os import PathLike, fspath

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.collector import collector_off
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.file import File, opened
from sdviewer.formats.registry import FORMATS, Format
from sdviewer.formats.sniff import refusal


def open_checkpoint(path: str | PathLike[str], *, progress: Progress = no_progress) -> Checkpoint:
    """What the file at `path` holds, header only; nothing in it runs.

    Raises:
        UnknownFormat: it is no checkpoint; the message says what it is.
        UnsupportedContainer: it is a checkpoint of a kind that is not read yet.
        CorruptCheckpoint: nothing of it can be read.
        OpenError: it is not there, or may not be read.
        Cancelled: from `progress`.
    """
    name = fspath(path)
    try:
        with collector_off(), opened(name) as file:
            progress(0, 0)
            return _format_of(file).open(file, progress)
    except RecursionError:
        raise CorruptCheckpoint("it is nested too deeply", path=name, code="too_deep") from None
    except MemoryError:
        raise CorruptCheckpoint("it needs more memory than there is", path=name, code="too_large") from None
    except SDViewerError as error:
        error.path = error.path or name
        raise


def _format_of(file: File) -> Format:
    for format_ in FORMATS:
        if format_.matches(file.head):
            return format_
    raise refusal(file.head)
