"""How long work tells how far it is, and how it is stopped."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then with what is done and the total (in the unit of the work; total 0: unknown).

    Raises:
        Cancelled: the work should stop here and leave nothing half done.
    """

    def __call__(self, done: int, total: int) -> None: ...


def no_progress(done: int, total: int) -> None:
    """Tell nobody, stop never."""
