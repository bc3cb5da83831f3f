"""How long work tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sdviewer.core.checkpoint import Identity

BeforeNaming = Callable[[Identity], None]
"""Called with the identity of a file that is complete and checked, right before it gets its name.

It raises Cancelled where the work was stopped; after it returned nothing stops the work any more.
"""


class Progress(Protocol):
    """Called now and then with what is done and the total (in the unit of the work; total 0: unknown).

    Raises:
        Cancelled: the work should stop here and leave nothing half done.
    """

    def __call__(self, done: int, total: int) -> None: ...


def no_progress(done: int, total: int) -> None:
    """Tell nobody, stop never."""


def go_on(identity: Identity) -> None:
    """Let every file have its name."""


def within(before: int, size: int, whole: int, progress: Progress) -> Progress:
    """How far the whole work is, told by how far a part of it is that comes after `before` and is of this `size`."""

    def tell(done: int, total: int) -> None:
        progress(before + (size * done // total if total else 0), whole)

    return tell
