"""Load messages: what a loader printed when a checkpoint did not fit, read as the sets that it names.

A dialect is one file here and one line in `DIALECTS`. The text is somebody's: nothing in it is believed but names and
sizes, and reading takes a time that grows with its length alone.
"""

from __future__ import annotations

from types import ModuleType

from sdviewer.repair.messages import torch_strict
from sdviewer.repair.messages.cleaning import cleaned
from sdviewer.repair.messages.load_message import Gathered, LoadMessage

DIALECTS: tuple[ModuleType, ...] = (torch_strict,)
"""Each has a `NAME` and `read(text, found) -> whether the text is of it`; a text can be of several."""


def read_message(text: str) -> LoadMessage | None:
    """What a text says of missing, unexpected and mismatched keys; None where it is no load message."""
    plain, cut = cleaned(text)
    found = Gathered()
    for dialect in DIALECTS:
        if dialect.read(plain, found):
            found.loaders[dialect.NAME] = None
    if not found.loaders:
        return None
    if cut:
        found.incomplete = True
        found.note("The text is longer than what is read of one; its end was left out.")
    return found.message()
