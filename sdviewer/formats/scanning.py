"""What all pickles of a file ask for, as one scan: the facts of `sdviewer scan` and of the window's Security view."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from sdviewer.core.progress import Progress, no_progress
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.pickles.scan import Scan, merge, scan_stream


def unclean_records(path: str | PathLike[str]) -> frozenset[str]:
    """The records of an archive, beside its object pickle, that ask for more than torch's own names or break off.

    A record inside an archive that is itself a record has that one's name before its own.

    Raises:
        OpenError: it cannot be read.
    """
    found = set()
    for stream in pickle_streams(path):
        if not stream.loaded:
            scan = scan_stream(stream.data, stream.name, most=stream.pickles)
            if stream.broken or not scan.complete or any(use.cls != "torch" for use in scan.globals):
                found.add(stream.name)
    return frozenset(found)


def scan_file(path: str | PathLike[str], *, progress: Progress = no_progress) -> Scan:
    """One scan of all pickles of a file; one whose bytes cannot be had makes it incomplete.

    Raises:
        OpenError: it is not a checkpoint, or cannot be read.
        Cancelled: from `progress`.
    """
    loaded: list[Scan] = []
    beside: list[Scan] = []
    refused = False
    for stream in pickle_streams(path, progress=progress):
        where = stream.name or Path(fspath(path)).name
        if stream.broken:
            scan = Scan(False, 1, None, (), (f"{where}: {stream.broken}",))
        else:
            scan = scan_stream(stream.data, where, most=stream.pickles, number_ids=stream.number_ids, progress=progress)
        refused = refused or stream.refused
        (loaded if stream.loaded else beside).append(scan)
    if not loaded and not beside:
        return Scan(True, 0, None, ())
    found = merge(loaded, beside)
    return replace(found, weights_only_would_load=False) if refused else found
