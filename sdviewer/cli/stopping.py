"""Ctrl-C while a file is saved: it stops the save until the file gets its name, and is ignored from then on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sdviewer.core.checkpoint import Identity
from sdviewer.core.progress import BeforeNaming


@contextmanager
def stoppable_until_named() -> Iterator[BeforeNaming]:
    """What a save calls before it names its file, so that exit code 5 means that nothing was written."""
    before = signal.getsignal(signal.SIGINT)

    def named(identity: Identity) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    try:
        yield named
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
