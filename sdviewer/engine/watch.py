"""Whether files on disk are still those that were opened, asked of the system by a thread of its own.

A watch of the system's (inotify) misses network drives and is lost when a file is replaced, so the names are looked up
again. A drive that does not answer holds up that thread, and nobody else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.formats.file import identity_of, same_file

State = Literal["same", "written", "replaced", "gone", "silent"]

YOUNG = 2.0
"""Seconds without a change after which nobody is taken to be writing any more."""

CLOCKS_DIFFER = 60.0
"""Seconds that the clock of a network drive may be ahead; what is further in the future was set so."""

PATIENCE = 0.1
"""Seconds that `look` waits for the system."""

_WORST: tuple[State, ...] = ("gone", "replaced", "written", "same")


def is_young(mtime_ns: int) -> bool:
    """Whether a file was changed a moment ago, also by a machine whose clock is ahead of ours."""
    return -CLOCKS_DIFFER <= time.time() - mtime_ns / 1e9 < YOUNG


def files_of(checkpoint: Checkpoint) -> list[tuple[str, Identity]]:
    """The files that a checkpoint lies in, each with what it was when it was opened."""
    files = [(shard.path, shard.identity) for shard in checkpoint.shards.values()]
    return files or [(checkpoint.path, checkpoint.identity)]


class Watch:
    """The files of one checkpoint, each with what it was when it was opened."""

    def __init__(self, files: Iterable[tuple[str, Identity]]) -> None:
        self._files = tuple(files)
        self._asking: threading.Thread | None = None
        self._found: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """`{"state", "young", "file"}`: how it is now; "silent" while the drive does not answer.

        "written": the same file with other content; "replaced": another file has its name; "gone": none has. `young`:
        it was changed less than `YOUNG` seconds ago. `file` is the path of the first file that this is about.
        """
        if self._asking is None or not self._asking.is_alive():
            self._found = {}
            self._asking = threading.Thread(target=self._ask, name="look at disk", daemon=True)
            self._asking.start()
        self._asking.join(PATIENCE)
        return self._found or {"state": "silent", "young": False, "file": self._files[0][0]}

    def _ask(self) -> None:
        found = [(*_compare(path, identity), path) for path, identity in self._files]
        state, _, path = min(found, key=lambda one: _WORST.index(one[0]))
        self._found = {"state": state, "young": any(young for _, young, _ in found), "file": path}


def _compare(path: str, identity: Identity) -> tuple[State, bool]:
    try:
        found = identity_of(Path(path).stat())
    except (OSError, ValueError):
        return "gone", False
    young = is_young(found.mtime_ns)
    if same_file(found, identity):
        return "same", young
    same_place = (found.device, found.inode) == (identity.device, identity.inode)
    return ("written" if same_place else "replaced"), young
