"""A limit on what a request may compute: a person's regular expression can take for ever, and `re` hears only signals.

A timer of the processor time, so that a busy machine changes nothing. Windows has none: there a request that takes too
long ends with its process.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from sdviewer.errors import UsageError


class TooLong(UsageError):
    """The time is over; who goes on after it computes without a limit."""


@contextlib.contextmanager
def deadline(seconds: float, message: str, remedy: str) -> Iterator[None]:
    """Give up after so many seconds of this process's time.

    Raises:
        TooLong: it took longer; says `message` and `remedy`.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLong(message, remedy=remedy)

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
