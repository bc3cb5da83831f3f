"""Known traps: what can be wrong although every key has its place and every shape agrees."""

from __future__ import annotations

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.suggestion import Caution


def traps_of(source: KeyTable, target: KeyTable, matching: Matching) -> tuple[Caution, ...]:
    """The traps that keys and shapes of a matching show."""
    return ()
