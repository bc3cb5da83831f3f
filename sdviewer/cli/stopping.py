"""Ctrl-C while a file is saved: it stops the save until the file gets its name, from then on only what looks at it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sdviewer.core.checkpoint import Identity
from sdviewer.errors import Cancelled


class Naming:
    """What a save calls before it names its file, so that exit code 5 means that nothing was written."""

    def __init__(self) -> None:
        self._stopped = False

    def __call__(self, identity: Identity) -> None:
        """The file gets its name now."""
        signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._stopped = True

    def progress(self, done: int, total: int) -> None:
        """Of what follows a save and can be given up.

        Raises:
            Cancelled: somebody pressed Ctrl-C.
        """
        if self._stopped:
            raise Cancelled


@contextmanager
def stoppable_until_named() -> Iterator[Naming]:
    """Ctrl-C is what it was again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield Naming()
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
